"""Conversations are kept in the browser: several, found, named, deleted, moved as files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.serving.page.actions import answer, open_conversation, say, settle, show, titles, tool
from tests.serving.page.model_server import ModelServer


def reload(page: Any) -> None:
    page.reload()
    page.wait_for_selector(".dot.ready")


def test_conversations_outlive_a_reload_with_their_branches(page: Any):
    say(page, "first question")
    tool(page.locator(".message.assistant").last, "Write again")
    answer(page)
    page.keyboard.press("Control+Shift+O")
    say(page, "second question")
    reload(page)
    assert titles(page) == ["second question", "first question"]
    assert page.locator(".message").count() == 0
    open_conversation(page, "first question")
    assert answer(page) == "You said: first question"
    assert "2 / 2" in page.locator(".branches").inner_text()


def test_nothing_of_a_conversation_is_in_the_stores_that_go_with_requests(page: Any):
    say(page, "secret words")
    kept = page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert "secret" not in kept


def test_an_answer_that_a_reload_cuts_is_kept_as_far_as_it_came(
    page: Any, model_server: ModelServer
):
    model_server.delay_seconds = 0.05
    model_server.answers["q"] = "word " * 200
    page.evaluate("() => { performance.now = ((at) => () => (at += 3000))(0); }")
    page.fill("#message", "q")
    page.press("#message", "Enter")
    page.locator(".message.assistant", has_text="word word word").wait_for()
    page.evaluate("() => new Promise((go) => setTimeout(go, 100))")
    reload(page)
    open_conversation(page, "q")
    assert answer(page).startswith("word word")


def test_search_looks_into_the_texts(page: Any, model_server: ModelServer):
    model_server.answers["animals"] = "A Walrus and a heron."
    say(page, "animals")
    page.keyboard.press("Control+Shift+O")
    say(page, "plants")
    page.keyboard.press("Control+k")
    page.keyboard.type("walrus")
    page.locator(".entry").nth(1).wait_for(state="detached")
    assert titles(page) == ["animals"]
    page.fill("#search", "zebra")
    page.get_by_text("Nothing was found.").wait_for()
    page.fill("#search", "")
    page.locator(".entry").nth(1).wait_for()


def test_a_conversation_is_renamed_where_it_is_listed(page: Any):
    say(page, "old name")
    page.locator(".entry").hover()
    page.get_by_role("button", name="Rename old name").click()
    page.get_by_label("Title").fill("new name")
    page.keyboard.press("Enter")
    page.locator("#header h1", has_text="new name").wait_for()
    reload(page)
    assert titles(page) == ["new name"]


def test_a_renaming_that_is_given_up_changes_nothing(page: Any):
    say(page, "old name")
    page.locator(".entry").hover()
    page.get_by_role("button", name="Rename old name").click()
    page.get_by_label("Title").fill("new name")
    page.keyboard.press("Escape")
    settle(page)
    assert titles(page) == ["old name"]


def test_what_was_deleted_can_be_had_back_for_a_while(page: Any):
    say(page, "question")
    page.locator(".entry").hover()
    page.get_by_role("button", name="Delete question").click()
    page.get_by_text("Your conversations will be listed here").wait_for()
    assert page.locator(".message").count() == 0
    page.get_by_role("button", name="Undo").click()
    page.locator(".message").nth(1).wait_for()
    page.locator(".entry").hover()
    page.get_by_role("button", name="Delete question").click()
    page.get_by_text("Your conversations will be listed here").wait_for()
    reload(page)
    assert titles(page) == []


def test_what_is_exported_is_imported_beside_what_is_there(page: Any, tmp_path: Path):
    say(page, "question")
    show(page, "page")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    file = tmp_path / "conversations.json"
    download.value.save_as(file)
    assert json.loads(file.read_text())["format"] == "receptance-conversations"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import").click()
    chooser.value.set_files(file)
    page.get_by_text("1 conversations were imported.").wait_for()
    assert titles(page) == ["question", "question"]
    page.locator(".entry:not(.current) .title").click()
    settle(page)
    assert answer(page) == "You said: question"


def conversation(**changes: Any) -> dict[str, Any]:
    node = {"id": "a", "parent": "root", "role": "user", "content": "hello", "created": 1}
    whole = {"title": "t", "nodes": {"a": node}, "chosen": {}, "system": "", "sampling": {}}
    return {"format": "receptance-conversations", "conversations": [{**whole, **changes}]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "the file is not JSON"),
        ("[]", "the file holds no conversations that were exported here"),
        (json.dumps({"format": "other", "conversations": []}), "the file holds no conversations"),
        (json.dumps(conversation(nodes={"a": {"role": "admin"}})), "has no role or no text"),
        (json.dumps(conversation(nodes={"a": None})), "has no role or no text"),
        (
            json.dumps(conversation(nodes={"a": {"role": "user", "content": "", "parent": "b"}})),
            "lacks some of its messages",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_whole(page: Any, tmp_path: Path, content: str, why: str):
    file = tmp_path / "file.json"
    file.write_text(content)
    show(page, "page")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import").click()
    chooser.value.set_files(file)
    notice = page.locator(".notice.error")
    notice.wait_for()
    assert why in notice.inner_text()
    assert titles(page) == []


def test_two_tabs_list_the_same(page: Any, context: Any, model_server: ModelServer, watch: Any):
    other = context.new_page()
    watch.attach(other)
    other.goto(model_server.url)
    other.wait_for_selector(".dot.ready")
    say(page, "from the first")
    other.get_by_text("from the first").wait_for()


def test_each_conversation_has_its_own_draft_and_its_own_settings(page: Any):
    say(page, "one")
    show(page, "chat")
    page.fill("#system", "Be one.")
    page.fill("#message", "half a thought")
    page.keyboard.press("Control+Shift+O")
    assert page.input_value("#message") == ""
    # A new one begins with what was set last.
    assert page.input_value("#system") == "Be one."
    page.fill("#system", "Be two.")
    open_conversation(page, "one")
    assert page.input_value("#message") == "half a thought"
    assert page.input_value("#system") == "Be one."


def test_the_key_is_asked_for_used_and_forgotten(page: Any, model_server: ModelServer):
    model_server.key = "sk-secret"
    reload_without_connection(page)
    page.fill("#api-key", "sk-secret")
    page.get_by_role("button", name="Use", exact=True).click()
    page.wait_for_selector(".dot.ready")
    assert say(page, "hello") == "You said: hello"
    assert stores(page) == "{}{}"
    assert "secret" not in page.url
    reload_without_connection(page)
    assert page.input_value("#api-key") == ""


def test_the_key_is_kept_for_the_tab_if_that_is_asked(page: Any, model_server: ModelServer):
    model_server.key = "sk-secret"
    reload_without_connection(page)
    page.fill("#api-key", "sk-secret")
    page.check("#keep-key")
    page.get_by_role("button", name="Use", exact=True).click()
    page.wait_for_selector(".dot.ready")
    assert stores(page) == '{}{"receptance.key":"sk-secret"}'
    reload(page)
    show(page, "page")
    page.uncheck("#keep-key")
    assert stores(page) == "{}{}"


def reload_without_connection(page: Any) -> None:
    page.reload()
    page.wait_for_selector(".dot.key")
    page.wait_for_selector("#api-key:focus")


def stores(page: Any) -> str:
    return page.evaluate(
        "() => JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})"
    )
