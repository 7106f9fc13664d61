"""Options reach the library as its own values, and wrong ones never do."""

import click
import pytest
import torch
from click.testing import CliRunner, Result

from receptance.cli.model_options import load_model, model_options, sampling_params
from receptance.inference import SamplingParams


def run(*args: str) -> tuple[Result, list[SamplingParams]]:
    """Run a command that has the options and notes the params that they make."""
    noted: list[SamplingParams] = []

    @click.command()
    @model_options
    def command(**options: object) -> None:
        noted.append(sampling_params(options))
        assert options == {"dtype": None, "quantize": None, "tokenizer": None, "threads": None}

    return CliRunner().invoke(command, list(args)), noted


def test_without_options_the_params_are_the_defaults_of_the_library():
    assert run()[1] == [SamplingParams()]


def test_every_option_reaches_its_param():
    args = ["--max-tokens", "7", "--temperature", "0.5", "--top-k", "3", "--top-p", "0.9"]
    args += ["--min-p", "0.1", "--repetition-penalty", "1.1", "--presence-penalty", "-0.5"]
    args += ["--frequency-penalty", "0.25", "--seed", "4", "--stop", "a", "--stop", r"\n\tUser"]

    assert run(*args)[1] == [
        SamplingParams(
            max_tokens=7,
            temperature=0.5,
            top_k=3,
            top_p=0.9,
            min_p=0.1,
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
            load_model(tmp_path / "none", dtype=None, quantize=None, tokenizer=None, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_two_precisions_exclude_each_other(tmp_path):
    with pytest.raises(click.UsageError, match="--dtype and --quantize exclude each other"):
        load_model(
            tmp_path / "none", dtype="float32", quantize="int8", tokenizer=None, threads=None
        )
