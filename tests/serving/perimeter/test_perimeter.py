"""All layers together: what none of them may undo for another."""

import json

import pytest

from receptance.serving import Settings
from receptance.serving.access import KeyRing
from receptance.serving.perimeter import wrap
from tests.serving.perimeter.asgi import JSON, call, small_app

KEY = "anna-0123456789abcdef"
APP = wrap(small_app(), Settings(), KeyRing([f"anna:{KEY}"]))
GOOD = [JSON, ("authorization", f"Bearer {KEY}")]


def test_a_request_that_is_right_arrives_whole():
    body = json.dumps({"prompt": "Hé", "n": 1}).encode()
    answer = call(APP, "POST", "/v1/completions", headers=GOOD, body=[body[:5], body[5:]])

    assert answer.status == 200
    assert answer.json() | {"request_id": ""} == {
        "method": "POST",
        "path": "/v1/completions",
        "owner": "anna",
        "request_id": "",
        "n_bytes": len(body),
        "json": {"prompt": "Hé", "n": 1},
    }


@pytest.mark.parametrize(
    ("status", "host", "headers", "body"),
    [
        (403, "evil.example", GOOD, b"{}"),
        (403, "localhost", [*GOOD, ("origin", "http://evil.example")], b"{}"),
        (401, "localhost", [JSON], b"{}"),
        (415, "localhost", GOOD[1:], b"{}"),
        (413, "localhost", [*GOOD, ("content-length", "9" * 30)], b"{}"),
        (400, "localhost", GOOD, b"{"),
        (431, "localhost", [*GOOD, ("x-long", "a" * 70_000)], b"{}"),
    ],
)
def test_every_refusal_has_our_form_an_id_and_safe_headers(status, host, headers, body):
    answer = call(APP, "POST", "/v1/completions", headers=headers, host=host, body=body)

    assert answer.status == status
    assert set(answer.error) == {"message", "type", "param", "code"}
    assert answer.error["code"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_who_has_no_key_learns_nothing_of_what_else_is_wrong():
    answer = call(APP, "POST", "/v1/absent", headers=[("content-encoding", "gzip")], body=b"{")

    assert answer.status == 401
