"""The playground's page under the hands of a test."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect

from tests.servers import wait_for

MARKUP = "<img src=/markup onerror=document.title='ran'>"
"""What the texts of the task `hostile` are."""

expect.set_options(timeout=30_000)


@contextmanager
def opening(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Open the page on a task; afterwards, say what its console holds and what it asked of whom."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        # A browser calls an answer of 4xx an error; to the page it is an answer.
        if not re.search("/(predict|tasks)", message.location["url"]):
            said.append(message.text)

    def open_(task: str = "mortality", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", listen)
        page.goto(f"{url}/#{task}")
        expect(page.locator("#predict")).to_be_enabled()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert {each for each in asked if not each.startswith((url, "data:"))} == set()
    assert not [each for each in asked if each.endswith("/markup")]


def choose(page: Page, sample: str) -> None:
    page.get_by_role("button", name=sample, exact=True).click()
    await_answer(page)


def await_answer(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("Predicted:")


def ask(page: Page) -> None:
    page.get_by_role("button", name="Predict").click()
    await_answer(page)


def answer_of(page: Page) -> dict[str, Any]:
    shown = page.get_by_role("region", name="Answer as JSON", include_hidden=True)
    return json.loads(shown.text_content() or "")


def described(control: Locator) -> str:
    """Return what a screen reader says after a control's name."""
    return control.evaluate(
        "e => (e.getAttribute('aria-describedby') || '').split(' ').filter(Boolean)"
        ".map(id => document.getElementById(id).textContent).join(' ')"
    )


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {n['html'][:120]}" for each in found for n in each["nodes"]]


def hold(page: Page) -> list[Route]:
    """Hold back what the model is asked, for the test to let it go."""
    held: list[Route] = []
    page.route("**/predict/*", lambda route: held.append(route))
    page.get_by_label("Note 1").fill("a note")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#result")).to_have_attribute("aria-busy", "true")
    await_held(page, held)
    return held


def await_held(page: Page, held: list[Route]) -> None:
    wait_for(lambda: page.wait_for_timeout(10) or held, "a request")  # the page goes on meanwhile


def drop(page: Page, name: str, media_type: str, content: bytes) -> None:
    transfer = page.evaluate_handle(
        "([name, type, bytes]) => {"
        "  const transfer = new DataTransfer();"
        "  transfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));"
        "  return transfer;"
        "}",
        [name, media_type, list(content)],
    )
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator(".pictures > li")).to_have_count(1)


def paste(control: Locator, text: str) -> None:
    control.evaluate(
        "(control, text) => {"
        "  const clipboardData = new DataTransfer();"
        "  clipboardData.setData('text', text);"
        "  const options = { clipboardData, bubbles: true, cancelable: true };"
        "  control.dispatchEvent(new ClipboardEvent('paste', options));"
        "}",
        text,
    )
