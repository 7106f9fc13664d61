"""The loop that makes text: choose a token, pass on the text it completes, feed it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from receptance.inference.sampling import Sampler
from receptance.inference.stop_strings import StopScanner
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
    """A stop string, `max_tokens`, or the token that ends a text."""
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


class Start(NamedTuple):
    """What a generation begins from: a prompt that was fed."""

    logits: Float[Tensor, " V"]
    """Of the token after the prompt."""
    state: State
    n_tokens: int
    """How many tokens the prompt had."""


def generate_pieces(
    feed: Feed, tokenizer: Tokenizer, sampler: Sampler, start: Start
) -> Generator[str, None, Generation]:
    """Yield the text after a prompt in pieces, and return the whole.

    Args:
        feed: The model.
        tokenizer: Its tokenizer.
        sampler: Chooses the tokens, all of them the tokenizer's; its `params` say when to end.
        start: The prompt, fed.
    """
    params, (logits, state, prompt_tokens) = sampler.params, start
    output = _Output(tokenizer, params.stop, state)
    finish_reason: FinishReason = "length"

    for _ in range(params.max_tokens):
        token = sampler.choose(logits)
        if token == tokenizer.end_of_text:
            finish_reason = "end_of_text"
            break
        if piece := output.push(token):
            yield piece
        if output.is_stopped:
            break
        logits, state = feed([token], state)
        output.set_border_if_clean(state)
    if rest := output.flush():
        yield rest

    n_chosen = len(output.tokens) + (finish_reason == "end_of_text")
    if output.is_stopped:
        finish_reason = "stop"
        tokens, state = output.tokens_and_state_of_text(feed)
    else:
        tokens = output.tokens
    text = "".join(output.pieces)
    return Generation(
        text, tuple(tokens), finish_reason, prompt_tokens, n_chosen, state, sampler.seed
    )


class _Output:
    """The text of the tokens chosen so far, and the last border where text and tokens agree.

    At a border, every token is out as text: no character is half complete and nothing is held
    back. When a stop string is found behind it, the state to go on from is the one there.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], state: State) -> None:
        self.tokens: list[int] = []
        self.pieces: list[str] = []
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._scanner = StopScanner(stops)
        self._border_tokens = 0
        self._border_pieces = 0
        self._border_state = state

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string is complete."""
        return self._scanner.found is not None

    def push(self, token: int) -> str:
        """Return the text that `token` lets out."""
        self.tokens.append(token)
        return self._append(self._scanner.push(self._detokenizer.push(token)))

    def flush(self) -> str:
        """Return the text that was held back in the hope of more."""
        text = self._scanner.push(self._detokenizer.flush())
        return self._append(text + self._scanner.flush())

    def set_border_if_clean(self, state: State) -> None:
        """Note `state`, which has seen all tokens so far, if all of them are out as text."""
        new = self._tokenizer.decode(self.tokens[self._border_tokens :])
        if not self._scanner.held and new == self._text_since_border():
            self._border_tokens = len(self.tokens)
            self._border_pieces = len(self.pieces)
            self._border_state = state

    def tokens_and_state_of_text(self, feed: Feed) -> tuple[list[int], State]:
        """Return tokens that are the text without the stop string, and the state after them."""
        rest = self._tokenizer.encode(self._text_since_border())
        tokens = self.tokens[: self._border_tokens] + rest
        return tokens, feed(rest, self._border_state)[1] if rest else self._border_state

    def _append(self, piece: str) -> str:
        if piece:
            self.pieces.append(piece)
        return piece

    def _text_since_border(self) -> str:
        return "".join(self.pieces[self._border_pieces :])
