"""What each step of a run does, as arithmetic over its configuration.

It needs no data and no past, so that a run that goes on agrees with one that never stopped.
"""

from typing import NamedTuple

from receptance.errors import ConfigError
from receptance.training.config import RunConfig
from receptance.training.data_config import DataConfig
from receptance.training.optimization import learning_rate


class StepPlan(NamedTuple):
    """What one step does."""

    batch_size: int
    """Sequences, those of all ranks together."""
    segment: int
    """Which `ctx_len` tokens of its samples it reads. The state is zero before segment 0, and the
    one that the step before left otherwise."""
    n_tokens: int
    """Tokens, those of all ranks together."""
    finished_samples: int
    """How far the place of the next sample moves: by the batch after the last segment, else 0."""
    lr: float
    """The learning rate, before the multipliers of groups."""


def plan_step(config: RunConfig, step: int) -> StepPlan:
    """Return what `step`, counted from 0, does."""
    data = config.data
    is_later = data.later_batch_size > 0 and step >= data.later_batch_step
    batch_size = data.later_batch_size if is_later else data.batch_size
    segment = step % data.segments
    is_last_segment = segment == data.segments - 1
    return StepPlan(
        batch_size=batch_size,
        segment=segment,
        n_tokens=batch_size * data.ctx_len,
        finished_samples=batch_size if is_last_segment else 0,
        lr=learning_rate(
            config.schedule,
            config.optimizer.lr,
            step,
            config.training.steps,
            tokens_before=lambda each: tokens_before(data, each),
        ),
    )


def rows_before(data: DataConfig, step: int) -> int:
    """Return how many sequences the steps before `step` have, a sample once for each segment."""
    if not data.later_batch_size:
        return step * data.batch_size
    n_first = min(step, data.later_batch_step)
    return n_first * data.batch_size + (step - n_first) * data.later_batch_size


def tokens_before(data: DataConfig, step: int) -> int:
    """Return how many tokens the steps before `step` read; of all steps, the run's tokens."""
    return rows_before(data, step) * data.ctx_len


def samples_before(data: DataConfig, step: int) -> int:
    """Return the place of the first sample of `step` in the endless order.

    It is so in a run that never skipped data; one that did keeps the place in its progress.
    """
    # The batch never changes within a sample, so a step's samples began with its segment 0.
    return rows_before(data, step - step % data.segments) // data.segments


def marks(config: RunConfig) -> dict[int, str]:
    """Return the steps, counted from 0, at which a run is worth a look, and what happens there."""
    schedule, n_steps = config.schedule, config.training.steps
    rising = schedule.warmup_steps
    events = [
        (0, "first"),
        *[(rising, "warm-up done")] * (rising > 0),
        *[(rising + schedule.constant_steps, "decay begins")] * (schedule.constant_steps > 0),
        *[(config.data.later_batch_step, "batch grows")] * (config.data.later_batch_step > 0),
        (n_steps // 2, "middle"),
        (n_steps - 1, "last"),
    ]
    found: dict[int, str] = {}
    for step, label in sorted(events, key=lambda event: event[0]):
        if step < n_steps:
            found[step] = f"{found[step]}, {label}" if step in found else label
    return found


def rows_of_rank(batch_size: int, rank: int, world_size: int) -> range:
    """Return the rows of a step's batch that one of `world_size` ranks computes.

    Rank r has the rows from r·B/W up to (r + 1)·B/W, so that the order of samples is the same for
    any number of ranks.

    Raises:
        ConfigError: If the batch cannot be shared equally.
    """
    if batch_size % world_size:
        raise ConfigError(
            f"`data.batch_size` and `data.later_batch_size` must be multiples of {world_size}, the "
            f"number of ranks, got {batch_size}"
        )
    n_rows = batch_size // world_size
    return range(rank * n_rows, (rank + 1) * n_rows)


def micro_batch_rows(data: DataConfig, batch_size: int, world_size: int = 1) -> int:
    """Return how many sequences a rank computes at once in a step of `batch_size`.

    Raises:
        ConfigError: If a rank's rows cannot be computed in equal parts of `micro_batch_size`.
    """
    n_rows = len(rows_of_rank(batch_size, 0, world_size))
    micro = data.micro_batch_size or n_rows
    if n_rows % micro:
        raise ConfigError(
            f"`data.micro_batch_size` must divide the {n_rows} of {batch_size} sequences that each "
            f"of {world_size} ranks has, got {micro}"
        )
    return micro
