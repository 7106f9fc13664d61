"""An experiment: what it measures, how it is drawn, and what the page tells of it."""

import argparse
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paper.harness.results import RESULTS, Result, read_result, write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scale = Literal["quick", "small", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "small", "paper")
WORK = Path("runs", "paper")
"""Where stores, runs and what is not committed go."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of every experiment says."""

    scale: Scale
    """"quick" proves the command in minutes, "small" gives the figures of the page on two cores in
    at most 90 minutes, "paper" is as large as the paper's."""
    texts: tuple[Path, ...]
    """The text of the experiment; none for the standard library of the running interpreter."""
    work: Path
    """A folder for stores and runs; what a killed process left there is gone on with."""
    model: Path | None = None
    """A model to look at, where an experiment looks at one."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What was given of an experiment's own `arguments`."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table, a figure or a claim of the paper."""

    name: str
    """Of the script's file, and of its results."""
    title: str
    claim: str
    """What the paper says, with where."""
    differs: str
    """What is not as in the paper, and what of the claim can be checked here."""
    measure: Callable[[Options], dict[str, Any]]
    """Returns what was found, as JSON has it; the key `text`, where there is one, says of what."""
    section: Callable[[dict[str, Any]], str]
    """Returns what was found beside the paper's values, as Markdown."""
    draw: "Callable[[dict[str, Any]], Figure] | None" = None
    """Returns what was found as a picture."""
    scales: tuple[Scale, ...] = ("quick", "small")
    """Those that it knows."""
    takes_model: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Its own, by their names, with what each is."""


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> int:
    """Run an experiment from the command line: measure, write the JSON and the picture, tell.

    Results of `--scale small` go to `paper/results`, from which the page is made; others to
    `runs/paper/results`.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m paper.{experiment.name}",
        description=f"{experiment.title}. {experiment.claim}",
    )
    parser.add_argument("--scale", choices=experiment.scales, default="small")
    parser.add_argument("--text", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--work", type=Path, default=WORK, help="for stores and runs")
    parser.add_argument("--out", type=Path, help="for the JSON and the picture")
    parser.add_argument("--redraw", action="store_true", help="draw the last result anew")
    if experiment.takes_model:
        parser.add_argument("--model", type=Path, help="a model to look at, instead of a new one")
    for name, what in experiment.arguments.items():
        parser.add_argument(f"--{name}", help=what)
    given = parser.parse_args(argv)
    out = given.out or (RESULTS if given.scale == "small" else given.work / "results")
    if given.redraw:
        result = read_result(out, experiment.name)
    else:
        options = Options(
            scale=given.scale,
            texts=tuple(given.text),
            work=given.work / given.scale,
            model=getattr(given, "model", None),
            given={
                name: getattr(given, name)
                for name in experiment.arguments
                if getattr(given, name) is not None
            },
        )
        started = time.perf_counter()
        found = experiment.measure(options)
        result = Result.of(
            experiment.name,
            given.scale,
            found,
            time.perf_counter() - started,
            more=_more(options),
        )
        write_result(result, out)
    if experiment.draw is not None:
        from paper.harness.drawing import save_figure

        save_figure(experiment.draw(result.found), out / f"{experiment.name}.png")
    print(experiment.section(result.found))
    print(f"\n{out / experiment.name}.json, {result.seconds:.0f} s")
    return 0


def _more(options: Options) -> str:
    """Return what the command said besides the scale; files by their names alone."""
    parts = ["--text", *(file.name for file in options.texts)] if options.texts else []
    if options.model is not None:
        parts += ["--model", options.model.name]
    for name, value in options.given.items():
        parts += [f"--{name}", value]
    return shlex.join(parts)
