"""The training loop: a recipe to be read downward."""

from collections.abc import Callable
from pathlib import Path

from receptance.data import Batch
from receptance.errors import ConfigError
from receptance.training.batch_hash import check_next_batch
from receptance.training.checkpoints import Progress
from receptance.training.config import RunConfig
from receptance.training.processes import ALONE, Ranks
from receptance.training.reader import BatchReader
from receptance.training.run_folder import Run
from receptance.training.trainer import ADVICE, Hooks, Trainer
from receptance.training.watch import UNKNOWN, Yardsticks


def train(
    config: RunConfig,
    folder: Path,
    run: Run,
    batch_of: Callable[[int, int, int], Batch],
    hooks: Hooks,
    *,
    ranks: Ranks = ALONE,
    yardsticks: Yardsticks = UNKNOWN,
) -> Progress:
    """Train a model from where its run is to the last step, or until it is told to stop.

    A checkpoint is written at the end, whichever end it is; an exception leaves the newest one
    of before. Every rank calls this alike.

    Args:
        config: The run.
        folder: Its folder; `metrics.jsonl` and the records of spikes go there.
        run: What it goes on from, trained in place; from `open_run`.
        batch_of: Returns a batch by the place of its first sample, its rows and its segment.
        hooks: What the caller does meanwhile.
        ranks: The processes of the run.
        yardsticks: What the figures are measured by.

    Returns:
        How far the run came.

    Raises:
        ConfigError: If the run diverged: too many steps were skipped, or the loss of held-out text
            is not finite.
        DataError: If the text is not that with which the run began.
        OSError: If the last checkpoint cannot be written.
    """
    n_steps, every = config.training.steps, config.every
    with BatchReader(batch_of, for_gpu=ranks.device.type == "cuda") as reader, run.checkpoints:
        trainer = Trainer(config, folder, run, reader, hooks, ranks, yardsticks)
        check_next_batch(trainer.next_row(), run.begin.next_batch_sha256)

        while trainer.progress.step < n_steps and not ranks.any(hooks.should_stop()):
            result = trainer.step()
            if result.verdict.action == "stop":
                raise ConfigError(f"the run diverged: {result.verdict.reason}. {ADVICE}")
            if result.verdict.action == "roll_back":
                trainer.go_back(result.verdict)
                continue
            step = trainer.progress.step
            is_last = step == n_steps
            if _is_due(step, every.validation_steps, is_last):
                trainer.validate()
            trainer.tell(result)
            if _is_due(step, every.sample_steps, is_last):
                trainer.sample()
            if _is_due(step, every.checkpoint_steps, is_last) or trainer.is_time_to_save():
                trainer.save()

        trainer.finish()
        return trainer.progress


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return every > 0 and (step % every == 0 or is_last)
