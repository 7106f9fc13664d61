"""The learning rate as a function of the step and of nothing else, so that a resumed run agrees."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from receptance.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves from its peak to its end.

    With p the part done, from 0 after the warm-up and the constant steps to 1 at the last step:

        "exponential"   lr (final_lr / lr)^p                               the paper's
        "cosine"        final_lr + (lr - final_lr) (1 + cos(pi p)) / 2
        "linear"        lr + (final_lr - lr) p
        "constant"      lr

    p is counted in tokens, as the authors count in mini-epochs of samples: where the batch grows in
    between, each later step is a larger part. Warm-up, a long constant phase and a linear decay is
    also called WSD.
    """

    kind: Literal["exponential", "cosine", "linear", "constant"] = "exponential"
    final_lr: float = 1e-5
    """The learning rate of the last step; "constant" has no use for it."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly to its peak."""
    constant_steps: int = 0
    """Steps at the peak after that."""

    def __post_init__(self) -> None:
        if self.final_lr <= 0:
            raise ConfigError(f"`schedule.final_lr` must be above 0, got {self.final_lr}")
        for name in ("warmup_steps", "constant_steps"):
            if getattr(self, name) < 0:
                value = getattr(self, name)
                raise ConfigError(f"`schedule.{name}` must not be negative, got {value}")


def learning_rate(
    config: ScheduleConfig,
    lr: float,
    step: int,
    n_steps: int,
    *,
    tokens_before: Callable[[int], int] | None = None,
) -> float:
    """Return the learning rate of one step.

    Args:
        config: How it moves.
        lr: Its peak.
        step: The step, counted from 0.
        n_steps: How many the run has.
        tokens_before: Returns how many tokens come before a step; None where every step has as
            many.

    Source: arXiv:2305.13048, section 4 and appendix G; BlinkDL/RWKV-LM, RWKV-v4neo/src/trainer.py.
    """
    if step < config.warmup_steps:
        return lr * (step + 1) / config.warmup_steps
    begin, last = config.warmup_steps + config.constant_steps, n_steps - 1
    if config.kind == "constant" or step <= begin or begin >= last:
        return lr
    before = tokens_before or int
    p = min((before(step) - before(begin)) / (before(last) - before(begin)), 1.0)
    if config.kind == "exponential":
        return lr * (config.final_lr / lr) ** p
    if config.kind == "linear":
        return lr + (config.final_lr - lr) * p
    return config.final_lr + (lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * p))
