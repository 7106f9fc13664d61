"""Tasks are found, made and checked before a model answers them."""

import json
from functools import partial

import pytest

from receptance.errors import ConfigError
from receptance.inference import load
from tests.evaluation.tasks.words import saved_choices, saved_items, saved_model

tasks = pytest.importorskip("receptance.evaluation.tasks", reason="lm-eval is not installed")
manager = pytest.importorskip("lm_eval.tasks")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_task_that_there_is_not_is_refused_with_those_of_a_folder(tmp_path, monkeypatch):
    folder = saved_choices(tmp_path / "tasks")
    only = partial(manager.TaskManager, include_defaults=False)  # the harness's take seconds
    monkeypatch.setattr(
        "receptance.evaluation.tasks.loading.TaskManager",
        lambda **it: only(include_path=it["include_path"]),
    )
    with pytest.raises(ConfigError, match=r"one of lm-eval or of the folder, .* there is no 'no'"):
        tasks.load_tasks(["choices", "no"], folder=folder)


@pytest.mark.parametrize("names", [["a.jsonl", "b/a.jsonl"], ["a.jsonl", "a"], ["a", "a"]])
def test_two_tasks_of_one_name_are_refused(names):
    with pytest.raises(ConfigError, match="tasks must have names of their own"):
        tasks.load_tasks(names)


def test_no_item_is_its_own_example(tmp_path):
    items = tmp_path / "words.jsonl"
    lines = [{"context": f"{n} and", "continuation": f"word{n}"} for n in range(5)]
    items.write_text("\n".join(map(json.dumps, lines)))

    (task,) = tasks.load_tasks([str(items)], shots=3).harness["tasks"].values()
    task.build_all_requests()

    assert len(task.instances) == 5
    for each in task.instances:
        context, continuation = each.args
        assert context.count("word") == 3
        assert continuation not in context
        assert " and word" in context


@pytest.mark.parametrize(
    "splits",
    [
        "test_split: test",
        "test_split: test\nvalidation_split: test",
        "test_split: test\ntraining_split: test",
        "validation_split: test\nfewshot_split: test",
    ],
)
def test_examples_from_the_items_themselves_are_refused(tmp_path, splits):
    folder = saved_choices(tmp_path / "tasks")
    task = folder / "choices.yaml"
    task.write_text(task.read_text().replace("test_split: test\nfewshot_split: test", splits))

    with pytest.raises(ConfigError, match=r"'choices' would be drawn from the items .* --shots 0"):
        tasks.load_tasks(["choices"], folder=folder, shots=1)
    assert tasks.load_tasks(["choices"], folder=folder).without_shots == ()


@pytest.mark.parametrize(
    "splits",
    ["test_split: test\nfewshot_split: test", "validation_split: test"],
)
def test_where_the_harness_leaves_an_item_out_of_its_examples_they_are_shown(tmp_path, splits):
    folder = saved_choices(tmp_path / "tasks")
    task = folder / "choices.yaml"
    task.write_text(task.read_text().replace("test_split: test\nfewshot_split: test", splits))

    (made,) = tasks.load_tasks(["choices"], folder=folder, shots=4).harness["tasks"].values()
    made.build_all_requests()

    for each in made.instances:
        *shown, _ = each.args[0].split("\n\n")
        assert len(shown) == 4
        assert f"{each.doc['question']} {each.doc['choices'][each.doc['answer']]}" not in shown
    with pytest.raises(ConfigError, match=r"'choices' must be at most 4, .* but they are 5"):
        tasks.load_tasks(["choices"], folder=folder, shots=5)


def test_a_task_that_cannot_be_made_is_named(tmp_path):
    folder = saved_choices(tmp_path / "tasks")
    (folder / "items.jsonl").unlink()
    with pytest.raises(ConfigError, match="the tasks choices cannot be made: "):
        tasks.load_tasks(["choices"], folder=folder)


def test_a_prompt_that_cannot_be_made_names_its_task(tmp_path):
    folder = saved_choices(tmp_path / "tasks")
    task = folder / "choices.yaml"
    task.write_text(task.read_text().replace("{{question}}", "{{question}}{{1 // (answer - 3)}}"))
    with pytest.raises(
        ConfigError, match=r"the prompts of the task 'choices' cannot be made .*Zero"
    ):
        tasks.run_tasks(
            load(saved_model(tmp_path / "model")), tasks.load_tasks(["choices"], folder=folder)
        )


def test_an_answer_that_cannot_be_scored_names_its_task(tmp_path):
    folder = saved_choices(tmp_path / "tasks")
    (folder / "scores.py").write_text(
        "def process_results(doc, results):\n    return doc['score']\n"
    )
    with (folder / "choices.yaml").open("a") as task:
        task.write("process_results: !function scores.process_results\n")
    with pytest.raises(
        ConfigError, match=r"the answers to the task 'choices' cannot be scored: KeyError: 'score'"
    ):
        tasks.run_tasks(
            load(saved_model(tmp_path / "model")), tasks.load_tasks(["choices"], folder=folder)
        )


@pytest.mark.parametrize(
    ("attribute", "words"),
    [("UNSAFE_CODE", "runs what the model writes"), ("MULTIMODAL", "must be of text alone")],
)
def test_a_task_that_needs_more_than_text_is_refused(tmp_path, monkeypatch, attribute, words):
    items = saved_items(tmp_path / "words.jsonl")
    monkeypatch.setattr(
        f"receptance.evaluation.tasks.last_words._LastWords.{attribute}", True, raising=False
    )
    with pytest.raises(ConfigError, match=words):
        tasks.load_tasks([str(items)])


def test_a_group_of_a_folder_may_have_tasks_of_the_harness(tmp_path, monkeypatch):
    folder = saved_choices(tmp_path / "tasks")
    asked = []

    def counted(**given):
        asked.append(given)
        return manager.TaskManager(**given | {"include_defaults": False})  # theirs take seconds

    monkeypatch.setattr("receptance.evaluation.tasks.loading.TaskManager", counted)
    (folder / "group.yaml").write_text("group: several\ntask: [choices]\n")

    loaded = tasks.load_tasks(["several"], folder=folder)

    assert list(loaded.harness["tasks"]) == ["choices"]
    assert asked[-1].get("include_defaults", True)
