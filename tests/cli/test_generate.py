"""The text goes to stdout and nothing else does; what is wrong is said before the model runs."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click import UsageError
from click.testing import CliRunner

from receptance.checkpoint import save_model
from receptance.cli.generate import command
from receptance.errors import CheckpointError, DataError, StateError
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


def run(*args: object, **options):
    return CliRunner().invoke(command, [str(each) for each in args], **options)


def test_it_writes_what_the_library_generates(model):
    expected = load(model).generate("def ", max_tokens=12, seed=3, temperature=0.8, top_k=50)

    result = run(
        model, "def ", "--max-tokens", 12, "--seed", 3, "--temperature", 0.8, "--top-k", 50
    )

    assert result.exit_code == 0
    assert result.stdout.rstrip("\n") == expected.text.rstrip("\n")
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


@pytest.mark.parametrize("args", [(), ("-",)])
def test_a_prompt_comes_from_stdin_byte_for_byte(model, args):
    options = ("--max-tokens", 4, "--seed", 1, "--json")
    expected = json.loads(run(model, "né\r\n", *options).stdout)

    result = json.loads(run(model, *args, *options, input="né\r\n".encode()).stdout)

    assert result["tokens"] == expected["tokens"]
    assert result["prompt_tokens"] == 5


def test_a_prompt_that_is_not_utf8_is_refused(model):
    result = run(model, input=b"\xff\xfe")

    assert isinstance(result.exception, DataError)
    assert "the prompt on stdin must be UTF-8" in str(result.exception)


def test_json_is_one_document(model):
    expected = load(model).generate("a", max_tokens=8, seed=2, stop=("e",))

    result = run(model, "a", "--max-tokens", 8, "--seed", 2, "--stop", "e", "--json")
    document = json.loads(result.stdout)

    assert document.pop("seconds") > 0
    assert document.pop("tokens_per_s") > 0
    assert document == {
        "text": expected.text,
        "tokens": list(expected.tokens),
        "finish_reason": expected.finish_reason,
        "prompt_tokens": 1,
        "generated_tokens": expected.generated_tokens,
        "seed": 2,
    }


def test_a_state_goes_on_where_it_was_saved(model, tmp_path):
    file = tmp_path / "state.safetensors"
    first = json.loads(run(model, "a", "--max-tokens", 4, "--save-state", file, "--json").stdout)
    lm = load(model)
    expected = lm.generate("b", state=lm.prefill([*b"a", *first["tokens"]]), max_tokens=3, seed=0)

    args = (model, "b", "--state", file, "--max-tokens", 3, "--seed", 0, "--json")

    assert json.loads(run(*args).stdout)["tokens"] == list(expected.tokens)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--save-state", "nowhere/state"], "--save-state: the folder 'nowhere' must exist"),
        (["--state", "nothing"], "File 'nothing' does not exist"),
    ],
)
def test_wrong_usage_is_told_in_one_message_with_code_2(model, args, words):
    result = run(model, "a", *args)

    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("Error:") == 1
    assert result.stdout == ""


def test_an_empty_prompt_with_a_state_is_wrong_usage(model, tmp_path):
    run(model, "a", "--max-tokens", 1, "--save-state", tmp_path / "state")

    result = run(model, "", "--state", tmp_path / "state")

    assert result.exit_code == 2
    assert "a state predicts nothing until a token is fed" in result.stderr
    assert run(model, "", "--max-tokens", 1).exit_code == 0


def test_bad_files_are_the_errors_of_the_library(model, tmp_path):
    (tmp_path / "state").write_bytes(b"no state")

    assert isinstance(run(tmp_path / "none", "a").exception, CheckpointError)
    assert isinstance(run(model, "a", "--state", tmp_path / "state").exception, StateError)


def start(model: Path) -> subprocess.Popen[bytes]:
    """Start the command with much to write, and wait for its first byte."""
    script = (
        f"import sys; sys.argv = ['receptance', 'generate', {str(model)!r}, 'a', '--max-tokens', "
        "'1000000', '--temperature', '50']; from receptance.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(1)
    return process


def test_an_interrupt_ends_it_with_code_130(model):
    with start(model) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_reader_that_goes_away_is_no_error_message(model):
    with start(model) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""


def test_options_that_leave_no_token_end_it_with_one_message(model):
    penalty = ("--presence-penalty", "-1e308", "--frequency-penalty", "-1e308")

    result = run(model, "a", "--max-tokens", 300, *penalty)

    assert result.exit_code == 1
    assert "Error: the largest logit must be finite to choose a token" in result.stderr


@pytest.mark.parametrize("args", [(), ("-",)])
def test_without_stdin_there_must_be_a_prompt(model, args, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(UsageError, match="there must be a PROMPT"):
        command.main([str(model), *args], standalone_mode=False)


def test_many_prompts_are_answered_as_each_would_be(model, tmp_path):
    (tmp_path / "in").write_text('{"prompt": "def ", "id": "x"}\n{"prompt": "a", "seed": 8}\n')
    files = ("--input", tmp_path / "in", "--output", tmp_path / "out")

    result = run(model, *files, "--max-tokens", 9, "--seed", 3, "--top-k", 20)

    assert (result.exit_code, result.stdout) == (0, "")
    first, second = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    for document, prompt, seed in ((first, "def ", 3), (second, "a", 8)):
        alone = json.loads(
            run(model, prompt, "--max-tokens", 9, "--seed", seed, "--top-k", 20, "--json").stdout
        )
        assert document["text"] == alone["text"]
    assert first["id"] == "x"
