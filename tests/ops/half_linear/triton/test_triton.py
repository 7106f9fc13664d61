"""Triton's `half_square`: choice and place in PyTorch."""

import pytest
import torch

from receptance.ops.half_linear import half_square
from receptance.ops.half_linear.triton import triton_square_obstacle


def test_auto_takes_it_on_a_gpu_unless_a_gradient_is_wanted(triton_device):
    k = torch.ones(3, device=triton_device, requires_grad=True)
    assert "has no gradient" in str(triton_square_obstacle(k))
    assert half_square(k).requires_grad
    with torch.no_grad():
        assert triton_square_obstacle(k) is None
        assert half_square(k).tolist() == [2.0**-8] * 3


def test_it_is_refused_where_no_gpu_is():
    assert "it runs on a GPU" in str(triton_square_obstacle(torch.ones(3)))


@pytest.mark.usefixtures("interpreted")
def test_pytorch_finds_nothing_wrong_with_the_op():
    for k in (torch.ones(2, 3), torch.ones(4, 5).half().t()):
        torch.library.opcheck(torch.ops.receptance.half_square_triton.default, (k,))
