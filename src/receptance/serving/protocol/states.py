"""What clients send to keep the state after a text."""

from typing import Annotated

from pydantic import Field

from receptance.errors import RequestError
from receptance.serving.protocol.body import Body, Items
from receptance.serving.protocol.chat import ChatMessage, require_said
from receptance.serving.protocol.prompts import Prompts
from receptance.serving.settings import Settings

StateName = Annotated[str, Field(max_length=200)]

_ONE_OF_TWO = "either `prompt` or `messages` must be given"
_ONE_PROMPT = "`prompt` must be one text, or the tokens of one, but it is several"


class StateBody(Body):
    """The body of `/v1/states`: a text or messages, and perhaps a state that they go on from."""

    model: str | None = None
    name: StateName | None = None
    prompt: Prompts | None = None
    messages: Annotated[Items[ChatMessage], Field(min_length=1)] | None = None
    state: str | None = None


class ForkBody(Body):
    """The body of `/v1/states/{id}/fork`."""

    name: StateName | None = None


def require_possible_state(body: StateBody, settings: Settings) -> None:
    """Refuse what says nothing to read, or two things.

    Args:
        body: What was sent.
        settings: The limits.

    Raises:
        RequestError: With the name of the field as `param`.
    """
    if (body.prompt is None) == (body.messages is None):
        raise RequestError(_ONE_OF_TWO, param="prompt")
    if body.prompt is not None and len(body.prompt) != 1:
        raise RequestError(_ONE_PROMPT, param="prompt")
    if body.messages is not None:
        require_said(body.messages, settings)
