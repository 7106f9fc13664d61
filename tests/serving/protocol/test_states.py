"""What a request to keep a state may say."""

import pytest

from receptance.errors import RequestError
from receptance.serving.protocol import StateBody, require_possible_state
from receptance.serving.settings import Settings

TURN = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize("prompt", ["a text", [1, 2], ["a text"], [[1, 2]]])
def test_one_text_is_read(prompt: object):
    require_possible_state(StateBody.model_validate({"prompt": prompt}), Settings())


def test_messages_are_read():
    require_possible_state(
        StateBody.model_validate({"messages": [TURN], "name": "a chat"}), Settings()
    )


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": [TURN]}, {"prompt": ["a", "b"]}])
def test_nothing_and_two_things_are_not(body: object):
    with pytest.raises(RequestError) as refusal:
        require_possible_state(StateBody.model_validate(body), Settings())
    assert refusal.value.param == "prompt"


def test_messages_are_so_many_at_most():
    body = StateBody.model_validate({"messages": [TURN] * 3})
    require_possible_state(body, Settings(max_messages=3))
    with pytest.raises(RequestError, match="`messages` must be at most 2 here"):
        require_possible_state(body, Settings(max_messages=2))
