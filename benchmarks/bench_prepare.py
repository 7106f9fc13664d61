"""How fast a large text becomes a token store, beside the `tokenizers` library alone.

    python benchmarks/bench_prepare.py
    python benchmarks/bench_prepare.py --megabytes 1000 --tokenizer 20B_tokenizer.json

    python benchmarks/bench_prepare.py --megabytes 200 --kill

The text is Python's standard library, its lines shuffled anew for each copy until the size is
reached, in documents of some kilobytes. The library alone encodes the same documents on all cores
and keeps nothing but how many tokens there are. Both run in turn, each in a process of its own, and
the ratio is that of the medians. Memory is the most that the process and those that it started
held at once, beyond what it held before it began, looked up twenty times a second; with flat memory
it is the same for any size (`--compare` measures half of it too). `--kill` also kills one half-way,
lets another go on, and compares every byte of the store with that of one that was not killed; what
is noted, and so kept, is every 67 MB.
"""

import argparse
import filecmp
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
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
    parser.add_argument("--kill", action="store_true", help="also kill one half-way, and resume")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--until", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.until:
        text, tokenizer, store, share = options.until
        prepare_until(Path(text), tokenizer, Path(store), float(share))
        return 0
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
        if options.kill:
            text = Path(folder, f"{options.megabytes}.txt")
            rows[-1] |= kill_and_resume(text, tokenizer, Path(folder))
            print(f"\nkilled half-way and resumed after {rows[-1]['resumed_mb']:.0f} MB: ", end="")
            print("the same bytes" if rows[-1]["is_same"] else "OTHER BYTES")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(row.get("is_same", True) for row in rows) else 1


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
    before, peak, done = held_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], held_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        begin = time.perf_counter()
        if kind == "prepare":
            prepare([text], ours, Path(folder, "store"), separator=SEPARATOR)
        else:
            encode_alone(library, text)
        seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    return {"seconds": seconds, "memory_mb": max(0, peak[0] - before) / 1e6}


def held_bytes() -> int:
    """Return the memory of this process and those that it started; what they share counts twice."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    pages = 0
    for process in (me, *children):
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill_and_resume(text: Path, tokenizer: str, folder: Path) -> dict[str, float]:
    """Return where a killed one went on, and whether its bytes are those of one not killed."""
    whole, killed = folder / "whole", folder / "killed"

    def run(store: Path, share: float) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            __file__,
            "--until",
            str(text),
            tokenizer,
            str(store),
            str(share),
        ]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    codes = [run(whole, 2.0).returncode, run(killed, 0.5).returncode]
    assert codes == [0, -signal.SIGKILL], codes
    resumed = run(killed, 2.0)
    assert resumed.returncode == 0, resumed.stderr
    names = sorted(path.name for path in whole.iterdir())
    is_same = names == sorted(path.name for path in killed.iterdir())
    is_same &= filecmp.cmpfiles(whole, killed, names, shallow=False)[0] == names
    return {"resumed_mb": int(resumed.stdout.split()[0]) / 1e6, "is_same": is_same}


def prepare_until(text: Path, tokenizer: str, store: Path, share: float) -> None:
    """Prepare, print how many bytes the first batch ends at, and kill this process at a share."""
    is_first = True

    def progress(done: int, total: int) -> None:
        nonlocal is_first
        if is_first:
            print(done, flush=True)
            is_first = False
        if done >= share * total:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare([text], load_tokenizer(tokenizer), store, separator=SEPARATOR, progress=progress)


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
