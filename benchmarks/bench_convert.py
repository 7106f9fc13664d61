"""Converting a checkpoint to every format: seconds, beside a copy of the file, and memory.

    python benchmarks/bench_convert.py
    python benchmarks/bench_convert.py --size 14b --folder /large/disk --targets native,official

An authors' file of random weights in bfloat16 is made (28 GB at 14b), and converted by the command
line in processes of their own, in turn with a copy that is flushed to the disk: what the machine
can do at best. What was written is removed before the next one, so twice the file is needed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGETS = {
    "native": (),
    "native int8": ("--quantize", "int8"),
    "native int4": ("--quantize", "int4"),
    "official": ("--to", "official"),
    "official float16": ("--to", "official", "--dtype", "float16"),
    "huggingface": ("--to", "huggingface"),
    "ggml float16": ("--to", "ggml", "--dtype", "float16"),
    "ggml q5_1": ("--to", "ggml", "--quantize", "q5_1"),
}


def copied(source: Path, target: Path) -> float:
    """Return the seconds that a copy of a file takes until it is on the disk."""
    began = time.perf_counter()
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def converted(source: Path, target: Path, options: Sequence[str]) -> dict[str, float]:
    """Return what it takes to convert a file, and how many bytes come of it."""
    code = (
        "import resource, subprocess, sys;"
        "rc = subprocess.run(sys.argv[1:]).returncode;"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(rc)"
    )
    command = [sys.executable, "-m", "receptance", "convert", str(source), str(target), *options]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - began
    files = [target] if target.is_file() else [*target.iterdir()]
    size = sum(file.stat().st_size for file in files)
    if target.is_file():
        target.unlink()
    else:
        shutil.rmtree(target)
    return {"seconds": seconds, "peak_bytes": int(done.stdout) * 1024.0, "bytes": float(size)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each target, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Converting a checkpoint to every format.")
    parser.add_argument("--size", default="430m")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    parser.add_argument("--targets", default=",".join(TARGETS), help="some, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    names: list[str] = options.targets.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"a target must be one of {[*TARGETS]}, got {unknown[0]!r}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    copies: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as top:
        source, target = Path(top, "model.pth"), Path(top, "converted")
        make = [sys.executable, str(HERE / "random_model.py"), options.size, str(source), "--pth"]
        subprocess.run(make, check=True)
        size = source.stat().st_size
        for _ in range(options.rounds):
            copies.append(copied(source, target))
            for name in names:
                runs[name].append(converted(source, target, TARGETS[name]))
    copy = statistics.median(copies)
    print(f"a copy of its {size / 1e9:.2f} GB takes {copy:.1f} s, {size / copy / 1e9:.2f} GB/s")
    results: dict[str, Any] = {"source_bytes": size, "copy_seconds": copy}
    print(f"{'':18}{'seconds':>9}{'of a copy':>11}{'GB':>8}{'peak GB':>9}")
    for name, found in runs.items():
        each = {key: statistics.median(run[key] for run in found) for key in found[0]}
        results[name] = each
        print(
            f"{name:18}{each['seconds']:9.1f}{each['seconds'] / copy:11.2f}"
            f"{each['bytes'] / 1e9:8.2f}{each['peak_bytes'] / 1e9:9.2f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
