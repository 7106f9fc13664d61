"""Figure 9: a small embedding, normalised, against the common N(0, 0.02)."""

from typing import TYPE_CHECKING, Any

import torch

from paper.harness import (
    COLOURS,
    Experiment,
    Options,
    main,
    markdown_table,
    new_figure,
    text_of,
)
from paper.harness.training import LAST_PART, curve_entries, initial_model, train_from
from receptance.models import RWKV4Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read from the paper's figure: step, loss with N(0, 0.02), loss with the small embedding.
PAPER = [
    (0, 10.90, 10.90),
    (400, 10.35, 10.59),
    (1000, 9.73, 9.82),
    (2000, 9.16, 9.00),
    (5000, 7.79, 7.09),
    (10000, 6.64, 5.81),
    (20000, 5.57, 4.76),
    (49600, 4.82, 4.22),
]
KINDS = {"normal": "N(0, 0.02)", "small": "U(±1e-4)"}
SIZES = {"quick": (2, 64, 60, 1), "small": (4, 128, 5000, 3)}  # L, D, steps, seeds


def measure(options: Options) -> dict[str, Any]:
    """Train models that differ in their embedding alone, with several seeds."""
    text = text_of(options)
    store = text.store(options.work, "train:1024" if options.scale == "quick" else "train:4096")
    n_layer, n_embd, steps, n_seeds = SIZES[options.scale]
    config = RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=store.vocab_size)
    runs = []
    for seed in range(1, n_seeds + 1):
        for kind in KINDS:
            model = initial_model(config, seed)
            if kind == "normal":
                torch.nn.init.normal_(model.emb.weight, std=0.02)
            name = f"figure-9-{kind}-{seed}"
            trained = train_from(model, name, store, options.work, steps=steps, seed=seed)
            runs.append({"kind": kind, "seed": seed, **curve_entries(trained)})
    return {
        "text": text.entries(),
        "n_layer": n_layer,
        "n_embd": n_embd,
        "n_steps": steps,
        "runs": runs,
    }


def section(found: dict[str, Any]) -> str:
    """Return the losses at the end, and in how many seeds the small embedding is ahead."""
    rows, gaps = [], []
    for seed in sorted({run["seed"] for run in found["runs"]}):
        normal, small = (
            next(run for run in found["runs"] if (run["seed"], run["kind"]) == (seed, kind))
            for kind in KINDS
        )
        gaps.append(normal["last_loss"] - small["last_loss"])
        rows.append(
            (
                seed,
                f"{normal['last_loss']:.4f}",
                f"{small['last_loss']:.4f}",
                f"{gaps[-1]:+.4f}",
                f"{normal['valid_bits_per_byte']:.4f}",
                f"{small['valid_bits_per_byte']:.4f}",
            )
        )
    head = (
        *("seed", "loss, N(0, 0.02)", "loss, U(±1e-4)", "difference"),
        *("held-out bits per byte, N(0, 0.02)", "the same, U(±1e-4)"),
    )
    at_5000 = next(row for row in PAPER if row[0] == 5000)
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"Training loss in nats a token, the mean of the last {LAST_PART:.0%} of "
        f"{found['n_steps']:,} steps. The small embedding is ahead in "
        f"{sum(gap > 0 for gap in gaps)} of {len(gaps)} seeds. In the paper, after 5,000 steps: "
        f"{at_5000[1]} and {at_5000[2]}; there it falls behind first, and is ahead from about "
        f"1,500 steps on. {_beginning(found)}"
    )


def _beginning(found: dict[str, Any]) -> str:
    """Return whether the small embedding falls behind first, by the means over the seeds."""
    normal, small = (
        [run["losses"] for run in found["runs"] if run["kind"] == kind] for kind in KINDS
    )
    steps = next(run["steps"] for run in found["runs"])
    behind = [
        step
        for step, *losses in zip(steps, *normal, *small, strict=True)
        if sum(losses[: len(normal)]) < sum(losses[len(normal) :])
    ]
    if not behind:
        return "A slower beginning is not seen here: it is ahead in all of the curve."
    return f"Here it is behind last around step {behind[-1]:,.0f}."


def draw(found: dict[str, Any]) -> "Figure":
    """Draw all curves, and those of the paper beside them."""
    figure, axes = new_figure(2)
    here, paper = axes.flat
    for run in found["runs"]:
        colour = COLOURS[list(KINDS).index(run["kind"])]
        label = KINDS[run["kind"]] if run["seed"] == 1 else None
        here.plot(run["steps"], run["losses"], color=colour, linewidth=1, label=label)
    here.set_title(f"here: L{found['n_layer']}, D{found['n_embd']}, each seed a line")
    for column, colour in enumerate(COLOURS[:2], start=1):
        steps = [row[0] for row in PAPER]
        paper.plot(steps, [row[column] for row in PAPER], ".-", color=colour)
    paper.set_title("the paper's figure 9")
    for axis in (here, paper):
        axis.set_xlabel("steps")
        axis.set_ylabel("training loss, nats a token")
    here.legend(frameon=False)
    return figure


EXPERIMENT = Experiment(
    name="figure_9_small_init",
    title="Figure 9: small initial embedding",
    claim=(
        "A tiny embedding with a LayerNorm behind it trains faster than N(0, 0.02), after a slower "
        "beginning (appendix F, figure 9)."
    ),
    differs=(
        "A model of some million weights on another text, with 2,048 tokens a step and a learning "
        "rate of 6e-4; the paper, which gives neither its model nor its text, has a batch of 400. "
        "Whether the order of the two curves is that of the paper can be seen, not their height."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
