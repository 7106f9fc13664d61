"""Options reach the library as its own values, and wrong ones never do."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result

from receptance.checkpoint import save_model
from receptance.cli import root
from receptance.cli.model_options import load_model, model_options, sampling_params
from receptance.inference import SamplingParams
from receptance.quantization import quantize_model
from receptance.tokenizer import load_tokenizer
from tests.local_hub import LocalHub
from tests.random_models import random_adapter, random_rwkv4


def run(*args: str) -> tuple[Result, list[SamplingParams]]:
    """Run a command that has the options and notes the params that they make."""
    noted: list[SamplingParams] = []

    @click.command()
    @model_options
    def command(**options: object) -> None:
        noted.append(sampling_params(options))
        absent = dict.fromkeys(("dtype", "quantize", "tokenizer", "adapter", "threads"))
        assert options == {**absent, "device": "cpu"}

    result = CliRunner().invoke(command, list(args))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result, noted


def test_without_options_the_params_are_the_defaults_of_the_library():
    assert run()[1] == [SamplingParams()]


def test_every_option_reaches_its_param():
    args = ["--max-tokens", "7", "--temperature", "0.5", "--top-k", "3", "--top-p", "0.9"]
    args += ["--min-p", "0.1", "--repetition-penalty", "1.1", "--presence-penalty", "-0.5"]
    args += ["--typical-p", "0.8", "--penalty-decay", "0.99"]
    args += ["--frequency-penalty", "0.25", "--seed", "4", "--stop", "a", "--stop", r"\n\tUser"]

    assert run(*args)[1] == [
        SamplingParams(
            max_tokens=7,
            temperature=0.5,
            top_k=3,
            top_p=0.9,
            min_p=0.1,
            typical_p=0.8,
            penalty_decay=0.99,
            seed=4,
            repetition_penalty=1.1,
            presence_penalty=-0.5,
            frequency_penalty=0.25,
            stop=("a", "\n\tUser"),
        )
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--temperature", "-1"], "'--temperature': -1.0 is not in the range x>=0"),
        (["--temperature", "nan"], "`temperature` must be a finite number, got nan"),
        (["--temperature", "warm"], "'warm' is not a valid float"),
        (["--top-p", "0"], "'--top-p': 0.0 is not in the range 0<x<=1"),
        (["--min-p", "1"], "'--min-p': 1.0 is not in the range 0<=x<1"),
        (["--typical-p", "0"], "'--typical-p': 0.0 is not in the range 0<x<=1"),
        (["--penalty-decay", "2"], "'--penalty-decay': 2.0 is not in the range 0<=x<=1"),
        (["--top-k", "-1"], "'--top-k': -1 is not in the range x>=0"),
        (["--max-tokens", "0"], "'--max-tokens': 0 is not in the range x>=1"),
        (["--seed", "-1"], "'--seed': -1 is not in the range"),
        (["--stop", ""], "`stop` must be a tuple of texts that are not empty"),
        (["--dtype", "int8"], "'int8' is not one of 'float32', 'bfloat16'"),
        (["--threads", "0"], "'--threads': 0 is not in the range 1<=x<=1024"),
        (["--threads", "2000000"], "'--threads': 2000000 is not in the range 1<=x<=1024"),
    ],
)
def test_wrong_usage_is_told_in_one_message_with_code_2(args, words):
    result, noted = run(*args)

    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("Error:") == 1
    assert noted == []


def test_threads_are_set_before_the_model_is_loaded(tmp_path):
    before = torch.get_num_threads()
    try:
        with pytest.raises(Exception, match="no checkpoint"):
            load_model(
                tmp_path / "none",
                dtype=None,
                quantize=None,
                tokenizer=None,
                adapter=None,
                device="cpu",
                threads=1,
            )
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_device_that_is_not_there_is_a_mistake_of_the_command_line(tmp_path):
    with pytest.raises(click.UsageError, match="--device must be 'auto' or one such as"):
        load_model(
            tmp_path / "none",
            dtype=None,
            quantize=None,
            tokenizer=None,
            adapter=None,
            device="gpu!",
            threads=None,
        )


def test_two_precisions_exclude_each_other(tmp_path):
    with pytest.raises(click.UsageError, match="--dtype and --quantize exclude each other"):
        load_model(
            tmp_path / "none",
            dtype="float32",
            quantize="int8",
            tokenizer=None,
            adapter=None,
            device="cpu",
            threads=None,
        )


@pytest.mark.parametrize("verb", ["generate", "chat", "eval"])
def test_verbs_take_a_rounded_model_with_an_adapter(tmp_path, verb):
    model = random_rwkv4(n_layer=1, n_embd=16, vocab_size=256)
    rounded = quantize_model(model, "int8")
    save_model(rounded, load_tokenizer("bytes"), tmp_path / "model")
    random_adapter(model, base=rounded.fingerprint()).save(tmp_path / "adapter")
    (tmp_path / "text").write_text("some text to read")
    args = {
        "generate": ["once", "--max-tokens", "9", "--temperature", "0"],
        "chat": ["--max-tokens", "9", "--temperature", "0"],
        "eval": ["--text", str(tmp_path / "text"), "--json"],
    }[verb]

    def said(*more: str) -> str:
        words = [verb, str(tmp_path / "model"), *args, *more]
        result = CliRunner().invoke(root, words, input="once\n")
        assert result.exit_code == 0, result.output
        return result.stdout

    assert said("--adapter", str(tmp_path / "adapter")) != said()


@pytest.fixture
def on_the_hub(hub: LocalHub, tmp_path: Path) -> LocalHub:
    """A hub on which a model of bytes is "o/n"."""
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=256)
    save_model(model, load_tokenizer("bytes"), tmp_path / "model")
    hub.add("o/n", {each.name: each.read_bytes() for each in (tmp_path / "model").iterdir()})
    (tmp_path / "text").write_text("some text to read " * 4)
    return hub


@pytest.mark.parametrize(
    "args",
    [
        ["generate", "o/n", "a", "--max-tokens", "2"],
        ["chat", "o/n"],
        ["eval", "o/n", "--text", "text"],
        ["bench", "o/n", "--format", "float32", "--batch", "1", "--tokens", "1", "--rounds", "1"],
        ["convert", "o/n", "copy"],
    ],
    ids=lambda args: args[0],
)
@pytest.mark.usefixtures("on_the_hub")
def test_every_verb_takes_a_name_on_the_hub(receptance, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)

    found = receptance(*args)
    lacking = receptance(args[0], "o/none", *args[2:])

    assert found.code == 0, found
    assert lacking.code == (2 if args[0] == "convert" else 4)


@pytest.mark.parametrize("verb", ["generate", "chat", "eval", "bench", "convert"])
def test_every_verb_says_what_a_model_may_be(receptance, verb):
    words = " ".join(receptance(verb, "--help").stdout.split())

    assert "rwkv.cpp .bin, or a name on the hub: owner/name, owner/name@revision" in words


def test_the_variables_of_the_hub_are_obeyed(on_the_hub, tmp_path):
    command = [sys.executable, "-m", "receptance", "generate", "o/n", "a", "--max-tokens", "2"]
    home = {"HF_HOME": str(tmp_path / "other"), "OMP_NUM_THREADS": "1"}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | home | more
        return subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)

    online = run(HF_ENDPOINT=on_the_hub.url)
    n_requests = len(on_the_hub.requests)
    offline = run(HF_ENDPOINT=on_the_hub.url, HF_HUB_OFFLINE="1")

    assert (online.returncode, online.stderr) == (0, "")
    assert (offline.returncode, offline.stderr) == (0, "")
    assert len(on_the_hub.requests) == n_requests
    assert (tmp_path / "other" / "hub" / "models--o--n").is_dir()
