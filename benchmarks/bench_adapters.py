"""Decoding a batch in which each sequence has its own adapter.

    python benchmarks/bench_adapters.py
    python benchmarks/bench_adapters.py --size 430m --format int4 --rank 16 --batch 16

Beside it, in turns: the same batch with one adapter for all, and of the base alone; and the
sequences one by one, as merged models are fed (one model stands for all of them, since none stays
in a cache). Weights and adapters are random.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from receptance.benchmark import Timed, alternate, random_model
from receptance.models import RWKV4, LowRank, LowRankChanges, RWKV4Config

LINEARS = {
    **dict.fromkeys(("att.key", "att.value", "att.receptance", "att.output"), (1, 1)),
    "ffn.key": (4, 1),
    "ffn.receptance": (1, 1),
    "ffn.value": (1, 4),
}
"""The matrices of a layer, with their rows and columns over `n_embd`."""


def random_adapter(config: RWKV4Config, rank: int, seed: int) -> LowRankChanges:
    """Return small changes of all matrices of the layers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return 0.01 * torch.randn(*shape, generator=generator)

    return LowRankChanges(
        {
            f"blocks.{layer}.{name}": LowRank(
                normal(rank, n_in * config.n_embd), normal(n_out * config.n_embd, rank)
            )
            for layer in range(config.n_layer)
            for name, (n_out, n_in) in LINEARS.items()
        }
    )


@torch.inference_mode()
def cases(model: RWKV4, rank: int, batch: int, tokens: int) -> dict[str, Timed]:
    """Return what is timed, each run once here."""
    config = model.config
    adapters = [random_adapter(config, rank, seed) for seed in range(batch)]
    packed = model.pack(skips_zeros=True)
    pool, slots = model.zero_state(batch), torch.arange(batch)
    fed = torch.randint(config.vocab_size, (tokens, batch))

    def one_by_one() -> None:
        for slot in slots:
            for each in fed:
                packed.step(each[slot : slot + 1], pool, slots[slot : slot + 1])

    timed = {
        "each its adapter": Timed(
            lambda: [packed.step(each, pool, slots, adapters) for each in fed]
        ),
        "one adapter": Timed(
            lambda: [packed.step(each, pool, slots, adapters[:1] * batch) for each in fed]
        ),
        "the base alone": Timed(lambda: [packed.step(each, pool, slots) for each in fed]),
        "merged, one by one": Timed(one_by_one),
    }
    for each in timed.values():
        each.run()
    return timed


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each format, print a table of each and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Decoding with an adapter for each sequence.")
    parser.add_argument("--size", default="169m")
    parser.add_argument("--format", default="bfloat16,int4", help="several with commas between")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    found: dict[str, dict[str, float]] = {}
    for format in options.format.split(","):
        model = random_model(RWKV4Config.preset(options.size), format)
        timed = cases(model, options.rank, options.batch, options.tokens)
        with torch.inference_mode():
            alternate(list(timed.values()), options.rounds)
        mixed = timed["each its adapter"]
        print(f"{options.size} {format}, batch {options.batch}, adapters of rank {options.rank}")
        for name, each in timed.items():
            tokens_per_s = options.tokens * options.batch / each.median_s
            times = mixed.times_shorter_than(each)
            print(f"  {name:20}{tokens_per_s:10,.1f} tokens/s   takes {times:6.2f} times as long")
            found[f"{format}, {name}"] = {"tokens_per_s": tokens_per_s, "times_as_long": times}
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
