"""What `half_linear` and `half_square` promise whichever implementation runs."""

import pytest
import torch

from receptance.errors import ImplementationUnavailableError
from receptance.ops.half_linear import (
    IMPLEMENTATIONS,
    SQUARE_IMPLEMENTATIONS,
    half_linear,
    half_square,
    half_squared_relu_linear,
)


def test_the_implementations_are_fastest_first():
    assert [each.name for each in IMPLEMENTATIONS] == ["gpu", "reference"]
    assert [each.name for each in SQUARE_IMPLEMENTATIONS] == ["triton", "reference"]


def test_what_cannot_run_says_why_and_auto_takes_another():
    x, weight = torch.ones(2, 3), torch.ones(4, 3).half()
    with pytest.raises(ImplementationUnavailableError, match="it runs on a GPU, and a tensor is"):
        half_linear(x, weight, implementation="gpu")
    with pytest.raises(ImplementationUnavailableError, match="it runs on a GPU, and a tensor is"):
        half_square(x, implementation="triton")
    assert half_linear(x, weight).tolist() == [[3.0] * 4] * 2


def test_sums_beyond_the_end_of_float16_are_there():
    x, weight = torch.full((1, 8), 200.0), torch.full((2, 8), 100.0).half()
    assert torch.nn.functional.linear(x.half(), weight).isinf().all()
    assert half_linear(x, weight).tolist() == [[160_000.0] * 2]
    assert half_squared_relu_linear(x, weight).tolist() == [[32_000_000.0] * 2]


def test_gradients_reach_what_is_multiplied_and_the_matrix():
    x, weight = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3).half().requires_grad_()
    half_squared_relu_linear(x, weight).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[8.0] * 3] * 2
    assert weight.grad is not None
    assert weight.grad.tolist() == [[2.0] * 3] * 4


@pytest.mark.unhooked
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"the shape \[n_out, 3\] to go with `x` of \[2, 3\], got"):
        half_linear(torch.zeros(2, 3), torch.zeros(4, 5).half())
