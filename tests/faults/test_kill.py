"""A run that is killed, wherever that may be, goes on as if it had not been."""

import random
import signal
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

MODES = {"at once": (), "asynchronously": ("every.save_asynchronously=true",)}
KILLED = -signal.SIGKILL
LONG = ("training.steps=60", "schedule.warmup_steps=5")


def all_calls(runner: Runner, settings: tuple[str, ...], under: str) -> list[str]:
    """Return the changes that a run makes under a folder, in order."""
    place = runner.place()
    assert runner.train(place, *settings, fault=fault(0, under=under)).code == 0
    return calls(place)


def is_resumed(
    runner: Runner, at: int, settings: tuple[str, ...], expected: dict, under: str
) -> bool:
    """Whether a run that is killed at a call comes to the same."""
    place = runner.place()
    killed = runner.train(place, *settings, fault=fault(at, under=under))
    assert killed.code == KILLED, (at, killed, told(place))
    check_checkpoints(place)
    again = runner.train(place, *settings)
    assert again.code == 0, (at, calls(place)[-1], told(place))
    left = {each.name for each in (place / CHECKPOINTS).iterdir()}
    # What came before a last save that was not finished may stay until the next one.
    assert left - {"step-00000003"} == {"latest", "step-00000006", "step-00000009"}, (at, left)
    return differences(outcome(place), expected) == []


def told(place: Path) -> str:
    return (place / "told").read_text()[-2000:]


def of_the_last_save(made: list[str]) -> range:
    """Return the numbers of the calls that begin with the last checkpoint of a run."""
    begin = next(n for n, call in enumerate(made, start=1) if "step-00000009" in call)
    return range(begin, len(made) + 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["mkdir", "open", "write", "fsync", "rename", "unlink"])
def test_a_run_killed_at_a_call_of_each_kind_comes_to_the_same(runner, whole, mode, kind):
    made = all_calls(runner, MODES[mode], CHECKPOINTS)
    numbers = [n for n in of_the_last_save(made) if made[n - 1].split()[1] == kind]

    # Another one of them in each mode: the middle one, and one of a third on.
    number = numbers[len(numbers) // (2 if mode == "at once" else 3)]
    assert is_resumed(runner, number, MODES[mode], whole, CHECKPOINTS), made[number - 1]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_run_killed_at_any_call_of_a_save_comes_to_the_same(runner, whole, mode, say):
    numbers = of_the_last_save(all_calls(runner, MODES[mode], CHECKPOINTS))

    same = sum(is_resumed(runner, n, MODES[mode], whole, CHECKPOINTS) for n in numbers)

    say(f"killed at each of {len(numbers)} calls of a save, {mode}: {same} came to the same bits")
    assert same == len(numbers) > 60


@pytest.mark.slow
def test_a_run_killed_at_any_other_change_on_the_disk_comes_to_the_same(runner, whole, say):
    made = all_calls(runner, (), RUN)
    numbers = [n for n, call in enumerate(made, start=1) if "/checkpoints/" not in call]

    same = sum(is_resumed(runner, n, (), whole, RUN) for n in numbers)

    say(f"killed at each of {len(numbers)} other changes: {same} came to the same bits")
    assert same == len(numbers) > 40


@pytest.mark.parametrize("at_least", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_comes_to_the_same(runner, say, at_least):
    place = runner.place()
    took = runner.train(place, *LONG)
    assert took.code == 0, told(place)
    expected = outcome(place)

    generator = random.Random(20261122)
    n_kills = n_runs = n_same = 0
    while n_kills < at_least:
        settings = (*LONG, *MODES["asynchronously" if n_runs % 2 else "at once"])
        place = runner.place()
        n_runs += 1
        # The last part of the run is its end, however often it was killed.
        while (ended := random_kill(runner, place, settings, generator, took.seconds)) == KILLED:
            n_kills += 1
            check_checkpoints(place)
        assert ended == 0, told(place)
        n_same += differences(outcome(place), expected) == []

    say(f"killed {n_kills} times at random in {n_runs} runs: {n_same} runs came to the same bits")
    assert n_same == n_runs


def random_kill(
    runner: Runner, place: Path, settings: tuple[str, ...], generator: random.Random, at_most: float
) -> int:
    """Go on with a run until it ends or is killed; return how it ended."""
    after = generator.uniform(0.01, at_most)
    return runner.train(place, *settings, kill_after_s=after).code
