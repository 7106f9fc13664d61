"""One text on its way through a grammar."""

import pytest
import torch

from receptance.errors import RequestError
from receptance.serving.grammar.compiler import GrammarCompiler
from receptance.tokenizer import BytesTokenizer

GRAMMAR = GrammarCompiler(BytesTokenizer()).regex("x[0-9]")


def test_there_is_one_answer_for_every_token():
    allowed = GRAMMAR.start().allowed()
    assert allowed.shape == (256,)
    assert allowed.dtype == torch.bool


def test_a_token_that_was_not_allowed_breaks_this_text_alone():
    matching = GRAMMAR.start()
    for go_on in (lambda: matching.accept(ord("y")), matching.allowed):
        with pytest.raises(RequestError, match="make it simpler") as failed:
            go_on()
        assert (failed.value.status, failed.value.code) == (400, "grammar_failed")
        assert failed.value.param == "response_format"
    assert not matching.is_over
    assert GRAMMAR.start().allowed()[ord("x")]
