"""A text in the making: choose a token, pass on the text it completes, feed it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from receptance.inference.sampler import Sampler
from receptance.inference.stop_strings import StopScanner
from receptance.inference.token_chooser import TokenChooser
from receptance.models import State
from receptance.tokenizer import Detokenizer, Tokenizer

FinishReason = Literal["stop", "length", "end_of_text"]

Feed = Callable[[Sequence[int], State], tuple[Float[Tensor, " V"], State]]
"""Takes tokens and the state before them; gives the logits after the last, and a new state."""


_UNREAD = "the stream must be read to its end before its `generation` is known"


@dataclass(frozen=True)
class Generation:
    """A text that was generated, and the state after it.

    `tokens` are those of `text` and no others: a stop string, and the token that ends a text, are
    in neither. `state` has seen exactly the prompt and then `tokens`. So what is fed next goes on
    where `text` ends, as if all of it had been one prompt.
    """

    text: str
    tokens: tuple[int, ...]
    """Where a stop string begins within a token, the text of that token before it is tokenized
    anew, so that these can differ at their end from what the model chose."""
    finish_reason: FinishReason
    """A stop string or the end of what a constraint allows, `max_tokens`, or the token that ends
    a text."""
    prompt_tokens: int
    """How many tokens the prompt had."""
    generated_tokens: int
    """How many tokens were chosen, those of a stop string and the end of the text included."""
    state: State
    seed: int
    """The seed that gives this text again; drawn if none was given."""


class TextStream(Iterator[str]):
    """The pieces of a text as they become known; joined, they are the text.

    A piece holds whole characters and is never empty.
    """

    def __init__(self, pieces: Generator[str, None, Generation]) -> None:
        self._pieces = pieces
        self._generation: Generation | None = None

    def __iter__(self) -> "TextStream":
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            # A generator that has ended before ends again with None.
            self._generation = self._generation or end.value
            raise StopIteration from None

    @property
    def generation(self) -> Generation:
        """The whole, once the stream was read to its end.

        Raises:
            RuntimeError: If it was not.
        """
        if self._generation is None:
            raise RuntimeError(_UNREAD)
        return self._generation

    def read(self) -> Generation:
        """Read what is left and return the whole."""
        for _ in self:
            pass
        return self.generation


class Draft:
    """A text that is being written, token by token; whoever writes it holds the model.

        while draft.finish_reason is None:
            draft.push(token)               # chosen by draft.sampler
            if draft.awaits_its_token:
                ...                         # the model is fed the token
        draft.finish(feed)

    When a stop string is found, the state to go on from is the one at the last border before it.
    At a border, every token is out as text: no character is half complete and nothing is held
    back. Nearly always the border is where the model is, so its state is copied only while text
    is held back that may become a stop string.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        sampler: Sampler,
        prompt_tokens: int,
        read_state: Callable[[], State],
    ) -> None:
        """Begin an empty text behind a prompt that was fed.

        Args:
            tokenizer: The model's.
            sampler: Chooses the tokens, all of them the tokenizer's; its `params` say when to end.
            prompt_tokens: How many tokens the prompt had.
            read_state: Gives a copy of the model's state, which has seen the prompt and the tokens
                that were pushed and fed.
        """
        self.sampler = sampler
        self.finish_reason: FinishReason | None = None
        """Why the text is over; None while it is not. It may be over before it begins."""
        if sampler.constraint is not None and sampler.constraint.is_over:
            self.finish_reason = "stop"
        elif not sampler.params.max_tokens:
            self.finish_reason = "length"
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self._read_state = read_state
        self._detokenizer = Detokenizer(tokenizer)
        self._scanner = StopScanner(sampler.params.stop)
        self._tokens: list[int] = []
        self._pieces: list[str] = []
        self._border_tokens = 0
        self._border_pieces = 0
        self._border_state: State | None = None  # None while the model is at the border

    @property
    def awaits_its_token(self) -> bool:
        """Whether the model is to be fed the token that was pushed last."""
        if self.finish_reason == "stop":
            return self._scanner.found is None  # the constraint's last token is of the text
        return self.finish_reason in (None, "length")

    def push(self, token: int) -> str:
        """Return the text that `token` lets out; all that is left if it is the last one.

        Args:
            token: The next one. The model has been fed those before it, and not yet this one.
        """
        if token == self._tokenizer.end_of_text:
            self.finish_reason = "end_of_text"
            return self._flush()
        constraint = self.sampler.constraint
        if constraint is not None:
            constraint.accept(token)
        self._tokens.append(token)
        text = self._let_out(self._detokenizer.push(token))
        if self._scanner.found is not None:
            self.finish_reason = "stop"
            return text
        self._move_border()
        if constraint is not None and constraint.is_over:
            self.finish_reason = "stop"
        elif len(self._tokens) >= self.sampler.params.max_tokens:
            self.finish_reason = "length"
        else:
            return text
        return text + self._flush()

    def finish(self, feed: Feed) -> Generation:
        """Return the whole, once the text is over and no token is awaited.

        Args:
            feed: The model, for the beginning of a token whose end belongs to a stop string.
        """
        assert self.finish_reason is not None
        generated_tokens = len(self._tokens) + (self.finish_reason == "end_of_text")
        if self._scanner.found is not None:
            tokens, state = self._tokens_and_state_before_stop(feed)
            self.finish_reason = "stop"
        else:
            tokens, state = self._tokens, self._read_state()
        return Generation(
            "".join(self._pieces),
            tuple(tokens),
            self.finish_reason,
            self._prompt_tokens,
            generated_tokens,
            state,
            self.sampler.seed,
        )

    def _flush(self) -> str:
        """Let out the text that was held back in the hope of more."""
        return self._let_out(self._detokenizer.flush()) + self._noted(self._scanner.flush())

    def _let_out(self, text: str) -> str:
        return self._noted(self._scanner.push(text))

    def _noted(self, piece: str) -> str:
        if piece:
            self._pieces.append(piece)
        return piece

    def _move_border(self) -> None:
        """Move the border behind the last token if it is out as text, or else keep its state."""
        if not self.sampler.params.stop:
            return
        new = self._tokenizer.decode(self._tokens[self._border_tokens :])
        if not self._scanner.held and new == self._text_since_border():
            self._border_tokens = len(self._tokens)
            self._border_pieces = len(self._pieces)
            self._border_state = None
        elif self._border_state is None:
            self._border_state = self._read_state()

    def _tokens_and_state_before_stop(self, feed: Feed) -> tuple[list[int], State]:
        """Return tokens that are the text without the stop string, and the state after them."""
        rest = self._tokenizer.encode(self._text_since_border())
        tokens = self._tokens[: self._border_tokens] + rest
        state = self._read_state() if self._border_state is None else self._border_state
        return tokens, feed(rest, state)[1] if rest else state

    def _text_since_border(self) -> str:
        return "".join(self._pieces[self._border_pieces :])


def generate_pieces(
    draft: Draft,
    logits: Float[Tensor, " V"],
    step: Callable[[int], Float[Tensor, " V"]],
    feed: Feed,
) -> Generator[str, None, Generation]:
    """Yield the pieces of one text, and return the whole.

    Args:
        draft: Nothing was pushed to it yet.
        logits: Of the token after the prompt.
        step: Feeds one token to the model whose state the draft reads.
        feed: The same weights, with any state.
    """
    chooser = TokenChooser()
    while draft.finish_reason is None:
        (token,) = chooser.choose([draft.sampler], logits[None])
        if isinstance(token, Exception):
            raise token
        if piece := draft.push(token):
            yield piece
        if draft.awaits_its_token:
            logits = step(token)
    return draft.finish(feed)
