"""A model of random weights is like a real one in all that speed depends on."""

import pytest
import torch

from receptance.benchmark import random_model
from receptance.benchmark.random_weights import repeat_
from receptance.models import RWKV4Config
from receptance.quantization import FORMATS, quantize_model
from tests.random_models import random_tokens

CONFIG = RWKV4Config(n_layer=3, n_embd=64, vocab_size=100)
ALL = ["float32", "bfloat16", *FORMATS]


@pytest.mark.parametrize("format", ALL)
def test_its_logits_are_finite_and_of_order_one(format):
    model = random_model(CONFIG, format)

    with torch.inference_mode():
        logits, state = model(random_tokens(2, 300, 100))

    assert 0.1 < float(logits.std()) < 10
    assert all(bool(each.isfinite().all()) for each in state.tensors.values())


@pytest.mark.parametrize("format", FORMATS)
def test_a_quantized_one_holds_the_bytes_that_quantizing_makes(format):
    expected = quantize_model(random_model(CONFIG, "float32"), format).state_dict()

    found = random_model(CONFIG, format).state_dict()

    assert {name: (each.shape, each.dtype) for name, each in found.items()} == {
        name: (each.shape, each.dtype) for name, each in expected.items()
    }


@pytest.mark.parametrize("format", ["float32", "bfloat16"])
def test_only_the_matrices_of_a_plain_one_are_of_its_format(format):
    for name, each in random_model(CONFIG, format).state_dict().items():
        wanted = getattr(torch, format) if each.ndim == 2 else torch.float32
        assert each.dtype == wanted, name


def test_about_half_of_the_units_of_the_channel_mix_are_zero():
    model = random_model(CONFIG, "float32")
    seen = []
    model.get_submodule("blocks.1.ffn.key").register_forward_hook(lambda _, __, k: seen.append(k))

    with torch.inference_mode():
        model(random_tokens(1, 200, 100))

    assert 0.3 < float((seen[0] <= 0).float().mean()) < 0.7


def test_numbers_are_repeated_to_the_last():
    filled = repeat_(torch.empty(2, 4), torch.tensor([1.0, 2.0, 3.0]))

    assert filled.tolist() == [[1, 2, 3, 1], [2, 3, 1, 2]]
