"""Decoding and prefill at the 430M shape beside the machine's ceilings and the `rwkv` package.

    python benchmarks/bench_decode.py
    python benchmarks/bench_decode.py --quick --size 169m --format bfloat16,int4
    python benchmarks/bench_decode.py --size 14b --format int4 --batch 1 --alone
    python benchmarks/bench_decode.py --long-prefill
    python benchmarks/bench_decode.py --long-decode

The first three measure random weights as `receptance bench` does, and with them the authors' `rwkv`
package, with weights of the same shape, where it is installed: all take turns in one process. What
was found then stands beside what is aimed at. The last two run for minutes: 1,000,000 tokens read
in chunks at L6 D512, and 20,000 decoded at 430M in int4. Each tenth is timed, and memory and
numbers are looked at after it.
"""

import argparse
import dataclasses
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from receptance.benchmark import (
    MatrixCeiling,
    ReadCeiling,
    Report,
    Settings,
    Timed,
    alternate,
    bytes_per_token,
    measure,
    prefill,
    random_model,
    resident_bytes,
)
from receptance.benchmark.report import FormatFigures
from receptance.cli.bench_tables import show
from receptance.models import RWKV4Config, State

FORMATS = "float32,bfloat16,int8,int4"
STRATEGIES = {"cpu fp32": "float32", "cpu bf16": "bfloat16"}
"""Of the `rwkv` package, with our name of the format."""

# What is aimed at, at the 430M shape on two cores; of int4 at 14B also the last two.
SHARE_OF_READ = {"float32": 0.85, "bfloat16": 0.85, "int8": 0.75, "int4": 0.65}
TIMES_AT_16 = {"bfloat16": 6.0, "int4": 4.0}
SHARE_OF_MATRIX = {"bfloat16": 0.8}
PREFILL_OF_BFLOAT16 = {"int8": 0.7, "int4": 0.7}
PREFILL_OF_RWKV = {"bfloat16": 1.7}
SHARE_OF_READ_14B, MEMORY_14B_GB = 0.6, 12.0


class Other(NamedTuple):
    """What is timed of the `rwkv` package with one strategy."""

    strategy: str
    decode: Timed
    prefill: Timed


def others(config: RWKV4Config, settings: Settings) -> list[Other]:
    """Return the `rwkv` package with each strategy; nothing where it is not installed."""
    # It reads these as it is imported.
    os.environ |= {"RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    os.environ.pop("RWKV_V7_ON", None)
    try:
        package = importlib.import_module("rwkv.model")
    except ImportError as error:
        print(f"left out, for it is not installed: the rwkv package ({error})", file=sys.stderr)
        return []
    found = []
    with tempfile.TemporaryDirectory() as folder:
        torch.save(random_model(config, "bfloat16").state_dict(), Path(folder, "weights.pth"))
        for strategy in STRATEGIES:
            print(f"rwkv {strategy}: loading", file=sys.stderr)
            model = package.RWKV(str(Path(folder, "weights")), strategy=strategy, verbose=False)
            found.append(_other(strategy, model, config.vocab_size, settings))
    return found


def _other(strategy: str, model: Any, vocab_size: int, settings: Settings) -> Other:
    """Return what is timed of a model of the `rwkv` package, which is run once here."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(vocab_size, (count,), generator=generator).tolist()

    prompt, fed = tokens(settings.prompt_tokens), tokens(settings.tokens)
    _, state = model.forward(prompt, None)

    def decode() -> None:
        now = state
        for token in fed:
            _, now = model.forward([token], now)

    decode()
    return Other(strategy, Timed(decode), Timed(lambda: model.forward(prompt, None)))


def other_figures(each: Other, report: Report, config: RWKV4Config) -> dict[str, float]:
    """Return what was found of the `rwkv` package, beside ours in the same format."""
    ours = report.formats.get(STRATEGIES[each.strategy])
    tokens_per_s = report.settings.tokens / each.decode.median_s
    prefill_per_s = report.settings.prompt_tokens / each.prefill.median_s
    bytes_per_s = tokens_per_s * bytes_per_token(config, STRATEGIES[each.strategy])
    found = {
        "decode_tokens_per_s": tokens_per_s,
        "share_of_read": bytes_per_s / report.ceilings.read_bytes_per_s,
        "prefill_tokens_per_s": prefill_per_s,
    }
    if ours is not None:
        found["ours_decodes_times"] = ours.decode[0].tokens_per_s / tokens_per_s
        found["ours_prefills_times"] = ours.prefill.tokens_per_s / prefill_per_s
    return found


def aims(
    report: Report, rwkv: dict[str, dict[str, float]]
) -> Iterator[tuple[str, float, float, str]]:
    """Yield what is aimed at: of what, the aim, what was found, and how that is written."""
    if report.n_embd == RWKV4Config.preset("14b").n_embd and "int4" in report.formats:
        share = report.formats["int4"].decode[0].share_of_read
        yield "decode int4 at 14B, of reading", SHARE_OF_READ_14B, share, ".1%"
        # That memory is below, as the others are above.
        free = MEMORY_14B_GB - (report.peak_memory_bytes or 0) / 1e9
        yield f"GB free of {MEMORY_14B_GB:.0f} at 14B", 0.0, free, ".2f"
        return
    for name, figures in report.formats.items():
        by_size = {each.batch_size: each for each in figures.decode}
        if name in SHARE_OF_READ and 1 in by_size:
            share = by_size[1].share_of_read
            yield f"decode {name}, of reading", SHARE_OF_READ[name], share, ".1%"
        if name in TIMES_AT_16 and {1, 16} <= by_size.keys():
            times = by_size[16].tokens_per_s / by_size[1].tokens_per_s
            yield f"decode {name}, batch 16 over 1", TIMES_AT_16[name], times, ".2f"
        yield from _prefill_aims(name, figures, report, rwkv)


def _prefill_aims(
    name: str, figures: FormatFigures, report: Report, rwkv: dict[str, dict[str, float]]
) -> Iterator[tuple[str, float, float, str]]:
    """Yield what is aimed at in prefill."""
    found = figures.prefill
    if name in SHARE_OF_MATRIX:
        yield f"prefill {name}, of matrices", SHARE_OF_MATRIX[name], found.share_of_matrix, ".1%"
    if name in PREFILL_OF_BFLOAT16 and "bfloat16" in report.formats:
        share = found.tokens_per_s / report.formats["bfloat16"].prefill.tokens_per_s
        yield f"prefill {name}, of bfloat16", PREFILL_OF_BFLOAT16[name], share, ".1%"
    for strategy, format in STRATEGIES.items():
        if format == name and name in PREFILL_OF_RWKV and strategy in rwkv:
            times = rwkv[strategy]["ours_prefills_times"]
            yield f"prefill {name}, over rwkv {strategy}", PREFILL_OF_RWKV[name], times, ".2f"


class Part(NamedTuple):
    """A tenth of a long run."""

    tokens_per_s: float
    times_ceiling: float
    """Seconds of the ceiling over those of a twentieth."""
    resident_bytes: int | None
    is_finite: bool


def long_run(
    advance: Callable[[int], tuple[Tensor, State]], n_tokens: int, ceiling: Timed
) -> list[Part]:
    """Go on for so many tokens, in tenths, and print each.

    Args:
        advance: Feeds so many tokens more; returns the last logits and the state.
        n_tokens: How many in all.
        ceiling: What the machine can do, timed twenty times in each tenth: the last tenth is set
            beside the first by it, since a shared machine is not as fast at all times.
    """
    parts: list[Part] = []
    n = max(n_tokens // 200, 1)
    advance(1)
    for index in range(10):
        held: list[tuple[Tensor, State]] = []
        piece = Timed(lambda held=held: held.append(advance(n)))
        alternate([piece, ceiling], 20)
        logits, state = held[-1]
        tensors = [logits, *state.tensors.values()]
        is_finite = all(bool(each.isfinite().all()) for each in tensors)
        parts.append(
            Part(
                tokens_per_s=20 * n / sum(piece.seconds),
                times_ceiling=piece.times_shorter_than(ceiling),
                resident_bytes=resident_bytes(),
                is_finite=is_finite,
            )
        )
        memory = (parts[-1].resident_bytes or 0) / 1e6
        print(
            f"tenth {index + 1:2}: {parts[-1].tokens_per_s:10,.1f} tokens/s, {memory:8,.1f} MB, "
            f"{'all finite' if is_finite else 'NOT FINITE'}",
            flush=True,
        )
    speed = parts[-1].tokens_per_s / parts[0].tokens_per_s
    beside = parts[-1].times_ceiling / parts[0].times_ceiling
    print(f"the last tenth over the first: {speed:.3f}; each beside its ceiling: {beside:.3f}")
    return parts


def long_prefill(n_tokens: int, format: str) -> list[Part]:
    """Read a prompt in chunks at L6 D512 V50277, beside the products of its matrices alone."""
    config = RWKV4Config(n_layer=6, n_embd=512, vocab_size=50277)
    model, state = random_model(config, format), None
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float32 if format == "float32" else torch.bfloat16

    def advance(count: int) -> tuple[Tensor, State]:
        nonlocal state
        tokens = torch.randint(config.vocab_size, (1, count), generator=generator)
        logits, state = prefill(model, tokens, state)
        assert state is not None
        return logits, state

    return long_run(advance, n_tokens, MatrixCeiling(config, dtype, 512).timed)


def long_decode(n_tokens: int, format: str, size: str) -> list[Part]:
    """Decode one sequence, beside reading memory."""
    config = RWKV4Config.preset(size)
    model = random_model(config, format)
    packed, pool, slots = model.pack(skips_zeros=True), model.zero_state(1), torch.arange(1)
    generator = torch.Generator().manual_seed(0)

    def advance(count: int) -> tuple[Tensor, State]:
        logits = torch.empty(0)
        with torch.inference_mode():
            for token in torch.randint(config.vocab_size, (count, 1), generator=generator):
                logits = packed.step(token, pool, slots)
        return logits, pool

    return long_run(advance, n_tokens, ReadCeiling().timed)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print the tables; return them as a document."""
    settings = Settings(
        batch_sizes=options.batch or ((1, 16) if options.quick else (1, 2, 4, 8, 16)),
        prompt_tokens=512,
        tokens=8 if options.quick else 64,
        rounds=2 if options.quick else options.rounds,
    )
    config = RWKV4Config.preset(options.size)
    makers = {
        name: (lambda name=name: random_model(config, name)) for name in options.format.split(",")
    }
    rivals = [] if options.alone else others(config, settings)
    report = measure(
        makers,
        settings,
        beside=[timed for each in rivals for timed in (each.decode, each.prefill)],
        tell=lambda text: print(text, file=sys.stderr),
    )
    rwkv = {each.strategy: other_figures(each, report, config) for each in rivals}
    show(report)
    for strategy, found in rwkv.items():
        print(
            f"rwkv {strategy}: decode {found['decode_tokens_per_s']:,.1f} tokens/s "
            f"({found['share_of_read']:.1%} of reading), prefill "
            f"{found['prefill_tokens_per_s']:,.1f} tokens/s"
        )
        if "ours_decodes_times" in found:
            print(
                f"  ours: decode {found['ours_decodes_times']:.2f} x, prefill "
                f"{found['ours_prefills_times']:.2f} x"
            )
    print(f"\n{'aimed at':40}{'at least':>10}{'found':>10}")
    for what, aim, found, pattern in aims(report, rwkv):
        print(f"{what:40}{aim:>10{pattern}}{found:>10{pattern}}{'' if found >= aim else '  not'}")
    return {**dataclasses.asdict(report), "rwkv": rwkv}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked for, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Decoding beside the machine and rwkv.")
    parser.add_argument("--size", default="430m")
    parser.add_argument("--format", default=FORMATS, help="several with commas between them")
    parser.add_argument("--batch", type=int, nargs="+", help="ascending")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, tokens and batches")
    parser.add_argument("--alone", action="store_true", help="without the rwkv package")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--long-prefill", action="store_true", help="1,000,000 tokens, L6 D512")
    parser.add_argument("--long-decode", action="store_true", help="20,000 tokens, in int4")
    parser.add_argument("--long-tokens", type=int, help="another number of them")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    results: Any
    if options.long_prefill:
        parts = long_prefill(options.long_tokens or 1_000_000, "bfloat16")
        results = [each._asdict() for each in parts]
    elif options.long_decode:
        parts = long_decode(options.long_tokens or 20_000, "int4", options.size)
        results = [each._asdict() for each in parts]
    else:
        results = compare(options)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
