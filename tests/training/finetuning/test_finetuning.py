"""What takes gradients is what the run trains."""

import pytest

from receptance.models import RWKV4, RWKV4Config
from receptance.quantization import FORMATS, build_quantized, quantization
from receptance.training.finetuning import LoRARWKV4, StateTunedRWKV4, build_trainable
from receptance.training.optimization import FinetuneConfig

SHAPE = RWKV4Config(n_layer=2, n_embd=16, vocab_size=64)
INT4 = FORMATS["int4"]


@pytest.mark.parametrize("method", ["", "full"])
def test_all_weights_are_trained_unless_another_method_is_named(method):
    model = build_trainable(SHAPE, 0.25, FinetuneConfig(method=method))

    assert all(each.requires_grad for each in model.parameters())
    assert sum(each.numel() for each in model.parameters()) == SHAPE.n_parameters
    assert {block.dropout for block in model.blocks} == {0.25}


def test_of_a_state_tuned_model_the_state_is_trained():
    model = build_trainable(SHAPE, 0.25, FinetuneConfig(method="state"))

    assert isinstance(model, StateTunedRWKV4)
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trained == 4 * SHAPE.n_layer * SHAPE.n_embd
    assert {block.dropout for block in model.blocks} == {0.25}


def test_of_a_model_with_an_adapter_the_adapter_is_trained():
    targets = ("att.key", "ffn.value")
    finetune = FinetuneConfig(method="lora", rank=3, targets=targets)
    model = build_trainable(SHAPE, 0.25, finetune)

    assert isinstance(model, LoRARWKV4)
    C = SHAPE.n_embd
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trained == SHAPE.n_layer * 3 * ((C + C) + (C + 4 * C))
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    assert len(frozen) == len(dict(RWKV4(SHAPE).named_parameters()))


@pytest.mark.parametrize("method", ["state", "lora"])
def test_rounded_matrices_are_frozen_beside_the_same_parameters(method):
    finetune = FinetuneConfig(method=method)
    plain, rounded = (build_trainable(SHAPE, 0.0, finetune, each) for each in (None, INT4))

    trained = [
        {name: each.shape for name, each in model.named_parameters() if each.requires_grad}
        for model in (plain, rounded)
    ]
    assert trained[0] == trained[1]
    assert quantization(rounded) == INT4
    rounded.load_state_dict(build_quantized(SHAPE, INT4).state_dict(), strict=False, assign=True)


def test_rounded_matrices_cannot_be_trained():
    with pytest.raises(ValueError, match="`quantization` must be None to train all weights"):
        build_trainable(SHAPE, 0.0, FinetuneConfig(), INT4)
