"""Turns at buffers: threads wait for threads, and streams for streams."""

from threading import Event, Thread

import pytest
import torch

from receptance.ops.rwkv4_step.triton.turns import Turns, turns_on


class Stream:
    """Stands for a stream of a GPU, and remembers for which others it waits."""

    def __init__(self) -> None:
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other)


def test_a_stream_waits_for_the_one_before_it_and_not_for_itself():
    one, other = Stream(), Stream()
    of_turns = [one, one, other, one]
    coming = iter(of_turns)
    turns = Turns(lambda: next(coming))
    for _ in of_turns:
        with turns.turn():
            pass
    assert one.waited_for == [other]
    assert other.waited_for == [one]


def test_a_stream_waits_for_a_turn_that_failed_as_well():
    one, other = Stream(), Stream()
    coming = iter([one, other])
    turns = Turns(lambda: next(coming))
    with pytest.raises(ValueError, match="halfway"), turns.turn():
        raise ValueError("halfway")
    with turns.turn():
        pass
    assert other.waited_for == [one]


def test_one_thread_has_its_turn_at_a_time():
    turns, has_begun, order = turns_on(torch.device("cpu")), Event(), list[str]()

    def second() -> None:
        has_begun.set()
        with turns.turn():
            order.append("second")

    thread = Thread(target=second)
    with turns.turn():
        thread.start()
        has_begun.wait()
        thread.join(0.01)  # enough to come before the first, if nothing held it
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.gpu
def test_what_is_launched_in_another_stream_is_waited_for():
    buffer = torch.zeros(1 << 20, device="cuda")
    turns = turns_on(buffer.device)
    with turns.turn():
        torch.cuda._sleep(100_000_000)
        buffer.fill_(1)
    with torch.cuda.stream(torch.cuda.Stream()):
        with turns.turn():
            seen = buffer.clone()
        assert seen.cpu().eq(1).all()
