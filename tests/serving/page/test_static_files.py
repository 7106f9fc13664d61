"""The page's files: in the package, small, of nothing outside, and given safely."""

import gzip
import re
from importlib import resources

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from receptance.errors import RequestError
from receptance.serving.page import CONTENT_SECURITY_POLICY, page_routes
from receptance.serving.page.static_files import read_static_files
from tests.policy.test_budgets import FILE_LINES

FILES = read_static_files()
TEXTS = {name: file.content.decode() for name, file in FILES.items()}


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


def test_every_file_of_the_folder_is_package_data_that_is_served():
    folder = resources.files("receptance.serving.page").joinpath("static")
    assert {entry.name for entry in folder.iterdir()} == set(FILES)
    assert {"index.html", "main.js", "theme.css", "icon.svg"} <= set(FILES)


def test_the_page_is_small():
    assert sum(len(gzip.compress(file.content)) for file in FILES.values()) < 60_000


def test_no_file_is_longer_than_its_budget():
    lengths = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_every_script_and_style_is_used_and_every_one_that_is_used_is_there():
    used = set(re.findall(r'"/static/([^"]+)"', TEXTS["index.html"]))
    for text in TEXTS.values():
        used |= set(re.findall(r'^(?:import .*|\} )from "\./([^"]+)";$', text, re.MULTILINE))
    assert used | {"index.html"} == set(FILES)


def test_every_module_is_fetched_at_once_and_not_when_its_importer_was_read():
    preloaded = re.findall(r'rel="modulepreload" href="/static/([^"]+)"', TEXTS["index.html"])
    modules = [name for name in FILES if name.endswith(".js")]
    assert preloaded == sorted(set(modules) - {"early.js", "main.js"})


def test_no_file_names_another_server():
    # The namespace of SVG is a name, and is never fetched.
    addresses = {
        (name, address)
        for name, text in TEXTS.items()
        for address in re.findall(r"\b(?:https?:)?//[\w.-]+\.\w+", text)
        if address != "http://www.w3.org"
    }
    assert addresses == set()


@pytest.mark.parametrize(
    "word",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
     "DOMParser", "createContextualFragment", "setHTML"],
)  # fmt: skip
def test_no_script_turns_text_into_html_or_code(word: str):
    assert [name for name, text in TEXTS.items() if word in text] == []


def test_the_html_holds_no_script_no_style_and_no_listener():
    html = TEXTS["index.html"]
    assert re.findall(r"<script(?![^>]* src=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", html) == []


def test_the_page_comes_with_its_policy(client: TestClient):
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_the_policy_allows_this_server_only_and_no_inline_code():
    rules = {
        rule.split(" ")[0]: rule.split(" ", 1)[1] for rule in CONTENT_SECURITY_POLICY.split("; ")
    }
    assert rules["default-src"] == rules["script-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


def test_every_file_has_its_type(client: TestClient):
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}
    for name, file in FILES.items():
        response = client.get(f"/static/{name}")
        assert response.content == file.content
        assert response.headers["content-type"].startswith(types[name.rpartition(".")[2]])


def test_a_browser_that_has_the_file_is_told_so(client: TestClient):
    first = client.get("/static/main.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'W/{first.headers["etag"]}, "other"'):
        again = client.get("/static/main.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    other = client.get("/static/main.js", headers={"if-none-match": '"other"'})
    assert other.status_code == 200


def test_a_head_request_gets_the_headers(client: TestClient):
    response = client.head("/")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(FILES["index.html"].content))


def test_the_icon_is_where_browsers_look(client: TestClient):
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "..%2fstatic_files.py", "%2e%2e/%2e%2e/settings.py",
     "/etc/passwd", "main.js/", "main.js%00", "__init__.py", ""],
)  # fmt: skip
def test_what_is_no_file_of_the_page_is_not_found(client: TestClient, name: str):
    with pytest.raises(RequestError, match=r"^the page has no such file$") as caught:
        client.get(f"/static/{name}")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
