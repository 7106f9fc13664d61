"""Grammars from schemas and expressions."""

from receptance.serving.grammar.compiler import GrammarCompiler
from receptance.tokenizer import BytesTokenizer

COMPILER = GrammarCompiler(BytesTokenizer())


def test_an_expression_allows_what_it_matches_and_the_end_where_it_may_end():
    matching = COMPILER.regex("ab?").start()
    assert matching.allowed().nonzero()[:, 0].tolist() == [ord("a")]
    matching.accept(ord("a"))
    assert matching.allowed().nonzero()[:, 0].tolist() == [0, ord("b")]
    matching.accept(ord("b"))
    assert matching.is_over


def test_each_text_has_its_own_place_in_a_grammar():
    grammar = COMPILER.regex("ab")
    first, second = grammar.start(), grammar.start()
    first.accept(ord("a"))
    assert second.allowed().nonzero()[:, 0].tolist() == [ord("a")]
    assert first.allowed().nonzero()[:, 0].tolist() == [ord("b")]


def test_any_object_begins_with_a_brace():
    assert COMPILER.json_object().start().allowed().nonzero()[:, 0].tolist() == [ord("{")]
