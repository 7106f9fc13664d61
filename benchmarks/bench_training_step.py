"""What a training step of RWKV-4 costs, and what share of it the WKV has.

    python benchmarks/bench_training_step.py --preset 169m --batch 8 --tokens 1024

A step is forward, backward and AdamW with matrix products in bfloat16 (autocast). Its ceiling is
the rate of one large bfloat16 product, measured between the steps of the same run. The share of the
WKV is that of its ops, forward and backward, in PyTorch's own profile of the steps.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from receptance.data import Batch
from receptance.models import PRESETS, RWKV4, RWKV4Config
from receptance.training import RunConfig, build_optimizer, parse_config, training_step

WKV_OPS = ("receptance::wkv4", "receptance::wkv4_backward")


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write JSON where asked."""
    parser = argparse.ArgumentParser(description="What a training step of RWKV-4 costs.")
    parser.add_argument("--preset", choices=list(PRESETS), default="169m")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)

    result = measure(options.preset, options.batch, options.tokens, options.steps)
    for name, value in result.items():
        print(f"{name:<24} {value:,.4g}" if isinstance(value, float) else f"{name:<24} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(preset: str, batch_size: int, n_tokens: int, n_steps: int) -> dict[str, object]:
    """Return medians over `n_steps` steps after one that is not counted."""
    shape = RWKV4Config.preset(preset)
    config = run_config(preset, batch_size, n_tokens)
    torch.manual_seed(1)
    model = RWKV4(shape)
    model.init_weights()
    optimizer = build_optimizer(model, config.optimizer)
    tokens = torch.randint(shape.vocab_size, (batch_size, n_tokens + 1))
    batch = Batch(
        tokens[:, :-1], tokens[:, 1:], torch.zeros(batch_size, n_tokens, dtype=torch.bool)
    )

    training_step(config, model, optimizer, batch)
    steps, shares, ceilings = [], [], []
    for _ in range(n_steps):
        ceilings.append(product_flops_per_s())
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            started = time.perf_counter()
            training_step(config, model, optimizer, batch)
            steps.append(time.perf_counter() - started)
        wkv = sum(e.self_cpu_time_total for e in profiled.key_averages() if e.key in WKV_OPS)
        shares.append(wkv / 1e6 / steps[-1])
    seconds, ceiling = statistics.median(steps), statistics.median(ceilings)
    flops = 3 * shape.flops_per_token * batch_size * n_tokens
    return {
        "shape": f"{preset}, B{batch_size} T{n_tokens}, bfloat16 autocast",
        "threads": torch.get_num_threads(),
        "seconds_per_step": seconds,
        "seconds_spread": max(steps) - min(steps),
        "tokens_per_s": batch_size * n_tokens / seconds,
        "flops_per_s": flops / seconds,
        "ceiling_flops_per_s": ceiling,
        "of_ceiling": flops / seconds / ceiling,
        "wkv_share": statistics.median(shares),
    }


def run_config(preset: str, batch_size: int, n_tokens: int) -> RunConfig:
    """Return a run of these sizes."""
    entries = {
        "name": "bench",
        "model": {"preset": preset},
        "data": {"store": "", "ctx_len": n_tokens, "batch_size": batch_size},
        "training": {"steps": 1},
    }
    return parse_config(entries, "the benchmark")


def product_flops_per_s(n: int = 4096) -> float:
    """Return what the machine's bfloat16 matrix product reaches, the best of three."""
    a = torch.randn(n, n).bfloat16()
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


if __name__ == "__main__":
    sys.exit(main())
