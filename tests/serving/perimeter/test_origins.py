import pytest

from receptance.serving import Settings
from receptance.serving.perimeter import wrap
from tests.serving.perimeter.asgi import JSON, call, small_app

APP = wrap(small_app(), Settings())
PAGE = "https://page.example"
OPEN = wrap(small_app(), Settings(cors_origins=(PAGE,)))
PROXIED = wrap(small_app(), Settings(allowed_hosts=("chat.example", "*.lab.example")))
PREFLIGHT = [
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization, content-type, x-stainless-os"),
]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:80", "[::1]:8000", "10.0.0.7", None],
)
def test_our_own_names_and_addresses_are_answered(host):
    assert call(APP, "GET", "/v1/models", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:8000@evil.example",
        "localhost:x",
        "[::1]evil",
        "127.0.0.1:8000:1",
        "localhost, evil.example",
        "2130706433.evil",
    ],
)
def test_a_name_that_was_bound_to_our_address_by_another_is_refused(host):
    for path in ("/v1/models", "/", "/health"):
        answer = call(APP, "GET", path, host=host)
        assert (answer.status, answer.error["code"]) == (403, "host_not_allowed")
        assert host not in answer.body.decode()


def test_allowed_names_are_answered():
    for host in ("chat.example", "Chat.Example:443", "a.lab.example", "b.a.lab.example"):
        assert call(PROXIED, "GET", "/v1/models", host=host).status == 200
    for host in ("lab.example", "evillab.example", "chat.example.evil"):
        assert call(PROXIED, "GET", "/v1/models", host=host).status == 403
    everybody = wrap(small_app(), Settings(allowed_hosts=("*",)))
    assert call(everybody, "GET", "/v1/models", host="any.example").status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:3000", "file://", "http://["]
)
def test_a_page_of_others_changes_nothing(method, origin):
    answer = call(APP, method, "/v1/states/state-1", headers=[JSON, ("origin", origin)])

    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers


def test_a_form_of_another_page_cannot_post():
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = call(APP, "POST", "/v1/completions", headers=[("content-type", kind)], body=b"{}")
        assert answer.status == 415


def test_reading_changes_nothing_whatever_the_path():
    assert call(APP, "GET", "/v1/states/state-1/fork").status == 405
    assert call(APP, "GET", "/v1/completions").status == 405


def test_our_own_page_may_call():
    headers = [JSON, ("origin", "http://localhost:8000")]
    assert call(APP, "POST", "/v1/completions", headers=headers).status == 200
    behind = [JSON, ("origin", "https://chat.example")]
    assert call(PROXIED, "POST", "/v1/completions", headers=behind, host="10.0.0.7").status == 200


def test_no_other_page_reads_an_answer_unless_it_is_told_so():
    answer = call(APP, "GET", "/v1/models", headers=[("origin", PAGE)])
    assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)
    assert call(APP, "OPTIONS", "/v1/models", headers=[("origin", PAGE), *PREFLIGHT]).status == 403


def test_a_chosen_page_may_call_and_read_as_openai_clients_do():
    asked = call(OPEN, "OPTIONS", "/v1/completions", headers=[("origin", PAGE), *PREFLIGHT])
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == PAGE
    allowed = asked.headers["access-control-allow-headers"].split(", ")
    stainless = ["arch", "async", "lang", "os", "package-version", "retry-count", "runtime"]
    assert {f"x-stainless-{name}" for name in stainless} <= set(allowed)
    assert {"authorization", "content-type"} <= set(allowed)
    assert "access-control-allow-credentials" not in asked.headers

    answer = call(OPEN, "POST", "/v1/completions", headers=[JSON, ("origin", PAGE)])
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers["vary"] == "origin"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_a_chosen_page_may_read_a_refusal_but_others_may_not():
    refused = call(OPEN, "POST", "/v1/completions", headers=[("origin", PAGE)])
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (415, PAGE)
    other = [("origin", "https://other.example"), *PREFLIGHT]
    assert call(OPEN, "OPTIONS", "/v1/completions", headers=other).status == 403
