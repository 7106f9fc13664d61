"""The page and the server that it comes with, end to end; only the model is made up."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving.access import KeyRing
from receptance.serving.app import ServerApp, create_app
from receptance.serving.settings import Settings
from tests.serving.http_server import served
from tests.serving.page.actions import (
    answer,
    begin,
    last_answer,
    open_conversation,
    say,
    settle,
    show,
    tool,
)
from tests.serving.page.attacks import ATTACKS, check_prose
from tests.serving.page.writers import writer_of

WORDS = [f" word{index}" for index in range(60)]
KEYS = ["anna:sk-anna-0123456789", "ben:sk-ben-0123456789"]
SETTINGS = Settings(max_sequences=4, chunk_tokens=64, default_max_tokens=12, max_tokens=10**6)


@pytest.fixture(scope="module")
def words_lm() -> LanguageModel:
    return writer_of(WORDS)


@pytest.fixture(scope="module")
def words_app(words_lm: LanguageModel) -> ServerApp:
    return create_app(words_lm, SETTINGS, model_name="words")


@pytest.fixture(scope="module")
def words_server(words_app: ServerApp) -> Iterator[str]:
    with served(words_app) as url:
        yield url


@pytest.fixture
def origin(words_server: str) -> str:
    """Where the page comes from, in place of the made-up server."""
    return words_server


def be_sure(page: Any) -> None:
    """Take the likeliest token always, so that an answer is a function of what was said."""
    show(page, "chat")
    page.get_by_label("Temperature, as a number").fill("0")


def asked(url: str, *turns: str) -> dict[str, Any]:
    """Return what the API answers to these turns, the user's and the model's."""
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    body = {"model": "words", "messages": messages, "temperature": 0}
    return httpx.post(f"{url}/v1/chat/completions", json=body).json()


def said(url: str, *turns: str) -> str:
    return asked(url, *turns)["choices"][0]["message"]["content"]


def wait_until_idle(app: ServerApp) -> None:
    end = time.monotonic() + 5
    while app.room.n_running and time.monotonic() < end:
        time.sleep(0.005)
    assert app.room.n_running == 0


def save_state(page: Any) -> None:
    tool(last_answer(page), "Save the state here")
    last_answer(page).locator(".saved").wait_for()


def test_what_is_shown_is_what_the_server_says_and_counts(page: Any, origin: str):
    be_sure(page)
    text = say(page, "What is out there?")
    reference = asked(origin, "What is out there?")
    assert text == reference["choices"][0]["message"]["content"]
    stats = last_answer(page).locator(".stats")
    assert "12 tokens" in stats.inner_text()
    assert "cut at its length limit" in stats.inner_text()
    title = stats.get_by_text("12 tokens", exact=True).get_attribute("title")
    assert title
    assert title.startswith(f"{reference['usage']['prompt_tokens']} tokens read")
    (model,) = httpx.get(f"{origin}/v1/models").json()["data"]
    n_bytes = model["meta"]["state_bytes"]
    label = page.locator(".meter").get_attribute("aria-label")
    assert f"{n_bytes / 1000:.1f} kB · {reference['usage']['total_tokens']} tokens" in label
    assert say(page, "And then?") == said(origin, "What is out there?", text, "And then?")


def test_a_stop_reaches_the_engine(page: Any, words_app: ServerApp):
    show(page, "chat")
    page.get_by_label("Tokens at most").fill("1000000")
    begin(page, "Go on and on.")
    last_answer(page).get_by_text("word").wait_for()
    assert words_app.room.n_running == 1
    page.click("#send")
    last_answer(page).get_by_text("stopped", exact=True).wait_for()
    wait_until_idle(words_app)
    page.get_by_label("Tokens at most").fill("5")
    assert len(say(page, "Once more.").split()) == 5


def test_what_is_edited_or_written_again_is_answered_as_if_it_were_new(page: Any, origin: str):
    be_sure(page)
    first = say(page, "one")
    tool(last_answer(page), "Write again")
    page.locator(".branches", has_text="2 / 2").wait_for()
    assert answer(page) == first
    tool(page.locator(".message.user"), "Edit")
    page.get_by_label("Edit the message").fill("two")
    page.keyboard.press("Enter")
    page.locator(".message.user", has_text="two").wait_for()
    assert answer(page) == said(origin, "two") != first


def test_a_conversation_goes_on_from_its_state_as_if_it_had_been_read_again(page: Any, origin: str):
    be_sure(page)
    text = say(page, "one")
    save_state(page)
    with page.expect_request("**/v1/chat/completions") as sent:
        answered = say(page, "two")
    assert len(sent.value.post_data_json["messages"]) == 1
    assert answered == said(origin, "one", text, "two")
    # A state upon a state, and from there a conversation of its own.
    save_state(page)
    show(page, "memory")
    page.get_by_role("button", name="Fork: one").first.click()
    page.locator("#header h1", has_text="From one (fork)").wait_for()
    assert say(page, "three") == said(origin, "one", text, "two", answered, "three")


def test_a_state_is_moved_as_a_file_and_deleted(page: Any, origin: str, tmp_path: Path):
    be_sure(page)
    text = say(page, "moved")
    save_state(page)
    show(page, "memory")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download: moved").click()
    download.value.save_as(tmp_path / "moved.safetensors")
    page.get_by_role("button", name="Delete: moved").click()
    page.get_by_role("button", name="Delete: moved").wait_for(state="detached")
    # What is no longer kept is not said to be.
    last_answer(page).locator(".saved").wait_for(state="detached")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="From a file").click()
    chooser.value.set_files(tmp_path / "moved.safetensors")
    page.locator("#header h1", has_text="From").wait_for()
    assert say(page, "more") == said(origin, "moved", text, "more")


def test_a_file_that_is_no_state_is_refused_in_the_servers_words(page: Any, tmp_path: Path):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    show(page, "memory")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="From a file").click()
    chooser.value.set_files(tmp_path / "junk.safetensors")
    notice = page.locator(".notice.error")
    notice.wait_for()
    assert notice.inner_text().startswith("The state could not be read: ")


def test_a_state_that_was_deleted_elsewhere_is_done_without(page: Any, origin: str):
    be_sure(page)
    text = say(page, "one")
    save_state(page)
    with httpx.Client(base_url=origin) as client:
        for state in client.get("/v1/states").json()["data"]:
            client.delete(f"/v1/states/{state['id']}")
    answered = say(page, "two")
    assert answered == said(origin, "one", text, "two")
    save_state(page)
    assert say(page, "three") == said(origin, "one", text, "two", answered, "three")


def test_without_a_network_the_page_stays_and_with_it_goes_on(page: Any, context: Any, origin: str):
    be_sure(page)
    say(page, "before")
    page.keyboard.press("Control+Shift+O")
    context.set_offline(True)
    begin(page, "during")
    page.locator(".problem:visible").wait_for()
    page.locator(".dot.down").wait_for()
    open_conversation(page, "before")
    assert page.locator(".message").count() == 2
    open_conversation(page, "during")
    context.set_offline(False)
    page.locator(".dot.ready").wait_for()
    page.get_by_role("button", name="Try again").click()
    page.locator(".branches", has_text="2 / 2").wait_for()
    assert answer(page) == said(origin, "during")


def test_what_is_deleted_while_it_is_written_stays_deleted(page: Any, words_app: ServerApp):
    show(page, "chat")
    page.get_by_label("Tokens at most").fill("1000000")
    begin(page, "short-lived")
    last_answer(page).get_by_text("word").wait_for()
    page.locator(".entry").hover()
    page.get_by_role("button", name="Delete short-lived").click()
    page.get_by_text("Your conversations will be listed here").wait_for()
    wait_until_idle(words_app)
    settle(page)
    page.reload()
    page.wait_for_selector(".dot.ready")
    assert page.locator(".entry").count() == 0


@pytest.fixture
def locked(words_lm: LanguageModel) -> Iterator[str]:
    """The URL of a server that needs a key."""
    with served(create_app(words_lm, SETTINGS, keys=KeyRing(KEYS))) as url:
        yield url


def use_key(page: Any, key: str) -> None:
    page.fill("#api-key", key)
    page.get_by_role("button", name="Use", exact=True).click()


def test_each_key_has_its_own_states(context: Any, watch: Any, locked: str):
    watch.origin = locked
    page = context.new_page()
    watch.attach(page)
    page.goto(locked)
    page.get_by_text("This server needs an API key.").wait_for()
    use_key(page, "sk-wrong-0123456789")
    page.get_by_text("The server does not know this key.").wait_for()
    use_key(page, KEYS[0].partition(":")[2])
    page.wait_for_selector(".dot.ready")
    say(page, "mine")
    save_state(page)
    show(page, "memory")
    page.get_by_role("button", name="Delete: mine").wait_for()
    show(page, "page")
    use_key(page, KEYS[1].partition(":")[2])
    page.get_by_role("button", name="Delete: mine").wait_for(state="detached")
    # What the other key's state remembers is read again.
    last_answer(page).locator(".saved").wait_for(state="detached")
    with page.expect_request("**/v1/chat/completions"):
        assert say(page, "on")


def test_nothing_that_comes_over_the_wire_is_ever_run(context: Any, watch: Any):
    lm = writer_of([f"\n{each}\n" for each in ATTACKS])
    settings = Settings(max_sequences=2, default_max_tokens=120)
    with ExitStack() as stack:
        url = stack.enter_context(served(create_app(lm, settings, model_name=ATTACKS[1])))
        watch.origin = url
        page = context.new_page()
        watch.attach(page)
        page.goto(url)
        page.wait_for_selector(".dot.ready")
        # A model that is as likely to write any of its words as any other.
        show(page, "chat")
        page.get_by_label("Temperature, as a number").fill("2")
        page.get_by_label("Seed").fill("1")
        text = say(page, ATTACKS[0])
        assert sum(each.split("\n")[0][:12] in text for each in ATTACKS) > len(ATTACKS) / 2
        save_state(page)
        show(page, "memory")
        page.get_by_role("button", name=re.compile("^Fork")).click()
        page.locator("#header h1", has_text="From").wait_for()
        say(page, ATTACKS[2])
        page.locator(".entry .title").last.click()
        last_answer(page).locator(".saved").wait_for()
        check_prose(page)
