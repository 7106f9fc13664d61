"""Weights are read one at a time, and their figures are those of all their numbers."""

import math

import pytest
import torch

from receptance.checkpoint import find_model, save_model
from receptance.checkpoint.inspection.weight_reading import StoredWeights, chunks, numbers
from receptance.ops.quantized_linear import dequantize
from receptance.quantization import FORMATS, QuantizedLinear, quantize_model


@pytest.mark.parametrize("count", [1, 7, 3 * (1 << 20) + 5])
def test_figures_are_those_of_all_numbers_at_once(count):
    values = 100 + torch.randn(count, generator=torch.Generator().manual_seed(0))

    found = numbers(values)

    wide = values.double()
    assert found.n_not_finite == 0
    assert (found.min, found.max) == (float(wide.min()), float(wide.max()))
    assert found.mean == pytest.approx(float(wide.mean()), rel=1e-12)
    assert found.std == pytest.approx(float(wide.std(correction=0)), rel=1e-10, abs=1e-12)


def test_what_is_not_finite_is_counted_and_left_out():
    found = numbers(torch.tensor([1.0, math.nan, 3.0, -math.inf]))

    assert found == (1.0, 3.0, 2.0, 1.0, 2)
    assert numbers(torch.tensor([math.nan])) == (None, None, None, None, 1)
    assert numbers(torch.empty(0)) == (None, None, None, None, 0)


def test_chunks_are_all_numbers_in_their_order():
    one, other = torch.arange(3 << 19).view(3, -1), torch.ones(3, 1 << 19, dtype=torch.bfloat16)

    parts = [*chunks(one, other)]

    assert len(parts) > 1
    assert torch.equal(torch.cat([part for part, _ in parts]), one.double().view(-1))
    assert all(part.dtype == torch.float64 for pair in parts for part in pair)


def test_every_weight_is_what_the_file_holds(model, folder, monkeypatch):
    monkeypatch.setattr("receptance.checkpoint.stored._MAX_MAPPED_BYTES", 100)
    weights = StoredWeights(find_model(folder))

    assert weights.problem is None
    for name, weight in model.state_dict().items():
        assert torch.equal(weights.read(name), weight)
        assert weights.values(name, weight) is weight


def test_rounded_weights_stand_for_their_numbers(model, tmp_path):
    rounded = quantize_model(model, FORMATS["int4"])
    save_model(rounded, None, tmp_path / "rounded")
    weights = StoredWeights(find_model(tmp_path / "rounded"))

    name = "blocks.1.ffn.key.weight"
    values = weights.values(name, weights.read(name))

    layer = rounded.get_submodule(name.removesuffix(".weight"))
    assert isinstance(layer, QuantizedLinear)
    assert torch.equal(values, dequantize(layer.packed_weight()))
    embedding = weights.values("emb.weight", weights.read("emb.weight"))
    assert list(embedding.shape) == [256, 8]


def test_why_they_are_of_no_model_is_said(model, pth):
    torch.save({name: w for name, w in model.state_dict().items() if name != "head.weight"}, pth)

    weights = StoredWeights(find_model(pth))

    assert weights.problem is not None
    assert "missing ['head.weight']" in weights.problem
    assert torch.equal(weights.read("ln_out.bias"), model.ln_out.bias)
