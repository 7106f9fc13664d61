"""A disk that is full or fails ends no run, and never leaves a checkpoint that loads wrong."""

import errno
from pathlib import Path

import pytest

from tests.faults.tiny_runs import (
    CHECKPOINTS,
    RUN,
    Runner,
    calls,
    check_checkpoints,
    differences,
    fault,
    outcome,
)

ERRORS = {"is full": errno.ENOSPC, "fails": errno.EIO}
MODES = {"at once": (), "asynchronously": ("every.save_asynchronously=true",)}
# A disk that stays full over several saves: each of them ends at its first call.
LONG = 6


def told(place: Path) -> str:
    return (place / "told").read_text()[-3000:]


def of_the_save(made: list[str], step: int) -> range:
    """Return the numbers of the calls that begin with a checkpoint, up to the next one."""
    begin = next(n for n, call in enumerate(made, start=1) if f"step-{step:08d}" in call)
    later = [n for n, call in enumerate(made, start=1) if f"step-{step + 3:08d}" in call]
    return range(begin, later[0] - 1 if later else len(made) + 1)


def goes_on(
    runner: Runner, place: Path, settings: tuple[str, ...], trouble: dict, expected: dict
) -> bool:
    """Whether a run which meets a fault in its second save goes on, and comes to the same."""
    ended = runner.train(place, *settings, fault=trouble)
    assert ended.code == 0, (trouble, calls(place)[trouble["at"] - 1], told(place))
    check_checkpoints(place)
    return differences(outcome(place), expected) == []


def is_mended(
    runner: Runner, place: Path, settings: tuple[str, ...], trouble: dict, expected: dict
) -> bool:
    """Whether a run which meets a fault anywhere comes to the same, at the latest when run again.

    A fault at its beginning or its end may end it, with a message.
    """
    ended = runner.train(place, *settings, fault=trouble)
    assert ended.code in (0, 1), (trouble, calls(place)[trouble["at"] - 1], told(place))
    assert ended.code == 0 or "\nerror: " in "\n" + told(place), told(place)
    assert "Traceback" not in told(place), told(place)
    if (place / CHECKPOINTS).exists():
        check_checkpoints(place)
    again = runner.train(place, *settings)
    assert again.code == 0, (trouble, told(place))
    left = [each.name for each in (place / CHECKPOINTS).iterdir()]
    assert not [name for name in left if "tmp" in name or "corrupt" in name], left
    return differences(outcome(place), expected) == []


def counted(runner: Runner, settings: tuple[str, ...], under: str) -> list[str]:
    place = runner.place()
    assert runner.train(place, *settings, fault=fault(0, under=under)).code == 0
    return calls(place)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", ERRORS)
def test_a_disk_that_fails_in_a_save_is_told_and_the_run_goes_on(runner, whole, mode, trouble):
    made = counted(runner, MODES[mode], CHECKPOINTS)
    writes = [n for n in of_the_save(made, 6) if made[n - 1].split()[1] == "write"]
    place = runner.place()
    met = fault(writes[len(writes) // 2], ERRORS[trouble])

    assert goes_on(runner, place, MODES[mode], met, whole)

    assert "NO CHECKPOINT after step 6: 'runs/tiny/checkpoints/step-00000006' cannot" in told(place)
    assert "those before it are kept" in told(place)
    if mode == "at once":  # a save beside so few steps may end after the last of them
        assert '"save_failed"' in (place / RUN / "metrics.jsonl").read_text()
    left = sorted(each.name for each in (place / CHECKPOINTS).iterdir())
    assert left == ["latest", "step-00000003", "step-00000009"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, LONG])
@pytest.mark.parametrize("trouble", ERRORS)
def test_a_disk_that_fails_at_any_call_of_a_save_ends_no_run(runner, mode, count, trouble, say):
    numbers = of_the_save(counted(runner, MODES[mode], CHECKPOINTS), 6)
    settings = ("training.steps=30", *MODES[mode])
    place = runner.place()
    assert runner.train(place, "training.steps=30").code == 0
    expected = outcome(place)

    same = sum(
        goes_on(runner, runner.place(), settings, fault(n, ERRORS[trouble], count=count), expected)
        for n in numbers
    )

    say(f"a disk that {trouble} for {count} calls from each of {len(numbers)} on, {mode}: "
        f"{same} runs went on to the same bits")  # fmt: skip
    assert same == len(numbers) > 50


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ERRORS)
def test_a_disk_that_fails_at_any_change_of_a_run_costs_no_bit(runner, whole, trouble, say):
    made = counted(runner, (), RUN)

    same = sum(
        is_mended(runner, runner.place(), (), fault(n, ERRORS[trouble], under=RUN), whole)
        for n in range(1, len(made) + 1)
    )

    say(f"a disk that {trouble} at each of {len(made)} changes of a run: {same} to the same bits")
    assert same == len(made) > 200
