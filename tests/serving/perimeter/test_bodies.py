import json

import pytest

from receptance.serving import Settings
from receptance.serving.perimeter import wrap
from tests.serving.perimeter.asgi import JSON, call, small_app

APP = wrap(small_app(), Settings(max_body_bytes=1000, max_header_bytes=2000))
PATH = "/v1/completions"


def test_the_body_and_its_value_reach_the_app():
    answer = call(APP, "POST", PATH, headers=[JSON], body=[b'{"a"', b": [1, 2]}"])
    assert (answer.json()["n_bytes"], answer.json()["json"]) == (13, {"a": [1, 2]})


def test_a_long_body_is_read_alike():
    app = wrap(small_app(), Settings())
    text = "x" * 200_000
    answer = call(app, "POST", PATH, headers=[JSON], body=json.dumps([text]).encode())
    assert answer.json()["json"] == [text]
    assert call(app, "POST", PATH, headers=[JSON], body=b"[" * 200_000).status == 400


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
    ],
)
def test_json_is_taken_however_it_is_spelled(kind):
    assert call(APP, "POST", PATH, headers=[("content-type", kind)], body=b"{}").status == 200


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("text/plain",),
        ("application/jsonp",),
        ("application/json; charset=utf-16",),
        ("text/plain; application/json",),
        ("application/json", "text/plain"),
        ("application/octet-stream",),
    ],
)
def test_what_is_no_json_is_refused_by_its_type(kinds):
    headers = [("content-type", kind) for kind in kinds]
    answer = call(APP, "POST", PATH, headers=headers, body=b"{}")
    assert (answer.status, answer.error["type"]) == (415, "unsupported_media_type")


def test_the_type_that_was_sent_is_told():
    def told(*kinds: str) -> str:
        headers = [("content-type", kind) for kind in kinds]
        return call(APP, "POST", PATH, headers=headers, body=b"{}").error["message"]

    assert told("text/plain").endswith("but it is 'text/plain'")
    assert told("application/json", "text/plain").endswith("'application/json, text/plain'")
    assert told().endswith("but there is none")
    assert len(told("x" * 4000)) < 200


def test_a_state_is_imported_as_a_file():
    raw = [("content-type", "application/octet-stream")]
    answer = call(APP, "POST", "/v1/states/import", headers=raw, body=b"\xff\x00")
    assert (answer.status, answer.json()["n_bytes"], answer.json()["json"]) == (200, 2, None)
    assert call(APP, "POST", "/v1/states/import", headers=[JSON], body=b"{}").status == 415


def test_a_post_without_a_body_says_its_type_too():
    assert call(APP, "POST", "/v1/states/state-1/fork", headers=[JSON]).status == 200
    assert call(APP, "POST", "/v1/states/state-1/fork").status == 415


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip", ""])
def test_compressed_bodies_are_refused_before_they_are_unpacked(coding):
    headers = [JSON, ("content-encoding", coding)]
    answer = call(APP, "POST", PATH, headers=headers, body=b"\x1f\x8b")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")
    assert call(APP, "POST", PATH, headers=[JSON, ("content-encoding", "identity")]).status == 200


@pytest.mark.parametrize("length", ["1001", "9" * 400])
def test_a_body_that_says_it_is_too_long_is_not_read(length):
    headers = [JSON, ("content-length", length)]
    answer = call(APP, "POST", PATH, headers=headers, body=b"{}")
    assert (answer.status, answer.error["type"]) == (413, "request_too_large")
    assert "1000 bytes" in answer.error["message"]


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "+2", "two", "\u00b2"])
def test_a_length_is_digits(length):
    headers = [JSON, ("content-length", length)]
    assert call(APP, "POST", PATH, headers=headers, body=b"{}").status == 400


def test_a_body_in_pieces_is_cut_off_at_the_same_limit():
    exact = b'"' + b"a" * 998 + b'"'
    assert call(APP, "POST", PATH, headers=[JSON], body=[exact[:500], exact[500:]]).status == 200
    pieces = [b"a" * 600] * 3
    answer = call(APP, "POST", PATH, headers=[JSON], body=pieces)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


def test_a_body_has_no_more_fields_than_any_request():
    app = wrap(small_app(), Settings())
    for n, status in ((256, 200), (257, 400)):
        body = ("{" + ",".join(f'"{i:x}":1' for i in range(n)) + "}").encode()
        answer = call(app, "POST", PATH, headers=[JSON], body=body)
        assert answer.status == status
    assert answer.error["code"] == "too_many_fields"


def test_a_body_of_what_only_reads_has_the_same_limits():
    assert call(APP, "GET", "/health", body=[b"a" * 600] * 3).status == 413
    assert call(APP, "GET", "/health", body=b"{").status == 400


def test_a_header_has_a_size():
    assert call(APP, "GET", "/health", headers=[("x", "a" * 1500)]).status == 200
    for headers, query in [
        ([("x", "a" * 2000)], ""),
        ([("x", "")] * 500, ""),
        ((), "?" + "a" * 2000),
    ]:
        answer = call(APP, "GET", f"/health{query}", headers=headers)
        assert (answer.status, answer.error["code"]) == (431, "header_too_large")


def test_who_leaves_within_the_body_gets_no_answer():
    answer = call(APP, "POST", PATH, headers=[JSON], body=[])
    assert answer.status == 0


def test_a_file_may_be_longer_than_other_bodies():
    app = wrap(small_app(), Settings(max_body_bytes=1000), file_bytes=2000)
    file, kind = "/v1/states/import", ("content-type", "application/octet-stream")
    sent = [(file, kind, 2000), (file, kind, 2001), (PATH, JSON, 1001)]
    answers = [call(app, "POST", path, headers=[head], body=b" " * n) for path, head, n in sent]
    assert [each.status for each in answers] == [200, 413, 413]
    assert "at most 2000 bytes" in answers[1].json()["error"]["message"]
    less = wrap(small_app(), Settings(max_body_bytes=1000), file_bytes=10)
    assert call(less, "POST", file, headers=[kind], body=b" " * 1000).status == 200
