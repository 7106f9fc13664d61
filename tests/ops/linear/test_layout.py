"""A matrix by columns is the same matrix."""

import pytest
import torch

from receptance.ops.linear import by_columns, by_rows, linear


@pytest.mark.parametrize(("dtype", "per_word"), [(torch.float32, 1), (torch.bfloat16, 2)])
def test_a_word_of_all_rows_lies_together(dtype, per_word):
    weight = torch.arange(12).reshape(3, 4).to(dtype)
    columns = by_columns(weight)
    assert columns.shape == (4 // per_word, 3, per_word)
    assert columns.is_contiguous()
    assert columns[0].tolist() == [[0, 1][:per_word], [4, 5][:per_word], [8, 9][:per_word]]
    assert torch.equal(by_rows(columns), weight)


def test_the_reference_multiplies_by_it():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 4, generator=generator), torch.randn(3, 4, generator=generator)
    found = linear(x, by_columns(weight), implementation="reference")
    assert torch.equal(found, linear(x, weight, implementation="reference"))


@pytest.mark.parametrize("weight", [torch.zeros(2, 3).bfloat16(), torch.zeros(2, 4).double()])
def test_words_are_whole(weight):
    with pytest.raises(ValueError, match="must have whole words of 4 bytes in a row, got"):
        by_columns(weight)
