"""Tasks are measured beside texts or alone, and shown with their errors."""

import json
import sys

import pytest
from click.testing import CliRunner

from receptance.cli.eval import command
from receptance.cli.eval_tasks import load_given_tasks, task_names
from receptance.errors import ReceptanceError
from receptance.evaluation import read_result
from tests.evaluation.tasks.words import TEXT, saved_choices, saved_items, saved_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("eval") / "model")


def run(*args: object):
    return CliRunner().invoke(command, [str(each) for each in args])


def test_tasks_alone_are_a_result_with_settings(model, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    items = saved_items(tmp_path / "words.jsonl")

    result = run(
        model, "--tasks", items, "--limit", 3, "--context-prefix", r"\n",
        "--output", tmp_path / "a.json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    saved = read_result(tmp_path / "a.json")
    assert saved.tokens is None
    assert saved.tasks is not None
    assert saved.tasks["words"].keys() == {"acc", "perplexity"}
    settings = saved.settings["tasks"]
    assert (settings["context_prefix"], settings["limit"]) == (r"\n", 3)
    shown = result.stdout.replace("│", " ").split()
    figure = saved.tasks["words"]["perplexity"]
    assert [f"{figure.value:,.4f}", "±", f"{figure.stderr:,.4f}"] == shown[
        shown.index("words") + 4 :
    ][:3]


def test_a_text_and_tasks_are_one_result(model, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = saved_choices(tmp_path / "tasks")
    (tmp_path / "text.txt").write_text(TEXT)

    result = run(
        model, "--text", tmp_path / "text.txt", "--tasks", "choices", "--task-folder", folder,
        "--shots", 1, "--json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["bits_per_byte"] > 0
    assert document["settings"]["reading"] == "carried"
    assert document["settings"]["tasks"]["of"]["choices"]["shots"] == 1
    assert document["tasks"]["choices"].keys() == {"acc", "acc_norm"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--text or --tasks must be given"),
        (["--tasks", "x", "--window", 8], "--window is of text, but there is no --text"),
        (["--tasks", "x", "--by-position"], "--by-position is of text, but there is no --text"),
        (["--text", __file__, "--shots", 0], "--shots is of tasks, but there is no --tasks"),
        (["--tasks", "absent.jsonl"], "--tasks: there is no file 'absent.jsonl'"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(model, arguments, words):
    result = run(model, *arguments)

    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_names_have_commas_between_them():
    assert task_names(["a, b", "c.jsonl"]) == ["a", "b", "c.jsonl"]


def test_without_the_harness_it_is_said_what_to_install(monkeypatch):
    for name in [each for each in sys.modules if each.startswith("receptance.evaluation.tasks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ReceptanceError, match=r"pip install 'receptance\[eval\]'"):
        load_given_tasks({"tasks": ["x"]})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("{{question}}", "{{question}}{{1 // (answer - 3)}}"), "cannot be made of its items"),
        (("metadata:", "process_results: !function broken.judge\nmetadata:"), "cannot be scored"),
    ],
)
def test_a_text_that_was_measured_is_told_and_saved_where_a_task_fails(
    model, tmp_path, monkeypatch, changed, words
):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "text.txt").write_text(TEXT)
    folder = saved_choices(tmp_path / "tasks")
    (folder / "broken.py").write_text("def judge(doc, answers):\n    return [][0]\n")
    task = folder / "choices.yaml"
    task.write_text(task.read_text().replace(*changed))

    result = run(
        model, "--text", tmp_path / "text.txt", "--tasks", "choices", "--task-folder", folder,
        "--output", tmp_path / "a.json",
    )  # fmt: skip

    assert isinstance(result.exception, ReceptanceError)
    assert words in str(result.exception)
    saved = read_result(tmp_path / "a.json")
    assert saved.tokens is not None
    assert saved.tasks is None


def test_tasks_are_looked_at_before_anything_is_measured(model, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    monkeypatch.setattr("receptance.cli.eval.load_model", None)
    (tmp_path / "broken.jsonl").write_text("{")

    result = run(model, "--tasks", tmp_path / "broken.jsonl")

    assert "line 1: it is not JSON" in str(result.exception)


def test_a_task_that_has_no_shots_is_named(model, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = saved_choices(tmp_path / "tasks")
    with (folder / "choices.yaml").open("a") as file:
        file.write("num_fewshot: 0\n")

    result = run(model, "--tasks", "choices", "--task-folder", folder, "--shots", 1)

    assert "choices has no shots: it says `num_fewshot: 0` itself" in result.stderr
