"""Time what a layer does beside its matrices and WKV: native and reference, beside memory's speed.

    python benchmarks/bench_layer_ops.py [--quick] [--json FILE]

Every figure is the median of interleaved runs in one process. Fractions compare with a triad
(a = b + 3 c) over arrays beyond every cache, by the same threads in the same run. Bytes are those
that must move: each input read once, each result written once. Sizes are those of a training step
with matrices in bfloat16 and the stream in float32.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from receptance.ops.gate import gate, gated_add
from receptance.ops.native import library_obstacle
from receptance.ops.norm_shift_mix import norm_shift_mix

# So many sets of tensors take turns that none is still in a cache when its turn comes again.
N_SETS = 3


class Op(NamedTuple):
    """One op of a layer, and what it moves for each number of the stream."""

    name: str
    run: Callable[[dict[str, Tensor], str], tuple[Tensor, ...]]
    forward_bytes: int
    backward_bytes: int


def mixed(tensors: dict[str, Tensor], names: Sequence[str], implementation: str):
    """Return what the matrices of a sublayer with these mixes read."""
    return norm_shift_mix(
        tensors["x"],
        tensors["weight"],
        tensors["bias"],
        tuple(tensors[name] for name in names),
        tensors["x_last"],
        dtype=torch.bfloat16,
        implementation=implementation,
    )[0]


# The stream has 4 bytes a number, all else 2. Backward reads the gradients of the results, and what
# forward kept; the gradient of the stream through a sum is the sum's own, and moves nothing.
OPS = (
    Op("norm_shift_mix, 3 mixes", lambda t, i: mixed(t, ("k", "v", "r"), i), 4 + 6, 6 + 4 + 4),
    Op("norm_shift_mix, 2 mixes", lambda t, i: mixed(t, ("k", "r"), i), 4 + 4, 4 + 4 + 4),
    Op("gate", lambda t, i: (gate(t["a"], t["b"], implementation=i),), 4 + 2, 6 + 4),
    Op("gated_add", lambda t, i: (gated_add(t["x"], t["a"], t["b"], implementation=i),), 8 + 4, 12),
    Op("gated_add, no gate", lambda t, i: (gated_add(t["x"], t["a"], implementation=i),), 10, 6),
)


def make_tensors(B: int, T: int, C: int, seed: int) -> dict[str, Tensor]:
    """Return random tensors that want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": [B, T, C], "x_last": [B, C], "a": [B, T, C], "b": [B, T, C]}
    shapes |= {name: [C] for name in ("weight", "bias", "k", "v", "r")}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors |= {name: tensors[name].bfloat16() for name in ("a", "b")}
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def seconds_of(op: Op, tensors: dict[str, Tensor], implementation: str) -> tuple[float, float]:
    """Return what one forward and one backward pass take."""
    begin = time.perf_counter()
    results = op.run(tensors, implementation)
    middle = time.perf_counter()
    seeds = [torch.ones_like(result) for result in results]
    back = time.perf_counter()
    leaves = [each for each in tensors.values() if each.requires_grad]
    torch.autograd.grad(results, leaves, seeds, allow_unused=True)
    return middle - begin, time.perf_counter() - back


def memory_bytes_per_s(n_rounds: int) -> float:
    """Return what a triad over arrays of 128 MiB moves."""
    a, b, c = (torch.ones(32 << 20) for _ in range(3))
    times = []
    for _ in range(n_rounds + 1):
        begin = time.perf_counter()
        torch.add(b, c, alpha=3.0, out=a)
        times.append(time.perf_counter() - begin)
    return 3 * a.nbytes / statistics.median(times[1:])


def measure(B: int, T: int, C: int, n_rounds: int) -> list[dict[str, Any]]:
    """Return a row for each op and implementation; a round runs each once."""
    sets = [make_tensors(B, T, C, seed) for seed in range(N_SETS)]
    cases = [(op, each) for op in OPS for each in ("native", "reference")]
    times: list[list[tuple[float, float]]] = [[] for _ in cases]
    for turn in range(n_rounds + 1):
        for (op, implementation), found in zip(cases, times, strict=True):
            found.append(seconds_of(op, sets[turn % N_SETS], implementation))
    ceiling = memory_bytes_per_s(n_rounds)
    rows = []
    for (op, implementation), found in zip(cases, times, strict=True):
        forward_s, backward_s = (statistics.median(each) for each in zip(*found[1:], strict=True))
        rows.append(
            {
                "op": op.name,
                "implementation": implementation,
                "shape": [B, T, C],
                "forward_s": forward_s,
                "backward_s": backward_s,
                "forward_of_ceiling": op.forward_bytes * B * T * C / forward_s / ceiling,
                "backward_of_ceiling": op.backward_bytes * B * T * C / backward_s / ceiling,
                "memory_bytes_per_s": ceiling,
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Time what a layer does beside its matrices.")
    parser.add_argument("--quick", action="store_true", help="a few rounds of a small shape")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(argv)
    obstacle = library_obstacle()
    if obstacle is not None:
        print(f"cannot measure native: {obstacle}", file=sys.stderr)
        return 1

    rows = measure(2, 256, 512, 3) if options.quick else measure(4, 2048, 512, 11)
    print(
        f"memory {rows[0]['memory_bytes_per_s'] / 1e9:.1f} GB/s (triad), "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"PyTorch {torch.__version__}, [B, T, C] = {rows[0]['shape']}"
    )
    print(f"{'':24} {'':9} {'forward':>11} {'backward':>11}   of memory: forward, backward")
    for row in rows:
        print(
            f"{row['op']:24} {row['implementation']:9} {row['forward_s'] * 1e3:8.3f} ms "
            f"{row['backward_s'] * 1e3:8.3f} ms   {row['forward_of_ceiling']:11.0%}, "
            f"{row['backward_of_ceiling']:.0%}"
        )
    if options.json is not None:
        machine = {"machine": platform.machine(), "threads": torch.get_num_threads()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
