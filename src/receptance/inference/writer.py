"""One text that is being written by an engine: what is told of each of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.inference.generation import Draft
from receptance.inference.language_model import LanguageModel
from receptance.inference.logprobs import token_logprobs
from receptance.inference.request import Output, PromptRead
from receptance.ops.device import upload


@dataclass(eq=False)
class Writer:
    """A request whose prompt was read."""

    slot: int
    """Where its state is."""
    lm: LanguageModel
    """What writes it: the engine's, perhaps with an adapter."""
    draft: Draft
    logits: Float[Tensor, " V"]
    """Of its next token."""
    logprobs: int | None
    """How many likeliest tokens are told beside each one that is generated."""
    prompt: PromptRead | None
    """What the first output is to tell."""

    @property
    def is_over(self) -> bool:
        """Whether the text has ended, for whatever reason but an error."""
        return self.draft.finish_reason is not None

    def push(self, id_: int, token: int | Exception) -> Output:
        """Go on by a token, and return what that is to its reader.

        Args:
            id_: Of the request.
            token: What was chosen by `logits`, or why nothing was.
        """
        prompt, self.prompt = self.prompt, None
        if isinstance(token, Exception):
            return Output(id=id_, prompt=prompt, error=token)
        logprobs, n_top = None, self.logprobs
        try:
            if n_top is not None:
                vocab_size = self.lm.tokenizer.vocab_size
                logprobs = token_logprobs(self.logits, token, n_top, vocab_size)
            text = self.draft.push(token)
        except Exception as error:  # noqa: BLE001 (it ends this text alone)
            return Output(id=id_, prompt=prompt, error=error)
        return Output(id=id_, prompt=prompt, token=token, text=text, logprobs=logprobs)

    def finish(self, output: Output) -> Output:
        """Return the last output of a text that is over, with the whole of it.

        Args:
            output: What its last token gave.
        """
        try:
            return replace(output, generation=self.draft.finish(self.lm.forward))
        except Exception as error:  # noqa: BLE001 (it ends this text alone)
            return replace(output, error=error)


def bring_what_is_told(writers: Sequence[Writer], logits: Float[Tensor, "B V"]) -> None:
    """Bring the logits that their readers are told of to the CPU, all in one transfer.

    Args:
        writers: B of them.
        logits: Theirs.
    """
    rows = [row for row, each in enumerate(writers) if each.logprobs is not None]
    if rows:
        told = logits[upload(torch.tensor(rows), logits.device)].cpu()
        for row, own in zip(rows, told, strict=True):
            writers[row].logits = own
