import asyncio
import json
import logging
from typing import Any

import pytest

from receptance.errors import RequestError
from receptance.serving.perimeter.answers import Answers, UnreadError, new_request_id
from tests.serving.perimeter.asgi import call, small_app

APP = Answers(small_app())


def test_every_answer_has_an_id_of_ours():
    answers = [call(APP, "GET", path) for path in ("/health", "/text", "/absent", "/crash")]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 4
    assert all(each.startswith("req_") and len(each) == 28 for each in ids)
    assert answers[0].json()["request_id"] == ids[0]


def test_a_client_cannot_choose_the_id():
    answer = call(APP, "GET", "/health", headers=[("x-request-id", "req_mine")])

    assert "mine" not in answer.headers["x-request-id"]
    assert new_request_id() != new_request_id()


def test_answers_keep_a_browser_from_harm():
    headers = call(APP, "GET", "/health").headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert call(APP, "GET", "/text").headers["cache-control"] == "no-cache"


def test_a_refusal_is_told_in_the_form_of_clients():
    async def refuse(*_) -> None:
        raise RequestError("come again", status=429, code="queue_full", retry_after=1.5)

    answer = call(Answers(refuse), "GET", "/")

    assert answer.status == 429
    assert answer.error == {
        "message": "come again",
        "type": "rate_limit_error",
        "param": None,
        "code": "queue_full",
    }
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "1500")


def test_a_failure_tells_nothing_of_the_inside(caplog):
    with caplog.at_level(logging.ERROR):
        answer = call(APP, "GET", "/crash", headers=[("x-prompt", "my secret")])

    assert answer.status == 500
    assert answer.error["type"] == "server_error"
    assert "secret" not in answer.body.decode()
    assert answer.headers["x-request-id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "my secret" not in caplog.text


def test_an_answer_that_fails_after_its_beginning_is_left_unfinished():
    answer = call(APP, "GET", "/stream")

    assert (answer.status, answer.body) == (200, b"data: 1\n\n")
    assert not answer.is_finished


def test_a_client_that_does_not_read_is_no_failure_of_ours(caplog):
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise UnreadError

    with caplog.at_level(logging.INFO), pytest.raises(UnreadError):
        call(Answers(app), "GET", "/")
    assert [each.levelno for each in caplog.records] == [logging.INFO]


def test_head_is_get_without_the_body():
    got, headed = call(APP, "GET", "/text"), call(APP, "HEAD", "/text")

    assert (headed.status, headed.body) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"] == "4"
    assert call(APP, "HEAD", "/absent").status == 404


@pytest.mark.parametrize(
    "path", ["/a\r\nreq_0 root POST / 200", "/\x1b[31mred", "/\u2028next", "/?key=hidden"]
)
def test_a_log_line_is_one_line_of_plain_characters(path, caplog):
    with caplog.at_level(logging.INFO, logger="receptance.serving.requests"):
        call(APP, "GET", path)

    (record,) = [each for each in caplog.records if each.name == "receptance.serving.requests"]
    line = record.getMessage()
    assert line.isascii()
    assert line.isprintable()
    assert len(line.split(" ")) == 8
    assert line.split(" ")[2] == "127.0.0.1"
    assert "hidden" not in line


@pytest.mark.parametrize(
    ("client", "shown"),
    [(("fe80::1%eth0", 5), "fe80::1%eth0"), (None, "-"), (("a b\r\n", 5), "a%20b%0D%0A")],
)
def test_the_log_has_the_address_as_it_is_but_in_one_word(client, shown, caplog):
    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/text", "headers": [], "client": client}

        async def leave(*_: Any) -> Any:
            return {"type": "http.disconnect"}

        await APP(scope, leave, leave)

    with caplog.at_level(logging.INFO, logger="receptance.serving.requests"):
        asyncio.run(ask())
    assert caplog.records[-1].getMessage().split(" ")[2] == shown


def test_a_web_socket_is_refused():
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(APP({"type": "websocket", "path": "/"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_frameworks_own_errors_take_our_form():
    for method, path, status in [("GET", "/absent", 404), ("POST", "/health", 405)]:
        answer = call(APP, method, path)
        assert answer.status == status
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
    assert set(call(APP, "POST", "/health").headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_options_say_what_a_path_takes():
    answer = call(APP, "OPTIONS", "/v1/completions")

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert call(APP, "OPTIONS", "/absent").status == 404
