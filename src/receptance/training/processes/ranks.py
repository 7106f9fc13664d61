"""The processes that train together: which of them this is, and what they tell each other."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from receptance.errors import ConfigError
from receptance.ops.device import sum_in_float32
from receptance.training.processes.rendezvous import fresh_store

START_TIMEOUT_S = 300.0
"""How long the ranks wait for each other to start: a machine may be slow to load PyTorch."""
STEP_TIMEOUT_S = 120.0
"""How long a rank waits for another inside a step, before it takes it for dead."""
PATIENT_TIMEOUT_S = 3600.0
"""How long ranks wait while one does what only it can do, such as reading back a checkpoint."""

# PyTorch's flight recorder: what the last exchanges between GPUs were, written when one hangs.
FLIGHT_RECORDER = {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among those of a run. As it is made without arguments, it is alone."""

    rank: int = 0
    """Its number in the run, from 0."""
    world_size: int = 1
    """How many there are."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where it computes."""
    group: dist.ProcessGroup | None = None
    """Exchanges what a step needs, within `STEP_TIMEOUT_S`; None for a process that is alone."""
    patient_group: dist.ProcessGroup | None = None
    """Exchanges all else, in the memory of the CPU."""
    saving_group: dist.ProcessGroup | None = None
    """The same, for a thread that saves while the run goes on: a group serves one thread."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that prints, and writes what is written once."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.world_size == 1

    def mean(self, *values: float) -> list[float]:
        """Return the mean of each value over the ranks, the same bits on every one.

        A value that is not finite on one rank is not finite in the mean.
        """
        if self.group is None:
            return list(values)
        return [math.fsum(each) / self.world_size for each in zip(*self._all(values), strict=True)]

    def any(self, flag: bool) -> bool:
        """Return whether `flag` holds on some rank."""
        return self.mean(float(flag)) != [0.0]

    def barrier(self) -> None:
        """Wait, patiently, until every rank is here."""
        self.gather_objects(None)

    def gather_objects(self, value: Any) -> list[Any]:
        """Return what each rank gave, in their order. JSON is what travels, so only that can."""
        if self.patient_group is None:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(lengths, torch.tensor([len(text)]), group=self.patient_group)
        longest = int(max(lengths))
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        padded = torch.nn.functional.pad(text, (0, longest - len(text)))
        dist.all_gather(texts, padded, group=self.patient_group)
        ends = [int(length) for length in lengths]
        pairs = zip(texts, ends, strict=True)
        return [json.loads(bytes(each[:end].tolist())) for each, end in pairs]

    def for_saving(self) -> "Ranks":
        """Return the same ranks for a thread of their own, in which a checkpoint is written."""
        return replace(self, patient_group=self.saving_group)

    def _all(self, values: tuple[float, ...]) -> list[list[float]]:
        """Return the values of every rank, in their order."""
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        theirs = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(theirs, mine, group=self.group)
        return [each.tolist() for each in theirs]


ALONE = Ranks()


@contextmanager
def connected(
    device: str = "cpu",
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    start_timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, and yield which of them this one is.

    A process that was not started by `torchrun`, or as the only one, is alone: PyTorch's
    distributed package then stays untouched. The connections are closed at the end; after an error
    they are left to the end of the process, since closing waits for ranks that may be lost.

    Args:
        device: The kind to compute on. "cpu" exchanges through gloo; "cuda" through NCCL, each
            process with the GPU of its number on its machine.
        step_timeout_s: How long a rank waits for another in a step.
        start_timeout_s: How long the ranks wait for each other to start.

    Raises:
        ConfigError: If there is no such GPU.
        TimeoutError: If the ranks do not find each other in time.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"a run on {device!r} must find a GPU, but PyTorch {torch.__version__} sees none; "
            "set `training.device` to 'cpu', or install a build of PyTorch for your GPU"
        )
    sum_in_float32(torch.device(device))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(device=torch.device(device))
        return
    for name, value in FLIGHT_RECORDER.items():
        os.environ.setdefault(name, value)
    own_device = _own_device(device)
    found = fresh_store(start_timeout_s)
    yield _join(*found, own_device, step_timeout_s=step_timeout_s, start_timeout_s=start_timeout_s)
    dist.destroy_process_group()


def _join(
    store: Store,
    rank: int,
    world_size: int,
    device: torch.device,
    *,
    step_timeout_s: float,
    start_timeout_s: float,
) -> Ranks:
    """Return this process among those that share a store, connected to them."""
    is_gpu = device.type == "cuda"
    backend = "cpu:gloo,cuda:nccl" if is_gpu else "gloo"
    timeout = timedelta(seconds=start_timeout_s)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    return Ranks(
        rank=rank,
        world_size=world_size,
        device=device,
        group=_new_group(step_timeout_s, "nccl" if is_gpu else "gloo"),
        patient_group=_new_group(PATIENT_TIMEOUT_S, "gloo"),
        saving_group=_new_group(PATIENT_TIMEOUT_S, "gloo"),
    )


def _new_group(timeout_s: float, backend: str) -> dist.ProcessGroup:
    """Return all ranks as a group with its own connections and patience."""
    group = dist.new_group(timeout=timedelta(seconds=timeout_s), backend=backend)
    assert isinstance(group, dist.ProcessGroup)  # a number would mean that this rank is not in it
    return group


def _own_device(device: str) -> torch.device:
    """Return the device of this process among those of its machine."""
    if device == "cpu":
        return torch.device("cpu")
    local_rank = int(os.environ["LOCAL_RANK"])
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"each process must have a GPU of its own, but process {local_rank} of this machine "
            f"finds {torch.cuda.device_count()}; start torchrun with --nproc-per-node "
            f"{torch.cuda.device_count()}"
        )
    own = torch.device(device, local_rank)
    torch.cuda.set_device(own)
    return own
