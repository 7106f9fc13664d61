"""Results of several evaluations beside each other, and what of them may be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from receptance.evaluation.bootstrap import Estimate, estimate, totals
from receptance.evaluation.results import FIGURES, Result

COUNTS = ("tokens", "bytes", "words", "documents")

OF_NO_FIGURE = ("batch_size", "file")
"""The settings of tasks that change no figure but in its rounding; a file is told by its hash."""


WORDS = {
    "requests_sha256": "requests", "task_sha256": "items or metrics", "sha256": "file",
}  # fmt: skip
"""What settings of tasks are called, where it is not by their name."""


class Cell(NamedTuple):
    """A figure of one result."""

    value: float | int
    low: float | None = None
    """The ends of its 95 % interval, if it has one."""
    high: float | None = None
    stderr: float | None = None
    """Its standard error, of a task."""


class Difference(NamedTuple):
    """How far a result's bits per byte are from those of the first, block by block of the text."""

    bits_per_byte: Estimate
    percent: Estimate


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What several results say.

    Attributes:
        names: Of the results, in their order.
        figures: By name the figure of each result; None where one has it not. Those of a task
            begin with the task's name.
        differences: Of each result from the first; None where they are no pairs.
        notes: What must not be compared, each a sentence.
    """

    names: list[str]
    figures: dict[str, list[Cell | None]]
    differences: list[Difference | None]
    notes: list[str]


def side_by_side(results: Sequence[tuple[str, Result]]) -> SideBySide:
    """Return results beside each other.

    Args:
        results: Each with its name; the first is what the others are compared with.

    Raises:
        ValueError: If there is none.
    """
    if not results:
        raise ValueError(f"`results` must hold at least one, got {list(results)}")
    (first_name, first), *others = results
    notes = [note for name, each in others for note in _notes(first_name, first, name, each)]
    cells = [_cells(each) for _, each in results]
    names = dict.fromkeys(name for each in cells for name in each)
    return SideBySide(
        names=[name for name, _ in results],
        figures={name: [each.get(name) for each in cells] for name in names},
        differences=[None, *(_difference(first, each) for _, each in others)],
        notes=notes,
    )


def _cells(result: Result) -> dict[str, Cell]:
    """Return the figures of a result by their names."""
    cells: dict[str, Cell] = {}
    if result.tokens is not None:
        for name in FIGURES:
            value = getattr(result, name)
            ends = (result.intervals or {}).get(name)
            low, high = (None, None) if ends is None else (ends.low, ends.high)
            cells[name] = Cell(math.inf if value is None else value, low, high)
        for name in COUNTS:
            if (value := getattr(result, name)) is not None:
                cells[name] = Cell(value)
    for task, figures in (result.tasks or {}).items():
        for metric, figure in figures.items():
            value = math.inf if figure.value is None else figure.value
            cells[f"{task}: {metric}"] = Cell(value, stderr=figure.stderr)
    return cells


def _notes(first_name: str, first: Result, name: str, other: Result) -> list[str]:
    """Return what of two results must not be compared."""
    both = f"{first_name} and {name}"
    notes: list[str] = []
    if first.tokens is not None and other.tokens is not None:
        if not _have_same_text(first, other):
            notes.append(f"{both} are of different texts: their figures cannot be compared.")
        elif first.tokenizer.sha256 != other.tokenizer.sha256:
            notes.append(
                f"{both} have different tokenizers: their bits per byte and perplexities by word "
                "can be compared, bits per token and perplexities by token cannot."
            )
        reading, other_reading = (_reading(each.settings) for each in (first, other))
        if reading != other_reading:
            notes.append(
                f"{both} read differently: {first_name} {reading}, {name} {other_reading}."
            )
    for task in first.tasks or {}:
        if task in (other.tasks or {}):
            one, two = (_task_settings(each.settings, task) for each in (first, other))
            differing = [WORDS.get(it, it) for it in one | two if one.get(it) != two.get(it)]
            if differing:
                notes.append(
                    f"{both} ran {task} with other {', '.join(differing)}: its figures cannot be "
                    "compared."
                )
    return notes


def _task_settings(settings: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return how a task was run: what is set for all of them, and for it."""
    of_all = settings.get("tasks") or {}
    found = of_all | of_all.get("of", {}).get(task, {})
    return {key: value for key, value in found.items() if key not in ("of", *OF_NO_FIGURE)}


def _have_same_text(first: Result, other: Result) -> bool:
    """Whether the same documents were predicted."""
    return first.text_sha256 is not None and first.text_sha256 == other.text_sha256


def _reading(settings: Mapping[str, Any]) -> str:
    """Return how a text was read, in words."""
    how = "documents to their end"
    if settings.get("reading") == "windows":
        how = f"windows of {settings.get('window')} tokens, {settings.get('stride')} apart,"
    start = "the model's initial state" if settings.get("start") == "initial state" else "zero"
    return f"{how} from {start}"


def _difference(first: Result, other: Result) -> Difference | None:
    """Return how far a result is from the first, if both hold sums of the same blocks."""
    one, two = first.blocks, other.blocks
    if one is None or two is None or not _have_same_text(first, other) or one.bytes != two.bytes:
        return None
    columns = [torch.tensor(each, dtype=torch.float64) for each in (one.nats, two.nats, one.bytes)]
    nats, other_nats, n_bytes = totals(torch.stack(columns, dim=1)).unbind(1)
    bits: Tensor = (other_nats - nats) / n_bytes / math.log(2)
    return Difference(estimate(bits), estimate(100 * (other_nats / nats - 1)))
