"""What a checkpoint is, is told rightly, and what is damaged in it is shown."""

import hashlib
import json
from dataclasses import asdict

import pytest
import torch

from receptance.checkpoint import convert_model, describe, load_checkpoint, save_model
from receptance.errors import CheckpointError
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4, with_matrices

TARGETS = {
    "native": {},
    "official": {},
    "huggingface": {},
    "ggml": {},
    "native, int8": {"quantize": "int8"},
    "native, bfloat16": {"dtype": "bfloat16"},
    "official, bfloat16": {"dtype": "bfloat16"},
    "huggingface, float16": {"dtype": "float16"},
    "ggml, float16": {"dtype": "float16"},
    "ggml, q8_0": {"quantize": "q8_0"},
}


@pytest.mark.parametrize("what", TARGETS)
def test_every_format_is_told_and_has_the_fingerprint_of_its_model(tmp_path, what):
    save_model(random_rwkv4(2, 32, 256), load_tokenizer("bytes"), tmp_path / "source")
    format = what.split(",")[0]
    target = tmp_path / {"official": "x.pth", "ggml": "x.bin"}.get(format, "x")
    convert_model(tmp_path / "source", target, to=format, **TARGETS[what])

    found = describe(target)
    model = load_checkpoint(target).model

    assert (found.path, found.format, found.problems) == (str(target), format, [])
    assert found.fingerprint == model.fingerprint()
    assert found.n_parameters == model.config.n_parameters
    assert found.sizes == {"n_layer": 2, "n_embd": 32, "vocab_size": 256}
    assert found.tokenizer is not None
    assert found.tokenizer.sha256 == load_tokenizer("bytes").sha256
    assert [each.name for each in found.tensors] != []
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["architecture"] == "rwkv4"


def test_files_have_their_hashes_and_sizes(folder):
    content = (folder / "model.safetensors").read_bytes()

    (file,) = describe(folder).files

    assert file.name == "model.safetensors"
    assert (file.n_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_dtypes_are_those_of_the_file(model, tmp_path):
    save_model(with_matrices(model, torch.bfloat16), None, tmp_path / "half")

    assert describe(tmp_path / "half").dtypes == {
        "matrices": ["bfloat16"],
        "vectors": ["float32"],
    }


def test_every_tensor_has_its_range(model, folder):
    found = {each.name: each for each in describe(folder).tensors}

    assert found.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert found[name].shape == tuple(weight.shape)
        assert found[name].numbers.max == float(weight.max())


def test_a_missing_tokenizer_is_said_and_which_it_is(tmp_path):
    save_model(random_rwkv4(1, 8, 50277), None, tmp_path / "model")

    found = describe(tmp_path / "model")

    assert found.tokenizer is None
    assert "20B_tokenizer.json" in str(found.tokenizer_missing)


def test_a_number_that_is_none_is_shown_and_not_died_of(model, pth):
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    weights["head.weight"][3, 3] = torch.nan
    torch.save(weights, pth)

    found = describe(pth)

    assert found.fingerprint is None
    assert len(found.problems) == 1
    assert f"'head.weight' in {str(pth)!r} must be finite, but 1 of its" in found.problems[0]
    (head,) = (each.numbers for each in found.tensors if each.name == "head.weight")
    assert head.n_not_finite == 1
    assert head.max == float(model.head.weight.detach().max())


def test_a_tensor_that_is_missing_is_shown(model, pth):
    torch.save({name: w for name, w in model.state_dict().items() if name != "head.weight"}, pth)

    found = describe(pth)

    assert "missing ['head.weight']" in found.problems[0]
    assert len(found.tensors) == len(model.state_dict()) - 1
    assert found.fingerprint is None


def test_what_is_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        describe(tmp_path / "nothing")


def test_an_initial_state_must_be_of_the_model(model, folder):
    state = model(torch.tensor([[1, 2, 3]]))[1]
    state.save(folder / "initial_state.safetensors", model.fingerprint())
    found = describe(folder)
    assert found.initial_state is not None
    assert found.initial_state.is_of_model
    assert found.problems == []

    state.save(folder / "initial_state.safetensors", "another")
    found = describe(folder)
    assert found.initial_state is not None
    assert not found.initial_state.is_of_model
    assert "must have been made by the model" in found.problems[0]


def test_the_cache_of_the_hub_tells_repository_and_commit(model, tmp_path):
    place = tmp_path / "models--BlinkDL--rwkv-4-pile-169m" / "snapshots" / "abc123"
    place.mkdir(parents=True)
    torch.save(model.state_dict(), place / "RWKV-4.pth")

    assert describe(place / "RWKV-4.pth").hub == "BlinkDL/rwkv-4-pile-169m@abc123"


def test_the_run_of_a_model_is_named(model, tmp_path):
    (tmp_path / "config.toml").write_text("")
    save_model(model, None, tmp_path / "model")

    found = describe(tmp_path / "model")

    assert found.provenance["run"] == str(tmp_path / "config.toml")
    assert found.provenance["metadata"] == {"format": "pt"}


def test_progress_ends_at_all_bytes(folder):
    told: list[tuple[int, int]] = []

    describe(folder, lambda done, total: told.append((done, total)))

    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > (folder / "model.safetensors").stat().st_size
