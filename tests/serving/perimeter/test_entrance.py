import pytest

from receptance.serving import Settings
from receptance.serving.access import KeyRing
from receptance.serving.perimeter import wrap
from receptance.serving.perimeter.bodies import RAW_PATHS
from tests.serving.perimeter.asgi import JSON, ROUTES, call, small_app

KEY = "anna-0123456789abcdef"
KEYS = KeyRing([f"anna:{KEY}"])
APP = wrap(small_app(), Settings(), KEYS)
OPEN = wrap(small_app(), Settings())
RAW = ("content-type", "application/octet-stream")
EVERYBODYS = {"/", "/static/page.js", "/health", "/v1/health", "/ready"}

CALLS = [(method, path) for path, methods in ROUTES.items() for method in methods]


def status(app, method: str, path: str, key: str | None) -> int:
    headers: list[tuple[str, str]] = [RAW if path in RAW_PATHS else JSON]
    if key is not None:
        headers.append(("authorization", f"Bearer {key}"))
    return call(app, method, path, headers=headers).status


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_route_but_the_open_ones_needs_the_right_key(method, path):
    refused = 200 if path in EVERYBODYS else 401
    assert status(APP, method, path, None) == refused
    assert status(APP, method, path, "wrong-0123456789abcdef") == refused
    assert status(APP, method, path, KEY) == 200
    assert status(OPEN, method, path, None) == 200


def test_an_open_path_is_open_to_readers_only():
    assert status(APP, "POST", "/health", None) == 401
    assert status(APP, "DELETE", "/static/page.js", None) == 401
    assert status(APP, "HEAD", "/health", None) == 200


def test_a_path_that_is_not_there_needs_a_key_too():
    assert status(APP, "GET", "/v1/absent", None) == 401
    assert status(APP, "GET", "/v1/absent", KEY) == 404


def test_the_refusal_says_what_to_send():
    answer = call(APP, "GET", "/v1/models")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "missing_api_key"
    assert answer.error["type"] == "authentication_error"

    wrong = call(APP, "GET", "/v1/models", headers=[("authorization", "Bearer wrong-key")])
    assert wrong.error["code"] == "invalid_api_key"
    assert "wrong-key" not in wrong.body.decode()


def test_two_keys_at_once_are_none():
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer other")]
    assert call(APP, "GET", "/v1/models", headers=headers).status == 401


def test_a_key_elsewhere_than_in_its_header_is_none():
    for headers, query in [((), f"?api_key={KEY}"), ([("cookie", f"key={KEY}")], "")]:
        assert call(APP, "GET", f"/v1/models{query}", headers=headers).status == 401


def test_the_app_is_told_whose_a_request_is():
    headers = [("authorization", f"Bearer {KEY}")]
    assert call(APP, "GET", "/v1/models", headers=headers).json()["owner"] == "anna"
    assert call(APP, "GET", "/health").json()["owner"] == "anonymous"
    assert call(OPEN, "GET", "/v1/models", headers=headers).json()["owner"] == "anonymous"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../states",
        "/static/../v1/models",
        "/static/..\\..\\etc",
        "/./health",
        "/v1/models/a\x00b",
        "/v1/models/a\nb",
        "/v1/models/..",
        "/v1/models/http://evil.example/x",
        "/v1/models/\\\\server\\share",
        "/v1/models//etc/passwd",
    ],
)
def test_a_path_that_climbs_or_leads_elsewhere_is_not_there(path):
    answer = call(OPEN, "GET", path)
    assert (answer.status, answer.error["type"]) == (404, "not_found_error")


def test_a_slash_at_the_end_changes_nothing():
    assert call(OPEN, "GET", "/v1/models/").json()["path"] == "/v1/models"
    assert call(OPEN, "POST", "/v1/completions//", headers=[JSON]).status == 200
    assert status(APP, "GET", "/v1/models/", None) == 401
