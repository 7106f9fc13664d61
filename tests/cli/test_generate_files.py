"""A file of prompts becomes a file of texts; a command that was killed is given again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from receptance.checkpoint import save_model
from receptance.cli.generate import command
from receptance.errors import DataError
from receptance.inference import load
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("generate") / "model"
    model = random_rwkv4(n_layer=1, n_embd=16, vocab_size=256)
    with torch.no_grad():  # the first channel says no to the end of the text, always
        model.ln_out.bias[0] = 100.0
        model.head.weight[:, 0] = 0.0
        model.head.weight[0, 0] = -100.0
    save_model(model, load_tokenizer("bytes"), path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_text('{"prompt": "a"}\n' * 3)
    return tmp_path


FILES = ("--input", "in", "--output", "out", "--seed", 0, "--max-tokens", 5)


def run(*args: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in args])


@pytest.mark.usefixtures("place")
def test_what_was_done_is_said_beside_the_data(model):
    first = run(model, *FILES)
    again = run(model, *FILES)

    assert (first.exit_code, first.stdout, first.stderr) == (0, "", "3 prompts answered: 'out'\n")
    assert again.stderr == "3 prompts answered, 3 of them before: 'out'\n"


@pytest.mark.usefixtures("place")
def test_json_is_one_document(model):
    document = json.loads(run(model, *FILES, "--json").stdout)

    assert document.pop("seconds") > 0
    assert document.pop("tokens_per_s") > 0
    assert document == {"prompts": 3, "resumed": 0, "prompt_tokens": 3, "generated_tokens": 15}


def test_a_state_comes_before_each_prompt(model, place):
    load(model).prefill("x").save(place / "state")

    assert run(model, *FILES, "--state", "state", "--max-sequences", 2).exit_code == 0

    lm = load(model)
    alone = lm.generate("a", state=lm.prefill("x"), max_tokens=5, seed=0)
    assert json.loads((place / "out").read_text().splitlines()[0])["text"] == alone.text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--input", "in"], "--input and --output must be given together"),
        (["--output", "out"], "--input and --output must be given together"),
        (["a", *FILES], "PROMPT is for one text, but --input asks for many"),
        ([*FILES, "--save-state", "s"], "--save-state is for one text, but --input asks"),
        (["a", "--max-sequences", "2"], "--max-sequences must be given with --input"),
        (["--input", "none", "--output", "out"], "File 'none' does not exist"),
        (["--input", os.devnull, "--output", "out"], "must be a file, since it is read"),
        (["--input", "in", "--output", "none/out"], "--output: the folder 'none' must exist"),
        (["--input", "in", "--output", os.devnull], "must be a file, to go on behind a kill"),
    ],
)
@pytest.mark.usefixtures("place")
def test_wrong_usage_is_told_in_one_message_with_code_2(model, args, words):
    result = run(model, *args)

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_a_wrong_line_is_told_by_its_file_and_number(model, place):
    with (place / "in").open("a") as file:
        file.write('{"prompt": "a", "topp": 1}\n')

    result = run(model, *FILES)

    assert isinstance(result.exception, DataError)
    assert str(result.exception) == "in:4: there is no field 'topp'; did you mean 'top_p'?"


@pytest.mark.usefixtures("place")
def test_options_that_leave_no_token_end_it_with_one_message(model):
    penalty = ("--presence-penalty", "-1e308", "--frequency-penalty", "-1e308")

    result = run(model, *FILES, *penalty, "--max-tokens", 300)

    assert result.exit_code == 1
    assert "Error: in:1: the largest logit must be finite" in result.stderr


def test_what_was_written_before_a_kill_stays_and_is_gone_on_with(model, place):
    (place / "in").write_text('{"prompt": "a"}\n' * 40)
    out = place / "out"
    options = [*map(str, FILES[:-1]), "12", "--max-sequences", "2"]
    script = "from receptance.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", script, "generate", str(model), *options])
    while not (out.exists() and out.read_bytes().count(b"\n") > 2):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = out.read_bytes()

    document = json.loads(run(model, *options, "--json").stdout)

    n_there = left.count(b"\n")
    assert 2 < n_there < 40
    assert document["resumed"] == n_there
    assert out.read_bytes().startswith(left[: left.rindex(b"\n") + 1])
    resumed = out.read_bytes()
    out.unlink()
    run(model, *options)
    assert out.read_bytes() == resumed
