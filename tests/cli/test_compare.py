"""Results stand beside each other in a table that is Markdown, and as JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from receptance.cli.compare import command
from receptance.errors import DataError
from receptance.evaluation import TaskFigure, save_result
from tests.evaluation.made_results import MODEL, make_result

NATS = [500.0 + 10 * (index % 7) for index in range(40)]


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    tasks = {"lambada": {
        "acc": TaskFigure(value=0.25, stderr=0.0125), "perplexity": TaskFigure(value=None)
    }}  # fmt: skip
    save_result(make_result(NATS, tasks=tasks), Path("a.json"))
    other = make_result([1.01 * each for each in NATS], model=replace(MODEL, path="x|y\x1b[red]"))
    save_result(other, Path("b.json"))
    return ["a.json", "b.json"]


def run(*args: object):
    return CliRunner().invoke(command, [str(each) for each in args])


def test_the_table_is_markdown_with_a_column_a_result(files):
    figures = json.loads(run(*files, "--json").stdout)["figures"]

    result = run(*files)

    assert result.exit_code == 0
    lines = [[each.strip() for each in line.replace(r"\|", "!").split("|")]
             for line in result.stdout.splitlines() if line]  # fmt: skip
    assert [len(line) for line in lines] == [5] * len(lines)
    rows = {line[1]: line[2:4] for line in lines}
    assert rows["figure"] == files
    assert set(rows["figure"][0]) != "-"
    assert rows["model"] == ["small", r"x!y\x1b[red]"]
    first = figures["bits_per_byte"][0]
    assert rows["bits per byte"][0] == "{value:.4f} [{low:.4f}, {high:.4f}]".format(**first)
    assert rows["tokens"] == ["10,240", "10,240"]
    assert rows["lambada: acc"] == ["0.2500 ± 0.0125", ""]
    assert rows["lambada: perplexity"] == ["inf", ""]
    assert figures["lambada: perplexity"] == [{"value": None}, None]
    assert rows["difference, %"] == ["", "+1.000 [+1.000, +1.000]"]


def test_a_file_that_is_given_twice_has_two_columns(files):
    document = json.loads(run(files[0], *files, "--json").stdout)

    assert [each["file"] for each in document["results"]] == ["a.json", *files]
    assert len(document["figures"]["tokens"]) == len(document["differences"]) == 3


def test_json_has_all_that_the_table_has(files):
    document = json.loads(run(*files, "--json").stdout)

    assert [each["file"] for each in document["results"]] == files
    assert [each["model"] for each in document["results"]] == ["small", "x|y\x1b[red]"]
    assert document["figures"]["lambada: acc"] == [{"value": 0.25, "stderr": 0.0125}, None]
    assert document["differences"][0] is None
    assert document["differences"][1]["percent"]["value"] == pytest.approx(1.0)
    assert document["notes"] == []


def test_what_must_not_be_compared_is_said_below(files):
    save_result(make_result(NATS, text="b"), Path("c.json"))

    result = run(*files, "c.json")

    assert result.stdout.endswith(
        "\na.json and c.json are of different texts: their figures cannot be compared.\n"
    )


@pytest.mark.usefixtures("files")
def test_a_perplexity_that_no_number_holds_is_shown():
    save_result(make_result([1e6] * 20), Path("c.json"))

    assert "| inf |" in " ".join(run("c.json").stdout.split())
    document = json.loads(run("c.json", "--json").stdout)
    assert document["figures"]["perplexity"] == [{"value": None}]


def test_a_file_that_is_no_result_is_the_error_of_the_library(files):
    Path("c.json").write_text("{}")

    result = run(*files, "c.json")

    assert isinstance(result.exception, DataError)
    assert result.exception.exit_code == 3
    assert "'c.json' must be a result that `receptance eval --output` wrote" in str(
        result.exception
    )
    assert result.stdout == ""


@pytest.mark.parametrize(("args", "words"), [([], "Missing argument"), (["x"], "does not exist")])
def test_wrong_usage_is_code_2(args, words):
    result = run(*args)

    assert result.exit_code == 2
    assert words in result.stderr
