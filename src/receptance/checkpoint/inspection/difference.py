"""Where two checkpoints differ, and by how much, found out one tensor at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from receptance.checkpoint.inspection.weight_reading import StoredWeights, chunks
from receptance.checkpoint.load import find_model
from receptance.errors import CheckpointError

Verdict = Literal["identical", "same values in other dtypes", "differs"]
Kind = Literal["only in the first", "only in the second", "shape", "dtype", "values"]


@dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """A tensor in which two checkpoints differ. Figures are those of the numbers it stands for."""

    name: str
    kind: Kind
    """"dtype" means that the numbers are the same, and only stored otherwise."""
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    dtypes: tuple[str | None, str | None]
    n_different: int | None = None
    """How many numbers differ; None where the numbers cannot be set side by side."""
    n_numbers: int | None = None
    max_abs: float | None = None
    """The largest distance of two numbers; None also where one is not finite."""
    relative: float | None = None
    """The Frobenius norm of the distance, divided by that of the first; None also if that is 0."""


@dataclass(frozen=True)
class Difference:
    """How far two checkpoints are from each other; `asdict` of it is JSON."""

    verdict: Verdict
    n_equal: int
    """Tensors that are the same in both, in their dtype too."""
    tensors: list[TensorDifference]


def difference(
    first: str | Path, second: str | Path, progress: Callable[[int, int], None] | None = None
) -> Difference:
    """Return where two checkpoints differ: in which tensors, and by how much.

    Tensors are set side by side by the authors' names, whatever the formats, and rounded ones as
    the numbers that they stand for. One of each is in memory at a time.

    Args:
        first: As for `load_checkpoint`.
        second: The same.
        progress: Called now and then with the bytes read so far and in all.

    Raises:
        CheckpointError: If one is no checkpoint, or is damaged so that its tensors cannot be told.
        OSError: If a file cannot be read.
    """
    a, b = StoredWeights(find_model(first)), StoredWeights(find_model(second))
    for weights in (a, b):
        if weights.problem is not None:
            raise CheckpointError(weights.problem)
    names = [*a.entries, *(name for name in b.entries if name not in a.entries)]
    total = sum(e.nbytes for each in (a, b) for e in each.entries.values())
    found: list[TensorDifference] = []
    done = 0
    for name in names:
        one = _compared(name, a, b)
        if one is not None:
            found.append(one)
        done += sum(each.entries[name].nbytes for each in (a, b) if name in each.entries)
        if progress is not None:
            progress(done, total)
    return Difference(_verdict(found), len(names) - len(found), found)


def _verdict(found: list[TensorDifference]) -> Verdict:
    if not found:
        return "identical"
    only_dtypes = all(each.kind == "dtype" for each in found)
    return "same values in other dtypes" if only_dtypes else "differs"


def _compared(name: str, a: StoredWeights, b: StoredWeights) -> TensorDifference | None:
    """Return in what a tensor differs; None if in nothing."""
    pair = [each.entries.get(name) for each in (a, b)]
    shapes = tuple(None if each is None else each.shape for each in pair)
    dtypes = tuple(None if e is None else str(e.dtype).removeprefix("torch.") for e in pair)
    assert len(shapes) == 2
    assert len(dtypes) == 2
    if None in pair:
        kind: Kind = "only in the second" if pair[0] is None else "only in the first"
        return TensorDifference(name=name, kind=kind, shapes=shapes, dtypes=dtypes)
    one, other = (each.values(name, each.read(name)) for each in (a, b))
    if one.shape != other.shape:
        return TensorDifference(name=name, kind="shape", shapes=shapes, dtypes=dtypes)
    n_different, max_abs, relative = _distance(one, other)
    is_same = n_different == 0
    if is_same and dtypes[0] == dtypes[1] and shapes[0] == shapes[1]:
        return None
    return TensorDifference(
        name=name,
        kind="dtype" if is_same else "values",
        shapes=shapes,
        dtypes=dtypes,
        n_different=n_different,
        n_numbers=one.numel(),
        max_abs=max_abs,
        relative=relative,
    )


def _distance(one: Tensor, other: Tensor) -> tuple[int, float | None, float | None]:
    """Return how many numbers differ, by how much at most, and by how much in all."""
    n_different, max_abs, squares, norm = 0, 0.0, 0.0, 0.0
    for x, y in chunks(one, other):
        is_other = (x != y) & ~(x.isnan() & y.isnan())
        n_different += int(is_other.sum())
        distance = (x - y)[is_other].abs()
        if len(distance):
            max_abs = max(max_abs, float(distance.nan_to_num(math.inf, math.inf).max()))
            squares += float(distance.square().sum())
        norm += float(x.square().sum())
    is_finite = math.isfinite(max_abs) and math.isfinite(squares)
    has_ratio = is_finite and math.isfinite(norm) and norm > 0
    return (
        n_different,
        max_abs if is_finite else None,
        math.sqrt(squares / norm) if has_ratio else None,
    )
