"""How long a part of a step takes where it is computed, without waiting for it in between."""

import time

import torch

Mark = float | torch.cuda.Event
"""A moment on the clock of a `Stopwatch`."""


class Stopwatch:
    """The clock of a device.

    A GPU works behind the process that tells it what to do, so a moment of the process says nothing
    of the work; and to wait for the work at each moment would leave the GPU without any.
    """

    def __init__(self, device: torch.device) -> None:
        """Take the clock of a device; that of the CPU is the process's own."""
        self._is_gpu = device.type == "cuda"

    def mark(self) -> Mark:
        """Return the moment when the device has done what it was told so far."""
        if not self._is_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Mark, end: Mark) -> float:
        """Return the seconds between two moments; waits until the device has come to the later."""
        if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        assert isinstance(begin, float)
        assert isinstance(end, float)
        return end - begin
