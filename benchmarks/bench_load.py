"""From a model folder to the first token: seconds, and memory beside the bytes of the weights.

    python benchmarks/bench_load.py
    python benchmarks/bench_load.py --size 169m --format int4 --json load.json

Random weights of the 430M shape are saved in each format. Each folder is then opened in processes
of their own, in turn, and one token is fed. Time and memory are counted from the end of the
imports on. The files are in the page cache, since they have just been written.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from receptance.benchmark import peak_resident_bytes, random_model, resident_bytes
from receptance.checkpoint import save_model
from receptance.inference import load
from receptance.models import RWKV4Config

FORMATS = "float32,bfloat16,int8,int4"
AIM_S, AIM_GROWTH = 1.0, 1.15


def open_folder(folder: Path) -> dict[str, float]:
    """Return what it takes to open a model folder and feed it one token."""
    before = resident_bytes() or 0
    began = time.perf_counter()
    lm = load(folder)
    loaded = time.perf_counter()
    packed = lm.packed
    packed.step(torch.zeros(1, dtype=torch.int64), lm.model.zero_state(1), torch.arange(1)).argmax()
    ended = time.perf_counter()
    weight_bytes = sum(each.nbytes for each in lm.model.state_dict().values())
    return {
        "load_s": loaded - began,
        "first_token_s": ended - began,
        "weight_bytes": weight_bytes,
        "growth": ((resident_bytes() or 0) - before) / weight_bytes,
        "peak_growth": ((peak_resident_bytes() or 0) - before) / weight_bytes,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each format, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="From a model folder to the first token.")
    parser.add_argument("--size", default="430m")
    parser.add_argument("--format", default=FORMATS, help="several with commas between them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--open", type=Path, metavar="FOLDER", help="print the figures of one")
    options = parser.parse_args(argv)
    if options.open is not None:
        print(json.dumps(open_folder(options.open)))
        return 0

    formats, config = options.format.split(","), RWKV4Config.preset(options.size)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in formats}
    with tempfile.TemporaryDirectory() as top:
        for name in formats:
            save_model(random_model(config, name), None, Path(top, name))
        for _ in range(options.rounds):
            for name in formats:
                command = [sys.executable, __file__, "--open", str(Path(top, name))]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[name].append(json.loads(done.stdout))
    results: dict[str, Any] = {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for name, found in runs.items()
    }
    print(f"{'':10}{'load':>9}{'first token':>13}{'weights':>13}{'memory':>9}{'at peak':>9}")
    for name, each in results.items():
        is_met = each["first_token_s"] < AIM_S and each["growth"] <= AIM_GROWTH
        print(
            f"{name:10}{each['load_s']:7.3f} s{each['first_token_s']:11.3f} s"
            f"{each['weight_bytes'] / 1e6:10,.0f} MB{each['growth']:7.2f} x"
            f"{each['peak_growth']:7.2f} x{'' if is_met else '   not as aimed'}"
        )
    print(f"aimed at: the first token within {AIM_S} s, memory within {AIM_GROWTH} x the weights")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
