"""What rounding to 4 or 8 bits costs the matrices of a model, by format, and how fast it is.

    python benchmarks/bench_rounding.py MODEL

MODEL is a folder of a trained model: random weights round worse. The error is the mean square of
what rounding changes over that of the weights, averaged over the matrices, with the search of the
scale and without it (the largest weight is the highest level). The speed is that of the search on
one thread, beside a copy of the same weights.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from receptance.checkpoint import load_checkpoint
from receptance.ops.quantized_linear import QuantizedFormat, dequantize
from receptance.quantization import quantize_weight

FORMATS = [
    QuantizedFormat(8, 32),
    QuantizedFormat(8, 64),
    QuantizedFormat(4, 32),
    QuantizedFormat(4, 64, has_offset=True),
    QuantizedFormat(4, 64),
    QuantizedFormat(4, 32, has_offset=True),
]
N_RUNS = 3


def nearest(weight: Tensor, format: QuantizedFormat) -> Tensor:
    """Return the matrix rounded without a search, and without an offset."""
    groups = weight.unflatten(1, (-1, format.group_size))
    most = format.zero_level - 1
    scale = (groups.abs().amax(2, keepdim=True) / most).bfloat16().float()
    return (scale * torch.round(groups / scale).clamp(-most, most)).nan_to_num().flatten(1)


def error(weight: Tensor, rounded: Tensor) -> float:
    """Return the relative mean square of the difference."""
    return float((rounded - weight).square().sum() / weight.square().sum())


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description="Errors and speed of rounding.")
    parser.add_argument("model", type=Path)
    model = load_checkpoint(parser.parse_args().model, dtype="float32").model
    weights = [each.detach() for each in model.parameters() if each.ndim == 2]
    weights = [each for each in weights if each.shape[1] % 64 == 0]
    n_weights = sum(each.numel() for each in weights)
    torch.set_num_threads(1)
    began = time.perf_counter()
    _ = [each.clone() for each in weights]
    copy_s = time.perf_counter() - began
    print(f"{n_weights / 1e6:.1f}M weights; a copy takes {copy_s * 1e8 / n_weights:.3f} s per 100M")
    print(f"{'format':58} {'bytes':>7} {'search':>9} {'nearest':>9} {'s per 100M':>11}")
    for format in FORMATS:
        seconds, errors, plain = [], [], []
        for _ in range(N_RUNS):
            began = time.perf_counter()
            rounded = [quantize_weight(each, format) for each in weights]
            seconds.append(time.perf_counter() - began)
            errors = [error(w, dequantize(each)) for w, each in zip(weights, rounded, strict=True)]
        if not format.has_offset:
            plain = [error(weight, nearest(weight, format)) for weight in weights]
        columns = [f"{statistics.mean(each):9.2e}" if each else " " * 9 for each in (errors, plain)]
        speed = statistics.median(seconds) * 1e8 / n_weights
        print(f"{format!s:58} {format.bytes_per_weight:7.4f} {' '.join(columns)} {speed:11.2f}")


if __name__ == "__main__":
    main()
