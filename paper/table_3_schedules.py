"""Table 3: the learning rates of the six runs, as curves over their tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from receptance.training import read_config
from receptance.training.planning import plan_step, tokens_before

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPES = Path(__file__).parents[1] / "recipes"
# The paper's table 3: initial learning rate, mini-epochs at it ("warm-up"), last learning rate.
PAPER = {
    "169m": (6e-4, 361, 1e-5),
    "430m": (4e-4, 411, 1e-5),
    "1.5b": (3e-4, 443, 1e-5),
    "3b": (1.5e-4, 451, 1e-5),
    "7b": (1.5e-4, 465, 1e-5),
    "14b": (1e-4, 544, 7e-6),
}
MINI_EPOCH_SAMPLES = 40_320
N_POINTS = 200


def measure(options: Options) -> dict[str, Any]:  # noqa: ARG001 - it needs no text and no scale
    """Read the recipe of each size and follow its plan."""
    runs = []
    for name in PAPER:
        config = read_config(RECIPES / f"rwkv4-{name}-pile.toml")
        last = config.training.steps - 1
        steps = sorted({round(last * i / N_POINTS) for i in range(N_POINTS + 1)})
        steps = sorted({*steps, config.schedule.constant_steps})
        plans = [plan_step(config, step) for step in steps]
        samples = config.schedule.constant_steps * config.data.batch_size
        runs.append(
            {
                "name": name,
                "initial_lr": plans[0].lr,
                "constant_mini_epochs": samples / MINI_EPOCH_SAMPLES,
                "final_lr": plans[-1].lr,
                "tokens": [tokens_before(config.data, step) for step in steps],
                "lr": [plan.lr for plan in plans],
            }
        )
    return {"runs": runs}


def section(found: dict[str, Any]) -> str:
    """Return the table, with the paper's values beside those of the recipes."""
    rows = [
        (
            run["name"],
            *(f"{value:g}" for value in PAPER[run["name"]]),
            f"{run['initial_lr']:g}",
            f"{run['constant_mini_epochs']:g}",
            f"{run['final_lr']:g}",
            f"{run['tokens'][-1] / 1e9:.1f}",
        )
        for run in found["runs"]
    ]
    head = (
        *("model", "initial lr, paper", "mini-epochs at it, paper", "last lr, paper"),
        *("initial lr", "mini-epochs at it", "last lr", "10⁹ tokens"),
    )
    return markdown_table(head, rows)


def draw(found: dict[str, Any]) -> "Figure":
    """Draw the learning rate of each run over its tokens."""
    figure, axes = new_figure(width=6.4)
    (axis,) = axes.flat
    for run, colour in zip(found["runs"], COLOURS, strict=False):
        tokens = [each / 1e9 for each in run["tokens"]]
        axis.plot(tokens, run["lr"], color=colour, label=run["name"])
    axis.set_yscale("log")
    axis.set_xlabel("tokens, 10⁹")
    axis.set_ylabel("learning rate")
    axis.legend(frameon=False)
    return figure


EXPERIMENT = Experiment(
    name="table_3_schedules",
    title="Table 3: learning rates",
    claim=(
        "A constant learning rate for some mini-epochs of 40,320 samples, which the paper calls "
        "warm-up, then exponential decay to the last one (section 4, appendix G, table 3)."
    ),
    differs=(
        "The recipes of this repository, followed step by step without training. That the batch "
        "grows from 128 to 256 sequences where the decay begins is inferred from the authors' "
        "README; the paper says only that both are used."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
