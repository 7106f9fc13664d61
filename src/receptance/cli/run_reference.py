"""Reference curves of the shipped recipes, and their band.

Several runs of a recipe, each with a seed of its own, say what its curve is like and how much two
runs of it differ. All is in bits per byte, so that a tokenizer trained on another text of the same
kind does not move it. The files are written by `python -m paper.reference_curves`.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from receptance.data import TokenStore
from receptance.errors import DataError
from receptance.training import RunConfig, differences, parse_config, tokens_before

REFERENCES = Path(__file__).with_name("references")
LEAST_MARGIN = 0.03
"""The part of the mean by which a band is widened on either side at least. A hundredth was too
little: each of the demo's first three runs was set beside the two others, and two of them left the
band, though nothing was wrong with them."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Where the runs were, and where another one is expected; all lists are of one length."""

    steps: Sequence[int]
    low: Sequence[float]
    mean: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A recipe and what several runs of it measured."""

    recipe: str
    text: str
    """What the runs were trained on, in words."""
    config: RunConfig
    """The recipe; its store and seed mean nothing."""
    vocab_size: int
    held_out_names: frozenset[str]
    """Held-out files of a text that is not the same on every machine; empty where it is."""
    runs: Sequence[Mapping[str, Any]]

    @property
    def window(self) -> int:
        """The steps of which each value of the training curve is the mean."""
        return self.runs[0]["window"]

    def training(self) -> Band:
        """Return the band of the training loss."""
        curves = [run["bits_per_byte"] for run in self.runs]
        steps = [self.window * (index + 1) for index in range(len(curves[0]))]
        return band(steps, curves)

    def held_out(self) -> Band:
        """Return the band of the held-out text, at the steps that measured it."""
        steps = [step for step, _ in self.runs[0]["valid_bits_per_byte"]]
        return band(steps, [[y for _, y in run["valid_bits_per_byte"]] for run in self.runs])


def band(steps: Sequence[int], curves: Sequence[Sequence[float]]) -> Band:
    """Return the band of several curves.

    It reaches from the lowest to the highest of them, widened on either side by their range there,
    or their median range of all steps, or `LEAST_MARGIN` of their mean, whichever is largest: of a
    few runs the extremes alone would leave out every second new one.
    """
    columns = list(zip(*curves, strict=True))
    ranges = [max(column) - min(column) for column in columns]
    usual = statistics.median(ranges)
    mean = [statistics.fmean(column) for column in columns]
    margins = [
        max(ranges[index], usual, LEAST_MARGIN * middle) for index, middle in enumerate(mean)
    ]
    return Band(
        steps=steps,
        low=[min(column) - margin for column, margin in zip(columns, margins, strict=True)],
        mean=mean,
        high=[max(column) + margin for column, margin in zip(columns, margins, strict=True)],
    )


def windows(lines: Sequence[Mapping[str, Any]], size: int) -> list[tuple[int, float]]:
    """Return the mean bits per byte of every `size` steps, each with its last step.

    Args:
        lines: Of a run's metrics.
        size: How many steps; of the last ones, if fewer, there is no mean.

    Returns:
        The steps and means; NaN where one of the losses is not finite.
    """
    values = {line["step"]: line["bits_per_byte"] for line in lines if "bits_per_byte" in line}
    found = []
    for end in range(size, max(values, default=0) + 1, size):
        part = [values[step] for step in range(end - size + 1, end + 1) if step in values]
        is_known = part and all(math.isfinite(value) for value in part)
        found.append((end, statistics.fmean(part) if is_known else math.nan))
    return found


def read_references(folder: Path = REFERENCES) -> list[Reference]:
    """Return the reference curves that are shipped, by the name of their recipe."""
    found = []
    for path in sorted(folder.glob("*.json")):
        entries = json.loads(path.read_text(encoding="utf-8"))
        if "runs" not in entries:
            continue
        settings = entries["settings"]
        settings = {
            **settings,
            "name": entries["recipe"],
            "data": {**settings["data"], "store": ""},
        }
        found.append(
            Reference(
                recipe=entries["recipe"],
                text=entries["text"],
                config=parse_config(settings, str(path)),
                vocab_size=entries["vocab_size"],
                held_out_names=frozenset(entries["held_out_names"]),
                runs=entries["runs"],
            )
        )
    return found


def nearest(references: Sequence[Reference], config: RunConfig) -> Reference:
    """Return the reference of a run's recipe, or the one whose settings differ least."""
    return min(
        references,
        key=lambda each: (each.recipe != config.name, len(other_settings(each, config))),
    )


def other_settings(reference: Reference, config: RunConfig) -> list[str]:
    """Return the settings of a run that are not the recipe's, each as a line.

    The seed, the size of the vocabulary where it is the store's, and what a run does every so many
    steps are not among them.
    """
    expected, n_ids = reference.config, reference.vocab_size
    model = replace(expected.model, vocab_size=expected.model.vocab_size or n_ids)
    expected = replace(expected, seed=0, model=model)
    model = replace(config.model, vocab_size=config.model.vocab_size or n_ids)
    config = replace(config, seed=0, model=model)
    return [
        line for line in differences(expected, config) if not line.startswith("`data.store_sha256`")
    ]


def other_text(reference: Reference, config: RunConfig) -> str | None:
    """Return what is not the same about a run's text, as a line; None where it is that of one run.

    Of a reference whose text differs between machines, text of the same kind is the same: its
    vocabulary has the same size, and half of its held-out files have the reference's names.
    """
    if config.data.sources:
        return "it is trained on a mixture of texts"
    if config.data.store_sha256 in {run["store_sha256"] for run in reference.runs}:
        return None
    try:
        store = TokenStore.open(config.data.stores[""])
    except DataError:
        return f"its text is not known to be {reference.text}: its token store cannot be read"
    if store.vocab_size != reference.vocab_size:
        return f"its tokenizer has {store.vocab_size:,} ids, not {reference.vocab_size:,}"
    held_out = {file_name(each.path) for each in store.manifest.sources if each.held_out}
    if 2 * len(held_out & reference.held_out_names) >= len(held_out) > 0:
        return None
    return f"its text, or the tokenizer trained on it, is not the reference's: {reference.text}"


def first_reading(reference: Reference, config: RunConfig) -> int | None:
    """Return the last step before one of the texts is read again; None where they are the same.

    There the training loss falls, and texts of one kind are not of one length.
    """
    if not reference.held_out_names or config.data.sources:
        return None
    known = {run["store_sha256"]: run["first_reading"] for run in reference.runs}
    own = known.get(config.data.store_sha256)
    if own is None:
        try:
            n_tokens = TokenStore.open(config.data.stores[""]).train.n_tokens
        except DataError:
            n_tokens = 0
        own = n_tokens // tokens_before(config.data, 1)
    return min(own, *known.values())


def file_name(path: str) -> str:
    """Return the last two names of a path, without that of a Python's version."""
    return "/".join(name for name in Path(path).parts[-2:] if not name.startswith("python3."))
