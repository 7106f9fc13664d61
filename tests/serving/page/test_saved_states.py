"""States of conversations: saved below an answer, gone on from, forked, moved, forgotten."""

from pathlib import Path
from typing import Any

from tests.serving.page.actions import last_answer, say, settle, show, tool
from tests.serving.page.model_server import STATE_BYTES, ModelServer


def save_state(page: Any) -> None:
    tool(last_answer(page), "Save the state here")
    last_answer(page).locator(".saved").wait_for()


def test_after_a_state_was_saved_only_what_follows_it_is_sent(page: Any, model_server: ModelServer):
    show(page, "chat")
    page.fill("#system", "Be brief.")
    say(page, "one")
    save_state(page)
    assert last_answer(page).locator(".saved").inner_text() == "state kept, 2.0 MB"
    assert model_server.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "You said: one"},
    ]
    say(page, "two")
    assert model_server.bodies[-1]["state"] == "state-1"
    assert model_server.bodies[-1]["messages"] == [{"role": "user", "content": "two"}]
    assert page.locator(".meter .tokens").inner_text() == "13,687 tokens"


def test_a_state_that_read_another_system_prompt_is_not_used(page: Any, model_server: ModelServer):
    say(page, "one")
    save_state(page)
    show(page, "chat")
    page.fill("#system", "Be brief.")
    say(page, "two")
    assert "state" not in model_server.bodies[-1]
    assert len(model_server.bodies[-1]["messages"]) == 4


def test_a_branch_that_leaves_before_the_state_does_not_use_it(
    page: Any, model_server: ModelServer
):
    say(page, "one")
    say(page, "two")
    save_state(page)
    tool(last_answer(page), "Write again")
    settle(page)
    page.locator(".branches", has_text="2 / 2").wait_for()
    assert "state" not in model_server.bodies[-1]


def test_where_the_server_forgot_the_state_the_conversation_is_read_again(
    page: Any, model_server: ModelServer
):
    say(page, "one")
    save_state(page)
    model_server.states = {}
    assert say(page, "two") == "You said: two"
    assert "state" not in model_server.bodies[-1]
    assert len(model_server.bodies[-1]["messages"]) == 3
    assert page.locator(".saved").count() == 0


def test_a_new_conversation_goes_on_from_a_state(page: Any, model_server: ModelServer):
    say(page, "one")
    save_state(page)
    show(page, "memory")
    page.get_by_role("button", name="Go on in a new conversation: one").click()
    page.get_by_text("It has read 12,480 tokens already, held in 2.0 MB.").wait_for()
    say(page, "two")
    assert model_server.bodies[-1]["state"] == "state-1"
    assert model_server.bodies[-1]["messages"] == [{"role": "user", "content": "two"}]


def test_on_a_phone_the_conversation_that_was_opened_is_seen(page: Any):
    page.set_viewport_size({"width": 390, "height": 500})
    say(page, "one")
    save_state(page)
    show(page, "chat")
    page.locator("#panel").evaluate("(each) => (each.scrollTop = 500)")
    show(page, "memory")
    # Each tab is seen from its start.
    assert page.locator("#panel").evaluate("(each) => each.scrollTop") == 0
    page.get_by_role("button", name="Go on in a new conversation: one").click()
    page.locator("#panel").wait_for(state="hidden")
    page.get_by_text("Go on from here").wait_for()


def test_where_a_state_is_gone_on_from_no_system_prompt_can_be_written(page: Any):
    say(page, "one")
    save_state(page)
    show(page, "memory")
    page.get_by_role("button", name="Go on in a new conversation: one").click()
    show(page, "chat")
    page.get_by_text("has read its own").wait_for()
    assert page.locator("#system").is_disabled()
    page.keyboard.press("Control+Shift+O")
    assert page.locator("#system").is_enabled()


def test_a_state_is_forked_and_deleted(page: Any, model_server: ModelServer):
    say(page, "one")
    save_state(page)
    show(page, "memory")
    page.get_by_role("button", name="Fork: one").click()
    page.locator("#header h1", has_text="From one (fork)").wait_for()
    page.locator(".states li").nth(1).wait_for()
    page.get_by_role("button", name="Delete: one", exact=True).click()
    page.locator(".states li").nth(1).wait_for(state="detached")
    assert list(model_server.states or {}) == ["state-2"]


def test_a_state_is_downloaded_and_read_from_a_file(
    page: Any, model_server: ModelServer, tmp_path: Path
):
    say(page, "one")
    save_state(page)
    show(page, "memory")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download: one").click()
    assert download.value.suggested_filename == "one.safetensors"
    file = tmp_path / "one.safetensors"
    download.value.save_as(file)
    assert file.read_bytes() == b"weights"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="From a file").click()
    chooser.value.set_files(file)
    page.locator("#header h1", has_text="From imported").wait_for()
    say(page, "two")
    assert model_server.bodies[-1]["state"] == "state-2"


def test_where_the_server_keeps_no_states_the_page_speaks_of_none(
    page: Any, model_server: ModelServer
):
    model_server.states = None
    page.reload()
    page.wait_for_selector(".dot.ready")
    say(page, "one")
    assert last_answer(page).get_by_role("button", name="Save the state here").count() == 0
    show(page, "memory")
    assert not page.get_by_text("Saved states").is_visible()


def test_the_meter_counts_what_a_transformer_would_hold_and_says_how(page: Any):
    say(page, "one two three")
    page.click(".meter")
    memory = page.locator(".memory")
    assert memory.locator(".figure").inner_text() == "2.0 MB"
    # 1,209 tokens of 2 x 24 x 1024 x 2 bytes.
    assert "119 MB" in memory.locator(".legend").inner_text()
    memory.get_by_text("How this is counted").click()
    assert "2 × 24 × 1024 × 2 bytes = 98 kB" in memory.inner_text()
    assert STATE_BYTES < 119e6
