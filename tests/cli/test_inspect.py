"""A checkpoint is shown to people and to programs, and the exit code says what was found."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from receptance.checkpoint import describe, difference, load_checkpoint, save_model
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model"
    save_model(random_rwkv4(n_layer=1, n_embd=32, vocab_size=256), load_tokenizer("bytes"), path)
    return path


@pytest.fixture
def damaged(model, tmp_path) -> Path:
    weights = load_checkpoint(model).model.state_dict()
    weights["head.weight"] = weights["head.weight"].clone()
    weights["head.weight"][0] = torch.inf
    torch.save(weights, tmp_path / "damaged.pth")
    return tmp_path / "damaged.pth"


def test_people_see_what_it_is(receptance, model):
    found = describe(model)

    result = receptance("inspect", model)

    assert (result.code, result.stderr) == (0, "")
    assert f"path          {model}\n" in result.stdout
    assert "architecture  rwkv4, n_layer 1, n_embd 32, vocab_size 256\n" in result.stdout
    assert f"parameters    {found.n_parameters:,}\n" in result.stdout
    assert f"fingerprint   {found.fingerprint}\n" in result.stdout
    assert found.files[0].sha256 in result.stdout
    assert "blocks" not in result.stdout


def test_tensors_are_listed_with_their_ranges(receptance, model):
    result = receptance("inspect", model, "--tensors")

    line = next(each for each in result.stdout.splitlines() if "time_mix_k" in each)
    assert line.split()[:3] == ["blocks.0.att.time_mix_k", "1×1×32", "float32"]
    (found,) = (e for e in describe(model).tensors if e.name == "blocks.0.att.time_mix_k")
    assert line.split()[3] == f"{found.numbers.min:.4g}"


def test_programs_see_all_of_it(receptance, model):
    document = json.loads(receptance("inspect", model, "--json").stdout)
    with_tensors = json.loads(receptance("inspect", model, "--json", "--tensors").stdout)

    found = describe(model)
    assert document["fingerprint"] == found.fingerprint
    assert document["files"][0]["sha256"] == found.files[0].sha256
    assert document["problems"] == []
    assert "tensors" not in document
    assert with_tensors.pop("tensors")[0]["numbers"].keys() == {
        *("min", "max", "mean", "std", "n_not_finite")
    }
    assert with_tensors == document


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_damaged_model_is_shown_and_ends_with_4(receptance, damaged, options):
    result = receptance("inspect", damaged, *options)

    assert result.code == 4
    assert "n_layer" in result.stdout
    assert "32 of its numbers are not" in result.stdout
    assert result.stderr.startswith(f"error: 'head.weight' in {str(damaged)!r} must be finite")


def test_what_is_no_checkpoint_ends_with_4(receptance, model):
    result = receptance("inspect", model.with_name("modell"))

    assert (result.code, result.stdout) == (4, "")
    assert f"Did you mean {str(model)!r}?" in result.stderr


def test_a_model_against_itself_ends_with_0(receptance, model):
    result = receptance("inspect", model, "--against", model)

    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "identical: every tensor has the same shape, dtype and numbers: 24 tensors are equal, 0 "
        "are not",
        "predictions after 64 tokens of the text",
        "  logits differ by at most  0",
        "  same likeliest token      100.0%",
        "  KL, nats a token          0",
    ]


def test_a_model_against_its_rounded_form_ends_with_1(receptance, model):
    other = model.with_name("int8")
    assert receptance("convert", model, other, "--quantize", "int8").code == 0

    result = receptance("inspect", model, "--against", other)
    document = json.loads(receptance("inspect", model, "--against", other, "--json").stdout)

    assert (result.code, result.stderr) == (1, "")
    assert "differs: " in result.stdout
    assert document["verdict"] == difference(model, other).verdict == "differs"
    assert 0 < document["predictions"]["kl_nats"] < 0.1
    assert document["predictions"]["read"] == "text"


def test_models_of_other_vocabularies_are_not_asked_for_predictions(receptance, model):
    other = model.with_name("other")
    save_model(random_rwkv4(1, 16, 300), None, other)

    result = receptance("inspect", model, "--against", other)
    document = json.loads(receptance("inspect", model, "--against", other, "--json").stdout)

    assert result.code == 1
    assert "predictions not compared: the models have other vocabularies" in result.stdout
    assert document["predictions"] == {"not_compared": "the models have other vocabularies"}


def test_a_norm_that_was_folded_in_changes_no_prediction(receptance, model):
    weights = load_checkpoint(model).model.state_dict()
    ln0 = [weights.pop(f"blocks.0.ln0.{kind}") for kind in ("weight", "bias")]
    weights["emb.weight"] = F.layer_norm(weights["emb.weight"], ln0[0].shape, *ln0)
    folded = model.with_name("folded.pth")
    torch.save(weights, folded)

    document = json.loads(receptance("inspect", model, "--against", folded, "--json").stdout)

    assert document["predictions"]["read"] == "text"
    assert document["predictions"]["max_abs_logit"] < 1e-4  # the norm was computed elsewhere
    assert document["verdict"] == "differs"


def test_where_a_damaged_model_differs_is_shown(receptance, model, damaged):
    result = receptance("inspect", model, "--against", damaged)

    assert result.code == 1
    assert "head.weight" in result.stdout
    assert "predictions not compared: 'head.weight' in" in result.stdout


def test_tensors_of_two_models_are_wrong_usage(receptance, model):
    result = receptance("inspect", model, "--tensors", "--against", model)

    assert result.code == 2
    assert "--against has those that differ" in result.stderr
