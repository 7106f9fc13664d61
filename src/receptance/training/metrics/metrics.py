"""The figures of a run: one JSON line a step, in `metrics.jsonl`, the source of all plots."""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from receptance.atomic import atomic_file, fsync
from receptance.errors import DataError

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What is known after a step. What may be None is left out of the file where it is."""

    step: int
    """Steps done, this one included."""
    tokens: int
    """Tokens trained on so far."""
    loss: float
    """Cross-entropy of the step's tokens that count, in nats a token; NaN where none does."""
    loss_by_source: dict[str, float] | None = None
    """The same of each source, by its name; without those of which no token counted."""
    loss_average: float | None = None
    """The moving average of the loss, over the steps that were applied."""
    bits_per_byte: float | None = None
    """`loss` a byte of text, by the tokens a byte of the training text."""
    valid_bits_per_byte: float | None = None
    """Of held-out text, where this step measured it; of several sources, of all their text."""
    valid_bits_per_byte_by_source: dict[str, float] | None = None
    """The same of each source that has held-out text."""
    lr: float
    grad_norm: float
    """Of the whole gradient, before it was clipped."""
    tokens_per_s: float
    flops_per_s: float
    """Three times the model's `flops_per_token`, by the tokens a second."""
    flops_share: float | None = None
    """`flops_per_s` as a share of what large matrix products reach on the same devices."""
    data_s: float | None = None
    """Seconds that the step waited for its batch."""
    forward_s: float | None = None
    backward_s: float | None = None
    """With data parallelism, the exchange of gradients that goes on meanwhile included."""
    optimizer_s: float | None = None
    """Clipping included."""
    communication_s: float | None = None
    """Seconds in which the ranks agreed on the loss and waited for each other."""
    memory_bytes: int
    """The most that this process has held so far."""
    seconds: float
    """Spent training so far, over all parts of the run; validation and saving left out."""
    seconds_left: float | None = None
    """Until the end of the run, validation and saving included."""
    skipped: str | None = None
    """Why this step was not applied."""
    rolled_back_from: int | None = None
    """The step from which the run went back to the one before this step."""
    saved: str | None = None
    """The checkpoint that was completed since the line before."""
    save_failed: str | None = None
    """Why a checkpoint could not be written since the line before."""


def bits_per_byte(loss: float, tokens_per_byte: float) -> float:
    """Return a loss in nats a token as bits a byte of the text that the tokens stand for."""
    return loss / math.log(2) * tokens_per_byte


class MetricsFile:
    """The lines of `metrics.jsonl`, appended step by step.

    A resumed run first drops the lines of steps that it will do again, so that no step is told
    twice. Where the disk is full the run goes on: the lines wait until there is room again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = b""
        """The lines that could not be written yet."""
        self._n_bytes: int | None = None
        """The bytes of the lines before them, where a part of them may have been written."""

    def truncate(self, step: int) -> None:
        """Keep the lines of the first `step` steps.

        Raises:
            DataError: If a line before the last is not a JSON object with a step.
        """
        self._waiting, self._n_bytes = b"", None
        if not self.path.exists():
            return
        lines = _whole_lines(self.path)
        kept = [line for line, entries in lines if entries["step"] <= step]
        with atomic_file(self.path) as staged:
            staged.write_bytes(b"".join(line + b"\n" for line in kept))

    def append(self, metrics: Metrics) -> None:
        """Add a line. A number that is not finite is null in it, as JSON has no other."""
        entries = {
            key: _as_json(value) for key, value in asdict(metrics).items() if value is not None
        }
        self._waiting += json.dumps(entries, allow_nan=False).encode() + b"\n"
        self._write()

    def sync(self) -> None:
        """Wait until the lines are on the disk, as a checkpoint of their last step will be.

        Lines that had to wait are tried again. A disk that fails is told, and ends no run.
        """
        if self._waiting:
            self._write()
        if self.path.exists():
            try:
                fsync(self.path)
            except OSError as error:
                logger.warning("%s may lose its last lines: %s", self.path, error)

    def _write(self) -> None:
        """Write the lines that wait, over what an attempt before has written of them."""
        try:
            with self.path.open("ab") as file:
                if self._n_bytes is not None:
                    file.truncate(self._n_bytes)
                self._n_bytes = file.tell() if self._n_bytes is None else self._n_bytes
                file.write(self._waiting)
        except OSError as error:
            n_lines = self._waiting.count(b"\n")
            logger.warning("%s: %d lines wait to be written: %s", self.path, n_lines, error)
        else:
            self._waiting, self._n_bytes = b"", None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, oldest first, each with the names of `Metrics`.

    A number that was not finite is NaN. Half a last line, of a run at work or killed at it, is left
    out.

    Raises:
        DataError: If there is no such file, or a line before the last is not a JSON object with a
            step.
    """
    if not path.is_file():
        raise DataError(f"a run that has trained must have a file {str(path)!r}, but there is none")
    return [
        {key: _from_json(value) for key, value in entries.items()}
        for _, entries in _whole_lines(path)
    ]


def _as_json(value: Any) -> Any:
    """Return a value with null for each number that is not finite."""
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    """Return a value with NaN for each null."""
    if isinstance(value, dict):
        return {key: _from_json(each) for key, each in value.items()}
    return math.nan if value is None else value


def _whole_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return each line of a file with what it says, but for a last one that is not whole."""
    lines = path.read_bytes().split(b"\n")
    whole = []
    for number, line in enumerate(lines, start=1):
        try:
            entries = json.loads(line)
            entries["step"] = int(entries["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # nothing, or the half line of a run killed writing it
                break
            raise DataError(
                f"{str(path)!r}, line {number}, must be a JSON object with a step, but it is "
                f"{line!r:.80}; remove the line"
            ) from error
        whole.append((line, entries))
    return whole
