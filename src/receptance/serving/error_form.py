"""What a client is told when a request is refused: the one form that OpenAI's clients read.

{"error": {"message": …, "type": …, "param": …, "code": …}}
"""

import json
import math
from collections.abc import Mapping

from receptance.errors import RequestError

_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "method_not_allowed",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}


def error_type(status: int) -> str:
    """Return the word that OpenAI's clients know a status by."""
    return _TYPES.get(status) or _TYPES[400 if status < 500 else 500]


def error_object(error: RequestError) -> dict[str, dict[str, str | None]]:
    """Return the body of an answer, or of an event within a stream, that says what is wrong."""
    return {
        "error": {
            "message": str(error),
            "type": error_type(error.status),
            "param": error.param,
            "code": error.code,
        }
    }


def error_body(error: RequestError) -> bytes:
    """Return `error_object` as JSON; a lone surrogate in it stays escaped."""
    return json.dumps(error_object(error)).encode()


def error_headers(error: RequestError) -> dict[str, str]:
    """Return the headers of an answer whose body is `error_body`.

    A client that may try again is told when: `retry-after` has whole seconds, `retry-after-ms`,
    which OpenAI's clients prefer, the rest. Other refusals say that the same request would be
    refused again.
    """
    headers = {"content-type": "application/json"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    elif error.status < 500:
        headers["x-should-retry"] = "false"
    return headers
