"""What `quantized_linear` promises whichever implementation runs."""

import pytest
import torch

from receptance.ops.quantized_linear import QuantizedFormat, pack_weight, quantized_linear

FORMAT = QuantizedFormat(bits=8, group_size=32)


@pytest.fixture
def weight():
    levels = torch.randint(1, 256, (5, 40), generator=torch.Generator().manual_seed(0))
    return pack_weight(levels.to(torch.uint8), torch.ones(5, 2), None, FORMAT)


def test_it_keeps_the_axes_of_the_batch(weight):
    assert quantized_linear(torch.ones(2, 3, 40), weight).shape == (2, 3, 5)
    assert quantized_linear(torch.ones(40), weight).shape == (5,)
    assert quantized_linear(torch.ones(0, 40), weight).shape == (0, 5)


def test_an_input_that_does_not_fit_is_refused(weight):
    with pytest.raises(ValueError, match=r"must have the shape \[..., 40\] .* got \[2, 41\]"):
        quantized_linear(torch.ones(2, 41), weight)
    with pytest.raises(ValueError, match=r"`x` must be torch.float32, got torch.bfloat16"):
        quantized_linear(torch.ones(2, 40).bfloat16(), weight)


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names(weight):
    with pytest.raises(ValueError, match=r"must be one of \['auto', .*'reference'\]"):
        quantized_linear(torch.ones(40), weight, implementation="fast")
