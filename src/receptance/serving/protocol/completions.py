"""A request for a text that goes on from another."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from receptance.errors import RequestError
from receptance.serving.protocol.prompts import Prompts
from receptance.serving.protocol.writing import NO_REASONING, NO_TOOLS, ONE_STATE, WritingBody
from receptance.serving.settings import Settings

_SUFFIX = "`suffix` must be left out at this server: its models were not trained to fill a gap"
_BEST_OF_STREAM = "`best_of` must be `n` in a stream: the best is known at the end alone"


class CompletionBody(WritingBody):
    """The body of `/v1/completions`."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "messages": "use `prompt`, or /v1/chat/completions",
        "top_logprobs": "use `logprobs`, which is a number here",
        "tools": NO_TOOLS,
        "tool_choice": NO_TOOLS,
        "parallel_tool_calls": NO_TOOLS,
        "functions": NO_TOOLS,
        "function_call": NO_TOOLS,
        "reasoning_effort": NO_REASONING,
    }

    prompt: Prompts | None = None
    """None is the beginning of a new text, as in OpenAI's API, and so needs no `state`."""
    logprobs: Annotated[int, Field(ge=0)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None

    @property
    def n_drafts(self) -> int:
        """How many texts are written for each prompt; the best `n` of them are the answer."""
        return self.best_of or self.n or 1


def require_possible_completion(body: CompletionBody, settings: Settings) -> None:
    """Refuse what a completion alone can have wrong.

    Args:
        body: What was sent.
        settings: The limits.

    Raises:
        RequestError: With the name of the field as `param`.
    """
    if body.suffix:
        raise RequestError(
            _SUFFIX,
            code="unsupported_parameter",
            param="suffix",
        )
    if body.logprobs is not None and body.logprobs > settings.max_top_logprobs:
        raise RequestError(
            f"`logprobs` must be at most {settings.max_top_logprobs} here, but it is "
            f"{body.logprobs}",
            param="logprobs",
        )
    if body.best_of is not None:
        most = min(settings.max_choices, settings.max_sequences)
        if not (body.n or 1) <= body.best_of <= most:
            raise RequestError(
                f"`best_of` must be from `n` to {most} here, but it is {body.best_of}",
                param="best_of",
            )
        if body.stream and body.best_of != (body.n or 1):
            raise RequestError(_BEST_OF_STREAM, param="best_of")
    n_texts = len(body.prompt or [""]) * body.n_drafts
    if body.save_state and n_texts > 1:
        raise RequestError(ONE_STATE, param="save_state")
    if n_texts > settings.max_choices:
        raise RequestError(
            f"`prompt` must ask for at most {settings.max_choices} texts here, but its prompts "
            f"times `n` are {n_texts}; send several requests",
            param="prompt",
        )
