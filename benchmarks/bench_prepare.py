"""How fast a large text becomes a token store, beside the `tokenizers` library alone.

    python benchmarks/bench_prepare.py
    python benchmarks/bench_prepare.py --megabytes 1000 --tokenizer 20B_tokenizer.json

The text is Python's standard library, its lines shuffled anew for each copy until the size is
reached, in documents of some kilobytes. The library alone encodes the same documents on all cores
and keeps nothing but how many tokens there are. Both run in turn, each in a process of its own, and
the ratio is that of the medians. Memory is the most that the process held, beyond what it held
before it began; with flat memory it is the same for any size (`--compare` measures half of it too).
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from receptance.data import prepare, read_pieces, standard_library
from receptance.data.documents import Boundaries
from receptance.tokenizer import load_tokenizer, train_bpe

SEPARATOR = "\x1e"
DOCUMENT_LINES = 100
BATCH = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Make the text, measure both in turn, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="How fast a text becomes a token store.")
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--tokenizer", help="a tokenizer.json; by default one of 4096 is trained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compare", action="store_true", help="also on half of the text")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        kind, text, tokenizer = options.measure
        print(json.dumps(measure(kind, Path(text), tokenizer)))
        return 0
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(f"tokenizers {tokenizers.__version__}, {options.rounds} rounds, medians\n")
    print(f"{'text':>10}{'prepare':>14}{'memory':>12}{'library':>14}{'ratio':>8}")
    sizes = [options.megabytes // 2] * options.compare + [options.megabytes]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = options.tokenizer or trained(Path(folder))
        for megabytes in sizes:
            text = make_text(Path(folder, f"{megabytes}.txt"), megabytes * 1_000_000)
            rows.append(compare(text, tokenizer, options.rounds))
            row = rows[-1]
            print(f"{megabytes:>7} MB{row['prepare_mb_s']:9.2f} MB/s", end="")
            print(f"{row['memory_mb']:9.0f} MB{row['library_mb_s']:9.2f} MB/s{row['ratio']:8.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def trained(folder: Path) -> str:
    """Train a tokenizer on the standard library and return its file."""
    texts = (file.read_text(encoding="utf-8") for file in standard_library().train)
    train_bpe(texts, 4096).save(folder)
    return str(folder / "tokenizer.json")


def make_text(path: Path, n_bytes: int) -> Path:
    """Write documents of shuffled lines until there are as many bytes."""
    lines = "".join(
        file.read_text(encoding="utf-8") for file in standard_library().train
    ).splitlines(keepends=True)
    generator, written = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        while written < n_bytes:
            generator.shuffle(lines)
            for begin in range(0, len(lines), DOCUMENT_LINES):
                written += file.write("".join(lines[begin : begin + DOCUMENT_LINES]) + SEPARATOR)
                if written >= n_bytes:
                    break
    return path


def compare(text: Path, tokenizer: str, rounds: int) -> dict[str, float]:
    """Measure both in turn and return the medians."""
    found: dict[str, list[dict[str, float]]] = {"prepare": [], "library": []}
    for _ in range(rounds):
        for kind, measured in found.items():
            command = [sys.executable, __file__, "--measure", kind, str(text), tokenizer]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            measured.append(json.loads(result.stdout))
    size = text.stat().st_size / 1e6
    rates = {
        kind: size / statistics.median(each["seconds"] for each in measured)
        for kind, measured in found.items()
    }
    return {
        "megabytes": size,
        "prepare_mb_s": rates["prepare"],
        "library_mb_s": rates["library"],
        "ratio": rates["prepare"] / rates["library"],
        "memory_mb": max(each["memory_mb"] for each in found["prepare"]),
    }


def measure(kind: str, text: Path, tokenizer: str) -> dict[str, float]:
    """Do one of the two in this process, and return its seconds and its memory."""
    ours = load_tokenizer(tokenizer)
    library = tokenizers.Tokenizer.from_file(tokenizer)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        begin = time.perf_counter()
        if kind == "prepare":
            prepare([text], ours, Path(folder, "store"), separator=SEPARATOR)
        else:
            encode_alone(library, text)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    scale = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    return {"seconds": seconds, "memory_mb": (peak - before) / scale}


def encode_alone(library: tokenizers.Tokenizer, text: Path) -> int:
    """Encode all documents as the library does best, and return how many tokens there are."""
    n_tokens, batch = 0, []
    for piece in read_pieces(text, Boundaries(separator=SEPARATOR)):
        batch.append(piece.text)
        if len(batch) == BATCH:
            n_tokens += sum(len(each.ids) for each in encode(library, batch))
            batch = []
    return n_tokens + sum(len(each.ids) for each in encode(library, batch))


def encode(library: tokenizers.Tokenizer, batch: list[str]) -> list[tokenizers.Encoding]:
    """Encode some documents at once, on all cores."""
    return library.encode_batch_fast(batch, add_special_tokens=False)


if __name__ == "__main__":
    sys.exit(main())
