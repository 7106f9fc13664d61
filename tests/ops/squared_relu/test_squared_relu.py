"""What `squared_relu_linear` promises whichever implementation runs."""

import pytest
import torch
from torch.testing import assert_close

from receptance.errors import ImplementationUnavailableError
from receptance.ops.native import library_obstacle
from receptance.ops.squared_relu import (
    IMPLEMENTATIONS,
    SQUARED_RELU_IMPLEMENTATIONS,
    squared_relu,
    squared_relu_linear,
)


def test_the_implementations_are_fastest_first():
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("is_trained", [False, True])
def test_both_give_the_same_product(is_trained, dtype):
    if library_obstacle() is not None:
        pytest.skip(str(library_obstacle()))
    generator = torch.Generator().manual_seed(0)
    k = torch.randn(2, 7, 12, generator=generator).to(dtype)
    weight = torch.randn(5, 12, generator=generator).to(dtype).requires_grad_(is_trained)
    native, reference = (
        squared_relu_linear(k, weight, implementation=each) for each in ("native", "reference")
    )
    assert native.dtype == dtype
    assert native.shape == (2, 7, 5)
    if is_trained:
        assert torch.equal(native, reference)
    else:  # the product without gradients has an order of summation of its own
        tolerance = 2.0**-7 if dtype == torch.bfloat16 else 1e-6
        assert_close(native, reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_square_alone_has_the_same_bits_in_both(dtype):
    k = torch.tensor([-2.0, -0.0, 0.0, 1e-30, 0.3, 3.7, float("inf")], dtype=dtype)
    expected = squared_relu(k, implementation="reference")
    assert torch.equal(expected, k.clamp(min=0) * k.clamp(min=0))
    for each in SQUARED_RELU_IMPLEMENTATIONS:
        if each.obstacle(k) is None:
            assert torch.equal(squared_relu(k, implementation=each.name), expected)


def test_the_square_alone_has_its_gradient_from_the_reference():
    k = torch.tensor([-2.0, 3.0], requires_grad=True)
    squared_relu(k).sum().backward()
    assert k.grad is not None
    assert k.grad.tolist() == [0, 6]
    with pytest.raises(ImplementationUnavailableError, match="squared_relu can run these"):
        squared_relu(k, implementation="native")


def test_what_cannot_run_says_why_and_auto_takes_another():
    half = torch.ones(3, 3).half()
    with pytest.raises(ImplementationUnavailableError, match="squared_relu_linear can run these"):
        squared_relu_linear(half, half, implementation="native")
    assert squared_relu_linear(half, half).dtype == torch.float16


def test_dtypes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="dtype") as caught:
        squared_relu_linear(torch.zeros(2, 3), torch.zeros(4, 3).double())
    assert str(caught.value) == (
        "`weight` must have the dtype of `k`, torch.float32, got torch.float64"
    )


@pytest.mark.unhooked
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shape") as caught:
        squared_relu_linear(torch.zeros(2, 3), torch.zeros(4, 5))
    assert str(caught.value) == (
        "`weight` must have the shape [n_out, 3] to go with `k` of [2, 3], got [4, 5]"
    )


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"one of \['auto', 'native', 'triton', 'reference'\]"):
        squared_relu_linear(torch.zeros(2, 3), torch.zeros(4, 3), implementation="fast")
