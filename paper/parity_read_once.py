"""The claim of the title on a text that no model reads twice."""

from typing import Any

from paper.harness import Experiment, Options, main
from paper.harness.contest import TOKENIZER, hold
from paper.harness.contest_report import draw, section
from paper.harness.text import larger_text_of
from paper.parity_with_transformer import SIZES

RATES = {
    "quick": {"rwkv4": 8e-3, "gpt-neox": 8e-3},
    "small": {"rwkv4": 4e-3, "gpt-neox": 4e-3},
}
"""The best ones of `parity_with_transformer`."""


def measure(options: Options) -> dict[str, Any]:
    """Train both on a text that is longer than what all steps take.

    Raises:
        SystemExit: If the text is so short that steps would be left when it has been read.
    """
    size, text = SIZES[options.scale], larger_text_of(options)
    n_wanted = size.steps * size.batch_size * size.ctx_len
    n_tokens = text.store(options.work, TOKENIZER).train.n_tokens
    if n_tokens < n_wanted:
        raise SystemExit(
            f"the text must have {n_wanted:,} tokens to train on, so that none is read twice, but "
            f"it has {n_tokens:,}; give more with --text"
        )
    return hold(options, text, size, name="parity-read-once", rates=RATES[options.scale])


EXPERIMENT = Experiment(
    name="parity_read_once",
    title="On par with a Transformer, on a text that is read once",
    claim=(
        "As above; and the models of the paper read their text, the Pile, once (section 4), where "
        "those above read theirs several times."
    ),
    differs=(
        "As above, with as many steps, each at the learning rate that was best for it there, but "
        "for the training text, of which a part is read, once: the Python of PyTorch and of what "
        "it needs is added to the standard library. The tokenizer is trained on that text, so a "
        "token is another part of it. What is measured is of the same held-out files, which most "
        "of the training text is less like."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
