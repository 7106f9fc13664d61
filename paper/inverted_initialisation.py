"""Appendix E: the initialisation that the paper prints, beside that of the authors' code."""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from paper.harness import (
    COLOURS,
    Experiment,
    Options,
    main,
    markdown_table,
    new_figure,
    text_of,
)
from paper.harness.training import curve_entries, initial_model, train_from
from receptance.models import RWKV4, RWKV4Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"code": "as the code", "paper": "as the paper's list"}
SIZES = {"quick": (2, 64, 60), "small": (4, 128, 3000)}  # L, D, steps
MATRICES = ("att.key", "att.value", "att.receptance", "att.output")
CHANNEL_MATRICES = ("ffn.key", "ffn.value", "ffn.receptance")


def invert_(model: RWKV4) -> None:
    """Set the matrices of the layers as appendix E prints them.

    W_o and W'_v are drawn from N(0, 2), 2 = sqrt(d / s) with d = 4 s; all others are zero.
    """
    with torch.no_grad():
        for block in model.blocks:
            for name in (*MATRICES, *CHANNEL_MATRICES):
                weight = block.get_submodule(name).get_parameter("weight")
                if name in ("att.output", "ffn.value"):
                    torch.nn.init.normal_(weight, std=2.0)
                else:
                    torch.nn.init.zeros_(weight)


def first_gradients(model: RWKV4, tokens: torch.Tensor) -> dict[str, float]:
    """Return the norm of the gradient of each kind of matrix, of one batch."""
    logits, _ = model(tokens[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    norms = {}
    for name in (*MATRICES, *CHANNEL_MATRICES):
        grads = [block.get_submodule(name).get_parameter("weight").grad for block in model.blocks]
        norms[name] = sum(float(each.square().sum()) for each in grads if each is not None) ** 0.5
    model.zero_grad(set_to_none=True)
    return norms


def measure(options: Options) -> dict[str, Any]:
    """Train a model from each, and see what of it moves."""
    text = text_of(options)
    store = text.store(options.work, "train:1024" if options.scale == "quick" else "train:4096")
    n_layer, n_embd, steps = SIZES[options.scale]
    config = RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=store.vocab_size)
    tokens = torch.from_numpy(store.train.tokens[: 8 * 129].astype("int64")).view(8, 129)
    runs = []
    for kind in KINDS:
        model = initial_model(config, 1)
        if kind == "paper":
            invert_(model)
        gradients = first_gradients(model, tokens)
        name = f"inverted-{kind}"
        trained = train_from(model, name, store, options.work, steps=steps)
        before, after = dict(model.named_parameters()), dict(trained.model.named_parameters())
        moved = {
            each: sum(
                not torch.equal(
                    after[f"blocks.{i}.{each}.weight"], before[f"blocks.{i}.{each}.weight"]
                )
                for i in range(n_layer)
            )
            for each in (*MATRICES, *CHANNEL_MATRICES)
        }
        runs.append(
            {
                "kind": kind,
                "first_gradients": gradients,
                "layers_that_moved": moved,
                **curve_entries(trained),
            }
        )
    return {
        "text": text.entries(),
        "n_layer": n_layer,
        "n_embd": n_embd,
        "n_steps": steps,
        "runs": runs,
    }


def section(found: dict[str, Any]) -> str:
    """Return what moved, and where the loss ended."""
    code, paper = found["runs"]
    rows = [
        (
            f"`{name}`",
            f"{code['first_gradients'][name]:.2e}",
            f"{paper['first_gradients'][name]:.2e}",
            f"{code['layers_that_moved'][name]} of {found['n_layer']}",
            f"{paper['layers_that_moved'][name]} of {found['n_layer']}",
        )
        for name in (*MATRICES, *CHANNEL_MATRICES)
    ]
    head = (
        *("matrix", "first gradient, code", "first gradient, paper's list"),
        *("layers in which it moved, code", "the same, paper's list"),
    )
    still = [name for name in CHANNEL_MATRICES if paper["layers_that_moved"][name] == 0]
    names = ", ".join(f"`{name}`" for name in still)
    told = f"From the paper's list {names} never moved" if still else "All matrices moved"
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"{told}: with W'_k = 0 the squared ReLU and its slope are 0, so no gradient reaches the "
        f"channel mix, ever. After {found['n_steps']:,} steps the loss is "
        f"{code['last_loss']:.4f} nats a token from the code's values and {paper['last_loss']:.4f} "
        f"from the paper's; held-out bits per byte {code['valid_bits_per_byte']:.4f} and "
        f"{paper['valid_bits_per_byte']:.4f}."
    )


def draw(found: dict[str, Any]) -> "Figure":
    """Draw both losses."""
    figure, axes = new_figure()
    (axis,) = axes.flat
    for run, colour in zip(found["runs"], COLOURS, strict=False):
        axis.plot(run["steps"], run["losses"], color=colour, label=KINDS[run["kind"]])
    axis.set_xlabel("steps")
    axis.set_ylabel("training loss, nats a token")
    axis.legend(frameon=False)
    return figure


EXPERIMENT = Experiment(
    name="inverted_initialisation",
    title="Appendix E: the printed initialisation is inverted",
    claim=(
        '"W_o and W\'_v are drawn from N(0, sqrt(d/s)), all other W are zero" (appendix E); the '
        "code that trained the models has these two zero, and W_v and W'_k orthogonal."
    ),
    differs=(
        "A small model on another text, one seed; what has no gradient has none at any size. Only "
        "the matrices are as the paper prints them; its μ_r, which differs too, is the code's."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
