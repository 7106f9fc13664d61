"""Clients are told what is theirs to mend, and nothing else."""

import pytest
import torch

from receptance.errors import RequestError, TokenizerError
from receptance.inference import DivergedError, ImpossibleRequestError
from receptance.serving.engine_room.failures import as_request_error, whence


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ImpossibleRequestError("`top_k` must be"), 400, "`top_k` must be"),
        (DivergedError("NaN"), 500, "the model's numbers are not finite"),
        (ValueError("cannot reshape"), 500, "this text failed"),
        (TypeError("not an int"), 500, "this text failed"),
        (TokenizerError("no such token"), 500, "this text failed"),
        (RuntimeError("/a/path"), 500, "this text failed"),
        (RequestError("too late", status=408), 408, "too late"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_and_all_else_is_not(error, status, message):
    found = as_request_error(error)
    assert found.status == status
    assert str(found).startswith(message)


def test_the_log_says_of_memory_how_much_was_wanted_and_of_nothing_else_what_it_was():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    said = whence(raised.value)
    assert said.startswith("the engine must have another 4,503,599.627 GB of memory on cpu, but ")
    assert "; lower `max_sequences` or `chunk_tokens`, or serve rounded weights" in said
    assert " < test_failures.py:" in said
    assert whence(RuntimeError("a prompt")) == "RuntimeError"
