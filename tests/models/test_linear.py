"""The product with a matrix, in the matrix's precision."""

import pytest
import torch
from torch.testing import assert_close

from receptance.models.linear import Linear


def linear(dtype: torch.dtype) -> Linear:
    layer = Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12.0).view(3, 4) / 7)
    return layer.to(dtype)


def test_it_is_the_product_with_the_transposed_matrix():
    layer, x = linear(torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)
    expected = torch.einsum("oi,bti->bto", layer.weight, x)
    assert_close(layer(x), expected)
    assert_close(layer(x[0, 0]), expected[0, 0])


@pytest.mark.parametrize("inside", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("outside", [torch.bfloat16, torch.float32, torch.float64])
def test_it_computes_in_the_dtype_of_the_matrix(inside, outside):
    layer, x = linear(inside), torch.randn(5, 4).to(outside)
    y = layer(x)
    assert y.dtype == inside
    assert torch.equal(y, x.to(inside) @ layer.weight.T)


def test_products_with_float16_are_float32_and_do_not_end_where_it_does():
    layer = linear(torch.float16)
    x = torch.full((2, 4), 3e4)
    assert layer.dtype == torch.float16
    assert torch.equal(layer(x), x.half().float() @ layer.weight.float().T)
    assert layer(x).max() > torch.finfo(torch.float16).max
    k = torch.full((2, 4), 3000.0)
    expected = k.square() @ layer.weight.float().T
    assert_close(layer.of_squared_relu(k), expected, rtol=2.0**-11, atol=0)


def test_gradients_come_back_in_the_dtypes_of_input_and_matrix():
    layer = linear(torch.bfloat16)
    x = torch.randn(5, 4, requires_grad=True)
    layer(x).float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.bfloat16


def test_there_is_no_bias_and_no_value_before_one_is_given():
    with torch.device("meta"):
        layer = Linear(4, 3)
    assert {name: list(each.shape) for name, each in layer.named_parameters()} == {"weight": [3, 4]}
    before = torch.get_rng_state()
    Linear(4, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_its_dtype_is_that_of_the_product_with_and_without_autocast(dtype):
    layer, x = linear(dtype), torch.randn(5, 4).to(dtype)
    assert layer.dtype == layer(x).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.dtype == layer(x).dtype
    assert layer.to("meta").dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_of_squared_relu_is_the_product_with_the_square(dtype):
    layer, k = linear(dtype), torch.randn(2, 5, 4)
    y = layer.of_squared_relu(k)
    assert y.dtype == dtype
    assert torch.equal(y, layer(torch.relu(k.to(dtype)).square()))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.of_squared_relu(k).dtype == layer.dtype
