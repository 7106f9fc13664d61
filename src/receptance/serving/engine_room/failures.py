"""What is told of what failed in the engine: to clients, and to the log."""

import logging
import traceback
from pathlib import Path

import torch

from receptance.errors import RequestError
from receptance.inference import DivergedError, ImpossibleRequestError
from receptance.ops.shortage import explain_shortage

logger = logging.getLogger(__name__)


def engine_error() -> RequestError:
    """Return what a client is told when the engine broke."""
    return RequestError(_BROKE, status=500, code="engine_error")


def as_request_error(error: Exception) -> RequestError:
    """Return what a client is told when its job failed.

    Args:
        error: Of the engine: what it says is wrong with the request is the client's to mend, and
            all else ours, any other `ValueError` too.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, DivergedError):
        logger.error("the model gave no distribution: it has diverged")
        return RequestError(_DIVERGED, status=500, code="model_diverged")
    if isinstance(error, ImpossibleRequestError):
        return RequestError(str(error))
    logger.error("a request failed: %s", whence(error))
    return RequestError(_FAILED, status=500, code="engine_error")


def whence(error: BaseException) -> str:
    """Return what an error is and where it came from, without its message: it may hold a prompt.

    Of memory that did not suffice it says how much was wanted, and what to change.

    Args:
        error: Any; its traceback is read.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in frames]
    shortage = explain_shortage(error, "the engine", torch.device("cuda"))
    what = type(error).__name__ if shortage is None else f"{shortage}; {_LESS_MEMORY}"
    return " < ".join([what, *reversed(places)])


_LESS_MEMORY = "lower `max_sequences` or `chunk_tokens`, or serve rounded weights (--quantize)"
_BROKE = "the engine broke while it wrote this text; ask again"
_DIVERGED = "the model's numbers are not finite behind this text; tell whoever runs the server"
_FAILED = "this text failed within the engine; others are not touched"
