"""The training loop: a recipe to be read downward."""

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import AdamW

from receptance.data import Batch
from receptance.errors import ConfigError
from receptance.models import RWKV4
from receptance.training.batch_hash import batch_sha256, check_next_batch
from receptance.training.checkpoints import Progress
from receptance.training.config import RunConfig
from receptance.training.loss import language_model_loss
from receptance.training.metrics import Metrics, MetricsFile
from receptance.training.optimizer import set_learning_rate
from receptance.training.run_folder import Run
from receptance.training.schedule import learning_rate

ADVICE = (
    "Begin another run, with another `name` and a lower `optimizer.lr`, anew or from a checkpoint "
    "of this one (--resume PATH)"
)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the caller does while a run goes on."""

    log: Callable[[Metrics], None]
    """Takes the figures of each step."""
    validate: Callable[[RWKV4], float] | None
    """Returns the held-out bits per byte; None where no text is held out."""
    sample: Callable[[RWKV4, int], None]
    """Shows what the model writes after so many steps."""
    should_stop: Callable[[], bool]
    """Whether to end after this step, with a checkpoint."""


def train(
    config: RunConfig,
    folder: Path,
    run: Run,
    batch_of: Callable[[int], Batch],
    hooks: Hooks,
) -> Progress:
    """Train a model from where its run is to the last step, or until it is told to stop.

    A checkpoint is written at the end, whichever end it is; an exception leaves the newest one
    of before. One that cannot be written is told, and training goes on.

    Args:
        config: The run.
        folder: Its folder; checkpoints and `metrics.jsonl` go there.
        run: The model, trained in place, its optimizer, and where to begin; from `open_run`.
        batch_of: Returns the batch of a step, counted from 0.
        hooks: What the caller does meanwhile.

    Returns:
        How far the run came.

    Raises:
        ConfigError: If the loss, or that of held-out text, is no longer finite.
        DataError: If a run that goes on would read another batch than without a stop.
        OSError: If the last checkpoint cannot be written.
    """
    model, optimizer, begin = run.model, run.optimizer, run.begin
    progress = begin.progress
    n_steps, every = config.training.steps, config.every
    metrics_file = MetricsFile(folder / "metrics.jsonl")
    metrics_file.truncate(progress.step)
    saved_step = progress.step

    while progress.step < n_steps and not hooks.should_stop():
        started = time.perf_counter()
        lr = learning_rate(config.schedule, config.optimizer.lr, progress.step, n_steps)
        set_learning_rate(optimizer, lr)
        batch = batch_of(progress.step)
        if progress == begin.progress:
            check_next_batch(batch, begin.next_batch_sha256)
        loss, grad_norm = training_step(config, model, optimizer, batch)
        seconds = time.perf_counter() - started

        n_tokens = batch.tokens.numel()
        progress = Progress(
            progress.step + 1,
            progress.tokens + n_tokens,
            progress.samples + len(batch.tokens),
            progress.seconds + seconds,
        )
        is_last = progress.step == n_steps
        metrics = Metrics(
            step=progress.step,
            tokens=progress.tokens,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_s=n_tokens / seconds,
            flops_per_s=3 * model.config.flops_per_token * n_tokens / seconds,
            memory_bytes=_peak_memory_bytes(),
            seconds=progress.seconds,
            valid_bits_per_byte=_validate(hooks, model, progress.step)
            if _is_due(progress.step, every.validation_steps, is_last)
            else None,
        )
        metrics_file.append(metrics)
        hooks.log(metrics)
        if _is_due(progress.step, every.sample_steps, is_last):
            hooks.sample(model, progress.step)
        if _is_due(progress.step, every.checkpoint_steps, is_last):
            _save(run, progress, batch_of)
            saved_step = progress.step

    if saved_step != progress.step:
        _save(run, progress, batch_of)
    _finish_saving(run)
    return progress


def training_step(
    config: RunConfig, model: RWKV4, optimizer: AdamW, batch: Batch
) -> tuple[float, float]:
    """Take one optimizer step and return the loss and the norm of the gradient.

    Args:
        config: The run; its precision, accumulation, auxiliary loss and clipping are used.
        model: What to train, in place.
        optimizer: Its optimizer, with the learning rate of this step.
        batch: What to train on.

    Returns:
        The cross-entropy in nats a token, and the norm before it was clipped.

    Raises:
        ConfigError: If one of them is not finite; the weights are then as before.
    """
    micro = config.data.micro_batch_size or config.data.batch_size
    rows = range(0, config.data.batch_size, micro)
    losses = []
    for row in rows:
        tokens, targets = batch.tokens[row : row + micro], batch.targets[row : row + micro]
        resets = batch.resets[row : row + micro] if config.data.reset_at_documents else None
        with autocast(config.training.precision):
            logits, _ = model(tokens, resets=resets)
        loss = language_model_loss(logits, targets, auxiliary=config.training.auxiliary_loss)
        # Every micro-batch has as many tokens, so the mean of means is the mean over the step.
        (loss.total / len(rows)).backward()
        losses.append(loss.cross_entropy.item())

    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.grad_clip)
    mean_loss = sum(losses) / len(losses)
    if not math.isfinite(mean_loss) or not math.isfinite(grad_norm.item()):
        raise ConfigError(
            f"the loss must stay finite, but it is {mean_loss} with a gradient of norm "
            f"{grad_norm.item()}; the weights are as before this step. {ADVICE}"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return mean_loss, grad_norm.item()


def _validate(hooks: Hooks, model: RWKV4, step: int) -> float | None:
    """Return the held-out bits per byte, where there is held-out text."""
    if hooks.validate is None:
        return None
    bits_per_byte = hooks.validate(model)
    if not math.isfinite(bits_per_byte):
        raise ConfigError(
            f"the held-out bits per byte must be finite, but they are {bits_per_byte} after step "
            f"{step}. {ADVICE}"
        )
    return bits_per_byte


def autocast(precision: str) -> torch.autocast:
    """Return the context in which matrix products are computed in `precision`."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _save(run: Run, progress: Progress, batch_of: Callable[[int], Batch]) -> None:
    """Write a checkpoint, which knows the batch that comes next."""
    next_sha256 = batch_sha256(batch_of(progress.step))
    run.checkpoints.save(run.model, run.optimizer, progress, next_batch_sha256=next_sha256)


def _finish_saving(run: Run) -> None:
    """Wait for the last checkpoint, and raise if there is none."""
    run.checkpoints.finish()
    reports = run.checkpoints.take_reports()
    if reports and reports[-1].failure:
        raise OSError(reports[-1].failure)


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return every > 0 and (step % every == 0 or is_last)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
