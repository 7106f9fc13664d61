"""Time the training step on a GPU beside the rate of its matrix units, by size and length.

    python benchmarks/gpu/bench_training.py [--device cuda] [--seconds 170]
    python benchmarks/gpu/bench_training.py --device cpu --quick     # to try the program

The step is that of `receptance train`: products in bfloat16 (autocast), all else in float32, loss,
clipping and the fused AdamW included. Its operations are three times the model's `flops_per_token`
for each token, recomputation not counted; `of_matrix` is these a second over what a product of two
large random matrices in bfloat16 reaches. Seconds are those of the process, from step to step, so
that what it does between kernels counts. Where a batch does not fit, half of it is tried.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measuring import Bench, bench, random_tokens

from receptance.data import Batch
from receptance.models import PRESETS, RWKV4, RWKV4Config, build
from receptance.training import (
    Objective,
    build_optimizer,
    checkpoint_layers,
    parse_config,
    training_step,
)

VOCAB_SIZE = 50277
TOKENS_A_STEP = 32768
"""Rows of a batch are as many as make these, and fewer where they do not fit."""
SIZES = ("1.5b", "169m", "430m", "3b")
LENGTHS = (1024, 4096)
WARM_UP, STEPS = 3, 5


def cases(quick: bool) -> list[dict[str, Any]]:
    """Return what is measured, as a step is run at first, then compiled, then recomputing."""
    plain = {"compiled": False, "checkpointed": False}
    if quick:
        return [
            {"size": "tiny", "tokens": 16, **plain},
            {"size": "tiny", "tokens": 16, **plain, "checkpointed": True},
        ]
    first = [{"size": size, "tokens": T, **plain} for size in SIZES for T in LENGTHS]
    compiled = [{**case, "compiled": True} for case in first if case["size"] in ("1.5b", "169m")]
    recomputing = [
        {"size": size, "tokens": 4096, **plain, "checkpointed": True} for size in ("1.5b", "3b")
    ]
    # The two that are aimed at come first, both ways.
    return [*first[:2], *compiled[:2], *first[2:], *recomputing, *compiled[2:]]


def measure(run: Bench, case: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a case, at the largest batch that fits."""
    rows = 2 if run.quick else TOKENS_A_STEP // case["tokens"]
    while True:
        try:
            return measure_batch(run, case, rows)
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        # Outside of the handler, whose error would keep the tensors of the step.
        rows //= 2
        run.forget()


def measure_batch(run: Bench, case: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return the figures of a case with so many rows a batch."""
    matrix = run.matrix_flops_per_s("bfloat16")
    run.forget()
    config = shape(case["size"])
    step = stepper(run, case, config, rows)
    began = time.perf_counter()
    for _ in range(1 if run.quick else WARM_UP):
        step()
    run.wait()
    warm_up_s = time.perf_counter() - began
    seconds = []
    for _ in range(2 if run.quick else STEPS):
        began = time.perf_counter()
        step()
        run.wait()
        seconds.append(time.perf_counter() - began)
    step_s = statistics.median(seconds)
    tokens_per_s = rows * case["tokens"] / step_s
    flops_per_s = 3 * config.flops_per_token * tokens_per_s
    return {
        "parameters": config.n_parameters,
        "rows": rows,
        "step_s": step_s,
        "spread": (max(seconds) - min(seconds)) / step_s,
        "warm_up_s": warm_up_s,
        "tokens_per_s": tokens_per_s,
        "flops_per_s": flops_per_s,
        "matrix_flops_per_s": matrix,
        "of_matrix": flops_per_s / matrix,
        "peak_bytes": run.peak_bytes(),
    }


def shape(size: str) -> RWKV4Config:
    """Return the shape of a size; "tiny" is no published one."""
    if size in PRESETS:
        return RWKV4Config.preset(size, vocab_size=VOCAB_SIZE)
    return RWKV4Config(n_layer=2, n_embd=32, vocab_size=64)


def stepper(
    run: Bench, case: dict[str, Any], shape: RWKV4Config, rows: int
) -> Callable[[], object]:
    """Return the step of `receptance train` on one batch."""
    entries = {
        "name": "bench",
        "model": {
            "n_layer": shape.n_layer,
            "n_embd": shape.n_embd,
            "vocab_size": shape.vocab_size,
        },
        "data": {"store": "", "ctx_len": case["tokens"], "batch_size": rows},
        "training": {"steps": 1},
    }
    config = parse_config(entries, "the benchmark")
    with run.device:
        model = build(shape)
    fill_(model)
    if case["checkpointed"]:
        checkpoint_layers(model)
    objective = Objective(
        model, auxiliary=config.training.auxiliary_loss, precision=config.training.precision
    )
    if case["compiled"]:
        torch._dynamo.reset()
        objective.compile(fullgraph=True, dynamic=False)
    optimizer = build_optimizer(model, config.optimizer)
    tokens = random_tokens(shape.vocab_size, rows, case["tokens"] + 1).to(run.device)
    resets = torch.zeros(rows, case["tokens"], dtype=torch.bool, device=run.device)
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), resets)
    return lambda: training_step(config, objective, optimizer, batch)


@torch.no_grad()
def fill_(model: RWKV4) -> None:
    """Set weights as in a trained model: the zeros of a new one would be multiplied faster."""
    for name, each in model.named_parameters():
        if each.ndim == 2:
            each.normal_(0, each.shape[1] ** -0.5)
        elif name.endswith("time_decay"):
            each.copy_(torch.linspace(-6, 1, each.numel()).view_as(each))
        elif name.endswith(".weight"):
            each.fill_(1)
        elif name.endswith(".bias"):
            each.zero_()
        else:
            each.uniform_(0, 1)


def line(row: dict[str, Any]) -> str:
    """Return a row for people."""
    peak = row["peak_bytes"]
    how = [name for name in ("compiled", "checkpointed") if row[name]]
    return (
        f"{row['size']:5} T {row['tokens']:5} B {row['rows']:3} {' '.join(how):22} "
        f"{row['step_s'] * 1e3:9.1f} ms (spread {row['spread']:4.0%}), "
        f"{row['tokens_per_s']:10,.0f} tokens/s, {row['flops_per_s'] / 1e12:7.2f} TFLOP/s, "
        f"{row['of_matrix']:6.1%} of {row['matrix_flops_per_s'] / 1e12:,.1f}"
        + ("" if peak is None else f", {peak / 1e9:.1f} GB")
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases."""
    run = bench("training", "Time the training step on a GPU beside its matrix rate.", argv)
    run.measure(cases(run.quick), lambda case: measure(run, case), line)
    return int(run.has_failed)


if __name__ == "__main__":
    sys.exit(main())
