"""The importance of an input is the mean of its square, seen beside the model's own forward."""

import pytest
import torch
from torch.testing import assert_close

from receptance.quantization import input_importance
from tests.random_models import random_rwkv4, random_tokens


@pytest.fixture
def model():
    return random_rwkv4(n_layer=2, n_embd=16)


def test_every_matrix_has_the_mean_square_of_its_inputs(model):
    batches = [random_tokens(2, 9), random_tokens(1, 4, seed=2)]
    found = input_importance(model, batches)

    matrices = {name for name, each in model.named_parameters() if each.ndim == 2}
    assert found.keys() == matrices - {"emb.weight"}
    assert found["blocks.0.ffn.value.weight"].shape == (64,)
    with torch.no_grad():
        features = torch.cat([model.features(each)[0].flatten(0, 1) for each in batches])
    assert_close(found["head.weight"], features.square().mean(0))


def test_the_input_of_the_value_of_a_channel_mix_is_squared(model):
    tokens = random_tokens(2, 9)
    seen = []
    with torch.no_grad():
        layer = model.blocks[1].ffn.key
        layer.register_forward_hook(lambda _module, _x, k: seen.append(k))
        model(tokens)
        found = input_importance(model, [tokens])
    assert_close(found["blocks.1.ffn.value.weight"], seen[0].relu().pow(4).mean((0, 1)))


def test_the_model_is_left_as_it_was(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    kinds = [type(each) for each in model.modules()]
    input_importance(model, [random_tokens(1, 5)])
    assert [type(each) for each in model.modules()] == kinds
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_no_tokens_are_a_wrong_argument(model):
    with pytest.raises(ValueError, match="`batches` must hold tokens to calibrate with, got 0"):
        input_importance(model, [])
