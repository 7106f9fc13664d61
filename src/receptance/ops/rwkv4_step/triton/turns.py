"""Whoever shares buffers on a GPU, one after the other: threads, and streams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import torch


class Turns:
    """Lets one thread at a time at buffers, and no stream before the one that had them last.

    Two engines of one model share its step. What a thread launches is done in order by the stream
    that is current in that thread; another stream knows nothing of it unless it is told to wait.
    """

    def __init__(self, current_stream: Callable[[], Any] | None) -> None:
        """Begin with nobody.

        Args:
            current_stream: Returns the stream that work of this thread goes to; None where there
                are no streams.
        """
        self._lock = Lock()
        self._current_stream = current_stream
        self._last: Any = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn and have it; the processor does not wait for a stream."""
        with self._lock:
            if self._current_stream is not None:
                stream = self._current_stream()
                if self._last is not None and stream != self._last:
                    stream.wait_stream(self._last)
                self._last = stream
            yield


def turns_on(device: torch.device) -> Turns:
    """Return turns for buffers on a device."""
    if device.type == "cpu":
        return Turns(None)
    return Turns(partial(torch.accelerator.current_stream, device))
