"""A model is converted by its path, and wrong options never write anything."""

from pathlib import Path

import click
import pytest

from receptance.checkpoint import TARGETS, load_checkpoint, save_model
from receptance.cli.convert import command
from receptance.quantization import FORMATS, quantization
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

CHOICES = ("to", "dtype", "quantize")


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model"
    save_model(random_rwkv4(n_layer=1, n_embd=16, vocab_size=256), load_tokenizer("bytes"), path)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_it_writes_a_folder_that_every_verb_reads(receptance, model, name):
    target = model.with_name("converted")
    result = receptance("convert", model, target, "--quantize", name)

    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    loaded = load_checkpoint(target)
    assert quantization(loaded.model) == FORMATS[name]
    expected = load_checkpoint(model, quantize=name).model.fingerprint()
    assert loaded.model.fingerprint() == expected
    options = ("def ", "--max-tokens", 3, "--seed", 1, "--json")
    written = receptance("generate", target, *options).stdout.split('"seconds"')[0]
    assert (
        written
        == receptance("generate", model, *options, "--quantize", name).stdout.split('"seconds"')[0]
    )


def test_a_dtype_is_chosen_too(receptance, model):
    target = model.with_name("converted")
    assert receptance("convert", model, target, "--to", "native", "--dtype", "bfloat16").code == 0
    assert "bfloat16" in str(load_checkpoint(target).model.head.weight.dtype)


def test_a_text_to_calibrate_with_is_read(receptance, model, tmp_path):
    text = tmp_path / "text"
    text.write_text("some text like that which is to come\n" * 9)
    targets = [tmp_path / "plain", tmp_path / "aware"]
    assert receptance("convert", model, targets[0], "--quantize", "int4").code == 0
    options = ("--quantize", "int4", "--calibrate", text)
    assert receptance("convert", model, targets[1], *options).code == 0
    assert (targets[0] / "model.safetensors").read_bytes() != (
        targets[1] / "model.safetensors"
    ).read_bytes()


def test_what_is_there_is_replaced_by_force_alone(receptance, model):
    refused = receptance("convert", model, model, "--quantize", "int8")
    assert refused.code == 2
    assert f"DST: {str(model)!r} must not exist yet; --force replaces it" in refused.stderr
    assert receptance("convert", model, model, "--quantize", "int8", "--force").code == 0
    assert quantization(load_checkpoint(model).model) == FORMATS["int8"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--to", "gguf"), 2, "'gguf' is not one of 'native', 'official', 'huggingface', 'ggml'"),
        (("--to", "ggml", "--quantize", "int4"), 2, "`quantize` must be one of ['q4_0', 'q4_1'"),
        (("--dtype", "float16"), 2, "`dtype` must be one of ['float32', 'bfloat16'] or None for"),
        (("--quantize", "int2"), 2, "'int2' is not one of 'int8', 'int4'"),
        (("--quantize", "int4", "--dtype", "float32"), 2, "`dtype` must be None with `quantize`"),
        (("--calibrate", "model/config.json"), 2, "`quantize` must be given with it"),
        (("--calibrate", "nothing"), 2, "File 'nothing' does not exist"),
        (("--calibrate", "bytes", "--quantize", "int4"), 3, "'bytes' must be UTF-8 text, but it"),
    ],
)
def test_wrong_options_write_nothing(receptance, model, monkeypatch, options, code, words):
    monkeypatch.chdir(model.parent)
    Path("bytes").write_bytes(b"\xff\xfe")
    result = receptance("convert", model, "converted", *options)
    assert result.code == code
    assert words in result.stderr
    assert not Path("converted").exists()


def test_a_source_that_is_none_is_an_error_of_the_checkpoint(receptance, model):
    result = receptance("convert", model.with_name("modell"), model.with_name("converted"))
    assert result.code == 4
    assert f"Did you mean {str(model)!r}?" in result.stderr


def test_what_may_be_chosen_is_what_the_targets_have():
    choices = {
        each.name: each.type.choices
        for each in command.params
        if each.name in CHOICES and isinstance(each.type, click.Choice)
    }

    assert [*choices["to"]] == [*TARGETS]
    for name, field in (("dtype", "dtypes"), ("quantize", "quantized")):
        known = {each for target in TARGETS.values() for each in getattr(target, field)}
        assert set(choices[name]) == known
