"""How long a request may take and wait, counted from its arrival."""

from receptance.errors import RequestError
from receptance.serving.settings import Settings


def request_timeout(seconds: float) -> RequestError:
    """Return what is told of a request that was not finished in its time."""
    return RequestError(_TIMEOUT.format(seconds), status=408, code="timeout")


def queue_timeout(seconds: float) -> RequestError:
    """Return what is told of a request whose turn did not come in time."""
    message = _QUEUE_TIMEOUT.format(seconds)
    return RequestError(message, status=503, code="queue_timeout", retry_after=1.0)


def first_deadline(settings: Settings) -> tuple[float, RequestError]:
    """Return by when a prompt must begin to be read, in seconds from its arrival, and what else.

    Args:
        settings: How long a request may wait, and take.
    """
    if settings.queue_seconds <= settings.request_seconds:
        return settings.queue_seconds, queue_timeout(settings.queue_seconds)
    return settings.request_seconds, request_timeout(settings.request_seconds)


_TIMEOUT = "a request may take {:g} seconds, and was not finished by then; ask for fewer tokens"
_QUEUE_TIMEOUT = "a request may wait {:g} seconds for its turn, which did not come; ask again later"
