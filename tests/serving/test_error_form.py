"""The form of a refusal."""

import json

import pytest

from receptance.errors import RequestError
from receptance.serving.error_form import error_body, error_headers, error_object, error_type


def test_an_error_has_the_four_fields_that_clients_read():
    error = RequestError("`n` must be 1", status=400, code="bad_n", param="n")
    assert error_object(error) == {
        "error": {
            "message": "`n` must be 1",
            "type": "invalid_request_error",
            "param": "n",
            "code": "bad_n",
        }
    }


def test_what_is_not_said_is_null_and_not_absent():
    error = json.loads(error_body(RequestError("no", status=500)))["error"]
    assert error == {"message": "no", "type": "server_error", "param": None, "code": None}


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (415, "unsupported_media_type"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "unavailable_error"),
        (418, "invalid_request_error"),
        (599, "server_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, type_: str):
    assert error_type(status) == type_


def test_the_body_is_ascii_whatever_is_named_in_it():
    body = error_body(RequestError("`\ud800é` is unknown"))
    assert body.isascii()
    assert json.loads(body)["error"]["message"] == "`\ud800é` is unknown"


def test_a_client_that_may_come_again_is_told_when():
    headers = error_headers(RequestError("full", status=429, retry_after=0.25))
    assert headers["retry-after"] == "1"
    assert headers["retry-after-ms"] == "250"
    assert "x-should-retry" not in headers


def test_a_client_is_told_not_to_repeat_what_is_wrong():
    assert error_headers(RequestError("wrong"))["x-should-retry"] == "false"
    assert "x-should-retry" not in error_headers(RequestError("broken", status=500))
