"""What a request to keep a state may say."""

import pytest

from receptance.errors import RequestError
from receptance.serving.protocol import StateBody, require_possible_state

TURN = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize("prompt", ["a text", [1, 2], ["a text"], [[1, 2]]])
def test_one_text_is_read(prompt: object):
    require_possible_state(StateBody.model_validate({"prompt": prompt}))


def test_messages_are_read():
    require_possible_state(StateBody.model_validate({"messages": [TURN], "name": "a chat"}))


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": [TURN]}, {"prompt": ["a", "b"]}])
def test_nothing_and_two_things_are_not(body: object):
    with pytest.raises(RequestError) as refusal:
        require_possible_state(StateBody.model_validate(body))
    assert refusal.value.param == "prompt"
