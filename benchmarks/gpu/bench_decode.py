"""Time decoding on a GPU beside a copy of its memory, by size, precision and batch.

    python benchmarks/gpu/bench_decode.py [--device cuda] [--seconds 170]
    python benchmarks/gpu/bench_decode.py --device cpu --quick       # to try the program

A step feeds one token to each sequence; the tokens are random, so that what is timed does not
depend on what a model says, and come from the CPU as an engine's do, which checks them and sends
them; nothing is read back between steps. Seconds are those of the process for a number of steps
and the wait for the last of them. `of_copy` is what a step must read of the weights (the embedding
but for a row left out) a second, over the bytes that a copy moves; `times_batch_1` is tokens a
second over those of one sequence.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from measuring import DTYPES, Bench, bench, random_tokens

from receptance.benchmark import bytes_per_token, random_model
from receptance.models import PRESETS, RWKV4, PackedModel, RWKV4Config

VOCAB_SIZE = 50277
# The largest first: it is what is aimed at. float16 is as wide as bfloat16, so it is shown once.
SUBJECTS = (
    *(("7b", format) for format in ("bfloat16", "int8", "int4")),
    *(("1.5b", format) for format in ("bfloat16", "int8", "int4", "float16")),
    *(("169m", format) for format in ("bfloat16", "int4")),
)
BATCHES = (1, 2, 4, 16, 64, 256)
WARM_UP, STEPS, ROUNDS = 3, 32, 5


def cases(quick: bool) -> list[dict[str, Any]]:
    """Return what is measured; the batches of a model follow each other."""
    subjects = (("tiny", "float32"), ("tiny", "int8")) if quick else SUBJECTS
    batches = (1, 3) if quick else BATCHES
    return [
        {"size": size, "format": format, "batch": batch}
        for size, format in subjects
        for batch in batches
    ]


class Models:
    """Makes each model once, and keeps the last."""

    def __init__(self, run: Bench) -> None:
        self._run = run
        self._key: tuple[str, str] | None = None
        self._made: tuple[RWKV4, PackedModel] | None = None
        self.first: dict[tuple[str, str], float] = {}
        """Tokens a second of one sequence."""

    def of(self, size: str, format: str) -> tuple[RWKV4, PackedModel]:
        """Return a model of random weights, and what takes its steps."""
        if self._made is None or self._key != (size, format):
            self._made = None  # before the next one is made
            self._run.forget()
            model = random_model(shape(size), "bfloat16" if format == "float16" else format)
            if format == "float16":
                halve_(model)
            model = model.to(self._run.device)
            self._made, self._key = (model, model.pack(skips_zeros=True)), (size, format)
        return self._made


def shape(size: str) -> RWKV4Config:
    """Return the shape of a size; "tiny" is no published one."""
    if size in PRESETS:
        return RWKV4Config.preset(size, vocab_size=VOCAB_SIZE)
    return RWKV4Config(n_layer=2, n_embd=64, vocab_size=100)


def halve_(model: RWKV4) -> None:
    """Turn the matrices of a model into float16."""
    for each in model.parameters():
        if each.dtype == torch.bfloat16:
            each.data = each.data.to(DTYPES["float16"])


def measure(run: Bench, models: Models, case: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a case."""
    size, format, batch = case["size"], case["format"], case["batch"]
    copy = run.copy_bytes_per_s()
    model, packed = models.of(size, format)
    run.forget()
    seconds = list(step_seconds(run, model, packed, batch))
    step_s = statistics.median(seconds)
    tokens_per_s = batch / step_s
    if batch == 1:
        models.first[size, format] = tokens_per_s
    n_bytes = bytes_per_token(model.config, "bfloat16" if format == "float16" else format)
    first = models.first.get((size, format))
    return {
        "step": type(packed).__name__,
        "step_s": step_s,
        "spread": (max(seconds) - min(seconds)) / step_s,
        "tokens_per_s": tokens_per_s,
        "times_batch_1": None if first is None else tokens_per_s / first,
        "weight_bytes_per_step": n_bytes,
        "copy_bytes_per_s": copy,
        "of_copy": n_bytes / step_s / copy,
        "peak_bytes": run.peak_bytes(),
    }


@torch.inference_mode()
def step_seconds(run: Bench, model: RWKV4, packed: PackedModel, batch: int) -> Iterator[float]:
    """Yield the seconds of a step, a mean over some, once for each round."""
    n_steps = 2 if run.quick else STEPS
    pool, slots = model.zero_state(batch), torch.arange(batch)
    tokens = random_tokens(model.config.vocab_size, n_steps, batch)
    for index in range(WARM_UP):
        packed.step(tokens[index % n_steps], pool, slots)
    for _ in range(2 if run.quick else ROUNDS):
        run.wait()
        began = time.perf_counter()
        for row in tokens:
            packed.step(row, pool, slots)
        run.wait()
        yield (time.perf_counter() - began) / n_steps


def line(row: dict[str, Any]) -> str:
    """Return a row for people."""
    times = row["times_batch_1"]
    return (
        f"{row['size']:5} {row['format']:9} batch {row['batch']:4} {row['step']:14} "
        f"{row['tokens_per_s']:10,.1f} tokens/s (spread {row['spread']:4.0%}), "
        f"{row['of_copy']:6.1%} of copying at {row['copy_bytes_per_s'] / 1e9:,.0f} GB/s"
        + ("" if times is None else f", {times:6.2f} x batch 1")
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases."""
    run = bench("decode", "Time decoding on a GPU beside a copy of its memory.", argv)
    models = Models(run)
    run.measure(cases(run.quick), lambda case: measure(run, models, case), line)
    return int(run.has_failed)


if __name__ == "__main__":
    sys.exit(main())
