"""Where two checkpoints differ is found tensor by tensor, whatever their formats."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from receptance.checkpoint import convert_model, difference, save_model
from receptance.errors import CheckpointError
from tests.random_models import random_rwkv4, with_matrices

NAME = "blocks.1.att.key.weight"


@pytest.fixture
def saved(model, tmp_path):
    """Writes a state dict of the model, changed by a function, and returns its path."""

    def save(change=lambda _: None):
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        change(weights)
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.pth"
        torch.save(weights, path)
        return path

    return save


def test_a_checkpoint_is_identical_to_itself_in_another_format(folder, tmp_path):
    for format, name in (("official", "x.pth"), ("huggingface", "x")):
        convert_model(folder, tmp_path / name, to=format)

        found = difference(folder, tmp_path / name)

        assert (found.verdict, found.n_equal, found.tensors) == ("identical", 42, [])


def test_the_tensor_that_differs_is_named_and_by_how_much(saved, model):
    def change(weights):
        weights[NAME][0, 0] += 0.5
        weights[NAME][3, 4] -= 2

    found = difference(saved(), saved(change))

    assert (found.verdict, found.n_equal) == ("differs", 41)
    (one,) = found.tensors
    assert (one.name, one.kind, one.n_different, one.n_numbers) == (NAME, "values", 2, 64)
    assert one.max_abs == pytest.approx(2, rel=1e-6)
    norm = float(model.get_parameter(NAME).detach().double().norm())
    assert one.relative == pytest.approx(math.sqrt(4.25) / norm, rel=1e-6)


def test_the_same_values_in_another_dtype_are_the_same(model, tmp_path):
    half = with_matrices(model, torch.bfloat16)
    save_model(half, None, tmp_path / "half")
    save_model(with_matrices(half, torch.float32), None, tmp_path / "full")

    found = difference(tmp_path / "half", tmp_path / "full")

    assert found.verdict == "same values in other dtypes"
    assert {each.kind for each in found.tensors} == {"dtype"}
    assert found.tensors[0].dtypes == ("bfloat16", "float32")
    assert {each.max_abs for each in found.tensors} == {0.0}


def test_rounded_matrices_are_compared_by_what_they_stand_for(folder, tmp_path):
    convert_model(folder, tmp_path / "int8", quantize="int8")

    found = difference(folder, tmp_path / "int8")

    assert found.verdict == "differs"
    assert all("emb" in e.name or "head" in e.name or ".weight" in e.name for e in found.tensors)
    assert all(e.relative is not None and 0 < e.relative < 0.02 for e in found.tensors)


def test_other_shapes_and_layers_are_named(tmp_path):
    save_model(random_rwkv4(1, 8, 40), None, tmp_path / "small")
    save_model(random_rwkv4(2, 8, 48), None, tmp_path / "large")

    found = {each.name: each for each in difference(tmp_path / "small", tmp_path / "large").tensors}

    assert found["emb.weight"].kind == "shape"
    assert found["emb.weight"].shapes == ((40, 8), (48, 8))
    assert found[NAME].kind == "only in the second"
    assert found[NAME].dtypes == (None, "float32")
    back = {each.name: each for each in difference(tmp_path / "large", tmp_path / "small").tensors}
    assert back[NAME].kind == "only in the first"


def test_what_is_not_finite_makes_no_figure(saved):
    def change(weights):
        weights[NAME][0, 0] = math.nan

    found = difference(saved(), saved(change))

    (one,) = found.tensors
    assert (one.n_different, one.max_abs, one.relative) == (1, None, None)
    json.dumps(asdict(found), allow_nan=False)
    assert difference(saved(change), saved(change)).verdict == "identical"


def test_a_file_of_no_model_is_an_error(saved):
    with pytest.raises(CheckpointError, match=r"missing \['head.weight'\]"):
        difference(saved(), saved(lambda weights: weights.pop("head.weight")))


def test_progress_ends_at_all_bytes(folder, pth):
    told: list[tuple[int, int]] = []

    difference(folder, pth, lambda done, total: told.append((done, total)))

    assert told[-1][0] == told[-1][1]
