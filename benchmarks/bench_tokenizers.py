"""How fast the tokenizers are, in MB of UTF-8 per second of one process.

    python benchmarks/bench_tokenizer.py [TEXT] [--bpe tokenizer.json] [--world vocabulary.txt]

The text (without TEXT, some source of Python's standard library) is encoded and decoded whole, all
candidates in turn, several rounds; the table shows medians and the spread. Beside the World
tokenizer stands that of the authors' `rwkv` package, on the same vocabulary. BPE uses all cores.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from receptance.data import standard_library
from receptance.tokenizer import Tokenizer, load_tokenizer, train_bpe

VOCABULARY_FILE = "rwkv_vocab_v20230424.txt"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table.

    Args:
        argv: The command line, without the program; None for that of the process.
    """
    options = arguments(argv)
    files = [options.text] if options.text else standard_library().train
    text = "".join(file.read_text(encoding="utf-8") for file in files)[: options.characters]
    candidates = verbs(text, options)
    megabytes = len(text.encode()) / 1e6
    seconds = measure(candidates, options.rounds)
    subject = options.text or "standard library"
    rounds, cores = options.rounds, os.cpu_count()
    print(f"{subject}: {megabytes:.2f} MB, {rounds} rounds, {cores} cores, ", end="")
    print(f"Python {platform.python_version()}, tokenizers {tokenizers.__version__}\n")
    print(f"{'':<24}{'median MB/s':>12}{'slowest':>10}{'fastest':>10}")
    rows: dict[str, dict[str, float]] = {}
    for name, times in seconds.items():
        median, slowest, fastest = statistics.median(times), max(times), min(times)
        rows[name] = {
            "median": megabytes / median,
            "slowest": megabytes / slowest,
            "fastest": megabytes / fastest,
        }
        print(f"{name:<24}{megabytes / median:>12.2f}", end="")
        print(f"{megabytes / slowest:>10.2f}{megabytes / fastest:>10.2f}")
    if options.json:
        options.json.write_text(json.dumps({"megabytes": megabytes, "MB_per_s": rows}, indent=1))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("text", type=Path, nargs="?", help="a text in UTF-8, such as WikiText")
    parser.add_argument("--bpe", type=Path, help="a tokenizer.json; none: 4096 tokens of the text")
    parser.add_argument("--world", type=Path, help="a World vocabulary; none: of `rwkv`, if there")
    parser.add_argument("--characters", type=int, default=1_000_000, help="how much of the text")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    return parser.parse_args(argv)


def verbs(text: str, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name, having checked that each gives the right result."""
    known: list[Tokenizer] = [load_tokenizer("bytes")]
    known.append(load_tokenizer(options.bpe) if options.bpe else train_bpe([text], 4096))
    package = importlib.util.find_spec("rwkv")
    folders = list(package.submodule_search_locations or []) if package else []
    vocabulary = options.world or (Path(folders[0], VOCABULARY_FILE) if folders else None)
    if vocabulary:
        known.append(load_tokenizer(vocabulary))
    timed: dict[str, Callable[[], object]] = {}
    for tokenizer in known:
        tokens = tokenizer.encode(text)
        label = f"{tokenizer.name} ({tokenizer.vocab_size})"
        timed[f"{label} encode"] = lambda t=tokenizer: t.encode(text)
        timed[f"{label} decode"] = lambda t=tokenizer, tokens=tokens: t.decode(tokens)
    if folders and vocabulary:
        official, tokens = official_world(vocabulary), known[-1].encode(text)
        if official.encode(text) != tokens:
            sys.exit("the `rwkv` package gives other tokens; the figures would mean nothing")
        timed["rwkv package encode"] = lambda: official.encode(text)
        timed["rwkv package decode"] = lambda: official.decode(tokens)
    return timed


def official_world(vocabulary: Path) -> Any:
    """Return the tokenizer of the authors' package."""
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER  # noqa: PLC0415 - an optional oracle

    return TRIE_TOKENIZER(str(vocabulary))


def measure(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each candidate in each round, after one round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
