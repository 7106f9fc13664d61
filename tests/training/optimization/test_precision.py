"""The arithmetic of matrix products, and of nothing else."""

import pytest
import torch

from receptance.training import autocast


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_matrix_products_are_of_the_precision_and_sums_are_float32(precision, dtype):
    a = torch.ones(3, 3)

    with autocast(precision):
        product = a @ a
        total = a + a

    assert product.dtype == dtype
    assert total.dtype == torch.float32
