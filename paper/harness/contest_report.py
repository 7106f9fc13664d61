"""What is told of our model and a Transformer that were trained alike, and how it is drawn."""

from typing import TYPE_CHECKING, Any

from paper.harness import COLOURS, markdown_table, new_figure
from paper.harness.contest import KINDS
from paper.harness.drawing import draw_band, narrow_log
from paper.harness.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AIM = 0.03
"""Ahead, or behind by no more than this."""


def section(found: dict[str, Any]) -> str:
    """Return the losses at the end, their ratio over seeds, and the rates that were chosen."""
    of = {kind: [run for run in found["runs"] if run["kind"] == kind] for kind in KINDS}
    figures = {
        f"held-out bits per byte, windows of {found['ctx_len']} tokens": "bits_per_byte",
        "training loss at the end, nats a token": "last_loss",
    }
    rows: list[tuple[object, ...]] = [
        (name, *(mean_interval([run[key] for run in of[kind]]) for kind in KINDS), _ratio(of, key))
        for name, key in figures.items()
    ]
    carried = mean_interval([run["bits_per_byte_carried"] for run in of["rwkv4"]])
    rows.append(("held-out bits per byte, documents whole, the state carried", carried, "–", "–"))
    counts, ratio = found["parameters"], _ratio(of, "bits_per_byte")
    low, high = ratio.mean - ratio.half, ratio.mean + ratio.half
    if high < 1:
        told = "RWKV-4 is ahead: all of the interval of the ratio is below 1"
    elif low <= 1:
        told = "The interval of the ratio holds 1, so neither is shown to be ahead"
    elif ratio.mean <= 1 + AIM:
        told = f"RWKV-4 is behind, by no more than {AIM:.0%}"
    else:
        told = f"RWKV-4 is behind by more than {AIM:.0%}: the claim does not hold here"
    epochs = found["steps"] * found["batch_size"] * found["ctx_len"] / found["train_tokens"]
    return (
        f"{markdown_table(('', *KINDS.values(), 'RWKV-4 / GPT-NeoX'), rows)}\n\n"
        f"Means over {found['n_seeds']} seeds with their 95 % intervals (Student's t); the ratio "
        "is of each seed, whose batches are the same for both. By the held-out bits per byte in "
        f"windows the ratio is {ratio}, {abs(ratio.mean - 1):.1%} "
        f"{'less' if ratio.mean < 1 else 'more'} than 1. {told}. {_by_seed(of, epochs)} RWKV-4 has "
        f"{counts['rwkv4']:,} "
        f"parameters, GPT-NeoX {counts['gpt-neox']:,} "
        f"({counts['gpt-neox'] / counts['rwkv4'] - 1:+.2%}); L{found['n_layer']}, "
        f"D{found['n_embd']}, {found['steps']:,} steps of {found['batch_size']} sequences of "
        f"{found['ctx_len']} tokens, {epochs:.1f} epochs.{_choice(found)}{_places(of)}"
    )


def _by_seed(of: dict[str, list[dict[str, Any]]], epochs: float) -> str:
    """Return who is ahead in each seed, and when while they were trained."""
    pairs = list(zip(of["rwkv4"], of["gpt-neox"], strict=True))
    ratios = [ours["bits_per_byte"] / theirs["bits_per_byte"] for ours, theirs in pairs]
    behind = sum(ratio > 1 for ratio in ratios)
    ahead = [
        f"{step:,}"
        for index, (step, _) in enumerate(pairs[0][0]["valid"])
        if all(ours["valid"][index][1] < theirs["valid"][index][1] for ours, theirs in pairs)
    ]
    by_training = _ratio(of, "last_loss")
    told = (
        f"Seed by seed it is {', '.join(f'{ratio:.3f}' for ratio in ratios)}: RWKV-4 is behind in "
        f"{behind} of {len(ratios)}"
    )
    told += f", and was ahead in all after {', '.join(ahead)} steps." if ahead else "."
    if epochs <= 1:
        told += (
            " No batch of the training is text that was read before; by their loss at the end the "
            f"ratio is {by_training}, though of files of which other parts were read."
        )
    elif by_training.mean + by_training.half < 1 and behind > len(ratios) / 2:
        told += (
            f" On the training text its loss is {1 - by_training.mean:.0%} lower at the end: it "
            "has learnt more of that text by heart, which is read several times."
        )
    return told


def _ratio(of: dict[str, list[dict[str, Any]]], key: str) -> Interval:
    """Return how many times the Transformer's figure ours is, seed by seed."""
    pairs = zip(of["rwkv4"], of["gpt-neox"], strict=True)
    return mean_interval([ours[key] / theirs[key] for ours, theirs in pairs])


def _choice(found: dict[str, Any]) -> str:
    """Return how the learning rates were chosen, or which were given."""
    if not any(each["tried"] for each in found["tuning"]):
        given = (f"{each['chosen']:.2g} for {KINDS[each['kind']]}" for each in found["tuning"])
        return f" Learning rates: {', '.join(given)}."
    rates = _rates(found)
    rows = [(KINDS[each["kind"]], *(_tried(each, lr) for lr in rates)) for each in found["tuning"]]
    return (
        f"\n\nHeld-out bits per byte after {found['tuning_steps']} steps, of other documents, by "
        "which the rate was chosen (bold):\n\n"
        f"{markdown_table(('learning rate', *(f'{lr:.2g}' for lr in rates)), rows)}"
    )


def _places(of: dict[str, list[dict[str, Any]]]) -> str:
    """Return what held-out tokens cost by how many the models had read before them."""
    if "by_place" not in of["rwkv4"][0]:  # a result from before it was measured
        return ""
    rows, ratios = [], []
    for index, place in enumerate(of["rwkv4"][0]["by_place"]):
        nats = {kind: [run["by_place"][index]["nats"] for run in of[kind]] for kind in KINDS}
        pairs = zip(nats["rwkv4"], nats["gpt-neox"], strict=True)
        ratios.append(mean_interval([ours / theirs for ours, theirs in pairs]))
        means = (mean_interval(nats[kind]) for kind in KINDS)
        rows.append((f"{place['first']} to {place['last']}", *means, ratios[-1]))
    first, last = ratios[0], ratios[-1]
    told = ""
    if first.mean + first.half < 1 < last.mean - last.half:
        told = (
            "\n\nRWKV-4 is ahead where little was read before and behind where much was: it makes "
            "less of what it has read. The paper names that among its limitations."
        )
    head = ("place in the window", *KINDS.values(), "RWKV-4 / GPT-NeoX")
    return (
        "\n\nNats a held-out token by its place in windows that do not overlap, each read from "
        f"nothing:\n\n{markdown_table(head, rows)}{told}"
    )


def _rates(found: dict[str, Any]) -> list[float]:
    """Return all rates that were tried with either."""
    return sorted({float(f"{lr:.3g}") for each in found["tuning"] for lr, _ in each["tried"]})


def _tried(tuning: dict[str, Any], lr: float) -> str:
    """Return what a rate cost one kind."""
    costs = {float(f"{each:.3g}"): cost for each, cost in tuning["tried"]}
    mark = "**" if float(f"{tuning['chosen']:.3g}") == lr else ""
    return f"{mark}{costs[lr]:.4f}{mark}" if lr in costs else "–"


def draw(found: dict[str, Any]) -> "Figure":
    """Draw what both cost while they are trained: the mean over seeds, and from least to most."""
    figure, axes = new_figure(2)
    training, held_out = axes.flat
    for (kind, name), colour in zip(KINDS.items(), COLOURS, strict=False):
        runs = [run for run in found["runs"] if run["kind"] == kind]
        curves = list(zip(*(run["losses"] for run in runs), strict=True))
        draw_band(training, runs[0]["steps"], curves, colour, name)
        curves = list(zip(*([cost for _, cost in run["valid"]] for run in runs), strict=True))
        draw_band(held_out, [step for step, _ in runs[0]["valid"]], curves, colour, name)
    training.set_ylabel("training loss, nats a token")
    held_out.set_ylabel("held-out bits per byte")
    training.set_title("same batches, same order")
    held_out.set_title(f"held-out text, windows of {found['ctx_len']} tokens")
    for axis in (training, held_out):
        axis.set_xlabel("steps")
        narrow_log(axis)
        axis.legend(frameon=False, title=f"{found['n_seeds']} seeds: mean, least to most")
    return figure
