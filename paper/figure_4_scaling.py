"""Figure 4: loss against compute, over a grid of models and numbers of tokens."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure, text_of
from paper.harness.drawing import narrow_log
from paper.harness.statistics import Point, PowerLaw, fit_power_law, pareto, r_squared
from paper.harness.training import train_model
from receptance.data import TokenStore
from receptance.models import RWKV4Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Read from the paper's figure, in 10^18 FLOP and nats a token: the Pareto-optimal points that its
# line is fitted to, and those of an order of magnitude more that it is extrapolated to.
PAPER_OPTIMAL = (
    *((0.123, 3.418), (0.245, 3.262), (0.276, 3.256), (0.491, 3.172), (0.552, 3.102)),
    *((0.981, 3.043), (1.104, 2.977), (1.963, 2.885), (2.208, 2.850), (3.926, 2.748)),
    *((7.852, 2.645), (15.70, 2.586), (17.67, 2.533), (31.41, 2.478), (35.33, 2.468)),
    *((62.81, 2.420), (70.67, 2.382)),
)
PAPER_FURTHER = (
    *((125.6, 2.295), (141.3, 2.289), (251.3, 2.274), (261.7, 2.241)),
    *((523.4, 2.135), (1046.9, 2.000)),
)
PAPER_R_SQUARED = 0.994, 0.875


class Grid(NamedTuple):
    """Which runs there are: each model with each number of tokens."""

    models: tuple[tuple[int, int], ...]
    """L and D."""
    log2_tokens: tuple[int, ...]
    ctx_len: int
    batch_size: int
    held_out_tokens: int


GRIDS = {
    "quick": Grid(((1, 32), (2, 48), (2, 64)), (12, 13, 14, 15, 16), 64, 8, 10_000),
    "small": Grid(
        ((2, 32), (2, 48), (2, 64), (3, 96), (4, 128), (5, 160), (6, 192)),
        (18, 19, 20, 21, 22, 23),
        256,
        8,
        200_000,
    ),
}
FURTHER = 10.0  # what has more than this part of the most compute is extrapolated to
LINE = 0.95, 5  # a line has at least this r², over at least so many points


def learning_rate(n_embd: int) -> float:
    """Return the peak of a model's learning rate; a wider one has a lower."""
    return 3e-3 * math.sqrt(256 / n_embd)


def fitted(points: list[Point]) -> dict[str, Any]:
    """Fit the optimal points of less compute, and judge the line by them and by the others.

    Those of the last order of magnitude of compute take no part in the fit, and the optimal ones
    among them are what the line is extrapolated to.
    """
    most = max(each.compute for each in points)
    lesser = [each for each in points if each.compute <= most / FURTHER]
    optimal = pareto(lesser)
    further = [each for each in pareto(points) if each.compute > most / FURTHER]
    law, best = fit_power_law(*zip(*optimal, strict=True)), pareto(points)[-1]
    return {
        "factor": law.factor,
        "power": law.power,
        "optimal": optimal,
        "further": further,
        "r_squared": r_squared(law, *zip(*optimal, strict=True)),
        "r_squared_further": r_squared(law, *zip(*further, strict=True)) if further[1:] else None,
        "error_at_the_most": best.loss / law(best.compute) - 1,
    }


def measure(options: Options) -> dict[str, Any]:
    """Train each model with each number of tokens, the learning rate falling over each run."""
    grid, text = GRIDS[options.scale], text_of(options)
    store = text.store(options.work, "bytes")
    # From the least compute to the most, so that a run that is stopped has told the most.
    pairs = [(L, D, 2**log2) for L, D in grid.models for log2 in grid.log2_tokens]
    runs = [
        _run(options, store, grid, *pair)
        for pair in sorted(pairs, key=lambda it: it[0] * it[1] ** 2 * it[2])
    ]
    return {
        "text": text.entries(),
        "train_tokens": store.train.n_tokens,
        "ctx_len": grid.ctx_len,
        "batch_size": grid.batch_size,
        "runs": runs,
        "fit": fitted([Point(run["compute"], run["loss"]) for run in runs]),
        "fit_with_head": fitted([Point(run["compute_with_head"], run["loss"]) for run in runs]),
    }


def _run(
    options: Options, store: TokenStore, grid: Grid, n_layer: int, n_embd: int, tokens: int
) -> dict[str, Any]:
    """Train one model, and return its compute and what held-out text costs it."""
    steps = tokens // (grid.batch_size * grid.ctx_len)
    lr = learning_rate(n_embd)
    trained = train_model(
        f"figure-4-L{n_layer}-D{n_embd}-{tokens}",
        store,
        options.work,
        {
            "model": {"n_layer": n_layer, "n_embd": n_embd},
            "data": {"ctx_len": grid.ctx_len, "batch_size": grid.batch_size},
            "training": {"steps": steps},
            "optimizer": {"lr": lr},
            "schedule": {"kind": "cosine", "warmup_steps": steps // 20, "final_lr": lr / 20},
            "every": {"validation_steps": steps, "validation_tokens": grid.held_out_tokens},
            "spikes": {"loss_deviations": 0.0, "grad_norm_ratio": 0.0},
        },
    )
    config = RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=store.vocab_size)
    return {
        "n_layer": n_layer,
        "n_embd": n_embd,
        "parameters": config.n_parameters,
        "tokens": tokens,
        "compute": 78 * n_embd**2 * n_layer * tokens,
        "compute_with_head": 3 * config.flops_per_token * tokens,
        "loss": trained.valid[-1][1] * math.log(2),
    }


def section(found: dict[str, Any]) -> str:
    """Return the line and how far the points are from it, beside the paper's."""
    paper = fit_power_law(*zip(*PAPER_OPTIMAL, strict=True))
    both = found["fit"], found["fit_with_head"]
    here, head = both
    rows = [
        ("power", f"{paper.power:.4f}", *(f"{fit['power']:.4f}" for fit in both)),
        ("r², of the optimal points", PAPER_R_SQUARED[0], *(f"{f['r_squared']:.3f}" for f in both)),
        (
            "r², of the line on points of an order of magnitude more",
            PAPER_R_SQUARED[1],
            *(_shown(fit["r_squared_further"]) for fit in both),
        ),
        ("points fitted", len(PAPER_OPTIMAL), *(len(fit["optimal"]) for fit in both)),
        ("points extrapolated to", len(PAPER_FURTHER), *(len(fit["further"]) for fit in both)),
    ]
    computes = [run["compute"] for run in found["runs"]]
    epochs = max(run["tokens"] for run in found["runs"]) / found["train_tokens"]
    return (
        f"{markdown_table(('', 'paper', 'here, C = 78 D²LT', 'C with the head'), rows)}\n\n"
        f"{len(found['runs'])} models, {min(computes):.1e} to {max(computes):.1e} FLOP by the "
        "paper's count, 78 D²LT: six times the numbers in the layers' matrices times T tokens, "
        "without embedding and head; the last column counts the head. The longest runs read "
        f"{epochs:.2f} epochs. The line is loss = {here['factor']:.3f} · C^{here['power']:.4f} "
        f"nats a byte. {verdict(here)}; {_bend(here)} The best model's loss is "
        f"{here['error_at_the_most']:+.1%} off the line (with the head "
        f"{head['error_at_the_most']:+.1%}). r² is of logarithms; computed so from the points read "
        f"from the paper's figure it is {_of_paper(PAPER_OPTIMAL):.3f} and "
        f"{_of_paper(PAPER_FURTHER):.3f}."
    )


def verdict(fit: dict[str, Any]) -> str:
    """Return in words whether there is a line, and whether it goes on.

    Args:
        fit: What `fitted` found.
    """
    (least, n_least), n, r_squared = LINE, len(fit["optimal"]), fit["r_squared"]
    if n < n_least:
        return f"{n} optimal points are too few to tell a line from a curve"
    told = "The points lie near a line" if r_squared >= least else "The points are on no line"
    further = fit["r_squared_further"]
    if further is None:
        return f"{told} (r² {r_squared:.3f}); no points show whether it goes on"
    over = f"over an order of magnitude more (r² {further:.3f}"
    if further >= PAPER_R_SQUARED[1]:
        goes_on = f"it goes on {over})"
    elif further >= 0:
        goes_on = f"it fits less well {over})"
    else:
        goes_on = f"it does not go on {over}: their mean would fit them better)"
    return f"{told} (r² {r_squared:.3f}); {goes_on}"


def _bend(fit: dict[str, Any]) -> str:
    """Return the powers of the cheaper and the dearer half of all optimal points."""
    points = [*fit["optimal"], *fit["further"]]
    halves = points[: len(points) // 2 + 1], points[len(points) // 2 :]
    low, high = (fit_power_law(*zip(*half, strict=True)).power for half in halves)
    return (
        f"the power is {low:.3f} over the cheaper half of all optimal points and {high:.3f} over "
        "the dearer one. An edge falls and cannot rise, so r² near 1 alone says little; the "
        "smallest model and the longest run of the grid lie on its ends, where the edge is that of "
        "the grid."
    )


def _shown(value: float | None) -> str:
    """Return r², where there are points enough for it."""
    return "–" if value is None else f"{value:.3f}"


def _of_paper(points: tuple[tuple[float, float], ...]) -> float:
    """Return r² of the paper's points about the line through its optimal ones."""
    law = fit_power_law(*zip(*PAPER_OPTIMAL, strict=True))
    return r_squared(law, *zip(*points, strict=True))


def draw(found: dict[str, Any]) -> "Figure":
    """Draw all points with the line, and the paper's beside them."""
    figure, axes = new_figure(2, width=5.6, height=4.2)
    here, paper = axes.flat
    fit = found["fit"]
    sizes = sorted({(run["n_embd"], run["n_layer"]) for run in found["runs"]})
    for (n_embd, n_layer), colour in zip(sizes, COLOURS, strict=False):
        runs = [
            run for run in found["runs"] if (run["n_embd"], run["n_layer"]) == (n_embd, n_layer)
        ]
        x, y = [run["compute"] for run in runs], [run["loss"] for run in runs]
        here.plot(x, y, ".-", color=colour, linewidth=0.8, label=f"L{n_layer}, D{n_embd}")
    law = PowerLaw(fit["factor"], fit["power"])
    _line(here, law, fit["optimal"], fit["further"])
    here.set_ylabel("held-out loss, nats a byte")
    here.set_title(f"here: loss ∝ C^{law.power:.3f}")
    law = fit_power_law(*zip(*PAPER_OPTIMAL, strict=True))
    _line(paper, law, PAPER_OPTIMAL, PAPER_FURTHER)
    paper.set_ylabel("test loss, nats a token")
    paper.set_title(f"the paper's figure 4: loss ∝ C^{law.power:.3f}")
    here.set_xlabel("compute C = 78 D²LT, FLOP")
    paper.set_xlabel("compute C = 78 D²LT, 10¹⁸ FLOP")
    for axis in (here, paper):
        axis.set_xscale("log")
        narrow_log(axis)
        axis.xaxis.set_minor_formatter("")
        axis.legend(frameon=False, fontsize=8)
    return figure


def _line(axis: "Axes", law: PowerLaw, optimal: "Sequence", further: "Sequence") -> None:
    """Draw the fitted points, those that the line is extrapolated to, and the line."""
    x, y = zip(*optimal, strict=True)
    axis.plot(x, y, "o", color="black", markersize=6, fillstyle="none", label="optimal, fitted")
    u, v = zip(*(further or [optimal[-1]]), strict=True)
    axis.plot(u, v, "s", color="black", markersize=6, fillstyle="none", label="extrapolated to")
    axis.plot((x[0], x[-1]), (law(x[0]), law(x[-1])), color="black", linewidth=1, label="line")
    axis.plot((x[-1], u[-1]), (law(x[-1]), law(u[-1])), "--", color="black", linewidth=1)


EXPERIMENT = Experiment(
    name="figure_4_scaling",
    title="Figure 4: scaling law",
    claim=(
        "Loss falls with compute along a line in logarithms: r² = 0.994 on the Pareto-optimal "
        "points of 45 models, and 0.875 where the line is extrapolated over one more order of "
        "magnitude (section 4.2, figure 4)."
    ),
    differs=(
        "Models a thousandth as large, on another text read as bytes, so that the head is small "
        "beside the layers and the losses are nats a byte: neither the line's height nor its power "
        "can be that of the paper; whether it is a line can be seen. Every run has its own cosine "
        "schedule over its own tokens, and a peak of "
        "3e-3 · sqrt(256 / D); the paper gives neither sizes nor schedules of its runs. That its "
        "compute is 78 D²LT is inferred from the values in its figure."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
