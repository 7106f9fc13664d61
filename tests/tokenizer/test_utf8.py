"""Text as UTF-8."""

import pytest

from receptance.errors import TokenizerError
from receptance.tokenizer.utf8 import utf8


def test_text_becomes_utf8():
    assert utf8("é漢🙂\0") == "é漢🙂\0".encode()


def test_a_lone_surrogate_is_named_with_its_place():
    with pytest.raises(TokenizerError) as caught:
        utf8("ab\ud800")
    assert str(caught.value) == (
        "text must not hold lone surrogates, which UTF-8 cannot express, but character 2 is "
        "'\\ud800'; read the text as UTF-8 with errors='replace'"
    )
