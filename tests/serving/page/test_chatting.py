"""Sending, stopping, writing again, editing, and what the page says of an answer."""

import re
from typing import Any

import pytest

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
from tests.serving.page.model_server import ModelServer


def test_an_answer_is_shown_as_it_comes_and_then_its_figures(page: Any, model_server: ModelServer):
    model_server.delay_seconds = 0.01
    assert say(page, "Hello there, how are you?") == "You said: Hello there, how are you?"
    stats = last_answer(page).locator(".stats").inner_text()
    assert re.search(r"[\d.]+ tokens/s", stats)
    assert re.search(r"first after \d+ ms", stats)
    assert "7 tokens" in stats
    title = last_answer(page).get_by_text("7 tokens", exact=True).get_attribute("title")
    assert title == "1,204 tokens read, of which 1,100 were remembered; 7 written"
    assert page.locator(".meter").inner_text().split("\n") == ["2.0 MB", "1,211 tokens"]


def test_a_rate_is_not_told_of_an_answer_that_came_at_once(page: Any):
    say(page, "one two three")
    assert "5 tokens" in last_answer(page).locator(".stats").inner_text()
    assert "tokens/s" not in last_answer(page).locator(".stats").inner_text()


def test_the_end_stays_in_sight_when_the_panel_narrows_it(page: Any, model_server: ModelServer):
    model_server.answers["q"] = "many words " * 300
    say(page, "q")
    show(page, "chat")
    settle(page)
    gap = "(each) => each.scrollHeight - each.scrollTop - each.clientHeight"
    assert page.locator("#scroller").evaluate(gap) < 2


def test_the_whole_branch_is_sent_and_only_what_was_set(page: Any, model_server: ModelServer):
    say(page, "one")
    say(page, "two")
    assert model_server.bodies[-1] == {
        "model": "rwkv-4-430m",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "You said: one"},
            {"role": "user", "content": "two"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_enter_sends_and_shift_enter_begins_a_line(page: Any, model_server: ModelServer):
    page.fill("#message", "first")
    page.press("#message", "Shift+Enter")
    page.keyboard.type("second")
    assert model_server.bodies == []
    page.press("#message", "Enter")
    answer(page)
    assert model_server.bodies[-1]["messages"][-1]["content"] == "first\nsecond"
    assert page.input_value("#message") == ""


def test_enter_within_an_input_method_does_not_send(page: Any, model_server: ModelServer):
    page.fill("#message", "にほん")
    page.evaluate(
        """() => document.getElementById("message").dispatchEvent(
            new KeyboardEvent("keydown", {key: "Enter", isComposing: true, bubbles: true}))"""
    )
    assert page.input_value("#message") == "にほん"
    assert model_server.bodies == []


@pytest.mark.parametrize("how", ["button", "key"])
def test_an_answer_can_be_stopped_and_what_came_is_kept(
    page: Any, model_server: ModelServer, how: str
):
    begin(page, "endless")
    page.locator(".message.assistant", has_text="on on").wait_for()
    if how == "button":
        page.click("#send")
    else:
        page.keyboard.press("Escape")
    assert answer(page).startswith("on on")
    assert "stopped" in last_answer(page).locator(".stats").inner_text()
    page.wait_for_timeout(100)
    assert model_server.n_cancelled == 1


def test_writing_again_makes_a_branch_and_both_can_be_read(page: Any, model_server: ModelServer):
    model_server.answers["q"] = "the first"
    say(page, "q")
    model_server.answers["q"] = "the second"
    tool(last_answer(page), "Write again")
    assert answer(page) == "the second"
    assert model_server.bodies[-1]["messages"] == [{"role": "user", "content": "q"}]
    assert "2 / 2" in last_answer(page).locator(".branches").inner_text()
    tool(last_answer(page), "Previous branch")
    page.locator(".branches", has_text="1 / 2").wait_for()
    assert answer(page) == "the first"


def test_an_edited_question_is_answered_beside_the_old_one(page: Any, model_server: ModelServer):
    say(page, "one")
    say(page, "two")
    tool(page.locator(".message.user").first, "Edit")
    page.get_by_label("Edit the message").fill("uno")
    page.keyboard.press("Enter")
    assert answer(page) == "You said: uno"
    assert page.locator(".message").count() == 2
    assert model_server.bodies[-1]["messages"] == [{"role": "user", "content": "uno"}]
    tool(page.locator(".message.user").first, "Previous branch")
    page.locator(".message").nth(3).wait_for()


def test_an_edited_answer_stands_as_written_and_is_what_the_model_sees(
    page: Any, model_server: ModelServer
):
    say(page, "one")
    tool(last_answer(page), "Edit")
    page.get_by_label("Edit the message").fill("my words")
    page.get_by_role("button", name="Keep").click()
    assert answer(page) == "my words"
    assert len(model_server.bodies) == 1
    say(page, "two")
    assert model_server.bodies[-1]["messages"][1]["content"] == "my words"


def test_an_edit_that_is_given_up_changes_nothing(page: Any, model_server: ModelServer):
    say(page, "one")
    tool(page.locator(".message.user").first, "Edit")
    page.get_by_label("Edit the message").fill("else")
    page.keyboard.press("Escape")
    assert page.locator(".said").inner_text() == "one"
    assert len(model_server.bodies) == 1


def test_the_system_prompt_and_what_was_set_of_the_sampling_are_sent(
    page: Any, model_server: ModelServer
):
    show(page, "chat")
    page.fill("#system", "Be brief.")
    page.locator("#sampling-temperature").fill("0.7")
    page.get_by_label("Top k, as a number").fill("40")
    page.fill("#sampling-max_tokens", "12")
    page.fill("#sampling-stop", "END\n###")
    say(page, "one")
    sent = model_server.bodies[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["temperature"], sent["top_k"], sent["max_tokens"]) == (0.7, 40, 12)
    assert sent["stop"] == ["END", "###"]
    assert "top_p" not in sent
    page.get_by_role("button", name="Reset").click()
    say(page, "two")
    assert not {"temperature", "top_k", "max_tokens", "stop"} & set(model_server.bodies[-1])
    assert page.get_by_label("Top k, as a number").input_value() == "0"


def test_a_thought_is_folded(page: Any, model_server: ModelServer):
    model_server.answers["q"] = "<think>first this, then that</think>\n\nIt is **so**."
    assert say(page, "q") == "It is so."
    thought = last_answer(page).locator(".thinking .prose")
    assert not thought.is_visible()
    last_answer(page).get_by_text("Thoughts").click()
    assert thought.inner_text() == "first this, then that"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("refuse", "the queue is full Try again in 7 s."),
        ("fail", "the engine failed"),
        ("break", "The connection broke before the answer was finished."),
    ],
)
def test_an_error_is_told_in_the_servers_words_and_can_be_tried_again(
    page: Any, model_server: ModelServer, asked: str, said: str
):
    begin(page, asked)
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert problem.locator("span").inner_text() == said
    # What came before the error is kept.
    assert ("You said:" in last_answer(page).inner_text()) == (asked != "refuse")
    problem.get_by_role("button", name="Try again").click()
    page.locator(".branches", has_text="2 / 2").wait_for()
    answer(page)
    assert [each["messages"] for each in model_server.bodies] == [
        [{"role": "user", "content": asked}]
    ] * 2


def test_an_answer_goes_on_while_another_conversation_is_read(page: Any, model_server: ModelServer):
    model_server.delay_seconds = 0.02
    begin(page, "a long way round the old house and back again")
    page.wait_for_selector(".message.assistant")
    page.keyboard.press("Control+Shift+O")
    assert page.locator(".message").count() == 0
    model_server.delay_seconds = 0.0
    assert say(page, "meanwhile") == "You said: meanwhile"
    open_conversation(page, "a long way")
    assert answer(page) == "You said: a long way round the old house and back again"


def test_only_one_answer_is_written_at_a_time(page: Any, model_server: ModelServer):
    begin(page, "endless")
    page.wait_for_selector("#send[data-shows=stop]")
    page.fill("#message", "more")
    page.press("#message", "Enter")
    assert page.input_value("#message") == "more"
    assert len(model_server.bodies) == 1
    page.keyboard.press("Escape")


def test_where_there_are_several_models_one_is_chosen(page: Any, model_server: ModelServer):
    assert not page.get_by_label("Model", exact=True).is_visible()
    model_server.names = ["rwkv-4-430m", "rwkv-4-430m:poems"]
    page.reload()
    page.wait_for_selector(".dot.ready")
    page.get_by_label("Model", exact=True).select_option("rwkv-4-430m:poems")
    say(page, "one")
    assert model_server.bodies[-1]["model"] == "rwkv-4-430m:poems"


def test_a_long_conversation_is_not_drawn_anew_for_each_word(page: Any, model_server: ModelServer):
    say(page, "one")
    first = page.locator(".message.assistant .prose p").first
    first.evaluate(
        "(each) => { each.isOld = true; window.n = 0; new MutationObserver("
        "(changes) => (window.n += changes.length)).observe(each.closest('li'),"
        "{subtree: true, childList: true, characterData: true}); }"
    )
    model_server.delay_seconds = 0.005
    say(page, "two " * 50)
    assert first.evaluate("(each) => each.isOld")
    # Only what can be done with it is drawn again: when the answer begins, and when it ends.
    assert page.evaluate("() => window.n") <= 4
