"""A prefix is named in words, as tokens or as a text."""

import pytest

from receptance.errors import ConfigError
from receptance.tokenizer import load_tokenizer, train_bpe

tasks = pytest.importorskip("receptance.evaluation.tasks", reason="lm-eval is not installed")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("none", ()),
        ("end_of_text", (0,)),
        (r"\n", (10,)),
        (r"\n\t", (10, 9)),
        ("187", (187,)),
        ("0, 0", (0, 0)),
        ("Q:", (81, 58)),
    ],
)
def test_a_prefix_is_these_tokens(text, tokens):
    assert tasks.parse_prefix(text, load_tokenizer("bytes")) == tokens


def test_a_text_has_the_tokens_of_the_model():
    tokenizer = train_bpe(["the cat the cat the cat"], 262)
    assert tasks.parse_prefix("the cat", tokenizer) == tuple(tokenizer.encode("the cat"))


@pytest.mark.parametrize("text", ["", "256", "1,999"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(ConfigError, match=r"token ids below 256 .*, but it is"):
        tasks.parse_prefix(text, load_tokenizer("bytes"))
