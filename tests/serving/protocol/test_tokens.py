"""What requests about tokens say."""

import pytest
from pydantic import ValidationError

from receptance.serving.protocol import DetokenizeBody, TokenizeBody


def test_a_text_or_messages_are_tokenized():
    assert TokenizeBody.model_validate({"prompt": "a"}).prompt == "a"
    messages = [{"role": "user", "content": "a"}]
    body = TokenizeBody.model_validate({"messages": messages})
    assert body.messages is not None
    assert body.messages[0].text == "a"


@pytest.mark.parametrize("tokens", [None, "a", ["a"], [True], [1.0]])
def test_only_integers_are_tokens(tokens: object):
    with pytest.raises(ValidationError):
        DetokenizeBody.model_validate({"tokens": tokens})
