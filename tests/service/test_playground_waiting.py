"""What the playground shows while it waits, and where nothing that it knows comes back."""

import pytest
from playwright.sync_api import Page, Route, expect

from tests.pages import answer_of, choose, hold

PHONE = {"viewport": {"width": 360, "height": 740}}


def opacity(page: Page) -> float:
    return float(page.locator(".headline").evaluate("e => getComputedStyle(e).opacity"))


def test_the_last_answer_is_dimmed_while_the_next_is_long_in_coming(open_page):
    page = open_page()
    choose(page, "Complete")
    assert opacity(page) == 1
    (held,) = hold(page)
    expect(page.locator(".headline")).to_have_css("opacity", "0.72")
    held.continue_()
    expect(page.locator("#result")).not_to_have_attribute("aria-busy", "true")
    assert opacity(page) == 1


def test_a_sample_that_waits_for_its_answer_is_not_called_empty(open_page):
    page = open_page()
    held: list[Route] = []
    page.route("**/predict/*", lambda route: held.append(route))
    page.get_by_role("button", name="Only text").click()
    expect(page.get_by_role("status").first).to_have_text("Predicting\u2026")
    expect(page.get_by_text("The record is empty.")).to_have_count(0)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text("The record is empty.")).to_be_visible()


def test_a_telephone_shows_that_an_answer_is_waited_for(open_page):
    page = open_page(**PHONE)
    hold(page)
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("#status")).to_have_text("Predicting\u2026")
    expect(page.locator("#status")).to_be_in_viewport()


def test_a_telephone_shows_that_no_answer_came(open_page):
    page = open_page(**PHONE)
    page.get_by_label("Note 1").fill("a note")
    page.route("**/predict/*", lambda route: route.abort())
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_text("The service cannot be reached")).to_be_in_viewport()


def test_a_task_that_is_long_in_opening_is_said_to(open_page):
    page = open_page()
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.locator("#status")).to_be_empty()
    held: list[Route] = []
    page.route("**/tasks/rating*", lambda route: held.append(route))
    page.get_by_label("Task").select_option("rating")
    expect(page.locator("#status")).to_have_text("Loading\u2026")
    held[0].continue_()
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.locator("#status")).to_be_empty()


def test_a_telephone_shows_that_a_task_is_opened_after_a_record_was_changed(open_page):
    page = open_page(**PHONE)
    choose(page, "Only text")
    page.get_by_label("Note 1").fill("another note")
    expect(page.locator("#status")).to_contain_text("has changed")
    held: list[Route] = []
    page.route("**/tasks/rating*", lambda route: held.append(route))
    page.get_by_label("Task").select_option("rating")
    expect(page.locator("#status")).to_have_text("Loading\u2026")
    expect(page.locator("#status")).to_be_in_viewport()


@pytest.mark.parametrize("body", ['{"message": "no healthy upstream"}', '"bad gateway"', "{}"])
def test_a_gateway_that_answers_with_json_of_its_own_is_told_by_its_status(open_page, body):
    page = open_page()
    page.get_by_label("Note 1").fill("a note")
    options = {"status": 503, "content_type": "application/json", "headers": {"Retry-After": "3"}}
    page.route("**/predict/*", lambda route: route.fulfill(body=body, **options))
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("Status 503; try again in 3 s")
    expect(page.locator("#result")).not_to_have_attribute("aria-busy", "true")


def test_another_key_brings_its_own_tasks_and_leaves_the_record(open_page, details):
    page = open_page("rating")
    reached = {"Bearer one": ["rating"], "Bearer all": ["mortality", "rating"]}

    def tasks(route: Route) -> None:
        names = reached.get(route.request.headers.get("authorization", ""), [])
        found = [{"name": name, "title": details(name)["title"]} for name in names]
        route.fulfill(json={"tasks": found})

    page.route("**/tasks", tasks)
    page.get_by_label("Note 1").fill("a note")
    page.get_by_text("API key").click()
    key, offered = page.get_by_label("Key", exact=True), page.locator("#task option")
    for name, count in (("one", 1), ("all", 2)):
        key.fill(name)
        key.press("Tab")
        expect(offered).to_have_count(count)
        expect(page.get_by_label("Task")).to_have_value("rating")
    expect(page.get_by_label("Note 1")).to_have_value("a note")
    key.fill("none")
    key.press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("no_task")
    key.fill("one")
    key.press("Tab")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_key_that_does_not_reach_the_task_opens_one_that_it_does(open_page):
    page = open_page("mortality")
    page.route(
        "**/tasks",
        lambda route: route.fulfill(json={"tasks": [{"name": "rating", "title": "Stars"}]}),
    )
    page.get_by_text("API key").click()
    page.get_by_label("Key", exact=True).fill("one")
    page.get_by_label("Key", exact=True).press("Tab")
    expect(page.get_by_label("Task")).to_have_value("rating")
    expect(page.locator("#predict")).to_be_enabled()
    choose(page, "Only text")
    assert answer_of(page)["task"] == "rating"


def test_bars_are_seen_in_the_colours_that_a_reader_forces(open_page):
    page = open_page(forced_colors="active")
    choose(page, "Complete")
    bar, sheet = (
        page.locator(each).first.evaluate("e => getComputedStyle(e).backgroundColor")
        for each in (".bar", ".answer")
    )
    assert bar not in (sheet, "rgba(0, 0, 0, 0)")
