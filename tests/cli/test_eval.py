"""The figures are those of the library, for people and for programs, and errors are clear."""

import hashlib
import json
import math
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from receptance import evaluation, inference
from receptance.checkpoint import save_model
from receptance.cli.eval import command
from receptance.errors import CheckpointError, DataError, ReceptanceError, TokenizerError
from receptance.evaluation import (
    compare,
    measure,
    read_documents,
    read_result,
    score_documents,
)
from receptance.inference import load
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

TEXT = "".join(f"the cat of house {index} sat on the mat.\n" for index in range(80))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("eval") / "model"
    save_model(random_rwkv4(1, 32, 256), load_tokenizer("bytes"), path)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("eval") / "text.txt"
    path.write_text(TEXT)
    return path


def run(*args: object):
    return CliRunner().invoke(command, [str(each) for each in args])


def test_json_has_the_figures_of_the_library(model, text):
    lm = load(model)
    score = score_documents(lm.model, read_documents([text, text], lm.tokenizer), end_of_text=0)

    result = run(model, "--text", text, "--text", text, "--json")

    assert result.exit_code == 0
    document = json.loads(result.stdout)
    for name in ("bits_per_byte", "bits_per_token", "perplexity"):
        assert document[name] == pytest.approx(getattr(score, name))
    assert document["nats"] == pytest.approx(score.nats)
    words = 2 * len(re.split(r"\s+", TEXT))
    assert (document["tokens"], document["bytes"]) == (2 * (len(TEXT) + 1), 2 * len(TEXT))
    assert (document["words"], document["documents"]) == (words, 2)
    assert document["word_perplexity"] == pytest.approx(math.exp(score.nats / words))


def test_json_says_what_was_measured_and_how(model, text):
    document = json.loads(run(model, "--text", text, "--max-tokens", 90, "--json").stdout)

    lm = load(model)
    assert document["model"] == {
        "path": str(model), "fingerprint": lm.fingerprint, "architecture": "rwkv4",
        "parameters": lm.model.config.n_parameters, "n_layer": 1, "n_embd": 32, "vocab_size": 256,
        "matrices": "float32", "adapter": None,
    }  # fmt: skip
    assert document["tokenizer"] == {"name": "bytes", "sha256": lm.tokenizer.sha256}
    assert document["texts"] == [str(text)]
    assert document["text_sha256"] == hashlib.sha256(text.read_bytes()[:90]).hexdigest()
    assert document["settings"] == {
        "reading": "carried", "start": "zero", "max_tokens": 90, "chunk": 512, "batch_size": 16
    }  # fmt: skip
    assert document["versions"]["torch"] == torch.__version__
    assert 0 < document["seconds"] < 600
    assert (datetime.now(UTC) - datetime.fromisoformat(document["date"])).total_seconds() < 600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_read_once_and_is_the_same_text(model, text, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(TEXT,), daemon=True)
    writer.start()
    piped = json.loads(run(model, "--text", tmp_path / "pipe", "--json").stdout)
    writer.join(timeout=10)

    assert piped["bytes"] == len(TEXT)
    plain = json.loads(run(model, "--text", text, "--json").stdout)
    assert piped["text_sha256"] == plain["text_sha256"]


def test_the_file_holds_the_same_document(model, text, tmp_path):
    arguments = (model, "--text", text, "--output", tmp_path / "a.json", "--json")

    document = json.loads(run(*arguments).stdout)

    assert json.loads((tmp_path / "a.json").read_text()) == document
    assert read_result(tmp_path / "a.json").nats == document["nats"]
    assert sum(document["blocks"]["nats"]) == pytest.approx(document["nats"])


def test_people_read_the_same_figures(model, text):
    document = json.loads(run(model, *["--text", text] * 5, "--json").stdout)

    result = run(model, *["--text", text] * 5)

    def line(name: str, pattern: str) -> str:
        ends = document["intervals"][name]
        shown = [pattern.format(each) for each in (document[name], ends["low"], ends["high"])]
        return f"{name.replace('_', ' '):<16} {shown[0]} [{shown[1]}, {shown[2]}]"

    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        line("bits_per_byte", "{:.4f}"),
        line("bits_per_token", "{:.4f}"),
        line("perplexity", "{:,.3f}"),
        line("word_perplexity", "{:.3e}"),
        f"tokens           {5 * len(TEXT) + 5:,}",
        f"bytes            {5 * len(TEXT):,}",
        f"words            {5 * len(TEXT.split()) + 5:,}",
        "documents        5",
    ]


def test_windows_are_those_of_the_library_and_are_named(model, text):
    lm = load(model)
    expected = measure(
        lm.model, read_documents([text], lm.tokenizer), lm.tokenizer, window=100, stride=50
    ).blocks.figures()

    result = run(model, "--text", text, "--window", 100)
    document = json.loads(run(model, "--text", text, "--window", 100, "--json").stdout)

    assert document["bits_per_byte"] == pytest.approx(expected["bits_per_byte"].value)
    assert document["settings"]["reading"] == "windows"
    assert (document["settings"]["window"], document["settings"]["stride"]) == (100, 50)
    assert "in windows of 100 tokens, 50 apart" in result.stdout
    assert "too short for 95 % intervals" in result.stderr


def test_the_loss_by_position_is_told_and_drawn(model, text, tmp_path):
    arguments = (model, "--text", text, "--document-start", "the cat of house .0 ")
    document = json.loads(run(*arguments, "--by-position", "--json").stdout)

    result = run(*arguments, "--by-position", "--plot", tmp_path / "x.svg")

    assert result.exit_code == 0
    bins = document["by_position"]
    assert document["documents"] == 8
    assert [each["first"] for each in bins] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert sum(each["tokens"] for each in bins) == document["tokens"]
    assert f" 256 - 511 | {bins[8]['tokens']:,} | {bins[8]['nats']:.4f} |" in re.sub(
        " +", " ", result.stdout.replace("│", "|")
    )
    drawn = (tmp_path / "x.svg").read_text()
    assert "place in the document, tokens" in drawn
    assert ">100<" in drawn


def test_records_are_documents(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"body": "two words"}\n')

    document = json.loads(
        run(model, "--text", tmp_path / "a.jsonl", "--text-field", "body", "--json").stdout
    )

    assert (document["documents"], document["bytes"], document["words"]) == (2, 12, 3)
    assert document["settings"]["text_field"] == "body"


def test_as_many_tokens_are_read_as_asked_for(model, text):
    document = json.loads(run(model, "--text", text, "--max-tokens", 100, "--json").stdout)

    assert (document["tokens"], document["bytes"]) == (100, 100)


def test_formats_are_set_beside_the_model(model, text):
    lm = load(model)
    variants = {"bfloat16": load(model, dtype="bfloat16").model}
    variants["int4"] = load(model, quantize="int4").model
    documents = read_documents([text] * 5, lm.tokenizer)
    expected = compare(lm.model, variants, documents, lm.tokenizer)

    result = run(model, *["--text", text] * 5, "--compare", "bfloat16,int4", "--json")

    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["bits_per_byte"] == pytest.approx(
        expected.full.figures()["bits_per_byte"].value
    )
    assert document["words"] == 5 * len(re.split(r"\s+", TEXT))
    assert document["settings"]["start"] == "zero"
    ends = document["intervals"]["bits_per_byte"]
    assert ends["low"] < document["bits_per_byte"] < ends["high"]
    assert sum(document["blocks"]["nats"]) == pytest.approx(document["nats"])
    assert list(document["formats"]) == ["bfloat16", "int4"]
    for name, figures in document["formats"].items():
        for figure, estimate in expected.distances[name]._asdict().items():
            assert figures[figure] == pytest.approx(estimate._asdict())
    assert document["formats"]["int4"]["kl_nats"]["low"] > 0


def test_the_table_shows_each_format_with_its_intervals(model, text):
    arguments = (model, *["--text", text] * 5, "--compare", "int8,int4")
    figures = json.loads(run(*arguments, "--json").stdout)["formats"]

    result = run(*arguments)

    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    for name in ("int8", "int4"):
        (place,) = [index for index, line in enumerate(lines) if f" {name} " in line]
        kl, same = figures[name]["kl_nats"], figures[name]["top_1_agreement"]
        assert f" {kl['value']:.2e} " in lines[place]
        assert f" [{kl['low']:.2e}, {kl['high']:.2e}] " in lines[place + 1]
        assert f" {same['value']:.2%} " in lines[place]
        assert f" [{same['low']:.2%}, {same['high']:.2%}] " in lines[place + 1]


def test_a_format_is_beside_the_one_that_the_model_has(model, text):
    result = run(model, "--text", text, "--dtype", "bfloat16", "--compare", "int8")

    assert result.exit_code == 0
    assert "beside itself in bfloat16" in result.stdout
    assert [line.split()[1] for line in result.stdout.splitlines() if "bfloat16 │" in line] == [
        "bfloat16"
    ]


def test_a_short_text_has_figures_without_intervals_and_says_so(model, tmp_path):
    (tmp_path / "short").write_text("the cat")
    arguments = (model, "--text", tmp_path / "short", "--compare", "int8")

    result = run(*arguments)

    assert result.exit_code == 0
    assert result.stderr == "the text is too short for 95 % intervals\n"
    document = json.loads(run(*arguments, "--json").stdout)
    assert document["formats"]["int8"]["kl_nats"]["low"] is None


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--text or --tasks must be given"),
        (["--text", "nothing"], "File 'nothing' does not exist"),
        (["--text", "TEXT", "--compare", "int3"], "got 'int3'"),
        (["--text", "TEXT", "--max-tokens", "0"], "0 is not in the range"),
        (["--text", "TEXT", "--stride", "3"], "--stride must be at most a --window, got 3"),
        (["--text", "TEXT", "--window", "2", "--stride", "3"], "got 3; that has 2 tokens"),
        (["--text", "TEXT", "--window", "2", "--compare", "int8"], "so --window must not"),
        (["--text", "TEXT", "--by-position", "--compare", "int8"], "so --by-position must not"),
        (["--text", "TEXT", "--plot", "x.jpg"], "--plot must end with .png or .svg, got 'x.jpg'"),
        (["--text", "TEXT", "--output", "none/x"], "--output: the folder 'none' must exist"),
        (["--text", "TEXT", "--document-start", "("], "must be a regular expression"),
    ],
)
def test_wrong_usage_is_code_2_with_one_message(model, text, args, words):
    result = run(model, *(text if each == "TEXT" else each for each in args))

    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_the_figures_are_shown_before_they_are_saved(model, text, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(evaluation, "save_result", fail)

    result = run(model, "--text", text, "--output", tmp_path / "a.json", "--json")

    assert isinstance(result.exception, OSError)
    assert json.loads(result.stdout)["bytes"] == len(TEXT)


def test_that_nothing_can_draw_is_said_before_the_model_is_loaded(text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    result = run(tmp_path / "none", "--text", text, "--plot", tmp_path / "x.svg")

    assert isinstance(result.exception, ReceptanceError)
    assert str(result.exception).endswith("`pip install 'receptance[plot]'`")


def test_a_format_whose_numbers_are_not_finite_is_named(model, text, monkeypatch):
    def wild(*_: object, **options: object):
        lm = load(model)
        if "dtype" in options and options["dtype"] == "bfloat16":
            with torch.no_grad():
                lm.model.head.weight.fill_(3e38)
        return lm

    monkeypatch.setattr(inference, "load", wild)

    result = run(model, "--text", text, "--compare", "float32,bfloat16", "--json")

    assert result.exit_code == 1
    assert "must be finite, but in bfloat16 they are not" in result.stderr
    assert result.stdout == ""


def test_what_is_compared_is_where_the_model_is(model, text, monkeypatch):
    devices: list[object] = []

    def noted(*args: object, **options: object):
        devices.append(options.pop("device", None))
        return load(*args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(inference, "load", noted)
    result = run(model, "--text", text, "--compare", "bfloat16", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    assert devices == ["cpu", "cpu"]


@pytest.mark.parametrize("options", [(), ("--compare", "float32")])
def test_a_model_whose_numbers_are_not_finite_has_no_score(text, tmp_path, options):
    model = random_rwkv4(1, 32, 256)
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    save_model(model, load_tokenizer("bytes"), tmp_path / "wild")

    result = run(tmp_path / "wild", "--text", text, *options, "--json")

    assert result.exit_code == 1
    assert "the probabilities of the text must be finite" in result.stderr
    assert result.stdout == ""


def test_bad_files_are_the_errors_of_the_library(model, text, tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    save_model(random_rwkv4(1, 8, 300), None, tmp_path / "mute")

    for arguments, error, words in (
        ((model, "--text", tmp_path / "empty"), DataError, "must not be empty"),
        ((model, "--text", tmp_path / "picture"), DataError, "must be plain UTF-8 text"),
        ((tmp_path / "none", "--text", text), CheckpointError, "no checkpoint"),
        ((tmp_path / "mute", "--text", text), TokenizerError, "came without one"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, error)
        assert words in str(result.exception)
        assert result.stdout == ""


def test_a_model_with_an_initial_state_reads_from_it(text, tmp_path):
    plain = random_rwkv4(1, 32, 256)
    _, state = plain(torch.tensor([[40, 41, 42]]))
    save_model(plain, load_tokenizer("bytes"), tmp_path / "model", initial_state=state)
    lm = load(tmp_path / "model")
    documents = read_documents([text], lm.tokenizer)
    expected = score_documents(lm.model, documents, end_of_text=0, start=state)

    result = run(tmp_path / "model", "--text", text, "--json")

    assert json.loads(result.stdout)["bits_per_byte"] == pytest.approx(expected.bits_per_byte)
    zero = score_documents(lm.model, documents, end_of_text=0)
    assert expected.bits_per_byte != pytest.approx(zero.bits_per_byte, rel=1e-5)
