"""Set what the benchmarks of a GPU found beside what is aimed at on a card of Hopper's class.

    python benchmarks/gpu/targets.py [--device cuda] [--out FOLDER]

It reads the figures of `bench_wkv4.py`, `bench_training.py` and `bench_decode.py`, measures nothing
and writes targets.json beside them. A figure that is not there is null, and no target is met by it.
Whether a card that is none of that class meets them says nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import RESULTS, device_folder

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """What a figure shall reach."""

    what: str
    subject: str
    """The file of figures."""
    of: Row
    """What the rows have in common that it is about; the best of them counts."""
    at_least: float
    unit: str
    figure: Callable[[Row, Sequence[Row]], float | None]
    """Returns a row's figure, perhaps by the other rows of its file; None if one of them lacks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write and print what is aimed at, and what was seen."""
    parser = argparse.ArgumentParser(description="Set figures of a GPU beside what is aimed at.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="[default: results/DEVICE]")
    options = parser.parse_args(argv)
    folder = options.out or RESULTS / device_folder(torch.device(options.device))
    found = [seen(target, rows_of(folder, target.subject)) for target in TARGETS]
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    (folder / "targets.json").write_text(text)
    for each in found:
        print(line(each))
    return 0


def rows_of(folder: Path, subject: str) -> list[Row]:
    """Return the rows that a benchmark wrote; none if it did not come to write."""
    path = folder / f"{subject}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def seen(target: Target, rows: Sequence[Row]) -> dict[str, Any]:
    """Return a target, the best figure that was found for it, and the row that has it."""
    theirs = [row for row in rows if target.of.items() <= row.items()]
    pairs = [(figure, row) for row in theirs if (figure := target.figure(row, rows)) is not None]
    best, row = max(pairs, key=lambda pair: pair[0], default=(None, None))
    return {
        "target": target.what,
        "unit": target.unit,
        "at_least": target.at_least,
        "seen": best,
        "is_met": best is not None and best >= target.at_least,
        "row": row,
    }


def line(found: Row) -> str:
    """Return a target for people."""
    value = "not measured" if found["seen"] is None else f"{found['seen']:.3g} {found['unit']}"
    verdict = "met" if found["is_met"] else "not met"
    return (
        f"{found['target']:55} {value}; aimed at {found['at_least']:.3g} {found['unit']}: {verdict}"
    )


def _its(name: str) -> Callable[[Row, Sequence[Row]], float | None]:
    return lambda row, _: row[name]


def _times_bfloat16(row: Row, rows: Sequence[Row]) -> float | None:
    """Return how many times the tokens a second of bfloat16 a row has, all else being the same."""
    same = {**{name: row[name] for name in ("size", "batch")}, "format": "bfloat16"}
    other = next((each for each in rows if same.items() <= each.items()), None)
    return None if other is None else row["tokens_per_s"] / other["tokens_per_s"]


TARGETS = (
    Target(
        "wkv4 with its gradients, B 8, T 4096, C 4096, bfloat16",
        "wkv4",
        {"shape": [8, 4096, 4096], "dtype": "bfloat16"},
        0.70,
        "of copying",
        _its("of_copy"),
    ),
    *(
        Target(
            f"training the 1.5b shape at T {tokens}",
            "training",
            {"size": "1.5b", "tokens": tokens},
            0.45,
            "of the matrix rate",
            _its("of_matrix"),
        )
        for tokens in (1024, 4096)
    ),
    Target(
        "decoding the 7b shape, batch 1, bfloat16",
        "decode",
        {"size": "7b", "format": "bfloat16", "batch": 1},
        0.80,
        "of copying",
        _its("of_copy"),
    ),
    *(
        Target(
            f"decoding the 7b shape, batch 1, {format}",
            "decode",
            {"size": "7b", "format": format, "batch": 1},
            times,
            "x bfloat16",
            _times_bfloat16,
        )
        for format, times in (("int8", 1.7), ("int4", 2.8))
    ),
    Target(
        "decoding the 7b shape, batch 256, bfloat16",
        "decode",
        {"size": "7b", "format": "bfloat16", "batch": 256},
        60.0,
        "x batch 1",
        _its("times_batch_1"),
    ),
)


if __name__ == "__main__":
    sys.exit(main())
