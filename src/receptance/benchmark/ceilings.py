"""What the machine can do at most: how fast it reads memory, and multiplies matrices."""

from collections.abc import Sequence
from itertools import cycle

import torch
from torch import Tensor

from receptance.benchmark.clock import Timed
from receptance.benchmark.random_weights import repeat_
from receptance.models import RWKV4Config, build
from receptance.ops.memory import read_all

READ_BYTES = 1 << 30
"""Far beyond every cache; more is read no faster."""
DISTINCT_BYTES = 1 << 28
"""Matrices beyond as many are used again: by then the first ones are in no cache any more."""


class ReadCeiling:
    """The speed at which all threads together read memory from its beginning to its end."""

    def __init__(self) -> None:
        # A page that was never written is not in memory.
        self._buffer = torch.ones(READ_BYTES // 4)
        self.n_bytes = self._buffer.nbytes
        self.timed = Timed(lambda: read_all(self._buffer))

    @property
    def bytes_per_s(self) -> float:
        """The median."""
        return self.n_bytes / self.timed.median_s


class MatrixCeiling:
    """The speed of PyTorch's products of all matrices of a model with the same number of tokens.

    Nothing is computed between them. The head meets one token only, as in a prefill.
    """

    def __init__(self, config: RWKV4Config, dtype: torch.dtype, n_tokens: int) -> None:
        """Make the matrices, at most `DISTINCT_BYTES` of them and one of each shape.

        Args:
            config: The shape of the model.
            dtype: Of matrices and inputs.
            n_tokens: How many rows the inputs have.
        """
        with torch.device("meta"):
            shapes = {
                name: (each.shape[0], each.shape[1])
                for name, each in build(config).named_parameters()
                if each.ndim == 2 and name != "emb.weight"
            }
        numbers = torch.linspace(-1, 1, 65_537)
        inputs = {
            n_in: repeat_(torch.empty(n_tokens, n_in, dtype=dtype), numbers)
            for _, n_in in shapes.values()
        }
        matrices = _matrices(list(shapes.values()), dtype, numbers)
        self._products = [
            (inputs[n_in][: 1 if name == "head.weight" else n_tokens], matrix.t())
            for (name, (_, n_in)), matrix in zip(shapes.items(), matrices, strict=True)
        ]
        self.flops = sum(2 * x.shape[0] * w.shape[0] * w.shape[1] for x, w in self._products)
        self.timed = Timed(self._multiply)

    @property
    def flops_per_s(self) -> float:
        """The median."""
        return self.flops / self.timed.median_s

    def _multiply(self) -> None:
        with torch.inference_mode():
            for x, weight in self._products:
                torch.matmul(x, weight)


def _matrices(
    shapes: Sequence[tuple[int, int]], dtype: torch.dtype, numbers: Tensor
) -> list[Tensor]:
    """Return a matrix for each shape; beyond `DISTINCT_BYTES` earlier ones come again in turn."""
    by_shape: dict[tuple[int, int], list[Tensor]] = {}
    n_bytes = 0
    for shape in shapes:
        if n_bytes < DISTINCT_BYTES or shape not in by_shape:
            matrix = repeat_(torch.empty(shape, dtype=dtype), numbers)
            by_shape.setdefault(shape, []).append(matrix)
            n_bytes += matrix.nbytes
    turns = {shape: cycle(matrices) for shape, matrices in by_shape.items()}
    return [next(turns[shape]) for shape in shapes]
