"""A browser and a server for the tests of the page; without a browser they are skipped."""

import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving.page.model_server import ModelServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def serving() -> Iterator[ModelServer]:
    server = ModelServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def model_server(serving: ModelServer) -> ModelServer:
    serving.reset()
    return serving


# A module's, not a session's: while it lives, other tests could not start a loop of events.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(PROGRAMS)} was found")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


class Watch:
    """What a page did that it must not."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.outside: list[str] = []
        self.complaints: list[str] = []

    def see_request(self, request: "Request") -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.outside.append(request.url)

    def see_message(self, message: "ConsoleMessage") -> None:
        # What a test has refused or cut, the page tells in its own way.
        if message.type in ("error", "warning") and not re.search(
            r"status of 4|ERR_FAILED|ERR_INTERNET_DISCONNECTED", message.text
        ):
            self.complaints.append(message.text)

    def attach(self, page: "Page") -> None:
        page.set_default_timeout(15_000)
        page.on("request", self.see_request)
        page.on("console", self.see_message)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture
def origin(model_server: ModelServer) -> str:
    """Where the page comes from."""
    return model_server.url


@pytest.fixture
def watch(origin: str) -> Iterator[Watch]:
    """Every test ends with this: nothing went out, no error and no violation of the policy."""
    watch = Watch(origin)
    yield watch
    assert (watch.outside, watch.complaints) == ([], [])


@pytest.fixture
def context(browser: "Browser") -> "Iterator[BrowserContext]":
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: "BrowserContext", origin: str, watch: Watch) -> Any:
    """The chat page, opened and connected."""
    page = context.new_page()
    watch.attach(page)
    page.goto(origin)
    page.wait_for_selector(".dot.ready")
    return page


@pytest.fixture(scope="module")
def module_page(browser: "Browser", serving: ModelServer) -> Any:
    """One page for tests that only call its functions."""
    page = browser.new_page()
    page.goto(serving.url)
    return page
