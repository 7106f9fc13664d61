"""What `layer_norm` promises whichever implementation runs."""

import pytest
import torch

from receptance.errors import ImplementationUnavailableError
from receptance.ops.layer_norm import IMPLEMENTATIONS, layer_norm


def test_the_implementations_are_fastest_first():
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (0, 7)])
def test_it_keeps_the_shape(shape):
    assert layer_norm(torch.randn(shape), torch.ones(7), torch.zeros(7)).shape == shape


def test_gradients_and_float64_are_served_by_the_reference():
    x, row = torch.randn(2, 7), torch.ones(7)
    assert layer_norm(x.requires_grad_(), row, row).requires_grad
    with torch.no_grad():
        assert layer_norm(x.double(), row.double(), row.double()).dtype == torch.float64


def test_what_cannot_run_says_why():
    row = torch.ones(7).double()
    with pytest.raises(ImplementationUnavailableError, match="it serves float32, and a tensor is"):
        layer_norm(row, row, row, implementation="native")


@pytest.mark.unhooked
@pytest.mark.parametrize("wrong", ["weight", "bias"])
def test_shapes_that_do_not_fit_are_refused(wrong):
    weight, bias = (torch.ones(6 if name == wrong else 7) for name in ("weight", "bias"))
    with pytest.raises(
        ValueError, match=rf"`{wrong}` must have the shape \[7\] to go .* got \[6\]"
    ):
        layer_norm(torch.zeros(2, 7), weight, bias)


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    row = torch.ones(7)
    with pytest.raises(ValueError, match=r"one of \['auto', 'native', 'triton', 'reference'\]"):
        layer_norm(row, row, row, implementation="fast")
