"""Results are set beside each other, and what must not be compared is said."""

import math
from dataclasses import replace
from typing import Any

import pytest

from receptance.evaluation import Result, TaskFigure, TokenizerEntry, side_by_side
from receptance.evaluation.side_by_side import Cell, Difference, SideBySide
from tests.evaluation.made_results import make_result

NATS = [500.0 + 10 * (index % 7) for index in range(40)]
FIRST = make_result(NATS)
OTHER_TOKENIZER = TokenizerEntry(name="bpe", sha256="1" * 64)


def difference_of(found: SideBySide) -> Difference:
    """Return how far the second result is from the first."""
    _, difference = found.differences
    assert difference is not None
    return difference


def test_figures_are_by_name_and_one_that_is_missing_is_none():
    figure = TaskFigure(value=0.5, stderr=0.1)
    only_tasks = replace(
        FIRST, tokens=None, tasks={"lambada": {"acc": figure, "n": TaskFigure(value=9.0)}}
    )

    found = side_by_side([("a", FIRST), ("b", only_tasks)])

    assert FIRST.intervals is not None
    assert FIRST.bits_per_byte is not None
    ends = FIRST.intervals["bits_per_byte"]
    assert found.names == ["a", "b"]
    assert found.figures["bits_per_byte"] == [Cell(FIRST.bits_per_byte, ends.low, ends.high), None]
    assert found.figures["tokens"] == [Cell(40 * 256), None]
    assert found.figures["lambada: acc"] == [None, Cell(0.5, stderr=0.1)]
    assert found.figures["lambada: n"] == [None, Cell(9.0)]
    assert found.notes == []


def test_the_difference_is_that_of_pairs():
    # Half a percent more in each block: that is far less than the blocks differ.
    found = side_by_side([("a", FIRST), ("b", make_result([1.005 * each for each in NATS]))])

    assert found.differences[0] is None
    difference = difference_of(found)
    assert difference.percent == pytest.approx((0.5, 0.5, 0.5))
    value, low, high = difference.bits_per_byte
    assert value == pytest.approx(0.005 * sum(NATS) / math.log(2) / (40 * 1024))
    assert low is not None
    assert high is not None
    assert low < value < high
    assert found.notes == []


def test_the_difference_of_other_tokens_of_the_same_text_is_that_of_pairs_too():
    other = make_result(NATS, tokens_per_block=900.0, tokenizer=OTHER_TOKENIZER)

    found = side_by_side([("a", FIRST), ("b", other)])

    assert difference_of(found).percent == (0.0, 0.0, 0.0)
    (note,) = found.notes
    assert note.startswith("a and b have different tokenizers: their bits per byte")
    assert "bits per token and perplexities by token cannot" in note


def test_too_few_blocks_have_a_difference_without_interval():
    found = side_by_side([("a", make_result(NATS[:5])), ("b", make_result(NATS[:5]))])

    assert difference_of(found).percent == (0.0, None, None)


@pytest.mark.parametrize(
    "other",
    [
        make_result(NATS, text="b"),
        replace(FIRST, text_sha256=None),
    ],
)
def test_of_different_texts_there_is_no_difference_and_it_is_said(other):
    found = side_by_side([("a", FIRST), ("b", other)])

    assert found.differences == [None, None]
    assert found.notes == ["a and b are of different texts: their figures cannot be compared."]


def test_the_same_documents_of_other_files_are_the_same_text():
    settings = {**FIRST.settings, "separator": "#", "text_field": "text"}
    other = replace(FIRST, texts=["b.txt.gz", "/dev/stdin"], settings=settings)

    found = side_by_side([("a", FIRST), ("b", other)])

    assert found.notes == []
    assert difference_of(found).percent == (0.0, 0.0, 0.0)


def test_a_result_without_blocks_has_no_difference():
    assert side_by_side([("a", FIRST), ("b", replace(FIRST, blocks=None))]).differences == [
        None,
        None,
    ]


def test_texts_that_were_read_differently_are_named():
    windows = {"reading": "windows", "window": 64, "stride": 32, "start": "zero"}
    found = side_by_side([("a", FIRST), ("b", make_result(NATS, settings=windows))])

    assert found.notes == [
        "a and b read differently: a documents to their end from zero, b windows of 64 tokens, 32 "
        "apart, from zero."
    ]


def test_texts_that_were_read_from_another_start_are_named():
    other = make_result(NATS, settings={"reading": "carried", "start": "initial state"})

    assert side_by_side([("a", FIRST), ("b", other)]).notes == [
        "a and b read differently: a documents to their end from zero, b documents to their end "
        "from the model's initial state."
    ]


def with_tasks(shots: int, task_sha256: str = "cd", **common: Any) -> Result:
    tasks = {name: {"acc": TaskFigure(value=0.5)} for name in ("lambada", "piqa")}
    of = {
        "lambada": {"shots": shots, "file": f"{shots}.jsonl"},
        "piqa": {"shots": 0, "requests_sha256": "ab", "task_sha256": task_sha256},
    }
    settings = {**FIRST.settings, "tasks": {"limit": None, **common, "of": of}}
    return replace(FIRST, tasks=tasks, settings=settings)


def test_tasks_that_were_run_differently_are_named():
    first = with_tasks(0)

    def notes_of(other: Result) -> list[str]:
        return side_by_side([("a", first), ("b", other)]).notes

    assert notes_of(with_tasks(0, batch_size=8)) == notes_of(FIRST) == []
    assert notes_of(with_tasks(5)) == [
        "a and b ran lambada with other shots: its figures cannot be compared."
    ]
    assert notes_of(with_tasks(0, "ef")) == [
        "a and b ran piqa with other items or metrics: its figures cannot be compared."
    ]
    assert notes_of(with_tasks(5, limit=10.0)) == [
        "a and b ran lambada with other limit, shots: its figures cannot be compared.",
        "a and b ran piqa with other limit: its figures cannot be compared.",
    ]


def test_a_result_may_be_there_twice():
    found = side_by_side([("a", FIRST), ("a", FIRST), ("b", FIRST)])

    assert found.names == ["a", "a", "b"]
    assert len(found.figures["bits_per_byte"]) == len(found.differences) == 3


def test_a_perplexity_that_no_number_holds_is_infinite():
    found = side_by_side([("a", make_result([1e6] * 20))])

    assert found.figures["perplexity"] == [Cell(math.inf)]


def test_there_must_be_a_result():
    with pytest.raises(ValueError, match="must hold at least one"):
        side_by_side([])
