"""The command answers at once, in one message, with the right exit code."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from receptance.checkpoint import save_model
from receptance.cli import VERBS
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4


@pytest.fixture
def model(place: Path) -> Path:
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=256)
    save_model(model, load_tokenizer("bytes"), place / "model")
    (place / "empty").touch()
    return place / "model"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_verb_with_what_it_does(receptance, option):
    result = receptance(option)

    assert result.code == 0
    for verb, what in VERBS.items():
        assert f"  {verb} " in result.stdout
        assert what in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(receptance, verb):
    result = receptance(verb, "--help")

    assert result.code == 0
    assert f"Usage: receptance {verb} " in result.stdout
    assert "--help" in result.stdout


def test_help_needs_neither_torch_nor_any_room():
    script = """
import sys
sys.argv = ["receptance", "--help"]
from receptance.cli import main
try:
    main()
finally:
    heavy = {"torch", "numpy", "pydantic", "rich", "tokenizers", "jaxtyping"}
    rooms = {name for name in sys.modules if name.startswith("receptance.")}
    print(sorted(heavy & set(sys.modules)), sorted(rooms), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert result.returncode == 0
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == "[] ['receptance.cli', 'receptance.errors']\n"


def test_without_a_verb_it_shows_its_help_as_wrong_usage(receptance):
    result = receptance()

    assert result.code == 2
    assert result.stdout == ""
    assert "Usage: receptance" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], "no such verb 'trian'; did you mean 'train'?"),
        (["xyz"], f"no such verb 'xyz'; the verbs are {', '.join(VERBS)}"),
        (["--nonsense"], "No such option"),
        (["train"], "Missing argument 'RUN.toml'"),
        (["train", "run.toml", "--nonsense"], "No such option"),
        (["generate", "model", "--temperature", "hot"], "'hot' is not a valid float"),
    ],
)
def test_wrong_usage_is_code_2_and_one_message(receptance, args, words):
    result = receptance(*args)

    assert result.code == 2
    assert words in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["train", "none.toml"], 3, "'none.toml' does not exist"),
        (["data", "inspect", "none"], 3, "no token store at 'none'"),
        (["generate", "model", "a", "--tokenizer", "none.json"], 3, "'none.json'"),
        (["eval", "model", "--text", "run.toml", "--tokenizer", "none.json"], 3, "'none.json'"),
        (
            ["eval", "model", "--text", "run.toml", "--text", "empty"],
            3,
            "must not be empty, but 'empty'",
        ),
        (["eval", "none", "--text", "run.toml"], 4, "no checkpoint at 'none'"),
        (["generate", "none", "a"], 4, "no checkpoint at 'none'"),
        (["generate", "model", "a", "--state", "run.toml"], 4, "'run.toml' is not a safetensors"),
    ],
)
@pytest.mark.usefixtures("model")
def test_every_error_has_its_code_and_one_line(receptance, args, code, words):
    result = receptance(*args)

    assert result.code == code
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_what_the_operating_system_refuses_is_code_1_and_names_the_file(receptance, place):
    (place / "runs").write_text("a file where the folder should be")

    result = receptance("train", "run.toml")

    assert result.code == 1
    assert result.stderr.startswith("error: 'runs/tiny")
    assert result.stderr.endswith(": Not a directory\n")


@pytest.mark.usefixtures("place")
def test_a_reader_that_goes_away_is_no_error_message(start):
    with start("data", "inspect", "store", "--samples", "8") as process:
        process.stdout.close()
        assert process.stderr.read() == ""

    assert process.returncode == 1


def test_the_version_is_that_of_the_package(receptance):
    result = receptance("--version")

    assert result.code == 0
    assert result.stdout == f"receptance {importlib.metadata.version('receptance')}\n"


def test_a_request_to_end_leaves_nothing_half_written_and_the_same_command_ends_it(place, start):
    text = place / "long.txt"
    text.write_text("".join(f"line {index} of a text to tokenize\n" for index in range(400_000)))
    command = ("data", "prepare", text, "--tokenizer", "bytes", "--out", "made")
    with start(*command) as process:
        while not (place / ".made.preparing").exists():
            assert process.poll() is None
        process.terminate()
        process.communicate()
    assert process.returncode == 143
    assert not (place / "made").exists()

    with start(*command) as process:
        process.communicate()
    assert process.returncode == 0
    assert [path.name for path in place.iterdir() if "made" in path.name] == ["made"]


def test_what_the_terminal_cannot_show_is_spelled_out(place):
    command = [sys.executable, "-m", "receptance", "data", "inspect", "store"]
    latin = os.environ | {"PYTHONIOENCODING": "latin-1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=latin, capture_output=True, text=True)
    assert done.returncode == 0
    assert "\\u2026" in done.stdout
