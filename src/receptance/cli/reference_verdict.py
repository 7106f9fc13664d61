"""Whether a run is within the band of its recipe's reference curves, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from receptance.cli.run_reference import (
    Band,
    Reference,
    first_reading,
    other_settings,
    other_text,
    windows,
)
from receptance.plotting import Curve
from receptance.training import RunConfig, tokens_before

Lines = Sequence[Mapping[str, Any]]

MEANINGS = {
    "optimizer": (
        "a learning rate that is too high shows as a loss that stands still or rises while the "
        "norm of the gradient grows; one that is too low as a curve that falls steadily above"
    ),
    "model": "a smaller model ends above the band, and a larger one below, once it had the tokens",
    "data": "with other batches a step is another number of tokens: `--x tokens` compares by those",
    "training": "another number of steps stretches the schedule: curves meet at their ends",
}
"""What a difference in a table of the settings usually does."""


CHANCE = 0.1
"""Of the points of a curve, how many may be outside the band, each by itself."""


class Departure(NamedTuple):
    """A stretch of a curve outside the band."""

    begin: int
    """Its first step."""
    end: int
    """Its last one."""
    is_above: bool
    farthest: float
    """From the mean of the references, as a part of it; inf where the run's loss is not finite."""


class Verdict(NamedTuple):
    """What is said of a run."""

    is_within: bool | None
    """None where it is not judged."""
    words: list[str]
    """Lines to be read."""


def judge(name: str, config: RunConfig, lines: Lines, reference: Reference) -> Verdict:
    """Return whether a run is within the band of a reference, and what is to be said.

    A run of other settings or of another text is set beside the band and not judged.
    """
    n_runs = len(reference.runs)
    words = [f"{name}, beside {n_runs} reference runs of {reference.recipe} ({reference.text}):"]
    settings, text = other_settings(reference, config), other_text(reference, config)
    if settings and config.name != reference.recipe:
        words.append(f"  there are none of a recipe {config.name!r}; these are the nearest")
    if settings:
        words.append("  settings that are not the recipe's (which is what they were):")
        words += [f"    {line}" for line in settings]
    if text is not None:
        words.append(f"  {text}")
    training, last = windows(lines, reference.window), first_reading(reference, config)
    if last is not None:
        training = [point for point in training if point[0] <= last]
    held_out = [
        (line["step"], float(line["valid_bits_per_byte"]))
        for line in lines
        if "valid_bits_per_byte" in line
    ]
    of_training = departures(training, reference.training(), least=2)
    of_held_out = departures(held_out, reference.held_out(), least=1)
    until = (
        "training" if last is None else f"training, to step {last:,}, where a text is read again"
    )
    words += _told(until, training, reference.training(), of_training)
    words += _told("held out", held_out, reference.held_out(), of_held_out)
    beside = _beside(training, reference.training())
    if settings or text is not None:
        keys = {line.split("`")[1].split(".")[0] for line in settings}
        meanings = [MEANINGS[key] for key in MEANINGS if key in keys]
        words += [f"  {meaning}" for meaning in meanings]
        return Verdict(None, [*words, "  Not judged: it is another run than the references."])
    if not any("bits_per_byte" in line for line in lines):
        words.append("  Not judged: its metrics have no bits per byte, as those of older versions.")
        return Verdict(None, words)
    if not beside:
        words.append(f"  Not judged yet: the first comparison is after step {reference.window:,}.")
        return Verdict(None, words)
    if not of_training and not of_held_out:
        if len(beside) == len(_outside(beside)):
            alone = "its only place is outside the band, which may be chance"
            words.append(f"  Not judged yet: {alone}.")
            return Verdict(None, words)
        return Verdict(True, [*words, "  Within the band, as far as it is."])
    words += [f"  {line}" for line in _meaning(lines, of_training, of_held_out)]
    return Verdict(False, [*words, "  Not within the band."])


def departures(points: Sequence[tuple[int, float]], band: Band, *, least: int) -> list[Departure]:
    """Return where a curve is outside the band.

    Args:
        points: The steps and values; those at no step of the band are left out.
        band: Where it should be.
        least: How many points in a row must be outside on one side; fewer may be chance, but not
            where more than a tenth of all points are such (of the shipped runs, each beside the
            others, at most one of 34 is), and not if one is twice as far off as the band reaches.
    """
    stretches: list[list[tuple[int, float, bool]]] = []
    far_off: set[int] = set()
    side: bool | None = None
    beside = _beside(points, band)
    for step, value, low, mean, high in beside:
        # A loss that is not finite is above every band.
        above, below = not value <= high, value < low
        if not above and not below:
            side = None
            continue
        if side is not above:
            stretches.append([])
            side = above
        stretches[-1].append((step, abs(value / mean - 1) if value == value else math.inf, above))
        if not mean - 2 * (mean - low) <= value <= mean + 2 * (high - mean):
            far_off.add(step)
    short = [each for each in stretches if len(each) < least]
    are_too_many = sum(map(len, short)) > max(1, CHANCE * len(beside))
    return [
        Departure(each[0][0], each[-1][0], each[0][2], max(far for _, far, _ in each))
        for each in stretches
        if len(each) >= least or are_too_many or any(step in far_off for step, _, _ in each)
    ]


def curves_of(reference: Reference, x: str) -> list[Curve]:
    """Return the band as curves of bits per byte, over steps or tokens of the reference."""
    n_runs = len(reference.runs)
    label = f"{n_runs} reference runs of {reference.recipe}: mean and band"
    training, held_out = reference.training(), reference.held_out()

    def curve(band: Band, values: Sequence[float], style: str) -> Curve:
        # The mean of a window is drawn in its middle.
        before = 0 if band is held_out else reference.window // 2
        steps = [step - before for step in band.steps]
        places = [
            tokens_before(reference.config.data, step) if x == "tokens" else step for step in steps
        ]
        return Curve(label=label, x=[float(each) for each in places], y=values, style=style)

    return [
        curve(training, training.low, "thin"),
        curve(training, training.high, "thin"),
        curve(training, training.mean, "line"),
        curve(held_out, held_out.mean, "dots"),
    ]


def _beside(
    points: Sequence[tuple[int, float]], band: Band
) -> list[tuple[int, float, float, float, float]]:
    """Return step, value, low, mean and high wherever both have a value."""
    places = dict(zip(band.steps, zip(band.low, band.mean, band.high, strict=True), strict=True))
    return [(step, value, *places[step]) for step, value in points if step in places]


def _outside(beside: Sequence[tuple[int, float, float, float, float]]) -> list[int]:
    """Return the steps at which a curve is outside the band; a loss that is no number is."""
    return [step for step, value, low, _, high in beside if not low <= value <= high]


def _told(
    what: str, points: Sequence[tuple[int, float]], band: Band, outside: Sequence[Departure]
) -> list[str]:
    """Return what is said of one curve."""
    beside = _beside(points, band)
    if not beside:
        return [f"  {what}: nothing to compare yet"]
    step, value, low, _, high = beside[-1]
    last = f"at step {step:,} {value:.3f} bits per byte, the band is {low:.3f} to {high:.3f}"
    told = [f"  {what}: {last}"]
    for each in outside:
        where = (
            f"at step {each.begin:,}"
            if each.begin == each.end
            else f"from step {each.begin:,} to {each.end:,}"
        )
        far = "not finite" if math.isinf(each.farthest) else f"by up to {each.farthest:.0%}"
        side = "above" if each.is_above else "below"
        told.append(f"    {side} the band {where}, {far} from the references' mean")
    steps = _outside(beside)
    told[0] += f"; within it at {len(beside) - len(steps)} of {len(beside)} places"
    alone = [f"{step:,}" for step in steps if not any(it.begin <= step <= it.end for it in outside)]
    if alone:
        told.append(
            f"    outside it at step {', '.join(alone)}, each by itself, which may be chance"
        )
    return told


def _meaning(
    lines: Lines, of_training: Sequence[Departure], of_held_out: Sequence[Departure]
) -> list[str]:
    """Return what such a departure usually means, where settings and text are the recipe's."""
    found = []
    n_skipped = sum("skipped" in line for line in lines)
    if n_skipped:
        found.append(f"{n_skipped} of its steps were skipped; `metrics.jsonl` says why")
    if any(math.isinf(each.farthest) for each in of_training):
        found.append("Its loss was not finite: that is a fault, and never chance.")
    if any(each.is_above for each in of_training):
        found.append(
            "Settings and text being the same, a training curve above the band is due to what "
            "computes: another device or precision of products, another version of PyTorch or of "
            "this package, or a changed file. `training.precision=float32` on the same seed tells "
            "rounding from the rest."
        )
    if any(not each.is_above for each in of_training):
        found.append(
            "A training curve below the band is no better run: text that repeats itself in the "
            "store, or a loss that sees what it predicts, looks like this."
        )
    if of_held_out and not of_training:
        found.append(
            "Trained as the references were and another figure on held-out text: that text is "
            "another, or is also in the training text where the figure is lower."
        )
    return found
