"""The ceilings count every byte and every operation of what they do."""

import pytest
import torch

from receptance.benchmark import MatrixCeiling, ReadCeiling, alternate, ceilings
from receptance.models import RWKV4Config

CONFIG = RWKV4Config(n_layer=2, n_embd=32, vocab_size=50)


def test_reading_counts_the_bytes_of_its_buffer():
    ceiling = ReadCeiling()
    alternate([ceiling.timed], 3)

    assert ceiling.bytes_per_s * ceiling.timed.median_s == pytest.approx(ceilings.READ_BYTES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_products_are_those_of_the_model_with_the_head_for_one_token(dtype, monkeypatch):
    products: list[tuple[int, int, int]] = []
    matmul = torch.matmul

    def counted(x, w):
        assert x.dtype == w.dtype == dtype
        products.append((x.shape[0], x.shape[1], w.shape[1]))
        return matmul(x, w)

    ceiling = MatrixCeiling(CONFIG, dtype, 7)
    monkeypatch.setattr(torch, "matmul", counted)
    alternate([ceiling.timed], 1)

    layer = [(7, 32, 32)] * 4 + [(7, 32, 128), (7, 32, 32), (7, 128, 32)]
    assert sorted(products) == sorted([*layer, *layer, (1, 32, 50)])
    assert ceiling.flops == sum(2 * n * k * m for n, k, m in products)
    assert ceiling.flops == 7 * (CONFIG.flops_per_token - 2 * 32 * 50) + 2 * 32 * 50
    assert ceiling.flops_per_s * ceiling.timed.median_s == pytest.approx(ceiling.flops)


def test_matrices_beyond_the_budget_come_again_in_turn(monkeypatch):
    shapes = [(8, 4), (4, 8)] * 6

    monkeypatch.setattr(ceilings, "DISTINCT_BYTES", 4 * 4 * 32)
    matrices = ceilings._matrices(shapes, torch.float32, torch.ones(3))

    assert [tuple(each.shape) for each in matrices] == shapes
    assert len({each.data_ptr() for each in matrices}) == 4
    assert matrices[0].data_ptr() == matrices[4].data_ptr() != matrices[2].data_ptr()
