"""Figure 10: how fast the channels of each layer forget, in a trained model."""

from typing import TYPE_CHECKING, Any

import torch

from paper.harness import Experiment, Options, main, markdown_table, new_figure, text_of
from paper.harness.training import initial_model, train_model
from receptance.checkpoint import load_checkpoint
from receptance.models import RWKV4, RWKV4Config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read from the paper's figure, RWKV-169M: e^{-w} at the sorted channels 0, 200, 300, 384, 450,
# 550, 650 and 750 of 768, of the first, the sixth and the last layer.
PAPER_CHANNELS = (0, 200, 300, 384, 450, 550, 650, 750)
PAPER = {
    1: (1.00, 0.97, 0.57, 0.12, 0.06, 0.02, 0.00, 0.00),
    6: (1.00, 0.99, 0.98, 0.93, 0.87, 0.74, 0.62, 0.33),
    12: (1.00, 0.99, 0.99, 0.99, 0.99, 0.98, 0.62, 0.09),
}
SIZES = {"quick": (3, 64, 60), "small": (6, 256, 3000)}  # L, D, steps
LONG, SHORT = 0.9, 0.1


def measure(options: Options) -> dict[str, Any]:
    """Return the decays of a given model, or of one that is trained here."""
    if options.model is not None:
        checkpoint = load_checkpoint(options.model, dtype="float32")
        return {"model": str(options.model), **_decays(checkpoint.model)}
    text = text_of(options)
    store = text.store(options.work, "train:1024" if options.scale == "quick" else "train:4096")
    n_layer, n_embd, steps = SIZES[options.scale]
    trained = train_model(
        "figure-10",
        store,
        options.work,
        {
            "model": {"n_layer": n_layer, "n_embd": n_embd},
            "data": {"ctx_len": 256, "batch_size": 16},
            "training": {"steps": steps},
            "optimizer": {"lr": 3e-3},
            "schedule": {"kind": "cosine", "warmup_steps": 20, "final_lr": 1e-4},
        },
    )
    return {
        "text": text.entries(),
        "n_steps": steps,
        "valid_bits_per_byte": trained.valid[-1][1],
        **_decays(trained.model),
    }


def _decays(model: RWKV4) -> dict[str, Any]:
    """Return e^{-w} = exp(-exp(time_decay)) of each layer's channels, falling."""
    layers = [
        torch.exp(
            -torch.exp(block.get_submodule("att").get_parameter("time_decay").detach().double())
        )
        .sort(descending=True)
        .values
        for block in model.blocks
    ]
    return {
        "n_layer": len(layers),
        "n_embd": len(layers[0]),
        "decays": [[round(float(each), 6) for each in layer] for layer in layers],
    }


def section(found: dict[str, Any]) -> str:
    """Return how many channels of each layer remember, and how many forget at once."""
    initial = _initial(found["n_layer"], found["n_embd"])
    rows = [
        (
            layer,
            f"{sum(each > LONG for each in decays) / len(decays):.0%}",
            f"{sum(each < SHORT for each in decays) / len(decays):.0%}",
            f"{decays[len(decays) // 2]:.3f}",
            f"{initial[layer - 1]:.3f}",
        )
        for layer, decays in enumerate(found["decays"], start=1)
    ]
    head = (
        "layer",
        f"channels above {LONG}",
        f"below {SHORT}",
        "median",
        "median at the beginning",
    )
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"{_verdict(found, initial)} "
        "Of the paper's model (169M, L12, D768), read from its figure: in the first layer half of "
        "the channels are below 0.12, in the last more than two thirds are above 0.98."
    )


def _initial(n_layer: int, n_embd: int) -> list[float]:
    """Return the median decay of each layer with which training begins."""
    model = initial_model(RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=2), 0)
    return [decays[n_embd // 2] for decays in _decays(model)["decays"]]


def _verdict(found: dict[str, Any], initial: list[float]) -> str:
    """Return how far the medians went from where they began."""
    moved = max(
        abs(decays[len(decays) // 2] - begun)
        for decays, begun in zip(found["decays"], initial, strict=True)
    )
    told = f"No layer's median is farther than {moved:.3f} from where it began"
    return f"{told}: the shape is that of the initialisation." if moved < 0.05 else f"{told}."


def draw(found: dict[str, Any]) -> "Figure":
    """Draw each layer's sorted channels, and three of the paper's beside them."""
    from matplotlib import colormaps

    figure, axes = new_figure(2)
    here, paper = axes.flat
    colours = colormaps["viridis"]
    n_layer, n_embd = found["n_layer"], found["n_embd"]
    for layer, decays in enumerate(found["decays"]):
        colour = colours(layer / max(n_layer - 1, 1))
        part = [channel / n_embd for channel in range(n_embd)]
        here.plot(part, decays, color=colour, linewidth=1.2, label=f"layer {layer + 1}")
    here.set_title(f"here: L{n_layer}, D{n_embd}")
    for layer, decays in PAPER.items():
        part = [channel / 768 for channel in PAPER_CHANNELS]
        paper.plot(part, decays, ".-", color=colours((layer - 1) / 11), label=f"layer {layer}")
    paper.set_title("the paper's figure 10: L12, D768")
    for axis in (here, paper):
        axis.set_xlabel("channels, sorted, as a part of all")
        axis.set_ylabel("what is left of a token after one more, $e^{-w}$")
        axis.set_ylim(-0.02, 1.02)
        axis.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="figure_10_decays",
    title="Figure 10: time decays",
    claim=(
        "The first layer works on what is near, and later layers keep information over long spans "
        "(section 6, appendix I, figure 10)."
    ),
    differs=(
        "A model of some million weights, trained for minutes. Decays begin between 0.993 and 0 in "
        "all layers, later layers with more that are long (the initialisation), and move slowly: "
        "most of the shape of a short run is that of its beginning. `--model` takes any model, the "
        "published 169M among them."
    ),
    measure=measure,
    section=section,
    draw=draw,
    takes_model=True,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
