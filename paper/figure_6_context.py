"""Figure 6: loss against the place in the context, before and after a context extension."""

from typing import TYPE_CHECKING, Any, NamedTuple

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure, text_of
from paper.harness.drawing import narrow_log
from paper.harness.places import costs_by_place, mean_in
from paper.harness.training import Trained, train_model
from receptance.data import TokenStore
from receptance.evaluation import Document, held_out_documents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Read from the paper's figure: test loss on the Pile at each context length, of the models of 7
# and of 14 billion parameters, trained at 1,024 tokens and extended to 8,192.
PAPER_PLACES = tuple(2**k for k in range(13))
PAPER = {
    "7B": (
        *(5.754, 4.697, 3.860, 3.165, 2.601, 2.260, 2.072),
        *(1.972, 1.867, 1.785, 1.797, 1.724, 1.668),
    ),
    "14B": (
        *(5.738, 4.650, 3.798, 3.088, 2.522, 2.172, 1.979),
        *(1.893, 1.780, 1.698, 1.717, 1.640, 1.578),
    ),
}


class Size(NamedTuple):
    """How the models are trained, and how far they are read."""

    n_layer: int
    n_embd: int
    ctx_len: int
    extended: tuple[int, ...]
    """The context lengths of the extension, one after the other."""
    step_tokens: int
    steps: int
    extension_steps: int
    """Of each context length."""
    length: int
    """So many tokens of each held-out document that has as many."""


SIZES = {
    "quick": Size(2, 64, 32, (64, 128), 512, 60, 15, 1024),
    "small": Size(6, 192, 128, (256, 512, 1024), 2048, 4000, 1000, 4096),
}
LR, LAST_LR = 4e-3, 2e-4


def measure(options: Options) -> dict[str, Any]:
    """Train a model, extend it, train it as long without extending it, and read with all three."""
    size, text = SIZES[options.scale], text_of(options)
    store = text.store(options.work, "train:1024")
    base = _train(options, store, "base", 0, size.ctx_len)
    models = {"before": base.model}
    for kind, lengths in {
        "extended": size.extended,
        "as long, not extended": (size.ctx_len,) * len(size.extended),
    }.items():
        last = base
        for stage, length in enumerate(lengths, start=1):
            last = _train(options, store, kind.partition(",")[0], stage, length, last)
        models[kind] = last.model
    documents = [
        Document(each.tokens[: size.length], 0)
        for each in held_out_documents(store.valid)
        if len(each.tokens) >= size.length
    ]
    costs = {
        kind: costs_by_place(model, documents, store.end_of_text) for kind, model in models.items()
    }
    bins = [(2**k, 2 ** (k + 1) - 1) for k in range(size.length.bit_length() - 1)]
    return {
        "text": text.entries(),
        **size._asdict(),
        "vocab_size": store.vocab_size,
        "n_documents": len(documents),
        "bins": bins,
        "models": {
            kind: [mean_in(each, *places) for places in bins] for kind, each in costs.items()
        },
        "gains": {
            kind: [mean_in(cost - costs["extended"], *places) for places in bins]
            for kind, cost in costs.items()
            if kind != "extended"
        },
    }


def _train(
    options: Options,
    store: TokenStore,
    name: str,
    stage: int,
    ctx_len: int,
    initial: Trained | None = None,
) -> Trained:
    """Train from the beginning, or go on from a model at the rate that it ended with.

    A step has as many tokens whatever the context length, and each stage another order of samples.
    """
    size = SIZES[options.scale]
    steps = size.steps if initial is None else size.extension_steps
    cosine = {"kind": "cosine", "warmup_steps": steps // 20, "final_lr": LAST_LR}
    weights = "" if initial is None else str(initial.folder / "model")
    return train_model(
        f"figure-6-{name.replace(' ', '-')}-{stage}",
        store,
        options.work,
        {
            "seed": 1 + stage,
            "model": {"n_layer": size.n_layer, "n_embd": size.n_embd},
            "data": {"ctx_len": ctx_len, "batch_size": size.step_tokens // ctx_len},
            "training": {"steps": steps, "init_from": weights},
            "optimizer": {"lr": LR if initial is None else LAST_LR},
            "schedule": cosine if initial is None else {"kind": "constant"},
            "every": {"validation_steps": 0},
        },
    )


def section(found: dict[str, Any]) -> str:
    """Return the losses by place, and what the extension changed beyond the first context."""
    kinds = list(found["models"])
    control = kinds[-1]
    rows = [
        (
            f"{first:,}–{last:,}" if last > first else first,
            *(f"{found['models'][kind][k][0]:.3f}" for kind in kinds),
            _with_ends(found["gains"][control][k]),
            *(_paper(values, first) for values in PAPER.values()),
        )
        for k, (first, last) in enumerate(found["bins"])
    ]
    head = (
        *("place in the document", *kinds, "gain of the extension [95 %]"),
        *(f"paper, {name}" for name in PAPER),
    )
    last = len(rows) - 1
    ctx = found["ctx_len"]
    beyond = [k for k, (first, _) in enumerate(found["bins"]) if first >= ctx]
    gains = {
        "the model that was trained as long without it": found["gains"][control],
        "the one before it": found["gains"]["before"],
    }
    inside = ctx.bit_length() - 2  # the last bin that is within the first context
    changes = {
        kind: found["models"][kind][last][0] - found["models"][kind][inside][0] for kind in kinds
    }
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"Nats a token, the mean over {found['n_documents']} held-out documents of at least "
        f"{found['length']:,} tokens, each read from its start to there, the state carried. "
        f"Trained at {ctx} tokens, extended by {found['extension_steps']:,} steps each at "
        f"{', '.join(f'{each:,}' for each in found['extended'])}; the third model had as many "
        f"more steps at {ctx}, so that the gain, the difference of the two, is that of longer "
        f"contexts and not of more training. From places {_places(found, inside)} to "
        f"{_places(found, last)} the loss "
        + ", ".join(_change(kind, change) for kind, change in changes.items())
        + f". Of the {len(beyond)} ranges beyond {ctx} tokens, the extended model is, by all of "
        "the interval, "
        + "; ".join(_beside(name, [each[k] for k in beyond]) for name, each in gains.items())
        + "."
    )


def _change(kind: str, change: float) -> str:
    """Return in words what a model's loss does towards the end of the documents."""
    return f"{'falls' if change < 0 else 'rises'} by {abs(change):.3f} nats ({kind})"


def _beside(name: str, gains: list[list[float | None]]) -> str:
    """Return in how many ranges a gain is above or below 0, interval and all."""
    better = sum(low is not None and low > 0 for _, low, _ in gains)
    worse = sum(high is not None and high < 0 for _, _, high in gains)
    return f"better than {name} in {better} and worse in {worse}"


def _places(found: dict[str, Any], k: int) -> str:
    first, last = found["bins"][k]
    return f"{first:,}–{last:,}"


def _with_ends(gain: list[float | None]) -> str:
    """Return a difference, with its interval where there is one."""
    value, low, high = gain
    return f"{value:+.3f}" if low is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _paper(values: tuple[float, ...], place: int) -> str:
    """Return the paper's value at a place, where its figure has one."""
    return f"{values[PAPER_PLACES.index(place)]:.3f}" if place in PAPER_PLACES else "–"


def draw(found: dict[str, Any]) -> "Figure":
    """Draw all losses by place, with their intervals, and the paper's beside them."""
    figure, axes = new_figure(2, width=5.6, height=4.0)
    here, paper = axes.flat
    middles = [(first * last) ** 0.5 for first, last in found["bins"]]
    for (kind, points), colour in zip(found["models"].items(), COLOURS, strict=False):
        here.plot(middles, [value for value, _, _ in points], ".-", color=colour, label=kind)
        if all(low is not None for _, low, _ in points):
            lows, highs = [low for _, low, _ in points], [high for _, _, high in points]
            here.fill_between(middles, lows, highs, color=colour, alpha=0.12, linewidth=0)
    for length, name in ((found["ctx_len"], "trained"), (found["extended"][-1], "extended")):
        here.axvline(length, color="#666666", linestyle=":", linewidth=1)
        here.annotate(
            f" {name} to {length:,}", (length, 1), xycoords=("data", "axes fraction"),
            va="top", fontsize=7, color="#666666", rotation=90, ha="right",
        )  # fmt: skip
    for (name, values), colour in zip(PAPER.items(), COLOURS[3:], strict=False):
        paper.plot(PAPER_PLACES, values, ".-", color=colour, label=name)
    here.set_title(f"here: L{found['n_layer']}, D{found['n_embd']}, areas: 95 % over documents")
    paper.set_title("the paper's figure 6")
    here.set_xlabel("place in the document, tokens")
    paper.set_xlabel("context length, tokens")
    for axis in (here, paper):
        axis.set_ylabel("held-out loss, nats a token")
        axis.set_xscale("log", base=2)
        narrow_log(axis)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="figure_6_context",
    title="Figure 6: loss against context",
    claim=(
        "Loss falls with the length of the context, and goes on falling after the models were "
        "fine-tuned with contexts of 2,048, 4,096 and 8,192 tokens instead of 1,024 (section 5.2, "
        "figure 6)."
    ),
    differs=(
        "A model of some million parameters and a text of source code; contexts an eighth as long, "
        "so that documents are long enough for four times the longest. The extension has its own "
        "rate, the last of the first training, for the paper gives none. Where the paper gives the "
        "loss at a context length, the table has the mean of the places from a power of two up to "
        "the next, all of the same documents. What stands at a place counts too: modules begin "
        "alike, with comments and imports. A difference of two models is of the same tokens, and "
        "this does not enter it. Whether a token is predicted better for a longer past alone is "
        "not measured. One seed; the intervals are over documents."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
