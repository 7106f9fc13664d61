"""A file of contexts and continuations is a task with the form of LAMBADA."""

import json

import pytest

from receptance.errors import DataError
from tests.evaluation.tasks.words import ITEMS, saved_items

last_words = pytest.importorskip(
    "receptance.evaluation.tasks.last_words", reason="lm-eval is not installed"
)


def requests(task) -> list[tuple[str, str]]:
    task.set_config(key="num_fewshot", value=0)
    task.build_all_requests(rank=0, world_size=1)
    return [each.args for each in task.instances]


def test_a_space_comes_before_the_continuation(tmp_path):
    task = last_words.last_word_task(saved_items(tmp_path / "words.jsonl"))

    assert task.config.task == "words"
    assert requests(task) == [(context, f" {word}") for context, word in ITEMS]


def test_the_texts_are_those_of_the_harness_for_lambada(tmp_path, shared_data):
    """Its templates: all words of a text but the last, and a space and the last."""
    lines = (shared_data / "lambada" / "lambada_openai.jsonl").read_text().splitlines()[:40]
    (tmp_path / "lambada.jsonl").write_text("\n".join(lines))
    items = [json.loads(each) for each in lines]
    texts = [f"{each['context']} {each['continuation']}" for each in items]

    found = requests(last_words.last_word_task(tmp_path / "lambada.jsonl"))

    assert found == [(" ".join(it.split(" ")[:-1]), " " + it.split(" ")[-1]) for it in texts]


def test_white_space_and_braces_stay_as_they_are(tmp_path):
    item = {"context": "{{ 7 * 7 }} \n", "continuation": "\n{% x"}
    (tmp_path / "x.jsonl").write_text(f"\n{json.dumps(item)}\n\n")

    found = requests(last_words.last_word_task(tmp_path / "x.jsonl"))

    assert found == [("{{ 7 * 7 }} \n", "\n{% x")]


@pytest.mark.parametrize("context", ["", "def f():\n", "a "])
def test_no_space_is_put_where_there_is_white_space_or_nothing(tmp_path, context):
    (tmp_path / "x.jsonl").write_text(json.dumps({"context": context, "continuation": "b"}))
    assert requests(last_words.last_word_task(tmp_path / "x.jsonl")) == [(context, "b")]


@pytest.mark.parametrize(
    "line",
    ['{"context": "a"}', '["a", "b"]', '{"context": "a", "continuation": ""}', '{"context": 1}'],
)
def test_what_is_no_item_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "x.jsonl").write_text('{"context": "a", "continuation": "b"}\n' + line)
    with pytest.raises(DataError, match=r"x.jsonl, line 2: an item must have the texts"):
        last_words.last_word_task(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("data", "message"), [("", "it is empty"), ("{", "line 1: it is not JSON")]
)
def test_what_holds_no_items_is_refused(tmp_path, data, message):
    (tmp_path / "x.jsonl").write_text(data)
    with pytest.raises(DataError, match=message):
        last_words.last_word_task(tmp_path / "x.jsonl")
