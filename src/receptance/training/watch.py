"""What is told of a run while it goes on: the figures of each step."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from receptance.models import RWKV4Config
from receptance.training.checkpoints import Progress
from receptance.training.config import RunConfig
from receptance.training.metrics import (
    METRICS_FILE,
    Metrics,
    MetricsFile,
    TimeLeft,
    bits_per_byte,
    n_due,
)
from receptance.training.planning import StepPlan
from receptance.training.processes import Ranks
from receptance.training.step import StepResult


class Yardsticks(NamedTuple):
    """What the figures of a run are measured by; None where it is not known."""

    tokens_per_byte: float | None = None
    """Of the training text."""
    peak_flops_per_s: float | None = None
    """Of large matrix products, on all ranks together."""


UNKNOWN = Yardsticks()


class HeldOut(NamedTuple):
    """The bits per byte of held-out text."""

    bits_per_byte: float
    """Of all of it; what decides which checkpoints are the best."""
    by_source: dict[str, float] | None = None
    """Of each source that has some, by its name; None where the run has no sources."""


class Watch:
    """Turns what happened in a step into its `Metrics`, and keeps the run's `metrics.jsonl`.

    The file is the first rank's; the figures are the same on all.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        model: RWKV4Config,
        ranks: Ranks,
        yardsticks: Yardsticks,
    ) -> None:
        """Begin with nothing measured.

        Args:
            config: The run.
            folder: Its folder.
            model: The shape of its model.
            ranks: Who takes part.
            yardsticks: What the figures are measured by.
        """
        self._config = config
        # Backward has the products of the forward for x, and as many for W if that is trained.
        n_forwards = 2 if config.finetune.is_partial else 3
        self._flops_per_token = n_forwards * model.flops_per_token
        self._yardsticks = yardsticks
        self._ranks = ranks
        self._file = MetricsFile(folder / METRICS_FILE) if ranks.is_first else None
        self._time_left = TimeLeft()
        self._told: dict[str, Any] = {}

    def begin(self, step: int) -> None:
        """Forget the lines of steps after `step`, which come again."""
        if self._file is not None:
            self._file.truncate(step)

    def tell(
        self,
        *,
        saved: str | None = None,
        save_failed: str | None = None,
        rolled_back_from: int | None = None,
    ) -> None:
        """Have the next line say what happened since the last; see `Metrics` for each."""
        given = {
            "saved": saved,
            "save_failed": save_failed,
            "rolled_back_from": rolled_back_from,
        }
        self._told |= {key: value for key, value in given.items() if value is not None}

    @contextmanager
    def time(self, kind: str) -> Iterator[None]:
        """Measure what is done between steps, for the time that is left."""
        started = time.perf_counter()
        yield
        self._time_left.took(kind, time.perf_counter() - started)

    def step(
        self,
        progress: Progress,
        plan: StepPlan,
        result: StepResult,
        *,
        seconds: float,
        data_seconds: float,
        loss_average: float | None,
        held_out: HeldOut | None,
    ) -> Metrics:
        """Return the figures of a step, and write them.

        Args:
            progress: After the step.
            plan: What the step had to do.
            result: What came of it.
            seconds: How long it took, waiting for its batch included.
            data_seconds: How long it waited for its batch.
            loss_average: In nats a token; None before any step was applied.
            held_out: The figures of held-out text, where they were measured after this step.
        """
        self._time_left.took("step", seconds)
        tokens_per_byte, peak_flops_per_s = self._yardsticks
        flops_per_s = self._flops_per_token * plan.n_tokens / seconds
        metrics = Metrics(
            step=progress.step,
            tokens=progress.tokens,
            loss=result.loss,
            loss_by_source=result.loss_by_source,
            loss_average=loss_average,
            bits_per_byte=bits_per_byte(result.loss, tokens_per_byte) if tokens_per_byte else None,
            valid_bits_per_byte=None if held_out is None else held_out.bits_per_byte,
            valid_bits_per_byte_by_source=None if held_out is None else held_out.by_source,
            lr=plan.lr,
            grad_norm=result.grad_norm,
            tokens_per_s=plan.n_tokens / seconds,
            flops_per_s=flops_per_s,
            flops_share=flops_per_s / peak_flops_per_s if peak_flops_per_s else None,
            data_s=data_seconds,
            forward_s=result.seconds.forward,
            backward_s=result.seconds.backward,
            optimizer_s=result.seconds.optimizer,
            communication_s=result.seconds.communication,
            memory_bytes=_peak_memory_bytes(self._ranks.device),
            seconds=progress.seconds,
            seconds_left=self._seconds_left(progress.step),
            skipped=result.verdict.reason or None,
            **self._told,
        )
        self._told = {}
        if self._file is not None:
            self._file.append(metrics)
        return metrics

    def sync(self) -> None:
        """Wait until the lines so far are on the disk."""
        if self._file is not None:
            self._file.sync()

    def _seconds_left(self, step: int) -> float:
        n_steps, every = self._config.training.steps, self._config.every
        return self._time_left.seconds(
            step=n_steps - step,
            validation=n_due(step, n_steps, every.validation_steps),
            sample=n_due(step, n_steps, every.sample_steps),
            checkpoint=n_due(step, n_steps, every.checkpoint_steps),
        )


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the most that this process has held: on its GPU, or of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
