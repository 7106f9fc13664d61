"""A change of low rank is that of the matrices, and leaves the model that it is of as it was."""

import gc
import pickle
import weakref

import pytest
import torch
from torch.testing import assert_close

from receptance.models import ColumnLinear, Linear, LowRank, LowRankChanges, changed_model
from receptance.models.low_rank import ChangedLinear, ChangedModels, require_unchanged
from receptance.ops.squared_relu import squared_relu
from receptance.quantization import quantize_model
from tests.random_models import random_changes, random_rwkv4, random_tokens, with_matrices

V = 17


def layer_of(dtype: torch.dtype) -> Linear:
    layer = Linear(8, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    return layer.to(dtype).requires_grad_(False)


CHANGE = LowRank(torch.randn(2, 8), torch.randn(6, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_is_that_with_the_sum_of_the_matrices(dtype):
    layer, x = layer_of(dtype), torch.randn(3, 5, 8, dtype=dtype)
    changed = ChangedLinear(layer, CHANGE)
    whole = layer.weight + (CHANGE.b.to(dtype) @ CHANGE.a.to(dtype))
    assert_close(changed(x), x @ whole.T)
    assert_close(changed.of_squared_relu(x), squared_relu(x) @ whole.T)
    assert changed(x).dtype == changed.dtype == dtype


def test_a_layer_of_bfloat16_rounds_its_product_and_then_the_sum():
    layer, x = layer_of(torch.bfloat16), torch.randn(5, 8).to(torch.bfloat16)
    expected = layer(x).float() + (x.float() @ CHANGE.a.T) @ CHANGE.b.T
    assert_close(ChangedLinear(layer, CHANGE)(x), expected.to(torch.bfloat16))


def test_a_change_of_a_float16_layer_does_not_end_where_float16_does():
    layer, k = layer_of(torch.float16), 1000 * torch.rand(5, 8)
    changed = ChangedLinear(layer, CHANGE)
    a, b = CHANGE
    expected = k.square() @ (layer.weight.float() + b @ a).T
    assert expected.abs().max() > torch.finfo(torch.float16).max
    # The square is rounded to float16.
    largest = float(expected.abs().max())
    assert_close(changed.of_squared_relu(k), expected, rtol=2.0**-10, atol=2.0**-11 * largest)
    x = torch.randn(5, 8).half()
    assert_close(changed(x), x.float() @ (layer.weight.float() + b @ a).T)


def test_a_layer_by_columns_gives_the_bits_of_the_layer_by_rows():
    layer, k = layer_of(torch.float32), torch.randn(5, 8)
    by_columns = ColumnLinear(layer.weight)
    expected = ChangedLinear(layer, CHANGE).of_squared_relu(k)
    assert torch.equal(ChangedLinear(by_columns, CHANGE).of_squared_relu(k), expected)


def test_a_changed_model_is_the_model_with_changed_weights():
    model = random_rwkv4(vocab_size=V, dtype=torch.float64).requires_grad_(False)
    changes = random_changes(model)
    tokens = random_tokens(2, 5, V)
    expected = random_rwkv4(vocab_size=V, dtype=torch.float64).requires_grad_(False)
    for name, (a, b) in changes.layers.items():
        expected.get_submodule(name).get_parameter("weight").add_(b.double() @ a.double())

    assert_close(changed_model(model, changes)(tokens)[0], expected(tokens)[0])


def test_the_model_that_is_changed_stays_as_it_was_and_shares_its_weights():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    tokens = random_tokens(2, 5, V)
    before, modules = model(tokens)[0], dict(model.named_modules())
    changed = changed_model(model, random_changes(model))

    assert not torch.equal(changed(tokens)[0], before)
    assert torch.equal(model(tokens)[0], before)
    assert dict(model.named_modules()) == modules
    decay = "blocks.1.att.time_decay"
    assert changed.get_parameter(decay) is model.get_parameter(decay)
    key = changed.get_submodule("blocks.1.att.key")
    assert isinstance(key, ChangedLinear)
    assert key.layer is model.get_submodule("blocks.1.att.key")


def test_layers_without_a_change_stay_what_they_are():
    model = random_rwkv4(vocab_size=V)
    few = LowRankChanges({"blocks.0.ffn.value": random_changes(model).layers["blocks.0.ffn.value"]})
    changed = changed_model(model, few)
    kinds = [name for name, each in changed.named_modules() if isinstance(each, ChangedLinear)]
    assert kinds == ["blocks.0.ffn.value"]


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
def test_models_of_lower_precision_take_changes(precision):
    model = random_rwkv4(n_embd=32, vocab_size=V).requires_grad_(False)
    changes, tokens = random_changes(model), random_tokens(1, 4, V)
    expected = changed_model(model, changes)(tokens)[0]
    if precision == "bfloat16":
        lower = with_matrices(model, torch.bfloat16)
    else:
        lower = quantize_model(model, precision)
    far = (changed_model(lower, changes)(tokens)[0] - expected).abs().mean()
    assert far < (lower(tokens)[0] - expected).abs().mean() / 2


def test_a_changed_model_is_made_once_and_goes_with_its_changes():
    model = random_rwkv4(vocab_size=V)
    models, changes = ChangedModels(model), random_changes(model)
    assert models.of(None) is model
    assert models.of(changes) is models.of(changes)
    held = weakref.ref(models.of(changes))
    del changes
    gc.collect()
    assert held() is None


def test_what_keeps_changed_models_can_be_sent_elsewhere():
    model = random_rwkv4(vocab_size=V).requires_grad_(False)
    models, tokens = ChangedModels(model), random_tokens(1, 4, V)
    models.of(random_changes(model))
    sent = pickle.loads(pickle.dumps(models))
    assert torch.equal(sent.of(None)(tokens)[0], model(tokens)[0])


def test_a_model_with_changes_is_not_taken_for_its_weights():
    model = random_rwkv4(vocab_size=V)
    changed = changed_model(model, random_changes(model))
    require_unchanged(model, "to be saved")
    words = "a model must have no changes beside its weights to be "
    with pytest.raises(ValueError, match=words + "saved"):
        require_unchanged(changed, "to be saved")
    with pytest.raises(ValueError, match=words + "packed"):
        changed.pack()
    with pytest.raises(ValueError, match=words + "told by their hash"):
        changed.fingerprint()
