"""Time `wkv4` beside the speed of memory: native by instruction set and form, and the reference.

Run it alone: `python benchmarks/bench_wkv4.py [--quick] [--json FILE]`. Every figure is the median
of interleaved runs in one process. Fractions compare with a triad (a = b + 3 c) over arrays beyond
every cache, by the same threads in the same run. Like the triad's, bytes are those that must move:
forward reads k and v and writes y; backward reads k, v and y's gradient and writes those of k and
v. What the processor fetches beside (lines before they are overwritten, k and v a second time in
backward, fresh pages of results) costs time and counts nothing.
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

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.wkv4 import WKV4State
from receptance.ops.wkv4.reference import wkv4_reference

N_LAYERS = 12
FORMS = {"serial": 1, "parallel": 2}
# So many sets of tensors take turns that none is still in a cache when its turn comes again.
N_SETS = 3


class Shape(NamedTuple):
    """Sizes of k and v."""

    B: int
    T: int
    C: int


class Inputs(NamedTuple):
    """Arguments of the op, and the gradient of y."""

    log_w: Tensor
    u: Tensor
    k: Tensor
    v: Tensor
    state: WKV4State
    grad_y: Tensor


def make_inputs(shape: Shape, dtype: torch.dtype, seed: int) -> Inputs:
    """Return random inputs with decays as in a trained model, from e^-0.002 to e^-2.7."""
    B, T, C = shape
    generator = torch.Generator().manual_seed(seed)
    k, v, grad_y = (torch.randn(B, T, C, generator=generator).to(dtype) for _ in range(3))
    log_w = -torch.exp(torch.linspace(-6, 1, C))
    u = torch.randn(C, generator=generator)
    return Inputs(log_w=log_w, u=u, k=k, v=v, state=WKV4State.zeros(B, C), grad_y=grad_y)


def medians_s(runs: Sequence[Callable[[], object]], n_rounds: int) -> list[float]:
    """Return the median seconds of each run; a round runs each once, so that noise hits all."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(n_rounds):
        for run, seconds in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
    return [statistics.median(each) for each in times]


def memory_bytes_per_s(n_rounds: int) -> float:
    """Return what a triad over arrays of 128 MiB moves."""
    a, b, c = (torch.ones(32 << 20) for _ in range(3))
    (seconds,) = medians_s([lambda: torch.add(b, c, alpha=3.0, out=a)], n_rounds)
    return 3 * a.nbytes / seconds


def native_runs(
    inputs: Sequence[Inputs], form: str, instruction_set: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a forward and a backward pass that take the next of the inputs at each call."""
    choice = (FORMS[form], instruction_sets()[instruction_set])
    turn = iter(range(sys.maxsize))

    def forward() -> object:
        log_w, u, k, v, state, _ = inputs[next(turn) % len(inputs)]
        return torch.ops.receptance.wkv4(log_w, u, k, v, *state, None, *choice)

    borders = [
        torch.ops.receptance.wkv4(each.log_w, each.u, each.k, each.v, *each.state, None)[-1]
        for each in inputs
    ]

    def backward() -> object:
        which = next(turn) % len(inputs)
        log_w, u, k, v, state, grad_y = inputs[which]
        zeros = state.num
        return torch.ops.receptance.wkv4_backward(
            log_w, u, k, v, None, borders[which], grad_y, zeros, zeros, *choice
        )

    return forward, backward


def measure_native(
    shape: Shape, dtype: torch.dtype, cases: Sequence[tuple[str, str]], ceiling: float, rounds: int
) -> list[dict[str, Any]]:
    """Return a row for each (form, instruction set)."""
    inputs = [make_inputs(shape, dtype, seed) for seed in range(N_SETS)]
    runs = [run for form, name in cases for run in native_runs(inputs, form, name)]
    # What every op pays for the fresh pages of one result, whatever it computes.
    runs.append(lambda: torch.empty_like(inputs[0].k).zero_())
    *seconds, page_s = medians_s(runs, rounds)
    nbytes = inputs[0].k.nbytes
    return [
        {
            "implementation": "native",
            "instruction_set": instruction_set,
            "form": form,
            "dtype": str(dtype).removeprefix("torch."),
            "shape": list(shape),
            "forward_s": forward_s,
            "backward_s": backward_s,
            "fresh_result_s": page_s,
            "forward_of_ceiling": 3 * nbytes / forward_s / ceiling,
            "both_of_ceiling": 8 * nbytes / (forward_s + backward_s) / ceiling,
        }
        for (form, instruction_set), forward_s, backward_s in zip(
            cases, seconds[::2], seconds[1::2], strict=True
        )
    ]


def measure_reference(shape: Shape, dtype: torch.dtype, n_rounds: int) -> dict[str, Any]:
    """Return a row for the reference, medians over `n_rounds` after one that is not counted."""
    log_w, u, k, v, state, grad_y = make_inputs(shape, dtype, 0)
    for each in (log_w, u, k, v):
        each.requires_grad_()

    def run() -> tuple[float, float]:
        begin = time.perf_counter()
        y, _ = wkv4_reference(log_w, u, k, v, state, None)
        middle = time.perf_counter()
        y.backward(grad_y)
        return middle - begin, time.perf_counter() - middle

    seconds = [run() for _ in range(n_rounds + 1)][1:]
    forward_s, backward_s = (statistics.median(each) for each in zip(*seconds, strict=True))
    return {
        "implementation": "reference",
        "instruction_set": "",
        "form": "",
        "dtype": str(dtype).removeprefix("torch."),
        "shape": list(shape),
        "forward_s": forward_s,
        "backward_s": backward_s,
    }


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table; times are of one layer, and of a model's layers forward and backward."""
    print(
        f"{'':21} {'form':9} {'dtype':9} {'B T C':13} {'forward':>11} {'backward':>11} "
        f"{f'x{N_LAYERS} both':>11}   of memory: forward, both"
    )
    for row in rows:
        name = f"{row['implementation']} {row['instruction_set']}"
        shape = " ".join(map(str, row["shape"]))
        forward_s, backward_s = row["forward_s"], row["backward_s"]
        line = (
            f"{name:21} {row['form']:9} {row['dtype']:9} {shape:13} {forward_s * 1e3:8.3f} ms "
            f"{backward_s * 1e3:8.3f} ms {(forward_s + backward_s) * N_LAYERS * 1e3:8.1f} ms"
        )
        if "forward_of_ceiling" in row:
            line += f"   {row['forward_of_ceiling']:11.0%}, {row['both_of_ceiling']:.0%}"
        print(line)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Time wkv4 beside the speed of memory.")
    parser.add_argument("--quick", action="store_true", help="a few rounds of small shapes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(argv)
    obstacle = library_obstacle()
    if obstacle is not None:
        print(f"cannot measure native: {obstacle}", file=sys.stderr)
        return 1

    rounds = 3 if options.quick else 15
    shape = Shape(2, 256, 768) if options.quick else Shape(8, 1024, 768)
    narrow = [Shape(1, T, 64) for T in ((1024,) if options.quick else (1024, 16384))]
    ceiling = memory_bytes_per_s(rounds)
    sets = list(instruction_sets())
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        serial = [("serial", each) for each in sets]
        rows += measure_native(shape, dtype, serial, ceiling, rounds)
    rows.append(measure_reference(shape, torch.float32, 3))
    for each in narrow:
        both = [(form, sets[-1]) for form in FORMS]
        rows += measure_native(each, torch.float32, both, ceiling, rounds)

    print(
        f"memory {ceiling / 1e9:.1f} GB/s (triad), {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, PyTorch {torch.__version__}"
    )
    print_rows(rows)
    print("A fresh result of k's shape alone: " + ", ".join(fresh_results(rows)))
    if options.json is not None:
        machine = {"machine": platform.machine(), "threads": torch.get_num_threads()}
        figures = {**machine, "memory_bytes_per_s": ceiling, "rows": rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def fresh_results(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for each dtype and shape, what allocating and zeroing one result costs."""
    costs = {
        f"{row['dtype']} {row['shape']}": row["fresh_result_s"]
        for row in rows
        if "fresh_result_s" in row
    }
    return [f"{name} {seconds * 1e3:.2f} ms" for name, seconds in costs.items()]


if __name__ == "__main__":
    sys.exit(main())
