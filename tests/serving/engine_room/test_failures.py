"""Clients are told what is theirs to mend, and nothing else."""

import pytest

from receptance.errors import RequestError, TokenizerError
from receptance.serving.engine_room.failures import as_request_error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("`top_k` must be"), 400, "`top_k` must be"),
        (TokenizerError("no such token"), 400, "no such token"),
        (RuntimeError("/a/path"), 500, "this text failed"),
        (RequestError("too late", status=408), 408, "too late"),
    ],
)
def test_a_wrong_argument_is_told_and_all_else_is_not(error, status, message):
    found = as_request_error(error)
    assert found.status == status
    assert str(found).startswith(message)
