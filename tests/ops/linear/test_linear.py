"""What `linear` promises whichever implementation runs."""

import pytest
import torch

from receptance.errors import ImplementationUnavailableError
from receptance.ops.linear import IMPLEMENTATIONS, linear
from receptance.ops.native import library_obstacle

NAMES = [each.name for each in IMPLEMENTATIONS]


def available() -> list[str]:
    return [name for name in NAMES if name != "native" or library_obstacle() is None]


def test_the_implementations_are_fastest_first():
    assert NAMES == ["native", "reference"]


@pytest.mark.parametrize("implementation", available())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_axes_of_the_batch_and_the_dtype(dtype, implementation):
    weight = torch.ones(5, 7, dtype=dtype)
    for batch in ((), (1,), (2, 3), (2, 1, 3), (0,), (2, 0)):
        y = linear(torch.ones(*batch, 7, dtype=dtype), weight, implementation=implementation)
        assert y.dtype == dtype
        assert torch.equal(y, torch.full((*batch, 5), 7, dtype=dtype))


@pytest.mark.parametrize("implementation", available())
def test_without_columns_it_is_zero_and_without_rows_empty(implementation):
    y = linear(torch.ones(3, 0), torch.ones(2, 0), implementation=implementation)
    assert torch.equal(y, torch.zeros(3, 2))
    assert linear(torch.ones(3, 4), torch.ones(0, 4), implementation=implementation).shape == (3, 0)


def test_gradients_and_autocast_are_served_by_the_reference():
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    y = linear(x, weight.requires_grad_())
    y.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, x.sum(0).expand(4, 3))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with torch.inference_mode():
        assert linear(x.double(), weight.double()).dtype == torch.float64


def test_what_cannot_run_says_why():
    weight = torch.ones(2, 3).requires_grad_()
    with pytest.raises(
        ImplementationUnavailableError, match=r"it has no gradient, and one is want"
    ):
        linear(torch.ones(3), weight, implementation="native")


@pytest.mark.unhooked
@pytest.mark.parametrize("shape", [(2, 4), (), (3, 2, 1)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"must have the shape \[..., 3\] .* `weight` of \[5, 3\]"):
        linear(torch.zeros(shape), torch.zeros(5, 3))


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"must be one of \['auto', 'native', 'reference'\]"):
        linear(torch.zeros(2, 3), torch.zeros(4, 3), implementation="fast")
