"""Every experiment in its turn, each in a process of its own.

python -m paper.all [--scale small] [NAME ...]
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from paper.experiments import EXPERIMENTS
from paper.harness.experiment import SCALES


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiments that know the scale; the first failure ends it."""
    parser = argparse.ArgumentParser(prog="python -m paper.all", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="quick")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    given = parser.parse_args(argv)
    known = {each.name: each for each in EXPERIMENTS}
    if unknown := set(given.names) - set(known):
        parser.error(f"NAME must be one of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    for name, experiment in known.items():
        if given.scale not in experiment.scales or (given.names and name not in given.names):
            continue
        print(f"\n== {experiment.title}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"paper.{name}", "--scale", given.scale]
        done = subprocess.run(command, check=False, cwd=Path(__file__).parents[1])
        if done.returncode != 0:
            print(f"{name} failed", file=sys.stderr)
            return done.returncode
        print(f"-- {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
