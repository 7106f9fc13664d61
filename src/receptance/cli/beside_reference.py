"""The charts of runs with the reference curves in them, and what is said of each run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from receptance.cli.published_losses import curve_beside, published_size, words_beside
from receptance.cli.reference_verdict import curves_of, judge
from receptance.cli.run_reference import nearest, read_references
from receptance.plotting import Chart, Curve
from receptance.training import METRICS_FILE, read_config, read_metrics

BITS, LOSS = "bits per byte,", "loss, nats"


def beside_reference(
    charts: Sequence[Chart], folders: Mapping[str, Path], x: str
) -> tuple[list[Chart], list[str]]:
    """Return the charts with what each run is set beside, that one first, and the words of it.

    A run of a published shape is set beside the published losses, any other one beside the
    reference curves of its recipe, or of the one whose settings are nearest.

    Args:
        charts: Of the runs, over `x`.
        folders: Of the runs, by their names.
        x: "step" or "tokens".

    Raises:
        ConfigError: If a run's folder has no `config.toml`.
    """
    references = read_references()
    chosen, words = {}, []
    beside: list[Curve] = []
    x_end = charts[0].x_range[1]
    for name, folder in folders.items():
        config = read_config(folder / "config.toml")
        lines = read_metrics(folder / METRICS_FILE)
        size = published_size(config)
        if words:
            words.append("")
        if size is not None:
            curve = curve_beside(size, config, x, x_end)
            beside += [curve] if curve is not None and curve not in beside else []
            words += words_beside(name, size, lines)
        else:
            reference = nearest(references, config)
            chosen[reference.recipe] = reference
            words += judge(name, config, lines, reference).words
    bands = [curve for reference in chosen.values() for curve in curves_of(reference, x)]
    charts = [_with(chart, LOSS, beside) for chart in charts]
    charts = [_with(chart, BITS, bands) for chart in charts]
    first = BITS if bands else LOSS
    return sorted(charts, key=lambda chart: not chart.title.startswith(first)), words


def _with(chart: Chart, title: str, curves: Sequence[Curve]) -> Chart:
    """Return a chart with curves more, as far as they reach, if it is the one of that title."""
    if not curves or not chart.title.startswith(title):
        return chart
    begin, end = chart.x_range
    end = max(end, *(each.x[-1] for each in curves))
    return replace(chart, curves=[*chart.curves, *curves], x_range=(begin, end))
