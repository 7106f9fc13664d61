"""What a run does in its steps and between them; `loop.train` says in which order."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from receptance.data import Batch
from receptance.errors import ConfigError
from receptance.models import RWKV4
from receptance.training.batch_hash import batch_sha256
from receptance.training.checkpoints import Loaded, Progress
from receptance.training.config import RunConfig
from receptance.training.metrics import Metrics
from receptance.training.optimization import (
    SpikeGuard,
    SpikeState,
    Verdict,
    set_learning_rate,
    write_spike,
)
from receptance.training.planning import StepPlan, plan_step, rows_of_rank
from receptance.training.processes import TRAINING, Ranks, evaluation
from receptance.training.reader import BatchReader, Place
from receptance.training.run_folder import Run
from receptance.training.step import NOTHING_COUNTS, StepResult, training_step
from receptance.training.watch import HeldOut, Watch, Yardsticks

logger = logging.getLogger(__name__)

ADVICE = (
    "Begin another run, with another `name` and a lower `optimizer.lr`, anew or from a checkpoint "
    "of this one (--resume PATH)"
)


def _tell_nobody(step: int, what: str) -> None:
    """Do nothing."""


def _know_no_origins(first_sample: int, n_samples: int) -> list[dict[str, int | str]]:  # noqa: ARG001
    """Return nothing."""
    return []


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the caller does while a run goes on; each rank calls its own at the same steps."""

    log: Callable[[Metrics], None]
    """Takes the figures of each step."""
    validate: Callable[[RWKV4], HeldOut] | None
    """Returns the held-out bits per byte; None where no text is held out."""
    sample: Callable[[RWKV4, int], None]
    """Shows what the model writes after so many steps."""
    should_stop: Callable[[], bool]
    """Whether to end after this step, with a checkpoint."""
    beat: Callable[[int, str], None] = _tell_nobody
    """Is told, before it is done, what is done after so many steps; see `Heartbeat`."""
    origins: Callable[[int, int], list[dict[str, int | str]]] = _know_no_origins
    """Says where so many samples from a place on come from; for the record of a spike."""


class Trainer:
    """A run while it is trained. Every rank has one, and calls its methods alike."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        run: Run,
        reader: BatchReader,
        hooks: Hooks,
        ranks: Ranks,
        yardsticks: Yardsticks,
    ) -> None:
        """Begin where `run` does; the arguments are those of `loop.train`."""
        self.config = config
        self.folder = folder
        self.run = run
        self.reader = reader
        self.hooks = hooks
        self.ranks = ranks
        self.watch = Watch(config, folder, run.model.config, ranks, yardsticks)
        self.guard = SpikeGuard(config.spikes, _spike_state(run.begin))
        self._take_up(run.begin)
        self._saved_step = self.progress.step
        self._saved_at = time.monotonic()

    def step(self) -> StepResult:
        """Compute the gradient of the next batch and, unless it is judged bad, take a step."""
        started = time.perf_counter()
        self.hooks.beat(self.progress.step, TRAINING)
        plan = plan_step(self.config, self.progress.step)
        following = _after(self.progress, plan)
        set_learning_rate(self.run.optimizer, plan.lr)
        batch = self.reader.read(self._place(self.progress), self._place(following))
        batch = batch.to(self.ranks.device)
        waited = time.perf_counter() - started
        result = training_step(
            self.config,
            self.run.objective,
            self.run.optimizer,
            batch,
            partial(self.guard.judge, following.step),
            step=self.progress.step,
            ranks=self.ranks,
            carried=self._carried,
        )
        seconds = time.perf_counter() - started
        if not result.verdict.is_applied:
            self._record_spike(plan, result)
        self.progress = following._replace(seconds=self.progress.seconds + seconds)
        is_broken = not math.isfinite(result.loss) and result.verdict is not NOTHING_COUNTS
        is_over = plan.finished_samples > 0 or is_broken
        self._carried = None if is_over else result.carried
        self._timing = plan, seconds, waited
        self._held_out: HeldOut | None = None
        return result

    def go_back(self, verdict: Verdict) -> None:
        """Go back to the newest good checkpoint of before a spike, and on with the next samples.

        The samples since that checkpoint are passed over. Where the run is within its samples'
        segments, their next ones begin with the zero state.

        Args:
            verdict: Says why, and before which step.

        Raises:
            ConfigError: If there is no such checkpoint; nothing is changed.
        """
        spiked = self.progress
        self.hooks.beat(spiked.step, "going back")
        self.run.checkpoints.finish()
        path = self.run.checkpoints.newest_good(before_step=verdict.before_step)
        if path is None:
            raise ConfigError(
                f"the run diverged: {verdict.reason}, and there is no checkpoint of before them to "
                f"go back to. {ADVICE}"
            )
        loaded = self.run.checkpoints.load(path, self.run.model, self.run.optimizer)
        self._take_up(loaded)
        self.guard.go_back(_spike_state(loaded))
        self._carried = None
        passed = plan_step(self.config, spiked.step - 1)
        self.progress = self.progress._replace(
            samples=spiked.samples
            if passed.finished_samples
            else spiked.samples + passed.batch_size
        )
        self._saved_step = self.progress.step
        self.watch.tell(rolled_back_from=spiked.step)
        logger.warning(
            "went back from step %d to %s; on with sample %d",
            spiked.step,
            path.name,
            self.progress.samples,
        )

    def validate(self) -> None:
        """Measure the held-out bits per byte, where there is held-out text.

        Raises:
            ConfigError: If they are not finite.
        """
        if self.hooks.validate is None:
            return
        self.hooks.beat(self.progress.step, "validating")
        with self.watch.time("validation"), evaluation(self.run.model) as model:
            held_out = self.hooks.validate(model)
        if not math.isfinite(held_out.bits_per_byte):
            raise ConfigError(
                "the held-out bits per byte must be finite, but they are "
                f"{held_out.bits_per_byte} after step {self.progress.step}: the run diverged. "
                f"{ADVICE}"
            )
        self._held_out = held_out

    def tell(self, result: StepResult) -> None:
        """Write and show the figures of the last step."""
        for report in self.run.checkpoints.take_reports():
            if report.failure is None:
                self.watch.tell(saved=report.path.name)
            else:
                self.watch.tell(save_failed=report.failure)
        plan, seconds, waited = self._timing
        metrics = self.watch.step(
            self.progress,
            plan,
            result,
            seconds=seconds,
            data_seconds=waited,
            loss_average=self.guard.loss_average,
            held_out=self._held_out,
        )
        self.hooks.log(metrics)

    def sample(self) -> None:
        """Show what the model writes."""
        self.hooks.beat(self.progress.step, "sampling")
        with self.watch.time("sample"), evaluation(self.run.model) as model:
            self.hooks.sample(model, self.progress.step)

    def is_time_to_save(self) -> bool:
        """Whether `every.checkpoint_minutes` have passed on some rank."""
        minutes = self.config.every.checkpoint_minutes
        return minutes > 0 and self.ranks.any(time.monotonic() - self._saved_at > 60 * minutes)

    def save(self) -> None:
        """Write a checkpoint; one that fails is told, and the run goes on."""
        self.hooks.beat(self.progress.step, "saving")
        with self.watch.time("checkpoint"):
            self.watch.sync()
            self.run.checkpoints.save(
                self.run.model,
                self.run.optimizer,
                self.progress,
                carried=None if self._carried is None else self._carried.tensors,
                extras={"spikes": self.guard.state.to_json()},
                next_batch_sha256=batch_sha256(self.next_row()),
                valid_bits_per_byte=None
                if self._held_out is None
                else self._held_out.bits_per_byte,
                needed_before=self.guard.first_skip(self.progress.step),
            )
        self._saved_step = self.progress.step
        self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Save, unless that is done, and wait until the checkpoint is on the disk.

        Raises:
            OSError: If it cannot be written.
        """
        if self._saved_step != self.progress.step:
            self.save()
        self.hooks.beat(self.progress.step, "saving")
        self.run.checkpoints.finish()
        reports = self.run.checkpoints.take_reports()
        if reports and reports[-1].failure is not None:
            raise OSError(
                f"the checkpoint after step {reports[-1].step} could not be written: "
                f"{reports[-1].failure}"
            )

    def next_row(self) -> Batch:
        """Return the first row of the next batch of all ranks."""
        plan = plan_step(self.config, self.progress.step)
        return self.reader.read(Place(self.progress.samples, 1, plan.segment))

    def _take_up(self, loaded: Loaded) -> None:
        """Go on from what a checkpoint held, or a new run has."""
        self.progress = loaded.progress
        carried = loaded.carried
        self._carried = (
            None
            if carried is None
            else replace(self.run.model.zero_state(1), **carried).to(self.ranks.device)
        )
        self._held_out = None
        self.watch.begin(self.progress.step)

    def _place(self, progress: Progress) -> Place:
        """Return what this rank reads in the step that comes after `progress`."""
        plan = plan_step(self.config, progress.step)
        rows = rows_of_rank(plan.batch_size, self.ranks.rank, self.ranks.world_size)
        return Place(progress.samples + rows.start, len(rows), plan.segment)

    def _record_spike(self, plan: StepPlan, result: StepResult) -> None:
        logger.info("step %d: %s", self.progress.step + 1, result.verdict.reason)
        if self.ranks.is_first:
            write_spike(
                self.folder,
                self.progress.step + 1,
                result.verdict,
                loss=result.loss,
                grad_norm=result.grad_norm,
                first_sample=self.progress.samples,
                samples=self.hooks.origins(self.progress.samples, plan.batch_size),
            )


def _after(progress: Progress, plan: StepPlan) -> Progress:
    """Return how far a run is after a step, but for its seconds."""
    return progress._replace(
        step=progress.step + 1,
        tokens=progress.tokens + plan.n_tokens,
        samples=progress.samples + plan.finished_samples,
    )


def _spike_state(loaded: Loaded) -> SpikeState:
    """Return what the guard remembered when a checkpoint was written."""
    entries = loaded.extras.get("spikes")
    return SpikeState() if entries is None else SpikeState.from_json(entries)
