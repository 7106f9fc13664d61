"""How texts are cut and counted: enwik8's parts, WikiText's words, and made-up facts."""

import math
from pathlib import Path

import numpy
import pytest

from paper.figure_11_causal_trace import share
from paper.harness import Options, text_of
from paper.harness.facts import made_up_facts
from paper.harness.text import larger_text_of
from paper.harness.tracing import Trace
from paper.table_5_enwik8 import recipe, split
from paper.wikitext_perplexity import Counts, counts_of, perplexities


def test_a_text_is_cut_as_enwik8_is_between_characters():
    assert [len(each) for each in split(b"x" * 1000)] == [900, 50, 50]
    text = "é" * 505  # 1,010 bytes: 909 of them would end within a character
    parts = split(text.encode())
    assert [len(each) for each in parts] == [910, 50, 50]
    assert "".join(each.decode() for each in parts) == text


def test_the_recipe_is_the_paper_s_but_for_what_is_given():
    paper, small = recipe(None, None, None, None), recipe(2, 96, 128, 10)
    assert (paper["model"]["n_layer"], paper["model"]["n_embd"]) == (12, 512)
    assert (small["model"]["n_layer"], small["data"]["ctx_len"]) == (2, 128)
    assert small["optimizer"] == paper["optimizer"]
    assert small["training"]["dropout"] == paper["training"]["dropout"] == 0.1


def test_perplexity_is_of_what_is_counted():
    counts = counts_of(" = A title = \n one two three \n")
    assert counts == Counts(words=7, lines=2)
    by = perplexities(18 * math.log(2), 18, counts)
    assert by == pytest.approx({"token": 2.0, "word and line": 4.0, "word": 2 ** (18 / 7)})


def test_a_made_up_fact_depends_on_both_names():
    facts = made_up_facts(8, 6)
    assert len({fact.subject for fact in facts}) == 48
    by_first: dict[str, set[str]] = {}
    for fact in facts:
        by_first.setdefault(fact.subject.split()[0], set()).add(fact.answer)
    assert all(len(cities) > 1 for cities in by_first.values())


def test_the_share_that_is_brought_back_is_of_what_was_lost():
    found = Trace(["a", "b"], (0, 1), -1.0, -5.0, [[-5.0, -3.0], [-4.0, -1.0]])
    assert [share(found, layer, 1) for layer in (0, 1)] == [0.5, 1.0]


def test_packages_are_added_to_what_is_trained_on_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("paper.harness.text.PACKAGES", ("numpy",))
    options = Options(scale="quick", texts=(), work=tmp_path)
    library, larger = text_of(options), larger_text_of(options)
    assert larger.held_out == library.held_out
    n = len(library.train)
    assert larger.train[:n] == library.train
    assert all(file.is_relative_to(Path(numpy.__file__).parent) for file in larger.train[n:])
    assert larger.name == f"{library.name}, numpy {numpy.__version__}"
    assert larger.n_bytes > library.n_bytes
    assert larger.sha256 != library.sha256


def test_a_text_that_is_given_is_all_there_is(tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    options = Options(scale="quick", texts=(tmp_path / "a.txt",), work=tmp_path)
    assert larger_text_of(options) == text_of(options)
