"""The figures of a run: one JSON line a step, in `metrics.jsonl`, the source of all plots."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from receptance.atomic import atomic_file
from receptance.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What is known after a step."""

    step: int
    """Steps done, this one included."""
    tokens: int
    """Tokens trained on so far."""
    loss: float
    """Cross-entropy of the step's tokens, in nats a token."""
    lr: float
    grad_norm: float
    """Of the whole gradient, before it was clipped."""
    tokens_per_s: float
    flops_per_s: float
    """Three times the model's `flops_per_token`, by the tokens a second."""
    memory_bytes: int
    """The most that this process has held so far."""
    seconds: float
    """Spent training so far, over all parts of the run; validation and saving left out."""
    valid_bits_per_byte: float | None = None
    """Of held-out text, where this step measured it."""


class MetricsFile:
    """The lines of `metrics.jsonl`, appended step by step.

    A resumed run first drops the lines of steps that it will do again, so that no step is told
    twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def truncate(self, step: int) -> None:
        """Keep the lines of the first `step` steps.

        Raises:
            DataError: If a line before the last is not a JSON object with a step.
        """
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b"\n")
        kept = 0
        for number, line in enumerate(lines, start=1):
            try:
                done = int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):  # nothing, or the half line of a run killed writing it
                    break
                raise DataError(
                    f"{str(self.path)!r}, line {number}, must be a JSON object with a step, but it "
                    f"is {line!r:.80}; remove the line"
                ) from error
            if done > step:
                break
            kept += 1
        with atomic_file(self.path) as staged:
            staged.write_bytes(b"".join(line + b"\n" for line in lines[:kept]))

    def append(self, metrics: Metrics) -> None:
        """Add a line."""
        entries = {key: value for key, value in asdict(metrics).items() if value is not None}
        with self.path.open("a") as file:
            file.write(json.dumps(entries) + "\n")
