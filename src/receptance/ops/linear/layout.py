"""How a matrix lies in memory: by rows, as everywhere, or by columns."""

from jaxtyping import Float
from torch import Tensor

_WORD_BYTES = 4


def by_columns(weight: Float[Tensor, "n_out n_in"]) -> Float[Tensor, "words n_out per_word"]:
    """Return W [N, K] by columns, [words, N, numbers of a word]: a new tensor.

    Raises:
        ValueError: If K is no multiple of the numbers of a word.
    """
    per_word = _WORD_BYTES // weight.itemsize
    if per_word == 0 or weight.shape[1] % per_word:
        raise ValueError(
            f"`weight` must have whole words of {_WORD_BYTES} bytes in a row, got "
            f"{list(weight.shape)} of {weight.dtype}"
        )
    return weight.unflatten(1, (-1, per_word)).transpose(0, 1).contiguous()


def by_rows(columns: Float[Tensor, "words n_out per_word"]) -> Float[Tensor, "n_out n_in"]:
    """Return the matrix that lies by columns as [N, K]: a new tensor."""
    return columns.transpose(0, 1).flatten(1)
