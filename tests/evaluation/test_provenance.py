"""A result names its weights, its files and its machine."""

import hashlib
import platform

import pytest
import torch

from receptance.evaluation import (
    file_entry,
    model_entry,
    provenance,
    start_entry,
    tokenizer_entry,
    versions,
)
from receptance.inference import LanguageModel
from receptance.quantization import FORMATS, quantize_model
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4, with_matrices


@pytest.fixture
def lm() -> LanguageModel:
    return LanguageModel(random_rwkv4(1, 32, 256), load_tokenizer("bytes"))


def test_a_file_has_its_hash_and_size(tmp_path):
    (tmp_path / "a").write_bytes(b"some text")

    entry = file_entry(tmp_path / "a")

    assert entry.path == str(tmp_path / "a")
    assert entry.sha256 == hashlib.sha256(b"some text").hexdigest()
    assert entry.bytes == 9


def test_a_model_has_its_shape_and_the_hash_of_its_weights(lm, tmp_path):
    (tmp_path / "adapter").write_bytes(b"low ranks")

    entry = model_entry(lm, tmp_path / "model", tmp_path / "adapter")

    assert entry.path == str(tmp_path / "model")
    assert entry.fingerprint == lm.model.fingerprint()
    assert entry.parameters == sum(each.numel() for each in lm.model.parameters())
    assert (entry.n_layer, entry.n_embd, entry.vocab_size) == (1, 32, 256)
    assert entry.adapter == file_entry(tmp_path / "adapter")
    assert model_entry(lm, tmp_path).adapter is None
    assert tokenizer_entry(lm).sha256 == lm.tokenizer.sha256


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "int4"])
def test_the_format_of_the_matrices_has_its_name(lm, tmp_path, name):
    model = lm.model
    if name in FORMATS:
        model = quantize_model(model, FORMATS[name])
    elif name == "bfloat16":
        model = with_matrices(model, torch.bfloat16)

    assert model_entry(LanguageModel(model, None), tmp_path).matrices == name


def test_the_state_from_which_a_model_reads_is_named(lm):
    assert start_entry(lm) == "zero"
    assert start_entry(lm.starting_from(lm.zero_state())) == "zero"
    assert start_entry(lm.starting_from(lm.prefill("x"))) == "initial state"


def test_the_versions_are_those_of_this_process():
    found = versions(torch.device("cpu"))

    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu"]
    assert found["device"] == "cpu"


@pytest.mark.parametrize(
    ("content", "expected"),
    [("processor: 0\nmodel name\t: Fast: 9000\n", "Fast: 9000"), ("Features: fp\n", None)],
)
def test_the_processor_is_named_as_the_system_does(tmp_path, monkeypatch, content, expected):
    (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(provenance, "CPU_FILE", tmp_path / "cpuinfo")

    assert versions(torch.device("cpu"))["cpu"] == (
        expected or platform.processor() or platform.machine()
    )
