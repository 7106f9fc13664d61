"""The benchmark runs with any model, and says what it found in a table, a picture or a document."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from receptance.benchmark import ceilings
from receptance.checkpoint import save_model
from receptance.cli.bench import command
from receptance.errors import CheckpointError
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

QUICK = ("--prompt-tokens", 4, "--tokens", 2, "--rounds", 1)


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    monkeypatch.setattr(ceilings, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "DISTINCT_BYTES", 1 << 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "model"
    save_model(random_rwkv4(1, 32, 256), load_tokenizer("bytes"), path)
    return path


def run(*args: object):
    return CliRunner().invoke(command, [str(each) for each in args])


def test_json_is_one_document_of_all_that_was_measured(model):
    result = run(
        model, *QUICK, "--format", "bfloat16,int8", "--batch", "3,1", "--threads", 1, "--json"
    )

    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["parameters"] == random_rwkv4(1, 32, 256).config.n_parameters
    assert document["threads"] == 1
    assert document["settings"] == {
        "batch_sizes": [1, 3], "prompt_tokens": 4, "tokens": 2, "rounds": 1,
    }  # fmt: skip
    assert list(document["formats"]) == ["bfloat16", "int8"]
    for name, figures in document["formats"].items():
        assert [each["batch_size"] for each in figures["decode"]] == [1, 3]
        n_read = document["parameters"] - 256 * 32
        assert figures["bytes_per_token"] == n_read * {"bfloat16": 2, "int8": 1.0625}[name]
        assert figures["prefill"]["first_token_s"] > 0
    assert document["ceilings"]["read_bytes_per_s"] > 0
    assert "round 1 of 1" in result.stderr


def test_the_tables_have_a_row_for_each_format_and_batch_size(model):
    result = run(model, *QUICK, "--batch", "1,2")

    assert result.exit_code == 0
    for name in ("float32", "bfloat16", "int8", "int4"):
        rows = [line for line in result.stdout.splitlines() if f" {name} " in line]
        # Two batch sizes and a prompt; where zeros are skipped, once more without that.
        assert len(rows) == 2 + 1 + any("all read" in line for line in rows)
    assert "GB/s read" in result.stdout
    assert "GFLOP/s float32" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_random_weights_need_no_file():
    result = run("--size", "169m", "--format", "int4", "--batch", "1", *QUICK, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["parameters"] == 169_342_464


def test_the_picture_is_drawn_where_it_was_asked_for(model, tmp_path):
    pytest.importorskip("matplotlib")

    result = run(model, *QUICK, "--format", "float32", "--plot", tmp_path / "speed.png")

    assert result.exit_code == 0
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert f"drawn: {tmp_path / 'speed.png'}" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["model", "--size", "169m"], "one of MODEL and --size must be given"),
        (["--size", "170m"], "a preset must be one of"),
        (["--format", "int2"], "a format must be one of"),
        (["--batch", "0,1"], "batch sizes must be positive integers, got '0,1'"),
        (["--batch", "1,,2"], "batch sizes must be positive integers"),
        (["--plot", "speed.gif"], "--plot must end with .png or .svg, got 'speed.gif'"),
        (["--rounds", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_code_2_with_one_message(args, words):
    result = run(*args)

    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert result.stdout == ""


def test_a_model_that_is_not_there_is_the_error_of_the_library():
    assert isinstance(run("nowhere", *QUICK).exception, CheckpointError)


def test_the_threads_are_those_asked_for(model):
    before = torch.get_num_threads()
    try:
        run(model, *QUICK, "--format", "float32", "--batch", "1", "--threads", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
