"""Figures 1, 5 and 12, and version 1's tables 3 and 4: zero-shot tasks."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from paper.harness.zero_shot_values import METRICS_1, MODELS, SIZES, VERSION_1, VERSION_2
from receptance.checkpoint import describe
from receptance.models import RWKV4Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = {
    "169m": "RWKV/rwkv-4-169m-pile",
    "430m": "RWKV/rwkv-4-430m-pile",
    "1.5b": "RWKV/rwkv-4-1b5-pile",
    "3b": "RWKV/rwkv-4-3b-pile",
    "7b": "RWKV/rwkv-4-7b-pile",
    "14b": "RWKV/rwkv-4-14b-pile",
}
PREFIX = "\\n"
"""What the authors feed before each context; LAMBADA moves with it."""
# Billions of weights, as the paper counts them, for the horizontal axis.
N_WEIGHTS = {
    "RWKV-4": (0.169, 0.43, 1.5, 3.0, 7.0, 14.0),
    "Pythia": (0.07, 0.16, 0.41, 1.0, 1.4, 2.8, 6.9, 12.0),
    "OPT": (0.125, 0.35, 1.3, 2.7, 6.7, 13.0),
    "BLOOM": (0.56, 1.1, 1.7, 3.0, 7.1),
}
QUICK_ITEMS = 20


def command(model: str, tasks: list[str]) -> list[str]:
    """Return what measures tasks, as the shell takes it after `receptance`."""
    return ["eval", model, "--tasks", ",".join(tasks), "--context-prefix", PREFIX]


def measure(options: Options) -> dict[str, Any]:
    """Return the means of the paper's values, and the figures of a model that is given."""
    found: dict[str, Any] = {
        "means": {
            model: [
                statistics.fmean(VERSION_2[task][model][index] for task in VERSION_2)
                for index in range(len(MODELS[model]))
            ]
            for model in MODELS
        }
    }
    if options.model is None:
        return found
    size = _size(options.model)
    arguments = command(str(options.model), list(VERSION_2))
    output = options.work / "zero-shot.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    few = ["--limit", str(QUICK_ITEMS)] if options.scale == "quick" else []
    done = subprocess.run(
        [sys.executable, "-m", "receptance", *arguments, *few, "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    asked = {"model": str(options.model), "size": size, "limit": QUICK_ITEMS if few else None}
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {**found, **asked, "not_measured": why}
    tasks = json.loads(output.read_text(encoding="utf-8"))["tasks"]
    return {**found, **asked, "tasks": {name: _accuracy(tasks[name]) for name in VERSION_2}}


def _size(model: Path) -> str | None:
    """Return the published size that a model has; None for another one."""
    sizes = describe(model).sizes
    for size in SIZES:
        published = RWKV4Config.preset(size)
        if (sizes["n_layer"], sizes["n_embd"]) == (published.n_layer, published.n_embd):
            return size
    return None


def _accuracy(figures: dict[str, Any]) -> list[float]:
    """Return the accuracy and its standard error in percent: `acc`, or what stands for it."""
    for name in ("acc", "acc,none", "f1", "em"):
        if name in figures:
            figure = figures[name]
            return [100 * figure["value"], 100 * (figure.get("stderr") or 0.0)]
    raise SystemExit(f"a task must have an accuracy, but its figures are {', '.join(figures)}")


def section(found: dict[str, Any]) -> str:
    """Return the paper's values, the commands, and a model's figures beside them."""
    parts = [_of_model(found)] if "model" in found else []
    parts.append("The paper's values of RWKV-4, accuracy in percent (read from figures 5 and 12):")
    rows = [(task, *(f"{each:g}" for each in VERSION_2[task]["RWKV-4"])) for task in VERSION_2]
    rows += [
        (f"mean of 12, {model}", *(f"{mean:.2f}" for mean in means), *[""] * (6 - len(means)))
        for model, means in found["means"].items()
        if len(means) <= len(SIZES)
    ]
    parts.append(markdown_table(("task", *SIZES), rows))
    means = ", ".join(
        f"{size} {mean:.2f}"
        for size, mean in zip(MODELS["Pythia"], found["means"]["Pythia"], strict=True)
    )
    parts.append(
        "The columns are the sizes of RWKV-4; the last two rows are of others, in their order. "
        f"The means of OPT are of {', '.join(MODELS['OPT'])}, those of BLOOM of "
        f"{', '.join(MODELS['BLOOM'])}; of Pythia they are {means}. Figure 1 plots sums divided by "
        "13, not by 12, for every model. All values are in `paper/harness/zero_shot_values.py`."
    )
    columns = [f"{task} {figure}" for task, figure in METRICS_1]
    parts.append("Version 1 of the paper, tables 3 and 4, RWKV-4:")
    parts.append(
        markdown_table(
            ("task and figure", *(size for model, size in VERSION_1 if model == "RWKV-4")),
            [
                (
                    column,
                    *(
                        f"{values[index]:g}"
                        for (model, _), values in VERSION_1.items()
                        if model == "RWKV-4"
                    ),
                )
                for index, column in enumerate(columns)
            ],
        )
    )
    parts.append("The commands, of all twelve tasks; one alone by its name:")
    parts.append(
        "\n".join(f"    {_shell(command(WEIGHTS[size], list(VERSION_2)))}" for size in SIZES)
    )
    parts.append(
        "With the weights in a folder, `python -m paper.zero_shot --model FOLDER` sets what they "
        "reach beside the paper's values."
    )
    return "\n\n".join(parts)


def _of_model(found: dict[str, Any]) -> str:
    """Return what a model reached, and how many values agree with the paper's."""
    if "not_measured" in found:
        return f"{found['model']} was not measured: {found['not_measured']}"
    index = SIZES.index(found["size"]) if found["size"] else None
    rows, n_near = [], 0
    for task, (value, error) in found["tasks"].items():
        expected = None if index is None else VERSION_2[task]["RWKV-4"][index]
        n_near += expected is not None and abs(value - expected) <= max(2 * error, 0.05)
        rows.append((task, f"{value:.2f} ± {error:.2f}", "" if expected is None else expected))
    limit = "" if found["limit"] is None else f", of the first {found['limit']} items of each task"
    told = (
        f"{found['model']} has no published size, so there is nothing to compare{limit}."
        if index is None
        else f"{n_near} of {len(rows)} are within two standard errors of the paper's{limit}."
    )
    table = markdown_table(("task", f"{found['model']}, %", "the paper's, %"), rows)
    return f"{table}\n\n{told}"


def _shell(arguments: list[str]) -> str:
    quoted = [f"'{each}'" if "\\" in each else each for each in arguments]
    return " ".join(["receptance", *quoted])


def draw(found: dict[str, Any]) -> "Figure":
    """Draw the means over the sizes, as figure 1 does over compute, and the model's."""
    figure, axes = new_figure()
    (axis,) = axes.flat
    for (model, means), colour in zip(found["means"].items(), COLOURS, strict=False):
        axis.plot(N_WEIGHTS[model], means, ".-", color=colour, label=f"{model}, the paper's")
    if "tasks" in found and found["size"]:
        place = N_WEIGHTS["RWKV-4"][SIZES.index(found["size"])]
        mean = statistics.fmean(value for value, _ in found["tasks"].values())
        axis.plot([place], [mean], "x", color=COLOURS[5], markersize=9, label="measured here")
    axis.set_xscale("log")
    axis.set_xlabel("weights, 10⁹ (the paper: training compute)")
    axis.set_ylabel("mean accuracy of 12 tasks, %")
    axis.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="zero_shot",
    title="Figures 1, 5 and 12: zero-shot tasks",
    claim=(
        "With the same compute RWKV-4 is on par with Pythia and OPT, and above BLOOM, over twelve "
        "tasks (section 5.1, figures 1, 5 and 12, appendix J)."
    ),
    differs=(
        "Nothing is measured without the published weights, which are not here: the page shows the "
        "expected values, all of them the paper's, and the commands. `--model` checks one model "
        "by all twelve tasks (with `receptance[eval]`, whose texts are downloaded). Versions of "
        "lm-eval, and what is fed before a context, move some tasks by a point."
    ),
    measure=measure,
    section=section,
    draw=draw,
    takes_model=True,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
