"""An adapter adds a product of low rank to frozen matrices, and nothing at first."""

import pytest
import torch

from receptance.checkpoint import merge_adapter
from receptance.models import Linear, build
from receptance.training.finetuning import LoRALinear, LoRARWKV4
from receptance.training.optimization import FinetuneConfig, autocast
from tests.random_models import random_rwkv4

TOKENS = torch.arange(24).view(2, 12)
CONFIG = FinetuneConfig(method="lora", rank=3, alpha=6.0)


@pytest.fixture
def base():
    return random_rwkv4(2, 16, 64)


@pytest.fixture
def model(base):
    model = LoRARWKV4(base.config, 0.0, CONFIG)
    model.load_state_dict(base.state_dict(), strict=False)
    model.init_adapter(1)
    return model


def fill(model: LoRARWKV4) -> None:
    """Give all B values, as training does."""
    for layer in model.modules():
        if isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.lora_b, std=0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_at_first_it_is_the_model_that_it_was(base, model, precision):
    with torch.no_grad(), autocast(precision):
        assert torch.equal(model(TOKENS)[0], base(TOKENS)[0])


def test_only_the_adapter_takes_gradients_and_all_of_it_does(model):
    fill(model)
    model(TOKENS)[0].square().sum().backward()

    moved = {name for name, each in model.named_parameters() if each.grad is not None}
    expected = {
        f"blocks.{layer}.{target}.lora_{part}"
        for layer in range(2)
        for target in CONFIG.targets
        for part in "ab"
    }
    assert moved == expected


def test_merged_equals_applied(base, model):
    fill(model)
    plain = build(base.config)
    weights = dict(base.state_dict())
    for name, layer in model.named_modules():
        if isinstance(layer, LoRALinear):
            a, b = layer.lora_a.detach(), layer.lora_b.detach()
            weights[f"{name}.weight"] = merge_adapter(weights[f"{name}.weight"], a, b, 2.0)
    plain.load_state_dict(weights)

    with torch.no_grad():
        applied, merged = model(TOKENS)[0], plain(TOKENS)[0]
        torch.testing.assert_close(applied, merged, rtol=1e-5, atol=1e-5)
        assert (applied - base(TOKENS)[0]).abs().max() > 0.1


def test_decoding_reads_the_merged_matrices(model):
    fill(model)
    model.eval()
    with torch.no_grad():
        _, state = model(TOKENS[:1, :-1])
        expected = model(TOKENS[:1, -1:], state)[0][0]
        found = model.pack().step(TOKENS[0, -1:], state.clone(), torch.tensor([0]))

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_dropout_is_of_training_alone():
    layer = LoRALinear(8, 8, FinetuneConfig(method="lora", rank=2, dropout=0.5))
    with torch.no_grad():
        for each in layer.parameters():
            each.normal_()
        x = torch.randn(4, 8)
        torch.manual_seed(1)
        dropped = layer(x)
        layer.eval()
        torch.testing.assert_close(layer(x), layer.eval()(x))
        assert not torch.allclose(dropped, layer(x))
        plain = Linear(8, 8)
        plain.weight.copy_(layer.packed_weight())
        torch.testing.assert_close(layer(x), plain(x))


def test_the_first_values_are_those_of_the_seed_and_no_other_draw_is_disturbed(model):
    before = torch.get_rng_state()
    first = model.blocks[0].att.key.lora_a.clone()
    model.init_adapter(1)
    assert torch.equal(model.blocks[0].att.key.lora_a, first)
    model.init_adapter(2)
    assert not torch.equal(model.blocks[0].att.key.lora_a, first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_adapter_is_what_is_trained(model):
    adapter = model.adapter("f" * 64)

    assert (adapter.architecture, adapter.rank, adapter.alpha) == ("rwkv4", 3, 6.0)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert set(adapter.tensors) == trained
