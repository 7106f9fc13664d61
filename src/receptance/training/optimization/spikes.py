"""What becomes of a step whose loss or gradient is out of all proportion.

Such a step is skipped: its gradient is thrown away and its samples have been seen. After several
of them the run goes back to a checkpoint of before the first, and on with the samples after the
last: the window of data between the two is never trained on. Where that does not help either, the
run ends.

Every rank judges alike, since what is judged is the loss and the gradient of all ranks together.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from receptance.atomic import atomic_file
from receptance.errors import CheckpointError, ConfigError
from receptance.training.metrics import MovingAverage

MIN_DEVIATION = 0.005
"""The least deviation of the loss, relative to its mean. A loss that hardly scatters, as that of a
model that knows its text by heart, would else make a spike of any rise."""


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """Which steps are not applied, and what follows from them.

    A loss or a gradient that is not finite is never applied, in any policy and at any step.
    """

    policy: Literal["roll_back", "skip", "stop"] = "roll_back"
    """What the run goes to: "stop" ends it at the first spike, "skip" at the last of
    `skips_to_roll_back`, where "roll_back" goes back to a checkpoint instead."""
    loss_deviations: float = 6.0
    """How many standard deviations the loss may be above its average; 0 for any."""
    grad_norm_ratio: float = 10.0
    """How many times its average the gradient's norm may be, without the embedding's; 0 for any."""
    memory_steps: int = 50
    """Steps that the averages remember; in a young run a quarter of those done."""
    warmup_steps: int = 100
    """Steps that are only averaged: the loss of a young run falls, and its gradient leaps."""
    skips_to_roll_back: int = 3
    within_steps: int = 100
    """So many skips within so many steps are too many."""
    max_rollbacks: int = 3
    """Rollbacks without progress; the next one ends the run."""

    def __post_init__(self) -> None:
        least = {"memory_steps": 2, "skips_to_roll_back": 1, "within_steps": 1}
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, str) and value < least.get(each.name, 0):
                raise ConfigError(
                    f"`spikes.{each.name}` must be at least {least.get(each.name, 0)}, got {value}"
                )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be done with a step."""

    action: Literal["apply", "skip", "roll_back", "stop"]
    reason: str = ""
    """Why it is not applied; empty where it is."""
    before_step: int = 0
    """Where the run is to go back: the first step that was skipped. The checkpoint must be of
    fewer steps than this one, which counts itself."""

    @property
    def is_applied(self) -> bool:
        """Whether the weights are to be changed by this step."""
        return self.action == "apply"


APPLY = Verdict(action="apply")


@dataclass(frozen=True, kw_only=True)
class SpikeState:
    """What was seen so far of the steps that were applied, and of those that were not."""

    loss: MovingAverage = field(default_factory=MovingAverage)
    """In nats a token."""
    grad_norm: MovingAverage = field(default_factory=MovingAverage)
    """Without the embedding's."""
    skipped: tuple[int, ...] = ()
    """The last steps that were skipped, oldest first."""
    rollbacks: int = 0
    """How often the run went back without getting past `rolled_back_step` for good."""
    rolled_back_step: int = 0
    """The step that was judged so last."""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes, of JSON's types only; no bit of a number is lost."""
        return asdict(self) | {"skipped": list(self.skipped)}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> "SpikeState":
        """Return the state that `to_json` described.

        Raises:
            CheckpointError: If the entries are not those of a state.
        """
        try:
            return cls(
                loss=MovingAverage(**entries["loss"]),
                grad_norm=MovingAverage(**entries["grad_norm"]),
                skipped=tuple(int(step) for step in entries["skipped"]),
                rollbacks=int(entries["rollbacks"]),
                rolled_back_step=int(entries["rolled_back_step"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                "a checkpoint must hold the averages of the loss and the gradient's norm as "
                f"`SpikeState.to_json` gives them, but it holds {dict(entries)!r:.200}"
            ) from error


class SpikeGuard:
    """Judges each step by those before it; `state` is all that it remembers."""

    def __init__(self, config: SpikeConfig, state: SpikeState | None = None) -> None:
        """Go on from `state`, None for that of a new run."""
        self.config = config
        self.state = state or SpikeState()

    @property
    def loss_average(self) -> float | None:
        """The moving average of the loss, in nats a token, of the steps that were applied."""
        return self.state.loss.mean if self.state.loss.n_values else None

    def first_skip(self, step: int) -> int | None:
        """Return the oldest skip that may still take the run back after `step`; None for none.

        A checkpoint of before it should be kept.
        """
        recent = [each for each in self.state.skipped if step - each < self.config.within_steps]
        return recent[0] if recent else None

    def judge(
        self, step: int, loss: float, grad_norm: float, embedding_norm: float = 0.0
    ) -> Verdict:
        """Return what is to be done with a step, and remember it.

        The embedding's norm is compared with nothing: where a token is met for the first time, its
        row is as small as it was in the beginning, and the LayerNorm behind it makes the row's
        gradient thousands of times as large as that of any other.

        Args:
            step: Which one, itself counted: the first is 1. They come in order.
            loss: Of all ranks, in nats a token.
            grad_norm: Of the gradient of all ranks without the embedding's, before it is clipped.
            embedding_norm: Of the embedding's; 0 where that is not trained.
        """
        reason = self._reason(loss, grad_norm, embedding_norm)
        if not reason:
            # What a run was in its first steps is soon to be forgotten.
            memory = min(self.config.memory_steps, 2 + self.state.loss.n_values // 4)
            self.state = replace(
                self.state,
                loss=self.state.loss.with_value(loss, memory),
                grad_norm=self.state.grad_norm.with_value(grad_norm, memory),
            )
            return APPLY
        if self.config.policy == "stop":
            return Verdict(action="stop", reason=reason)

        recent = [each for each in self.state.skipped if step - each < self.config.within_steps]
        self.state = replace(self.state, skipped=(*recent, step))
        if len(self.state.skipped) < self.config.skips_to_roll_back:
            return Verdict(action="skip", reason=reason)
        return self._judge_too_many(step, reason)

    def go_back(self, saved: SpikeState) -> None:
        """Take the averages of the checkpoint that the run went back to.

        The skipped steps will not come again with the same samples and are forgotten; how often
        the run went back is not, or it could go back for ever.
        """
        self.state = replace(
            saved,
            skipped=(),
            rollbacks=self.state.rollbacks,
            rolled_back_step=self.state.rolled_back_step,
        )

    def _reason(self, loss: float, grad_norm: float, embedding_norm: float) -> str:
        """Return why a step must not be applied; empty where it may be."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"the gradient's norm is {grad_norm}"
        if not math.isfinite(embedding_norm):
            return f"the norm of the embedding's gradient is {embedding_norm}"
        if self.state.loss.n_values < self.config.warmup_steps:
            return ""
        mean, ratio = self.state.loss.mean, self.config.loss_deviations
        deviation = max(self.state.loss.deviation, MIN_DEVIATION * mean)
        if ratio and loss > mean + ratio * deviation:
            return f"the loss is {loss:.4f} nats, above {mean:.4f} + {ratio:g} × {deviation:.4f}"
        mean, ratio = self.state.grad_norm.mean, self.config.grad_norm_ratio
        if ratio and grad_norm > ratio * mean:
            return (
                f"the gradient's norm without the embedding's is {grad_norm:.4g}, above "
                f"{ratio:g} × {mean:.4g}"
            )
        return ""

    def _judge_too_many(self, step: int, reason: str) -> Verdict:
        """Return what follows from the last of too many skips."""
        first = self.state.skipped[0]
        count = len(self.state.skipped)
        reason += f"; {count} steps from {first} to {step} were skipped"
        if self.config.policy == "skip":
            return Verdict(action="stop", reason=reason)
        is_past = step >= self.state.rolled_back_step + self.config.within_steps
        rollbacks = 0 if is_past else self.state.rollbacks
        if rollbacks >= self.config.max_rollbacks:
            reason += f", and going back {rollbacks} times did not help"
            return Verdict(action="stop", reason=reason)
        self.state = replace(self.state, rollbacks=rollbacks + 1, rolled_back_step=step)
        return Verdict(action="roll_back", reason=reason, before_step=first)


def write_spike(
    folder: Path,
    step: int,
    verdict: Verdict,
    *,
    loss: float,
    grad_norm: float,
    first_sample: int,
    samples: Sequence[Mapping[str, int | str]],
) -> Path:
    """Record a step that was not applied, with where its samples come from.

    Done again after a kill, the same step writes the same file; with other samples, as after a
    rollback, it writes another one beside it.

    Args:
        folder: The run's.
        step: Which step, itself counted.
        verdict: Why it was not applied.
        loss: In nats a token; need not be finite, null in the file where it is not.
        grad_norm: Of the whole gradient; as `loss`.
        first_sample: The place of its first sample in the run's order.
        samples: For each row of the whole batch where it was read, as `Sample._asdict` says it,
            or `MixedSample._asdict` with the name of the source.

    Returns:
        The file, `spike-00000123.json`, or `spike-00000123-from-SAMPLE.json` for further ones.
    """
    entries = {
        "step": step,
        "action": verdict.action,
        "reason": verdict.reason,
        "loss": loss if math.isfinite(loss) else None,
        "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
        "first_sample": first_sample,
        "samples": [dict(sample) for sample in samples],
    }
    path = folder / f"spike-{step:08d}.json"
    if path.exists() and json.loads(path.read_text()).get("first_sample") != first_sample:
        path = folder / f"spike-{step:08d}-from-{first_sample}.json"
    with atomic_file(path) as staged:
        staged.write_text(json.dumps(entries, allow_nan=False) + "\n")
    return path
