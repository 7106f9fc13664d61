"""Everyone can use the page: axe finds nothing serious, the keyboard reaches all, phones fit it."""

from typing import Any

import pytest

from tests.serving.page.actions import last_answer, say, settle, show, tool
from tests.serving.page.model_server import ModelServer

ANSWER = """<think>Let me see.</think>
# A heading

Words with `code`, a [link](https://example.org) and **weight**.

| a | b |
|---|--:|
| 1 | 2 |

```python
def f(x):  # why
    return "text" + str(1)
```

- [x] done
- [ ] to do

> quoted
"""


def violations(page: Any) -> list[str]:
    """Return what axe finds, of any weight, as lines that say where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{each['impact']} {each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (390, "dark"),
        pytest.param(1280, "dark", marks=SLOW),
        pytest.param(390, "light", marks=SLOW),
    ],
)
def test_axe_finds_nothing(page: Any, model_server: ModelServer, width: int, scheme: str):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    settle(page)
    assert violations(page) == []
    model_server.answers["q"] = ANSWER
    say(page, "q")
    last_answer(page).get_by_text("Thoughts").click()
    tool(last_answer(page), "Save the state here")
    last_answer(page).locator(".saved").wait_for()
    page.fill("#message", "refuse")
    page.press("#message", "Enter")
    page.locator(".problem:visible").wait_for()
    # Tools that appear under the pointer are judged as they then look.
    last_answer(page).hover()
    settle(page)
    assert violations(page) == []
    for tab in ("chat", "memory", "page"):
        show(page, tab)
        assert violations(page) == []
    page.keyboard.press("Control+/")
    assert violations(page) == []


@pytest.mark.parametrize("width", [320, 1280, *(pytest.param(n, marks=SLOW) for n in (390, 768))])
def test_nothing_is_wider_than_the_screen(page: Any, model_server: ModelServer, width: int):
    page.set_viewport_size({"width": width, "height": 700})
    model_server.answers["q"] = ANSWER + "x" * 500 + "\n\n|" + " wide |" * 40 + "\n|" + "-|" * 40
    say(page, "q " + "y" * 300)
    model_server.answers["r"] = model_server.answers["q"]
    say(page, "r")
    wide = page.evaluate(
        "() => [document.documentElement, document.getElementById('scroller')]"
        ".map((each) => each.scrollWidth - each.clientWidth)"
    )
    assert wide == [0, 0]
    box = page.locator("#composer").bounding_box()
    assert box["y"] + box["height"] <= 700


def test_the_list_opens_over_a_phones_page_and_closes(page: Any):
    page.set_viewport_size({"width": 390, "height": 800})
    say(page, "one")
    assert not page.locator("#sidebar").is_visible()
    page.click("#open-sidebar")
    page.locator(".entry .title").wait_for()
    page.keyboard.press("Escape")
    page.locator("#sidebar").wait_for(state="hidden")
    page.click("#open-sidebar")
    page.locator(".entry .title").click()
    page.locator("#sidebar").wait_for(state="hidden")


def test_a_screen_reader_is_told_when_an_answer_is_there(page: Any, model_server: ModelServer):
    model_server.answers["q"] = "It is so."
    say(page, "q")
    announcer = page.locator("#announcer")
    assert announcer.get_attribute("aria-live") == "polite"
    assert announcer.inner_text() == "The answer: It is so."
    # Each message says whose it is, and not by its colour only.
    assert page.locator(".message").first.inner_text().startswith("You said:")


def test_every_button_and_field_has_a_name(page: Any):
    say(page, "one")
    show(page, "chat")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, select")].filter((each) =>
            !(each.ariaLabel || each.innerText.trim() || each.labels?.length))
            .map(({outerHTML}) => outerHTML)"""
    )
    assert nameless == []


def test_the_keyboard_alone_is_enough(page: Any):
    # The box has the focus from the start.
    page.keyboard.type("one")
    page.keyboard.press("Enter")
    last_answer(page).locator(".stats span").first.wait_for()
    page.keyboard.press("Control+/")
    assert page.locator("#shortcuts").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#shortcuts").is_visible()
    page.keyboard.press("Control+,")
    assert page.evaluate("() => document.activeElement.id") == "tab-chat"
    page.keyboard.press("ArrowRight")
    assert page.locator("#tabpanel-memory").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#panel").is_visible()
    assert page.evaluate("() => document.activeElement.id") == "open-panel"
    page.keyboard.press("Control+k")
    assert page.evaluate("() => document.activeElement.id") == "search"
    page.keyboard.press("Control+Shift+O")
    assert page.evaluate("() => document.activeElement.id") == "message"


def test_the_tools_below_an_answer_are_reached_and_seen_by_keyboard(page: Any):
    say(page, "one")
    say(page, "two")
    copy = page.locator(".message.assistant").first.get_by_role("button", name="Copy", exact=True)
    page.mouse.move(0, 0)
    copy.focus()
    settle(page)
    assert copy.evaluate("(each) => getComputedStyle(each).opacity") == "1"


@pytest.mark.parametrize(("choice", "ground"), [("Dark", "25, 24, 22"), ("Light", "252, 251, 249")])
def test_the_looks_are_chosen_and_remembered(page: Any, choice: str, ground: str):
    opposite = "light" if choice == "Dark" else "dark"
    page.emulate_media(color_scheme=opposite, reduced_motion="reduce")
    show(page, "page")
    page.get_by_text(choice, exact=True).click()
    look = "() => getComputedStyle(document.documentElement).backgroundColor"
    assert ground in page.evaluate(look)
    page.reload()
    page.wait_for_selector(".dot.ready")
    assert ground in page.evaluate(look)
    show(page, "page")
    page.get_by_text("System", exact=True).click()
    assert ground not in page.evaluate(look)


def test_a_server_that_is_not_there_is_told_and_tried_again(page: Any):
    page.route("**/v1/**", lambda route: route.abort())
    page.fill("#message", "one")
    page.press("#message", "Enter")
    problem = page.get_by_role("alert").locator("span")
    problem.wait_for()
    assert problem.inner_text() == "The server cannot be reached. Is it running?"
