"""The bytes of tokens."""

import pytest

from receptance.errors import TokenizerError
from receptance.tokenizer.token_table import TokenTable


def test_tokens_without_a_meaning_stand_for_no_bytes():
    assert TokenTable({1: b"a", 3: b"b"}, 5).join([0, 1, 2, 3, 4]) == b"ab"


def test_the_last_token_is_not_also_minus_one():
    with pytest.raises(TokenizerError, match="a token must be in 0 … 1, got -1; was it made by"):
        TokenTable({1: b"a"}, 2).join([-1])
