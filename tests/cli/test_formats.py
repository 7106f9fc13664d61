"""Formats are named with commas between them, and each name is one that can be loaded."""

import click
import pytest
from click.testing import CliRunner, Result

from receptance.cli.formats import Formats, load_options


def run(*args: str) -> tuple[Result, list[tuple[str, ...]]]:
    noted: list[tuple[str, ...]] = []

    @click.command()
    @click.option("--format", "formats", type=Formats(), default=())
    def command(formats: tuple[str, ...]) -> None:
        noted.append(formats)

    return CliRunner().invoke(command, list(args)), noted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("int4", ("int4",)),
        ("int8,int4", ("int8", "int4")),
        ("float32, bfloat16", ("float32", "bfloat16")),
        ("int4,int8,int4", ("int4", "int8")),
    ],
)
def test_the_names_come_in_their_order_each_once(text, names):
    assert run("--format", text)[1] == [names]


def test_none_are_none():
    assert run()[1] == [()]


@pytest.mark.parametrize("text", ["int5", "int8,", "", "int8;int4"])
def test_an_unknown_name_is_wrong_usage_that_names_the_known(text):
    result, noted = run("--format", text)

    assert result.exit_code == 2
    assert noted == []
    assert "a format must be one of float32, bfloat16, int8, int4, got" in result.stderr


def test_the_help_shows_how_to_write_them():
    assert "FORMAT,…" in run("--help")[0].stdout


def test_a_dtype_is_loaded_as_such_and_else_is_quantized():
    assert load_options("bfloat16") == {"dtype": "bfloat16"}
    assert load_options("int4") == {"quantize": "int4"}
