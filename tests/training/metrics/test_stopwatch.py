"""A part of a step is timed where it is computed."""

import time

import pytest
import torch

from receptance.training.metrics import Stopwatch


def test_on_the_cpu_it_is_the_clock_of_the_process():
    clock = Stopwatch(torch.device("cpu"))
    before = time.perf_counter()
    begin, end = clock.mark(), clock.mark()

    assert isinstance(begin, float)
    assert isinstance(end, float)
    assert before <= begin <= end <= time.perf_counter()
    assert clock.seconds(begin, end) == end - begin


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_time_of_the_work():
    clock = Stopwatch(torch.device("cuda"))
    a = torch.randn(2048, 2048, device="cuda")
    torch.cuda.synchronize()
    begin = clock.mark()
    for _ in range(50):
        a = torch.tanh(a @ a)
    took = clock.seconds(begin, clock.mark())

    assert torch.cuda.current_stream().query()  # all of it was waited for
    # No GPU multiplies faster than this.
    assert took > 50 * 2 * 2048**3 / 1e16
