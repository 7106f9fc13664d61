"""What a user of the page does, in words."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def begin(page: "Page", text: str) -> None:
    """Send a message, and do not wait for the answer."""
    page.fill("#message", text)
    page.press("#message", "Enter")


def say(page: "Page", text: str) -> str:
    """Send a message and return the text of the answer when it is complete."""
    begin(page, text)
    return answer(page)


def answer(page: "Page") -> str:
    """Wait until nothing is being written, and return the last answer's text."""
    settle(page)
    page.wait_for_selector("#send[data-shows=send]")
    settle(page)
    return last_answer(page).locator(".body > .prose").inner_text()


def settle(page: "Page") -> None:
    """Wait until the page has drawn what was done."""
    page.evaluate("() => new Promise((go) => setTimeout(() => requestAnimationFrame(() => go())))")


def open_conversation(page: "Page", title: str) -> None:
    """Choose a conversation in the list and wait until it is shown."""
    page.locator(".entry .title", has_text=title).click()
    page.locator("#header h1", has_text=title).wait_for()
    settle(page)


def last_answer(page: "Page") -> "Locator":
    return page.locator(".message.assistant").last


def tool(message: "Locator", name: str) -> None:
    """Press one of the buttons below a message."""
    message.hover()
    message.get_by_role("button", name=name, exact=True).click()


def show(page: "Page", tab: str) -> None:
    """Open the panel at one of its tabs."""
    if not page.locator("#panel").is_visible():
        page.click("#open-panel")
    page.click(f"#tab-{tab}")


def titles(page: "Page") -> list[str]:
    """Return the titles in the list of conversations."""
    return page.locator(".entry .words").all_inner_texts()
