"""`half_linear` by PyTorch's product on a GPU, and its shapes where there is none."""

import pytest
import torch
from torch.testing import assert_close

from receptance.ops.half_linear.gpu import gpu_obstacle, half_linear_gpu
from receptance.ops.half_linear.reference import half_linear_reference
from tests.tolerances import FLOAT32


@pytest.mark.parametrize("batch", [(), (3,), (2, 0), (2, 5)])
def test_it_gives_float32_of_the_right_shape(batch):
    x, weight = torch.zeros(*batch, 8, device="meta"), torch.zeros(16, 8, device="meta")
    found = half_linear_gpu(x, weight.half())
    assert found.dtype == torch.float32
    assert found.shape == (*batch, 16)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 8, 16), (7, 40, 19), (257, 64, 96)])
def test_it_is_the_reference_on_a_gpu(shape):
    n, n_in, n_out = shape
    generator = torch.Generator().manual_seed(0)
    x = (100 * torch.randn(n, n_in, generator=generator)).cuda()
    weight = torch.randn(n_out, n_in, generator=generator).half().cuda()
    expected = half_linear_reference(x.cpu(), weight.cpu())
    assert gpu_obstacle(x, weight) is None or torch.version.hip is not None
    assert_close(half_linear_gpu(x, weight).cpu(), expected, **{**FLOAT32, "atol": 1e-2})


def test_obstacles_say_what_stands_in_the_way():
    x, weight = torch.zeros(2, 3), torch.zeros(4, 3).half()
    assert gpu_obstacle(x, weight) == "it runs on a GPU, and a tensor is on cpu"
    with torch.device("meta"):
        assert "is on meta" in str(gpu_obstacle(torch.zeros(2, 3), torch.zeros(4, 3).half()))


class _OnGpu:
    """Stands for a tensor on a GPU."""

    device = torch.device("cuda:0")

    def __init__(self, *, requires_grad: bool) -> None:
        self.requires_grad = requires_grad


@pytest.mark.unhooked
def test_on_a_gpu_gradients_and_the_maker_may_stand_in_the_way(monkeypatch):
    plain, trained = _OnGpu(requires_grad=False), _OnGpu(requires_grad=True)
    monkeypatch.setattr(torch.version, "hip", None)
    assert gpu_obstacle(plain, plain) is None  # pyright: ignore[reportArgumentType]
    assert "has no gradient" in str(gpu_obstacle(plain, trained))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        assert gpu_obstacle(plain, trained) is None  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "AMD" in str(gpu_obstacle(plain, plain))  # pyright: ignore[reportArgumentType]
