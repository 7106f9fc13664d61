"""A quantized layer does what the layer did whose place it takes."""

import pytest
import torch
from torch.testing import assert_close

from receptance.ops.quantized_linear import dequantize, quantized_linear
from receptance.quantization import (
    FORMATS,
    QuantizedEmbedding,
    QuantizedLinear,
    quantize_embedding,
    quantize_weight,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=FORMATS)
def format(request):
    return FORMATS[request.param]


@pytest.fixture
def linear(format):
    layer = QuantizedLinear(n_in=40, n_out=6, format=format)
    layer.weight.copy_(quantize_weight(normal(6, 40), format).data)
    return layer


def test_a_linear_layer_is_the_op_on_its_buffer(linear):
    x = normal(2, 3, 40, seed=1)
    packed = linear.packed_weight()

    assert (packed.n_out, packed.n_in, packed.format) == (6, 40, linear.format)
    assert packed.data.data_ptr() == linear.weight.data_ptr()
    assert linear.dtype == torch.float32
    assert torch.equal(linear(x), quantized_linear(x, packed))
    assert_close(linear(x), x @ dequantize(packed).T, rtol=0.05, atol=0.3)


def test_an_input_in_bfloat16_is_taken_as_the_numbers_that_it_holds(linear):
    x = normal(3, 40).bfloat16()
    assert linear(x).dtype == torch.float32
    assert torch.equal(linear(x), linear(x.float()))


def test_of_squared_relu_is_the_product_with_the_square(linear):
    k = normal(3, 40, seed=2)
    assert torch.equal(linear.of_squared_relu(k), linear(k.clamp(min=0) ** 2))


def test_an_embedding_gives_the_rows_of_its_tokens(format):
    table = normal(11, 40)
    layer = QuantizedEmbedding(vocab_size=11, n_embd=40, format=format)
    layer.weight.copy_(quantize_embedding(table, format).data)
    rounded_table = dequantize(quantize_weight(table, format))
    tokens = torch.tensor([[3, 0, 3], [10, 5, 1]])

    assert torch.equal(layer(tokens), rounded_table[tokens])
    assert layer(tokens[:, :0]).shape == (2, 0, 40)


def test_what_a_layer_saves_is_its_bytes(linear):
    assert list(linear.state_dict()) == ["weight"]
    assert list(linear.parameters()) == []
    assert linear.to(torch.bfloat16).weight.dtype == torch.uint8
