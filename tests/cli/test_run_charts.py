"""The charts of a run say what its metrics say."""

import math
from typing import Any

import pytest

from receptance.cli.run_charts import charts_of, summary
from receptance.plotting import Chart


def lines(n_steps: int = 100, **changed: dict[int, Any]) -> list[dict[str, Any]]:
    """Return the lines of a run; `changed` sets keys at single steps."""
    made = [
        {
            "step": step, "tokens": 64 * step, "loss": 2.0 + 1.0 / step, "loss_average": 2.1,
            "bits_per_byte": 0.7 + 0.3 / step, "lr": 1e-3, "grad_norm": 0.5,
            "tokens_per_s": 1000.0, "flops_per_s": 1e9, "memory_bytes": 10**8,
            "seconds": 2.0 * step,
        }
        for step in range(1, n_steps + 1)
    ]  # fmt: skip
    for key, values in changed.items():
        for step, value in values.items():
            made[step - 1][key] = value
    return made


def styles(chart: Chart) -> list[tuple[str, str]]:
    return [(curve.label, curve.style) for curve in chart.curves]


def test_a_run_has_five_charts():
    charts = charts_of({"run": lines(valid_bits_per_byte={50: 0.9, 100: 0.8})}, "step")

    assert [chart.title for chart in charts] == [
        "loss, nats a token",
        "bits per byte, training, held out (dots)",
        "learning rate",
        "norm of the gradient",
        "tokens per second",
    ]
    assert styles(charts[0]) == [("run", "faint"), ("run", "line")]
    assert styles(charts[1]) == [("run", "thin"), ("run", "dots")]
    (dots,) = (curve for curve in charts[1].curves if curve.style == "dots")
    assert (dots.x, dots.y) == ([50.0, 100.0], [0.9, 0.8])
    assert [chart.is_log for chart in charts] == [False, False, False, True, False]
    assert {chart.x_range for chart in charts} == {(0.0, 100.0)}


def test_what_no_run_has_is_no_chart():
    bare = [
        {key: line[key] for key in ("step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s")}
        for line in lines()
    ]

    titles = [chart.title for chart in charts_of({"run": bare}, "tokens")]

    assert titles == [
        "loss, nats a token",
        "learning rate",
        "norm of the gradient",
        "tokens per second",
    ]


@pytest.mark.parametrize(
    ("changed", "title"),
    [({"valid_bits_per_byte": {7: 1.0}}, "training, held out (dots)"), ({}, "training")],
)
def test_bits_per_byte_say_of_what_they_are(changed, title):
    charts = charts_of({"run": lines(**changed)}, "step")

    assert charts[1].title == f"bits per byte, {title}"


def test_several_runs_share_the_charts_and_the_longest_gives_the_range():
    charts = charts_of({"short": lines(10), "long": lines(40)}, "tokens")

    assert styles(charts[2]) == [("short", "line"), ("long", "line")]
    assert {chart.x_range for chart in charts} == {(0.0, 2560.0)}
    assert {chart.x_label for chart in charts} == {"tokens"}


def test_a_skipped_step_is_a_cross_and_no_part_of_the_curves():
    run = lines(loss={30: 99.0, 60: math.nan}, skipped={30: "the loss is 99", 60: "it is nan"})
    loss, bits, lr, norm, _ = charts_of({"run": run}, "step")

    assert loss.title == "loss, nats a token, × skipped"
    (crosses,) = (curve for curve in loss.curves if curve.style == "crosses")
    assert crosses.x == [30.0, 60.0]
    assert crosses.y[0] == 99.0
    assert [len(curve.x) for curve in loss.curves] == [98, 98, 2]
    assert {len(curve.x) for curve in (*bits.curves, *norm.curves)} == {98}
    assert len(lr.curves[0].x) == 100


@pytest.mark.parametrize(
    ("seconds", "label", "end"),
    [
        (1.0, "seconds of training", 100.0),
        (6.0, "minutes of training", 10.0),
        (180.0, "hours of training", 5.0),
        (86400.0, "days of training", 100.0),
    ],
)
def test_time_has_the_unit_that_fits(seconds, label, end):
    run = [line | {"seconds": seconds * line["step"]} for line in lines()]

    charts = charts_of({"run": run}, "seconds")

    assert {chart.x_label for chart in charts} == {label}
    assert {chart.x_range for chart in charts} == {(0.0, end)}


def test_the_summary_has_the_last_figures():
    run = lines(valid_bits_per_byte={50: 0.9}, skipped={30: "the loss is 99"})

    assert summary("demo", lines(5)) == "demo: step 5, 320 tokens, loss 2.1000"
    assert summary("demo", run) == (
        "demo: step 100, 6,400 tokens, loss 2.1000, held out 0.9000 bits per byte, 1 skipped"
    )


def test_each_source_has_its_curve_in_charts_of_their_own():
    both = {"wiki": 2.0, "code": 3.0}
    seen = {step: {"wiki": 2.0} if step % 2 else both for step in range(1, 101)}
    valid = {50: {"code": 1.5}, 100: {"code": 1.25}}
    run = lines(loss_by_source=seen, valid_bits_per_byte_by_source=valid)

    charts = {chart.title: chart for chart in charts_of({"run": run}, "step")}

    of_loss = charts["loss by source, nats a token"]
    assert styles(of_loss) == [("run, wiki", "thin"), ("run, code", "thin")]
    wiki, code = of_loss.curves
    assert len(wiki.x) == 100
    assert list(wiki.y) == pytest.approx([2.0] * 100)
    assert list(code.y) == pytest.approx([3.0] * 50)
    assert list(code.x) == [float(step) for step in range(2, 101, 2)]
    (held_out,) = charts["held-out bits per byte by source"].curves
    assert (held_out.label, held_out.style) == ("run, code", "dots")
    assert (held_out.x, held_out.y) == ([50.0, 100.0], [1.5, 1.25])
