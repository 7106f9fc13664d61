"""A result is the same after it was written and read, and what is none is refused."""

import json
import math
from dataclasses import replace

import pytest

from receptance.errors import DataError
from receptance.evaluation import (
    Bin,
    Estimate,
    FormatFigure,
    TaskFigure,
    position_entries,
    read_result,
    result_json,
    save_result,
)
from tests.evaluation.made_results import make_result

RESULT = make_result([100.0 + index for index in range(20)])


def test_a_result_is_read_as_it_was_written(tmp_path):
    bins = [Bin(1, 1, 3, Estimate(5.0, None, None)), Bin(2, 3, 6, Estimate(4.0, 3.5, 4.5))]
    whole = replace(
        RESULT,
        by_position=position_entries(bins),
        formats={"int8": {"kl_nats": FormatFigure(value=0.1, low=None, high=None)}},
        tasks={"lambada": {"acc": TaskFigure(value=0.5, stderr=0.01), "n": TaskFigure(value=9.0)}},
    )

    save_result(whole, tmp_path / "a.json")

    assert read_result(tmp_path / "a.json") == whole


def test_what_was_not_measured_has_no_key():
    entries = json.loads(result_json(RESULT))

    assert not {"by_position", "formats", "tasks"} & entries.keys()
    of_tasks = replace(RESULT, **dict.fromkeys(("tokens", "perplexity", "blocks")), tasks={})
    assert not {"tokens", "perplexity", "blocks"} & json.loads(result_json(of_tasks)).keys()


def test_the_figures_of_a_text_stand_at_the_top_with_their_intervals():
    entries = json.loads(result_json(RESULT))

    nats = sum(100.0 + index for index in range(20))
    assert entries["bits_per_byte"] == pytest.approx(nats / math.log(2) / (20 * 1024))
    assert entries["perplexity"] == pytest.approx(math.exp(nats / (20 * 256)))
    ends = entries["intervals"]["bits_per_byte"]
    assert ends["low"] < entries["bits_per_byte"] < ends["high"]
    assert entries["blocks"]["bytes"] == [1024] * 20


def test_a_perplexity_that_no_number_holds_is_null(tmp_path):
    wild = make_result([1e6] * 20)

    save_result(wild, tmp_path / "a.json")

    entries = json.loads((tmp_path / "a.json").read_text())
    assert entries["perplexity"] is None
    assert entries["intervals"]["perplexity"] == {"low": None, "high": None}
    assert read_result(tmp_path / "a.json") == wild


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "it has no `format` 'receptance-result'"),
        ('{"bits_per_byte": 1.0}', "it has no `format`"),
        ('{"format": "receptance-result", "format_version": 2}', "`format_version` is 2, not 1"),
        ('{"format": "receptance-result", "format_version": 1}', "in `model` field required"),
    ],
)
def test_what_is_no_result_is_refused_and_named(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(DataError, match=r"'.*a\.json' must be a result") as caught:
        read_result(tmp_path / "a.json")

    assert words in str(caught.value)


def test_a_figure_of_another_kind_is_refused_by_its_name(tmp_path):
    entries = json.loads(result_json(RESULT))
    entries["blocks"]["nats"][3] = "many"
    (tmp_path / "a.json").write_text(json.dumps(entries))

    with pytest.raises(DataError, match=r"in `blocks\.nats\.3` input should be a valid number"):
        read_result(tmp_path / "a.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_figure_that_is_no_number_is_refused(tmp_path, number):
    written = result_json(RESULT).replace('"seconds": 1.5', f'"seconds": {number}')
    (tmp_path / "a.json").write_text(written)

    with pytest.raises(DataError, match="in `seconds` input should be a finite number"):
        read_result(tmp_path / "a.json")


@pytest.mark.parametrize("nats", [[], [1.0], [0.0] * 20])
def test_blocks_that_are_of_no_text_are_refused(tmp_path, nats):
    entries = json.loads(result_json(RESULT))
    entries["blocks"]["nats"] = nats
    (tmp_path / "a.json").write_text(json.dumps(entries))

    with pytest.raises(DataError, match="`blocks` does not hold the same number of nats"):
        read_result(tmp_path / "a.json")
