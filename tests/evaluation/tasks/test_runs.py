"""Tasks by their names, from folders and files: figures with errors, and how they were measured."""

import hashlib
import json
import math
import os
from importlib import metadata

import pytest
import torch

from receptance.errors import DataError
from receptance.evaluation import TaskFigure
from receptance.inference import load
from tests.evaluation.tasks.words import ITEMS, saved_choices, saved_items, saved_model

tasks = pytest.importorskip("receptance.evaluation.tasks", reason="lm-eval is not installed")
lm_eval = pytest.importorskip("lm_eval")
manager = pytest.importorskip("lm_eval.tasks")


LONG_TASK = """\
task: long
dataset_path: json
dataset_kwargs: {data_files: {test: long.jsonl}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{context}}"
doc_to_target: "{{continuation}}"
metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return load(saved_model(tmp_path_factory.mktemp("runs") / "model"))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_file_and_a_task_of_a_folder(lm, tmp_path, capsys):
    items, folder = saved_items(tmp_path / "words.jsonl"), saved_choices(tmp_path / "tasks")

    loaded = tasks.load_tasks([str(items), "choices"], folder=folder)
    found = tasks.run_tasks(lm, loaded, limit=4, context_prefix="end_of_text")

    assert capsys.readouterr().out == ""
    logprobs = [
        math.fsum(lm.score([0, *lm.tokenizer.encode(context)], f" {word}"))
        for context, word in ITEMS[:4]
    ]
    perplexity = found["tasks"]["words"]["perplexity"]
    assert perplexity.value == pytest.approx(math.exp(-sum(logprobs) / 4), rel=1e-4)
    assert perplexity.stderr > 0
    assert found["tasks"]["choices"].keys() == {"acc", "acc_norm"}
    accuracy = found["tasks"]["choices"]["acc"]
    assert accuracy.stderr == pytest.approx(
        math.sqrt(accuracy.value * (1 - accuracy.value) / 3), abs=1e-9
    )
    assert len(found["settings"]["tasks"]["of"]["choices"].pop("task_sha256")) == 64
    digest = hashlib.sha256(items.read_bytes()).hexdigest()
    asked = [each.pop("requests_sha256") for each in found["settings"]["tasks"]["of"].values()]
    assert len(set(asked)) == 2
    assert found["settings"]["tasks"] == {
        "harness": f"lm_eval {metadata.version('lm_eval')}",
        "start": "zero",
        "context_prefix": "end_of_text",
        "limit": 4,
        "bootstrap": 1000,
        "seeds": {"random": 0, "numpy": 1234, "torch": 1234, "shots": 1234},
        "batch_size": 16,
        "of": {
            "words": {
                "version": 1.0, "shots": 0, "items": 4, "items_in_all": 5, "file": str(items),
                "sha256": digest,
            },
            "choices": {"version": 2.0, "shots": 0, "items": 4, "items_in_all": 5},
        },
    }  # fmt: skip


def test_shots_precede_the_items_as_the_harness_has_it(lm, tmp_path, monkeypatch):
    folder = saved_choices(tmp_path / "tasks")

    found = tasks.run_tasks(lm, tasks.load_tasks(["choices"], folder=folder, shots=2))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")  # its pool may never end where SIGTERM is handled
    expected = lm_eval.simple_evaluate(
        tasks.HarnessModel(lm),
        tasks=["choices"],
        num_fewshot=2,
        task_manager=manager.TaskManager(include_path=".", include_defaults=False),
    )["results"]["choices"]

    figures = found["tasks"]["choices"]
    assert {name: figure.value for name, figure in figures.items()} == {
        name: expected[f"{name},none"] for name in ("acc", "acc_norm")
    }
    assert found["settings"]["tasks"]["of"]["choices"]["shots"] == 2


def test_a_task_that_says_it_has_no_shots_has_none(lm, tmp_path):
    folder = saved_choices(tmp_path / "tasks")
    with (folder / "choices.yaml").open("a") as file:
        file.write("num_fewshot: 0\n")

    loaded = tasks.load_tasks(["choices"], folder=folder, shots=2)
    found = tasks.run_tasks(lm, loaded)

    assert loaded.without_shots == ("choices",)
    assert found["settings"]["tasks"]["of"]["choices"]["shots"] == 0


def test_figures_are_named_by_their_filter_where_there_is_one():
    figures = {
        "alias": "x", "sample_len": 3, "acc,none": 0.5, "acc_stderr,none": 0.1,
        "exact_match,strict": 1, "exact_match_stderr,strict": "N/A",
    }  # fmt: skip
    assert tasks.task_figures("x", figures) == {
        "acc": TaskFigure(value=0.5, stderr=0.1),
        "exact_match,strict": TaskFigure(value=1.0),
    }


def test_a_figure_that_is_no_number_is_refused():
    with pytest.raises(DataError, match=r"`acc` of the task 'x' must be finite, but it is nan"):
        tasks.task_figures("x", {"acc,none": math.nan})


def test_errors_are_drawn_in_this_process(lm, tmp_path, monkeypatch):
    def pool(*_args, **_options):
        raise AssertionError("a pool was forked")

    monkeypatch.setattr("multiprocessing.Pool", pool)
    monkeypatch.delenv("DISABLE_MULTIPROC", raising=False)

    found = tasks.run_tasks(
        lm, tasks.load_tasks([str(saved_items(tmp_path / "words.jsonl"))]), limit=4
    )

    assert found["tasks"]["words"]["perplexity"].stderr > 0
    assert "DISABLE_MULTIPROC" not in os.environ


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("choices.yaml", "{{question}}", "{{question}} then", {"requests_sha256"}),
        ("items.jsonl", '"answer": 3', '"answer": 2', {"task_sha256"}),
        ("choices.yaml", "  - {metric: acc_norm, ", "  - {metric: acc_mutual_info, ",
         {"requests_sha256", "task_sha256"}),
        ("choices.yaml", "  - {metric: acc_norm, ", "  - {metric: acc_bytes, ", {"task_sha256"}),
        ("choices.yaml", "", "", set()),
    ],
)  # fmt: skip
def test_a_task_has_hashes_that_another_prompt_answer_or_figure_changes(
    lm, tmp_path, file, old, new, changed
):
    folder = saved_choices(tmp_path / "tasks")

    def told() -> dict[str, str]:
        found = tasks.run_tasks(lm, tasks.load_tasks(["choices"], folder=folder))
        return found["settings"]["tasks"]["of"]["choices"]

    before = told()
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    after = told()
    assert {key for key in before if before[key] != after[key]} == changed


def test_a_model_that_diverged_has_no_accuracy(tmp_path):
    diverged = load(saved_model(tmp_path / "model"))
    with torch.no_grad():
        diverged.model.head.weight.fill_(math.nan)
    folder = saved_choices(tmp_path / "tasks")
    with pytest.raises(DataError, match="must be finite, but 20 of 20 are not"):
        tasks.run_tasks(diverged, tasks.load_tasks(["choices"], folder=folder))


LONG = json.dumps({"context": "the", "continuation": "cat dog " * 400}) + "\n"


def test_a_perplexity_that_no_number_can_hold_is_null_and_costs_no_other_figure(lm, tmp_path):
    items = tmp_path / "long.jsonl"
    items.write_text(2 * LONG)

    figures = tasks.run_tasks(lm, tasks.load_tasks([str(items)]))["tasks"]["long"]

    assert figures == {
        "perplexity": TaskFigure(value=None),
        "acc": TaskFigure(value=0.0, stderr=0.0),
    }


def test_an_error_that_no_number_can_hold_is_none(lm, tmp_path):
    # exp(cost / 3) is a number and exp(cost), of an item drawn three times, is none.
    items = saved_items(tmp_path / "words.jsonl")
    short = items.read_text().splitlines(keepends=True)[:2]
    items.write_text(LONG.replace("cat dog " * 400, "cat dog " * 100) + "".join(short))

    perplexity = tasks.run_tasks(lm, tasks.load_tasks([str(items)]))["tasks"]["words"]["perplexity"]

    assert perplexity.value > 1e100
    assert perplexity.stderr is None


def test_a_perplexity_of_another_task_that_no_number_can_hold_names_the_task(lm, tmp_path):
    folder, items = saved_choices(tmp_path / "tasks"), saved_items(tmp_path / "words.jsonl")
    (folder / "long.jsonl").write_text(LONG)
    (folder / "long.yaml").write_text(LONG_TASK)
    loaded = tasks.load_tasks(["choices", "long", str(items)], folder=folder)

    with pytest.raises(DataError, match="a perplexity of the task 'long' is larger than a number"):
        tasks.run_tasks(lm, loaded)
