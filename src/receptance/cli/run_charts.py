"""The charts of training runs, from the lines of their metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from receptance.plotting import Chart, Curve, smoothed

Lines = Sequence[Mapping[str, Any]]
"""Of a `metrics.jsonl`, at least one."""

BY_SOURCE = {
    "loss_by_source": "loss by source, nats a token",
    "valid_bits_per_byte_by_source": "held-out bits per byte by source",
}
"""The charts of the figures that each source has."""

UNITS_S = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def charts_of(runs: Mapping[str, Lines], x: str) -> list[Chart]:
    """Return the charts of runs: loss, bits per byte, learning rate, gradient and speed.

    Args:
        runs: The lines of each run, by its label.
        x: What runs to the right: "step", "tokens" or "seconds".

    Returns:
        The charts, the most important one first; those of bits per byte and of sources only where
        a run has some.
    """
    scale, x_label = _x_axis(runs, x)
    x_end = max(line[x] for lines in runs.values() for line in lines) / scale
    curves = partial(_curves, runs, x, scale)
    chart = partial(Chart, x_label=x_label, x_range=(0.0, x_end))
    loss, skipped = curves("loss", "faint"), curves("loss", "crosses", is_skipped=True)
    held_out = curves("valid_bits_per_byte", "dots", is_skipped=None)
    trained = [replace(smoothed(curve), style="thin") for curve in curves("bits_per_byte")]
    norm, speed = curves("grad_norm", "faint"), curves("tokens_per_s", "faint")
    sources = "training, held out (dots)" if trained and held_out else "held out"
    charts = [
        chart(
            title="loss, nats a token" + (", × skipped" if skipped else ""),
            curves=loss + [smoothed(curve) for curve in loss] + skipped,
            is_zoomed=True,
        ),
        chart(
            title=f"bits per byte, {sources if held_out else 'training'}",
            curves=trained + held_out,
            is_zoomed=True,
        ),
        *(
            chart(title=title, curves=_curves_by_source(runs, x, scale, key), is_zoomed=True)
            for key, title in BY_SOURCE.items()
        ),
        chart(title="learning rate", curves=curves("lr", is_skipped=None)),
        chart(
            title="norm of the gradient",
            curves=norm + [smoothed(curve, is_log=True) for curve in norm],
            is_log=True,
            is_zoomed=True,
        ),
        chart(
            title="tokens per second",
            curves=speed + [smoothed(curve) for curve in speed],
            is_zoomed=True,
        ),
    ]
    return [each for each in charts if each.curves]


def _curves(
    runs: Mapping[str, Lines],
    x: str,
    scale: float,
    key: str,
    style: str = "line",
    *,
    is_skipped: bool | None = False,
) -> list[Curve]:
    """Return a curve for each run that has the key, of skipped steps, of others or of all."""
    found = []
    for label, lines in runs.items():
        chosen = [line for line in lines if key in line]
        if is_skipped is not None:
            chosen = [line for line in chosen if ("skipped" in line) == is_skipped]
        x_values = [float(line[x]) / scale for line in chosen]
        y_values = [float(line[key]) for line in chosen]
        if chosen:
            found.append(Curve(label=label, x=x_values, y=y_values, style=style))
    return found


def _curves_by_source(runs: Mapping[str, Lines], x: str, scale: float, key: str) -> list[Curve]:
    """Return a curve for each source of each run: smoothed for the loss, which every step has."""
    found = []
    for label, lines in runs.items():
        for name in dict.fromkeys(name for line in lines for name in line.get(key, ())):
            chosen = [line for line in lines if name in line.get(key, ())]
            curve = Curve(
                label=f"{label}, {name}",
                x=[float(line[x]) / scale for line in chosen],
                y=[float(line[key][name]) for line in chosen],
                style="dots",
            )
            is_loss = key == "loss_by_source"
            found.append(replace(smoothed(curve), style="thin") if is_loss else curve)
    return found


def summary(name: str, lines: Lines) -> str:
    """Return a run's name with where it is and the last figures of it."""
    last = lines[-1]
    parts = [f"step {last['step']:,}", f"{last['tokens']:,} tokens"]
    average = last.get("loss_average", last["loss"])
    parts.append(f"loss {average:.4f}")
    valid = [line["valid_bits_per_byte"] for line in lines if "valid_bits_per_byte" in line]
    if valid:
        parts.append(f"held out {valid[-1]:.4f} bits per byte")
    n_skipped = sum("skipped" in line for line in lines)
    if n_skipped:
        parts.append(f"{n_skipped} skipped")
    return f"{name}: {', '.join(parts)}"


def _x_axis(runs: Mapping[str, Lines], x: str) -> tuple[float, str]:
    """Return what the x are divided by, and what they are then."""
    if x != "seconds":
        return 1.0, "steps" if x == "step" else "tokens"
    longest = max(line["seconds"] for lines in runs.values() for line in lines)
    unit = next((unit for unit, size in UNITS_S.items() if longest >= 3 * size), "seconds")
    return UNITS_S[unit], f"{unit} of training"
