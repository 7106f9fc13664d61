"""Launches that are recorded, and when."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from receptance.ops.rwkv4_step.triton import replay
from receptance.ops.rwkv4_step.triton.replay import Launch, Replays, recorder_of


class Recorder:
    """A stand-in for CUDA graphs, which are on a GPU only: it says what was run and how."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def launch(self, name: str) -> Launch:
        return lambda: self.events.append(f"launch {name}")

    def record(self, launch: Launch) -> Launch:
        before = len(self.events)
        launch()
        (what,) = self.events[before:]
        del self.events[before:]  # a recording does not run
        return lambda: self.events.append(what.replace("launch", "replay"))


def test_what_is_met_again_is_replayed():
    recorder = Recorder()
    replays = Replays(recorder.record)
    for name in ("one", "other", "one", "other"):
        replays.run(name, recorder.launch(name))
    assert recorder.events == ["launch one", "launch other", "replay one", "replay other"]


def test_where_nothing_can_be_recorded_all_is_launched():
    recorder = Recorder()
    replays = Replays(None)
    for _ in range(2):
        replays.run("one", recorder.launch("one"))
    assert recorder.events == ["launch one", "launch one"]
    assert recorder_of(torch.device("cpu")) is None


def test_what_was_not_used_for_longest_makes_room(monkeypatch):
    monkeypatch.setattr(replay, "MOST_RECORDED", 2)
    recorder = Recorder()
    replays = Replays(recorder.record)
    for name in ("a", "b", "a", "c", "a", "b"):
        replays.run(name, recorder.launch(name))
    expected = ["launch a", "launch b", "replay a", "launch c", "replay a", "launch b"]
    assert recorder.events == expected


@pytest.mark.gpu
def test_a_graph_of_launches_runs_when_it_is_replayed_and_not_when_it_is_recorded():
    counter = torch.zeros(1, device="cuda")

    def launch() -> None:
        counter.add_(1)

    replays = Replays(recorder_of(counter.device))
    for expected in (1, 2, 3):
        replays.run("one", launch)
        assert counter.item() == expected


def counting(counter: torch.Tensor) -> Launch:
    def launch() -> None:
        counter.add_(1)

    return launch


@pytest.mark.gpu
def test_threads_record_one_after_the_other_while_another_uses_the_gpu():
    counters = [torch.zeros(1, device="cuda") for _ in range(4)]
    torch.cuda.synchronize()

    def count(counter: torch.Tensor) -> float:
        replays = Replays(recorder_of(counter.device))
        for _ in range(3):
            replays.run("one", counting(counter))
        return counter.item()

    def use(_: int) -> float:
        return sum(torch.ones(1 << n, device="cuda").sum().item() for n in range(20))

    with ThreadPoolExecutor(5) as threads:
        used = threads.map(use, range(20))
        assert list(threads.map(count, counters)) == [3.0] * 4
        assert set(used) == {2.0**20 - 1}


@pytest.mark.gpu
def test_a_recording_that_fails_leaves_the_stream_as_it_was():
    counter, before = torch.zeros(1, device="cuda"), torch.cuda.current_stream()
    record = recorder_of(counter.device)

    def fail() -> None:
        counter.add_(1)
        raise ValueError("halfway")

    assert record is not None
    with pytest.raises(ValueError, match="halfway"):
        record(fail)
    assert torch.cuda.current_stream() == before
    record(counting(counter))()
    assert counter.item() == 1


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_each_gpu_is_recorded_on_by_itself():
    for index in (0, 1):
        counter = torch.zeros(1, device=torch.device("cuda", index))
        replays = Replays(recorder_of(counter.device))
        with torch.cuda.device(index):
            for _ in range(2):
                replays.run("one", counting(counter))
        assert counter.item() == 2
