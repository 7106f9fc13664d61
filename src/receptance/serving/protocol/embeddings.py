"""A request for vectors that stand for texts, and the answer to it."""

import base64
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from receptance.errors import RequestError
from receptance.serving.protocol.body import Body
from receptance.serving.protocol.prompts import Prompts
from receptance.serving.settings import Settings

_EMPTY = "`input` must have no text without a token, but one has none"


class EmbeddingBody(Body):
    """The body of `/v1/embeddings`."""

    PASSED_OVER: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


def require_possible_embedding(body: EmbeddingBody, settings: Settings, n_embd: int) -> None:
    """Refuse more than the server does at once, or than the model has.

    Args:
        body: What was sent.
        settings: The limits.
        n_embd: How many numbers a vector of the model has.

    Raises:
        RequestError: With the name of the field as `param`.
    """
    if len(body.input) > settings.max_inputs:
        raise RequestError(
            f"`input` must be at most {settings.max_inputs} texts here, but it is "
            f"{len(body.input)}; send several requests",
            param="input",
        )
    for i, each in enumerate(body.input):
        if not each:
            raise RequestError(_EMPTY, param=f"input[{i}]")
    if body.dimensions is not None and body.dimensions > n_embd:
        raise RequestError(
            f"`dimensions` must be at most the {n_embd} of this model, but it is {body.dimensions}",
            param="dimensions",
        )


def unit_vector(values: Sequence[float], dimensions: int | None) -> list[float]:
    """Return the first `dimensions` numbers of a vector, made one of length 1.

    Args:
        values: All numbers.
        dimensions: How many are kept; None is all.
    """
    kept = values[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [value / length for value in kept]


def embedding_object(index: int, vector: Sequence[float], encoding: str) -> dict[str, Any]:
    """Return one vector of the answer.

    Args:
        index: Of the text.
        vector: What stands for it.
        encoding: "float" is a list of numbers, "base64" float32 in little-endian order.
    """
    value: Any = list(vector)
    if encoding == "base64":
        value = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {"object": "embedding", "index": index, "embedding": value}
