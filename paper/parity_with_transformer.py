"""The claim of the title: on par with a Transformer of the same size, trained alike."""

from typing import Any

from paper.harness import Experiment, Options, main, text_of
from paper.harness.contest import Size, hold
from paper.harness.contest_report import draw, section

SIZES = {
    "quick": Size(2, 64, 64, 8, 60, 20, 2, (2e-3, 8e-3), 4_000),
    "small": Size(6, 192, 256, 16, 2000, 400, 3, (1e-3, 2e-3, 4e-3), 80_000),
}


def measure(options: Options) -> dict[str, Any]:
    """Train both on a text that is shorter than what all steps take."""
    return hold(options, text_of(options), SIZES[options.scale], name="parity")


EXPERIMENT = Experiment(
    name="parity_with_transformer",
    title="On par with a Transformer of the same size",
    claim=(
        '"RWKV performs on par with similarly sized Transformers" (abstract; figures 1 and 5, '
        "where models of equal training compute are compared by their accuracy on twelve tasks)."
    ),
    differs=(
        "Models of some million parameters, compared by their loss and not by tasks, on a few "
        "million tokens of one text, with a short context. RWKV-4 and GPT-NeoX (of "
        "`transformers`, with Pythia's initial values) have the same depth and width, and the "
        "feed-forward of GPT-NeoX is 4.5 D wide instead of 4 D for as many parameters. Batches, "
        "their order, AdamW (betas 0.9 and 0.99, no weight decay, gradients clipped to 1), the "
        "cosine schedule, bfloat16 products and the loss, without its auxiliary part, are the same "
        "code; each has the learning rate that was best for it in shorter runs. What a larger "
        "model, a longer context or more text would do to the order of the two cannot be seen here."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
