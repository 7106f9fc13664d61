"""A quantized model is the plain one, but for its matrices."""

import pytest
import torch
from torch import nn

from receptance.models import Linear
from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear import QuantizedFormat, dequantize, dequantize_embedding
from receptance.quantization import (
    FORMATS,
    QuantizedEmbedding,
    QuantizedLinear,
    input_importance,
    quantization,
    quantize_model,
)
from tests.random_models import random_rwkv4, random_tokens

NAMES = list(FORMATS)


@pytest.fixture
def model():
    return random_rwkv4(n_layer=2, n_embd=64)


@pytest.mark.parametrize("name", NAMES)
def test_all_matrices_are_rounded_and_all_else_stays(model, name):
    quantized = quantize_model(model, name)

    assert quantization(quantized) == FORMATS[name]
    assert not [m for m in quantized.modules() if isinstance(m, Linear | nn.Embedding)]
    assert quantized.state_dict().keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        found = quantized.state_dict()[key]
        if weight.ndim == 2:
            assert found.dtype == torch.uint8, key
        else:
            assert torch.equal(found, weight), key
            assert found.data_ptr() != weight.data_ptr(), key


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.05), ("int4", 0.5)])
def test_the_logits_are_near_those_of_the_plain_model(model, name, bound):
    tokens = random_tokens(2, 12)
    with torch.no_grad():
        expected = model(tokens)[0]
        found, state = quantize_model(model, name)(tokens)
    assert found.dtype == torch.float32
    assert state.num.dtype == torch.float32
    # Random weights round worst of all (seen: 1.6 % and 17 %).
    assert float((found - expected).std() / expected.std()) < bound


@pytest.mark.parametrize("name", NAMES)
def test_only_rounding_the_inputs_stands_between_it_and_its_dequantized_twin(model, name):
    quantized, twin = quantize_model(model, name), random_rwkv4(n_layer=2, n_embd=64)
    with torch.no_grad():
        for key, layer in quantized.named_modules():
            if isinstance(layer, QuantizedLinear):
                twin.get_parameter(f"{key}.weight").copy_(dequantize(layer.packed_weight()))
            elif isinstance(layer, QuantizedEmbedding):
                rows = dequantize_embedding(layer.packed_weight())
                twin.get_parameter(f"{key}.weight").copy_(rows)
        tokens = random_tokens(2, 12)
        expected, found = twin(tokens)[0], quantized(tokens)[0]
    assert float((found - expected).std() / expected.std()) < 0.05


def test_a_calibration_is_used(model):
    importance = input_importance(model, [random_tokens(4, 16)])
    plain, aware = quantize_model(model, "int4"), quantize_model(model, "int4", importance)
    assert not torch.equal(plain.head.weight, aware.head.weight)
    assert torch.equal(plain.emb.weight, aware.emb.weight)


def test_a_format_may_be_one_without_a_name(model):
    format = QuantizedFormat(bits=4, group_size=64, has_offset=True)
    assert quantization(quantize_model(model, format)) == format


def test_the_plain_model_is_not_changed_and_stays_plain(model):
    before = model.fingerprint()
    quantize_model(model, "int4")
    assert model.fingerprint() == before
    assert quantization(model) is None


def test_a_quantized_model_is_not_quantized_again(model):
    with pytest.raises(ValueError, match="`model` must be plain, but it is quantized to Quantized"):
        quantize_model(quantize_model(model, "int8"), "int4")


def test_each_format_has_a_fingerprint_of_its_own(model):
    prints = [quantize_model(model, name).fingerprint() for name in NAMES]
    assert len({model.fingerprint(), *prints}) == 3
    assert quantize_model(model, NAMES[0]).fingerprint() == prints[0]


@pytest.mark.parametrize("format", [*FORMATS.values(), QuantizedFormat(4, 64, has_offset=True)])
def test_decoding_and_reading_whole_give_the_same_bits(model, format):
    if library_obstacle() is not None:
        pytest.skip(str(library_obstacle()))
    quantized, tokens = quantize_model(model, format), random_tokens(3, 7)
    with torch.no_grad():
        expected, state = quantized(tokens)
        packed, pool = quantized.pack(), quantized.zero_state(5)
        slots = torch.tensor([4, 0, 3])
        found = [packed.step(each, pool, slots) for each in tokens.T]
    assert torch.equal(torch.stack(found, 1), expected)
    for name, tensor in pool.select(slots).tensors.items():
        assert torch.equal(tensor, state.tensors[name]), name
