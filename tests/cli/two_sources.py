"""A run on two sources, prose and numbers, in the working folder of a test."""

from pathlib import Path

from receptance.data import prepare
from tests.cli.conftest import RUN

MIXED = RUN.replace("batch_size = 4\n", "batch_size = 5\n").replace(
    'store = "store"\n', ""
).replace(
    "\n[training]",
    """
[[data.sources]]
name = "prose"
store = "store"
weight = 0.7
[[data.sources]]
name = "numbers"
store = "numbers"
weight = 0.3

[training]""",
)  # fmt: skip


def make_two_sources(place: Path) -> None:
    """Write a store `numbers` beside the `store` of prose, and the run of both."""
    texts = place / "texts"
    texts.mkdir()
    for index in range(12):
        (texts / f"{index}.txt").write_text(" ".join(str(n * n) for n in range(index, index + 20)))
    prepare([texts], "bytes", place / "numbers", valid_fraction=0.3)
    (place / "run.toml").write_text(MIXED)
