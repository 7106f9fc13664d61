"""Time `wkv4` on a GPU beside a copy of its memory, forward alone and with its gradients.

    python benchmarks/gpu/bench_wkv4.py [--device cuda] [--seconds 60]
    python benchmarks/gpu/bench_wkv4.py --device cpu --quick       # to try the program

Bytes are counted once, as those that must move: forward reads k and v and writes y; backward reads
k, v and y's gradient and writes those of k and v. What is read a second time or kept in between
takes time and counts nothing. `of_copy` is these bytes a second over those of a copy.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measuring import DTYPES, Bench, bench

from receptance.ops.dispatch import choose
from receptance.ops.wkv4 import IMPLEMENTATIONS, WKV4State, wkv4

N_ROUNDS = 15
# Wide and narrow, [B, T, C]: a training batch of the large models, of the small ones, one document.
SHAPES = (
    (8, 4096, 4096),
    (8, 1024, 4096),
    (8, 4096, 2048),
    (16, 1024, 768),
    (1, 16384, 4096),
    (1, 16384, 768),
    (1, 65536, 64),
)
QUICK_SHAPES = ((2, 33, 8), (1, 65, 4))
FORWARD_ARRAYS, BOTH_ARRAYS = 3, 8


def cases(quick: bool) -> list[dict[str, Any]]:
    """Return the shapes in bfloat16, and the first in the others."""
    shapes = QUICK_SHAPES if quick else SHAPES
    others = [(shapes[0], name) for name in DTYPES if name != "bfloat16"]
    pairs = [(shapes[0], "bfloat16"), *others, *((each, "bfloat16") for each in shapes[1:])]
    return [{"shape": list(shape), "dtype": dtype} for shape, dtype in pairs]


def measure(run: Bench, case: dict[str, Any]) -> dict[str, Any]:
    """Return the times of a case, by the implementation that "auto" takes."""
    name, nbytes, forward, both = runs(run, case)
    rounds = 2 if run.quick or name == "reference" else N_ROUNDS
    copy = run.copy_bytes_per_s()
    run.forget()
    forward_s, both_s = run.medians_s([forward, both], rounds)
    return {
        "implementation": name,
        "forward_s": forward_s,
        "forward_and_backward_s": both_s,
        "copy_bytes_per_s": copy,
        "forward_of_copy": FORWARD_ARRAYS * nbytes / forward_s / copy,
        "of_copy": BOTH_ARRAYS * nbytes / both_s / copy,
        "peak_bytes": run.peak_bytes(),
    }


def runs(
    run: Bench, case: dict[str, Any]
) -> tuple[str, int, Callable[[], object], Callable[[], object]]:
    """Return the implementation's name, the bytes of k, and a forward without and with gradients.

    Decays are as in a trained model, from e^-0.002 to e^-2.7.
    """
    B, T, C = case["shape"]
    like = {"device": run.device, "dtype": DTYPES[case["dtype"]]}
    k, v = (torch.randn(B, T, C, **like).requires_grad_() for _ in range(2))
    grad_y = torch.randn(B, T, C, **like)
    log_w = -torch.exp(torch.linspace(-6, 1, C, device=run.device))
    u = torch.randn(C, device=run.device)
    inputs = log_w.requires_grad_(), u.requires_grad_(), k, v
    state = WKV4State.zeros(B, C, device=run.device)
    chosen = choose("wkv4", IMPLEMENTATIONS, "auto", *inputs, state, None).name

    def forward() -> object:
        with torch.no_grad():
            return wkv4(*inputs, state)

    def both() -> object:
        y, _ = wkv4(*inputs, state)
        return torch.autograd.grad(y, inputs, grad_y)

    return chosen, k.nbytes, forward, both


def line(row: dict[str, Any]) -> str:
    """Return a row for people."""
    return (
        f"{' '.join(map(str, row['shape'])):16} {row['dtype']:9} {row['implementation']:10} "
        f"forward {row['forward_s'] * 1e3:9.3f} ms, {row['forward_of_copy']:6.1%} of copying; "
        f"with gradients {row['forward_and_backward_s'] * 1e3:9.3f} ms, {row['of_copy']:6.1%}; "
        f"copy {row['copy_bytes_per_s'] / 1e9:,.0f} GB/s"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all shapes."""
    run = bench("wkv4", "Time wkv4 on a GPU beside a copy of its memory.", argv)
    run.measure(cases(run.quick), lambda case: measure(run, case), line)
    return int(run.has_failed)


if __name__ == "__main__":
    sys.exit(main())
