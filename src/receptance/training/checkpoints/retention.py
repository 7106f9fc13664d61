"""Which checkpoints of a run stay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# One may turn out to be damaged only when it is needed.
LEAST_VERIFIED = 2


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How many checkpoints stay. One stays if any of the three says so."""

    last: int = 2
    """How many of the newest."""
    every: int = 0
    """Those whose step is a multiple of it; 0 for none."""
    best: int = 0
    """How many of those with the fewest held-out bits per byte; the earlier of equals."""

    def __post_init__(self) -> None:
        for name in ("last", "every", "best"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}")


class Candidate(NamedTuple):
    """A checkpoint, and what decides on it."""

    path: Path
    step: int
    valid_bits_per_byte: float | None


def to_remove(
    candidates: Sequence[Candidate],
    retention: Retention,
    newest: int,
    is_verified: Callable[[Path], bool],
    needed_before: int | None = None,
) -> list[Path]:
    """Return the checkpoints that may go, oldest first.

    Those of later steps than the newest go in any case: the run went back, and does these steps
    again. Of the others at least two stay that are verified, whatever `retention` says.

    Args:
        candidates: All checkpoints of the run, oldest first.
        retention: What stays.
        newest: The step of the checkpoint that was written last.
        is_verified: Whether a checkpoint is known to be whole; asked of few, as it may read them.
        needed_before: The newest of fewer steps than this stays: the run may have to go back to it.
    """
    until_now = [each for each in candidates if each.step <= newest]
    measured = [each for each in until_now if each.valid_bits_per_byte is not None]
    best = sorted(measured, key=lambda each: (each.valid_bits_per_byte, each.step))
    kept = {each.path for each in until_now[-retention.last :] if retention.last}
    kept |= {each.path for each in until_now if retention.every and not each.step % retention.every}
    kept |= {each.path for each in best[: retention.best]}
    if needed_before is not None:
        kept |= {each.path for each in [c for c in until_now if c.step < needed_before][-1:]}

    n_verified = 0
    # The kept ones first, so that none stays in vain.
    newest_first = reversed(until_now)
    for each in sorted(newest_first, key=lambda each: each.path not in kept):
        if n_verified == LEAST_VERIFIED:
            break
        if is_verified(each.path):
            kept.add(each.path)
            n_verified += 1
    return [each.path for each in candidates if each.path not in kept]
