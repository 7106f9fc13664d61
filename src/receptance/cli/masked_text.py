"""Tokens as text in which one sees what a model is to predict."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from receptance.tokenizer import Tokenizer

LEGEND = "what is in ⟦ ⟧ is read and not predicted"


class Run(NamedTuple):
    """Successive tokens that all count, or all do not."""

    text: str
    counted: bool


def runs(tokenizer: "Tokenizer", tokens: Sequence[int], mask: Sequence[int]) -> list[Run]:
    """Return tokens as runs of text.

    Args:
        tokenizer: Made the tokens.
        tokens: Any.
        mask: For each 1 if it counts, else 0.
    """
    places = groupby(range(len(tokens)), key=lambda place: bool(mask[place]))
    return [
        Run(tokenizer.decode([tokens[place] for place in each]), counted)
        for counted, each in places
    ]


def bracketed(parts: Sequence[Run]) -> str:
    """Return runs as one text, those that do not count in brackets."""
    return "".join(run.text if run.counted else f"⟦{run.text}⟧" for run in parts)
