"""No bit of a checkpoint can change unseen."""

import random
import shutil
from pathlib import Path

import pytest

from receptance.training.checkpoints import list_checkpoints, newest_good
from tests.faults.tiny_runs import CHECKPOINTS, RUN, Runner, differences, outcome

N_FLIPS = 150
N_TRUNCATIONS = 50


@pytest.fixture
def place(runner: Runner) -> Path:
    """A run of which nine steps are done, with checkpoints after six and nine."""
    place = runner.place()
    assert runner.train(place).code == 0
    return place


def damage(path: Path, generator: random.Random, *, flip: bool) -> None:
    """Flip a bit of a file, or cut it short, anywhere."""
    content = bytearray(path.read_bytes())
    if flip:
        bit = generator.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
    else:
        del content[generator.randrange(len(content)) :]
    path.write_bytes(content)


def test_flipped_bits_and_truncations_are_all_found_and_the_checkpoint_before_is_used(
    place, say, caplog
):
    folder = place / CHECKPOINTS
    older, newest = list_checkpoints(folder)
    kept = place / "kept"
    shutil.copytree(newest, kept)
    files = [file for file in sorted(newest.rglob("*")) if file.is_file()]
    sizes = [file.stat().st_size for file in files]
    generator = random.Random(20261122)

    found = 0
    for number in range(N_FLIPS + N_TRUNCATIONS):
        # Half by size, as a disk would, and half so that small files come up as well.
        weights = sizes if number % 2 else None
        (file,) = generator.choices(files, weights)
        damage(file, generator, flip=number < N_FLIPS)
        caplog.clear()
        used = newest_good(folder)
        found += used == older and "IS DAMAGED and is not used" in caplog.text
        aside = newest.with_name(newest.name + ".corrupt")
        shutil.rmtree(aside if aside.exists() else newest)
        shutil.copytree(kept, newest)

    say(f"{N_FLIPS} flipped bits and {N_TRUNCATIONS} truncations: {found} found, and the "
        "checkpoint before used")  # fmt: skip
    assert found == N_FLIPS + N_TRUNCATIONS
    assert newest_good(folder) == newest


def test_a_run_whose_newest_checkpoint_is_damaged_comes_to_the_same(runner, place, whole):
    newest = list_checkpoints(place / CHECKPOINTS)[-1]
    damage(newest / "optimizer.safetensors", random.Random(1), flip=True)
    shutil.rmtree(place / RUN / "model")

    assert runner.train(place).code == 0

    assert "step-00000009 IS DAMAGED and is not used" in (place / "told").read_text()
    assert "going on after step 6" in (place / "told").read_text()
    assert differences(outcome(place), whole) == []
