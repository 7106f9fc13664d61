"""A text is measured as its options say, and what cannot go together is refused at once."""

import os
from pathlib import Path

import click
import pytest

from receptance.cli.eval_text import check, check_folder, measure_text
from receptance.inference import LanguageModel
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

NONE = {
    "texts": (Path("x.txt"),),
    "formats": (), "quantize": None, "window": None, "stride": None, "by_position": False,
    "plot": None,
    "separator": None, "document_start": None, "text_field": None, "max_tokens": None,
}  # fmt: skip


@pytest.fixture
def lm() -> LanguageModel:
    return LanguageModel(random_rwkv4(1, 8, 256), load_tokenizer("bytes"))


def test_what_goes_together_passes():
    check(**NONE)
    check(**{**NONE, "window": 8, "stride": 8, "plot": Path("x.SVG"), "separator": "\\n"})


@pytest.mark.parametrize(
    ("name", "option", "useless", "useful"),
    [
        ("separator", "--separator", "x.jsonl", "x.txt.gz"),
        ("document_start", "--document-start", "x.parquet", "jsonl"),
        ("text_field", "--text-field", "x.txt", "X.JSONL.gz"),
    ],
)
def test_an_option_of_no_file_is_wrong_usage(name, option, useless, useful):
    check(**{**NONE, "texts": (Path(useless), Path(useful)), name: "x"})

    with pytest.raises(click.UsageError, match=f"{option} must be given with a file of"):
        check(**{**NONE, "texts": (Path(useless),), name: "x"})


def test_a_folder_that_cannot_be_written_is_wrong_usage(tmp_path, monkeypatch):
    check_folder("--output", tmp_path / "x")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or mode != os.W_OK)

    with pytest.raises(click.UsageError, match=r"--output: the folder .* be writable"):
        check_folder("--output", tmp_path / "x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"separator": "", "document_start": None}, "`separator` must be a text of at least one"),
        ({"separator": "a", "document_start": "b"}, "not both"),
        ({"formats": ("int8",), "plot": Path("x.svg")}, "so --plot must not be given with it"),
        ({"formats": ("int8",), "quantize": "int4"}, "so --quantize must not be given with it"),
        ({"formats": ("int8",), "quantize": "int4"}, "--quantize must not be .* --compare int4 is"),
    ],
)
def test_what_does_not_is_wrong_usage(options, words):
    with pytest.raises(click.UsageError, match=words):
        check(**{**NONE, **options})


def test_settings_tell_how_the_text_was_read(lm, tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n\nthree")
    options = {**NONE, "texts": (tmp_path / "a",), "separator": "\\n", "window": 3}

    entries = measure_text(lm, Path("model"), None, options)

    assert entries["settings"] == {
        "reading": "windows", "window": 3, "stride": 1, "start": "zero", "separator": "\\n",
        "chunk": 512, "batch_size": 16,
    }  # fmt: skip
    assert (entries["documents"], entries["tokens"]) == (3, 14)
    assert "by_position" not in entries


def test_a_model_of_its_own_start_is_told(lm, tmp_path):
    (tmp_path / "a").write_text("one")
    options = {**NONE, "texts": (tmp_path / "a",), "by_position": True}

    entries = measure_text(lm.starting_from(lm.prefill("x")), Path("model"), None, options)

    assert entries["settings"]["start"] == "initial state"
    assert [each.tokens for each in entries["by_position"]] == [1, 2, 1]
