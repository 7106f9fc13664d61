"""Jobs run beside the program, one at a time."""

import threading

import pytest

from receptance.training.checkpoints.background import Background


def test_a_job_runs_while_the_caller_goes_on():
    background = Background("test")
    release = threading.Event()
    done: list[str] = []

    def job() -> None:
        release.wait(10)
        done.append(threading.current_thread().name)

    background.start(job)
    assert done == []
    release.set()
    background.wait()

    assert done == ["test"]


def test_a_job_begins_when_the_one_before_has_ended():
    background = Background("test")
    order: list[str] = []
    begun = threading.Event()

    def slow() -> None:
        begun.wait(10)
        order.append("slow")

    background.start(slow)
    threading.Timer(0.05, begun.set).start()
    background.start(lambda: order.append("next"))
    background.wait()

    assert order == ["slow", "next"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_what_a_job_raises_is_raised_once_where_the_caller_waits(error):
    background = Background("test")

    def job() -> None:
        raise error("x")

    background.start(job)
    with pytest.raises(error):
        background.start(lambda: None)
    background.wait()


def test_to_wait_for_nothing_takes_no_time():
    Background("test").wait()
