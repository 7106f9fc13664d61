"""Launches that are recorded once and replayed: a CUDA graph of each shape of step.

To launch some two hundred small kernels takes the processor longer than a GPU takes to run them; a
graph of them is launched at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock

import torch

MOST_RECORDED = 256
"""Of them, that which was not used for longest makes room for another."""

# PyTorch records one graph at a time in a process.
_RECORDING = Lock()

Launch = Callable[[], None]


class Replays:
    """Launches by what they depend on, each run as it is at first and replayed from then on."""

    def __init__(self, record: Callable[[Launch], Launch] | None) -> None:
        """Begin with none.

        Args:
            record: Makes a recording of launches, without running them: what runs it is returned.
                None where nothing can be recorded; then all is launched every time.
        """
        self._record = record
        self._recorded: OrderedDict[Hashable, Launch] = OrderedDict()

    def run(self, key: Hashable, launch: Launch) -> None:
        """Run what `launch` launches.

        Args:
            key: All that the launches depend on: sizes, and the addresses of the tensors.
            launch: Launches them. It must allocate nothing and wait for nothing. By its first run
                all kernels are compiled, which a recording could not be.
        """
        if (replay := self._recorded.get(key)) is not None:
            self._recorded.move_to_end(key)
            return replay()
        launch()
        if self._record is not None:
            self._recorded[key] = self._record(launch)
            if len(self._recorded) > MOST_RECORDED:
                self._recorded.popitem(last=False)
        return None


def recorder_of(device: torch.device) -> Callable[[Launch], Launch] | None:
    """Return what records launches on a device, or None where PyTorch has nothing for it."""
    return partial(_cuda_graph, device) if device.type == "cuda" else None


def _cuda_graph(device: torch.device, launch: Launch) -> Launch:
    """Record a CUDA graph, before which PyTorch waits for the GPU; replays wait for nothing."""
    with _RECORDING:
        # PyTorch's own stream for it is of the GPU that was the first to be recorded on.
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
        # The outer context puts the stream back where the inner one fails to end a recording.
        # Other threads may use the GPU meanwhile.
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
        ):
            launch()
    return graph.replay
