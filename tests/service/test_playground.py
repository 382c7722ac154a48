"""The playground in a real browser, on a real server."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.pages import (
    MARKUP,
    answer_of,
    ask,
    await_answer,
    await_held,
    choose,
    described,
    drop,
    hold,
    paste,
    violations,
)

ROOT = Path(__file__).resolve().parents[2]
STAY = ROOT / "examples" / "stay"


# ---- what it shows ------------------------------------------------------------------------------


def test_the_page_says_what_it_is_and_which_model_answers(open_page, details):
    page = open_page()
    model = details("mortality")["model"]
    expect(
        page.get_by_text("For research and local validation. Not a medical device.")
    ).to_be_visible()
    expect(page.get_by_text("Demo weights.")).to_be_visible()
    expect(page.locator("#about")).to_contain_text(f"{model['name']}, version {model['version']}")
    expect(page.get_by_role("link", name="API documentation")).to_have_attribute("href", "docs")


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_every_sample_case_gives_its_prediction(open_page, served, details, task):
    page = open_page(task)
    for example in details(task)["examples"]:
        choose(page, example["title"])
        options = {"explain": True, "coverage": 0.9}
        address = f"{served.url}/predict/{task}"
        expected = httpx.post(address, params=options, json=example["record"], timeout=60).json()
        shown = answer_of(page)
        for key in ("prediction", "modalities", "issues"):
            assert shown[key] == expected[key], example["title"]


def test_a_binary_task_shows_probability_set_and_contributions(open_page):
    page = open_page()
    choose(page, "Complete")
    answer = answer_of(page)
    shown = page.locator("#result")
    probability = f"{100 * answer['prediction']['probability']:.1f}%"
    expect(shown.locator(".headline")).to_contain_text(probability)
    expect(shown).to_contain_text("Set at 90% coverage")
    for name in answer["prediction"]["set"]:
        expect(shown.get_by_role("row", name=name)).to_contain_text("in the set")
    for title, part in [("Notes", "text"), ("Images", "image"), ("Time series", "timeseries")]:
        value = answer["modalities"]["contributions"][part]
        figure = f"{value:+.2f}".replace("-", "\u2212")
        expect(shown.get_by_role("row", name=title)).to_contain_text(figure)


def test_a_rating_shows_the_distribution_of_stars_and_their_mean(open_page):
    page = open_page("rating")
    choose(page, "Complete, unusual values")
    found = answer_of(page)["prediction"]
    table = page.get_by_role("table", name="Probability of each class")
    for stars, share in found["probabilities"].items():
        expect(
            table.get_by_role("row", name=stars, exact=False).filter(
                has=page.get_by_role("rowheader", name=stars, exact=True)
            )
        ).to_contain_text(f"{100 * share:.1f}%")
    expect(page.locator(".headline")).to_contain_text(f"{found['expected']:.3g} expected stars")


@pytest.mark.parametrize(
    ("found", "label", "words"),
    [
        (
            {"value": 5.25, "interval": [3.0, 8.5]},
            {"kind": "regression", "name": "days", "unit": "d", "classes": []},
            ["5.25 d", "Interval at 90% coverage: 3 to 8.5 d"],
        ),
        (
            {"value": -5.25},
            {"kind": "regression", "name": "days", "classes": []},
            ["\u22125.25", "No interval"],
        ),
        (
            {"label": "b", "probabilities": {"a": 0.2, "b": 0.7, "c": 0.1}, "set": ["a", "b"]},
            {"kind": "multiclass", "name": "kind", "classes": ["a", "b", "c"]},
            ["b most likely, 70.0% (of 3 classes)", "Set at 90% coverage: a b"],
        ),
        (
            {"label": "c", "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}},
            {"kind": "multiclass", "name": "kind", "classes": ["a", "b", "c"]},
            ["c predicted, 30.0% (of 3 classes)"],
        ),
        (
            {"label": "2", "expected": 2.5, "probabilities": {"1": 0.1, "2": 0.3, "3": 0.6}},
            {"kind": "ordinal", "name": "rank", "classes": ["1", "2", "3"], "values": [1, 2, 3]},
            ["2.5 expected rank; predicted 2"],
        ),
        (
            {"label": "a", "probability": 0.0003, "probabilities": {"a": 0.9997, "b": 0.0003}},
            {"kind": "binary", "name": "kind", "classes": ["a", "b"]},
            ["<0.1% probability", "a>99.9%"],
        ),
    ],
)
def test_the_kinds_of_label_that_no_demo_has(open_page, found, label, words):
    page = open_page()
    text = page.evaluate(
        "async ([found, label]) => {"
        "  const { prediction } = await import('/playground/prediction.js');"
        "  return prediction(found, label, '90').map(each => each.textContent).join(' ');"
        "}",
        [found, label],
    )
    for each in words:
        assert each in re.sub(r"\s+", " ", text)


def test_another_task_is_chosen_by_name_or_address(open_page):
    page = open_page("rating")
    expect(page).to_have_title(re.compile("Stars"))
    page.get_by_label("Task").select_option("mortality")
    expect(page).to_have_title(re.compile("In-hospital mortality"))
    assert page.url.endswith("#mortality")
    choose(page, "Only text")


def test_a_version_is_chosen_where_there_are_several(open_page, details):
    page = open_page("hostile")
    newest, older = details("hostile")["versions"]
    choice = page.get_by_label("Version")
    expect(choice).to_have_value(newest)
    choose(page, "Only text")
    assert answer_of(page)["model"]["version"] == newest
    choice.select_option(older)
    expect(page.locator("#predict")).to_be_enabled()
    choose(page, "Only text")
    assert answer_of(page)["model"]["version"] == older
    assert f"version={older}" in page.get_by_role("region", name="Command line").inner_text()


def refuse(route: Route) -> None:
    problem = {"title": "Not ready", "code": "too_busy", "detail": "the service is starting"}
    route.fulfill(status=503, json=problem)


def test_a_task_that_cannot_be_opened_leaves_the_page_where_it_was(open_page):
    page = open_page()
    page.get_by_label("Note 1").fill("a note")
    page.route("**/tasks/rating", refuse)
    task = page.get_by_label("Task")
    task.select_option("rating")
    said = page.get_by_role("alert")
    expect(said).to_contain_text("Stars of a product review could not be opened: Not ready")
    expect(task).to_have_value("mortality")
    assert page.url.endswith("#mortality")
    ask(page)
    assert answer_of(page)["task"] == "mortality"
    assert answer_of(page)["modalities"]["used"] == ["text"]
    for again in (lambda: task.select_option("rating"), said.get_by_role("button").click):
        again()
        expect(said).to_contain_text("could not be opened")
        expect(page.locator("#predict")).to_be_enabled()
    page.unroute("**/tasks/rating")
    said.get_by_role("button", name="Try again").click()
    expect(page).to_have_title(re.compile("Stars"))
    expect(said).to_be_empty()
    expect(task).to_have_value("rating")
    expect(task).to_be_focused()
    assert page.url.endswith("#rating")
    choose(page, "Only text")


def test_a_first_task_that_cannot_be_opened_is_tried_again(open_page):
    page = open_page()
    page.route("**/tasks/mortality", refuse)
    page.reload()
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    expect(page.locator("#predict")).to_be_disabled()
    page.unroute("**/tasks/mortality")
    again.click()
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_version_that_cannot_be_opened_leaves_the_page_where_it_was(open_page, details):
    page = open_page("hostile")
    newest, older = details("hostile")["versions"]
    page.route("**/tasks/hostile?version=*", refuse)
    page.get_by_label("Version").select_option(older)
    expect(page.get_by_role("alert")).to_contain_text("could not be opened: Not ready")
    expect(page.get_by_label("Version")).to_have_value(newest)
    choose(page, "Only text")
    assert answer_of(page)["model"]["version"] == newest


def test_of_versions_chosen_in_turn_the_last_is_shown_however_late_the_others_come(
    open_page, details
):
    page = open_page("hostile")
    newest, older = details("hostile")["versions"]
    held: list[Route] = []
    page.route(f"**/tasks/hostile?version={older}", lambda route: held.append(route))
    choice = page.get_by_label("Version")
    choice.select_option(older)
    expect(page.locator("#predict")).to_be_disabled()
    await_held(page, held)
    choice.select_option(newest)
    expect(page.locator("#predict")).to_be_enabled()
    page.get_by_label("Note 1").fill("a note")
    held[0].continue_()
    page.wait_for_timeout(300)
    expect(choice).to_have_value(newest)
    expect(page.get_by_label("Note 1")).to_have_value("a note")
    ask(page)
    assert answer_of(page)["model"]["version"] == newest


def test_the_coverage_chosen_is_the_coverage_asked_for(open_page, served):
    page = open_page()
    page.get_by_label("Coverage").fill("60")
    choose(page, "Complete")
    expect(page.locator("#result")).to_contain_text("Set at 60% coverage")
    assert "coverage=0.6'" in page.get_by_role("region", name="Command line").inner_text()


def test_an_answer_to_an_older_record_is_marked(open_page):
    page = open_page()
    choose(page, "Complete")
    page.get_by_label("Age at admission").fill("80")
    expect(page.get_by_text("The record has changed since this prediction.")).to_be_visible()
    ask(page)
    expect(page.get_by_text("The record has changed since this prediction.")).to_be_hidden()


def test_a_table_that_is_not_taken_yet_does_not_mark_the_answer(open_page):
    page = open_page()
    choose(page, "Complete")
    page.get_by_text("Paste or open CSV").click()
    page.get_by_label("CSV, with the column names in the first line").fill(
        "hours,heart_rate\n1,80\n"
    )
    expect(page.get_by_text("The record has changed since this prediction.")).to_be_hidden()
    page.get_by_role("button", name="Use as series").click()
    expect(page.get_by_text("The record has changed since this prediction.")).to_be_visible()


def test_an_answer_is_marked_that_comes_after_the_record_was_changed(open_page):
    page = open_page()
    (held,) = hold(page)
    page.get_by_label("Age at admission").fill("80")
    held.continue_()
    expect(page.locator(".headline")).to_be_visible()
    expect(page.get_by_text("The record has changed since this prediction.")).to_be_visible()


def test_a_question_is_taken_back_when_its_record_is_emptied(open_page):
    page = open_page()
    hold(page)
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#result")).to_have_text("The record is empty.")
    expect(page.locator("#result")).not_to_have_attribute("aria-busy", "true")


def test_a_question_is_taken_back_when_another_task_is_chosen(open_page):
    page = open_page()
    hold(page)
    with page.expect_event("requestfailed"):
        page.get_by_label("Task").select_option("rating")
    expect(page).to_have_title(re.compile("Stars"))
    expect(page.locator("#result")).not_to_have_attribute("aria-busy", "true")


def test_a_question_can_be_taken_back_until_all_of_its_answer_is_there(open_page):
    page = open_page()
    name = page.evaluate(
        "async () => {"
        "  const { predict } = await import('/playground/api.js');"
        "  const json = () => Promise.reject(new DOMException('', 'AbortError'));"
        "  window.fetch = async () => Object.assign(new Response(), { json });"
        "  return predict('/predict/rating', {}).catch(each => each.name);"
        "}"
    )
    assert name == "AbortError"


# ---- what it takes ------------------------------------------------------------------------------


def test_a_picture_is_dropped_shown_and_used(open_page):
    page = open_page()
    drop(page, "chest.jpg", "image/jpeg", (STAY / "chest.jpg").read_bytes())
    preview = page.get_by_alt_text("Preview of chest.jpg")
    expect(preview).to_be_visible()
    page.wait_for_function("document.querySelector('.pictures img').naturalWidth > 0")
    ask(page)
    assert answer_of(page)["modalities"]["used"] == ["image"]
    page.get_by_role("button", name="Remove chest.jpg").click()
    expect(preview).to_be_hidden()


def test_a_file_that_is_no_picture_is_named_at_the_picture(open_page):
    page = open_page()
    drop(page, "note.txt", "text/plain", b"no picture at all")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("not_an_image")
    removal = page.get_by_role("button", name="Remove note.txt")
    expect(removal).to_be_focused()
    assert "not_an_image" in described(removal)


def test_vitals_are_pasted_as_csv_plotted_and_read_as_the_service_reads_the_file(open_page, served):
    page = open_page()
    text = (STAY / "vitals.csv").read_text()
    page.get_by_text("Paste or open CSV").click()
    page.get_by_label("CSV, with the column names in the first line").fill(text)
    page.get_by_role("button", name="Use as series").click()
    columns = text.splitlines()[0].split(",")
    expect(page.get_by_role("columnheader")).to_have_count(len(columns) + 1)
    expect(page.get_by_role("img", name=re.compile("^heart_rate: "))).to_be_visible()
    ask(page)
    form = {"timeseries": (None, text)}
    options = {"explain": True}
    expected = httpx.post(f"{served.url}/predict/mortality", params=options, files=form, timeout=60)
    shown = answer_of(page)
    assert shown["prediction"] == expected.json()["prediction"]
    assert shown["issues"] == expected.json()["issues"]


def test_a_table_that_the_service_would_refuse_is_not_taken_for_a_series(open_page):
    wrong = "A row has the wrong number of cells"
    page = open_page()
    page.get_by_text("Paste or open CSV").click()
    for text, said in (
        ("minutes\n1\n", "No column named hours in the first line: minutes"),
        ("hours,heart_rate,heart_rate\n1,80,120\n", "A column appears twice: heart_rate"),
        (
            "hours,heart_rate\n0,92\n0,5,92\n",
            f"{wrong}: row 2 has 3 cells, but the first line names 2",
        ),
        ("hours,heart_rate\n1\n", f"{wrong}: row 1 has 1 cell, but the first line names 2"),
    ):
        page.get_by_label("CSV, with the column names in the first line").fill(text)
        page.get_by_role("button", name="Use as series").click()
        expect(page.get_by_text(said)).to_be_visible()
        expect(page.get_by_label("hours, row 1", exact=True)).to_have_value("")


def test_cells_copied_from_a_spreadsheet_fill_the_table_from_where_they_are_pasted(open_page):
    page = open_page()
    paste(page.get_by_label("hours, row 1", exact=True), "0.5\t60\n1.5\t61\n")
    expect(page.get_by_label("hours, row 2", exact=True)).to_have_value("1.5")
    expect(page.get_by_label("diastolic_bp, row 2", exact=True)).to_have_value("61")
    paste(page.get_by_label("diastolic_bp, row 2", exact=True), "hours,heart_rate\n3,88\n")
    expect(page.get_by_label("heart_rate, row 1", exact=True)).to_have_value("88")
    expect(page.get_by_label("hours, row 2", exact=True)).to_be_hidden()


def test_copied_cells_keep_their_places_where_some_are_blank(open_page):
    page = open_page()
    paste(page.get_by_label("diastolic_bp, row 1", exact=True), "92\n\nNA\n95\n")
    for row, value in enumerate(("92", "", "", "95"), 1):
        control = page.get_by_label(f"diastolic_bp, row {row}", exact=True)
        expect(control).to_have_value(value)
    paste(page.get_by_label("hours, row 1", exact=True), "37,5")  # one cell is the browser's
    expect(page.get_by_label("diastolic_bp, row 1", exact=True)).to_have_value("92")


def test_words_are_dragged_from_note_to_note_and_nothing_takes_the_page_away(open_page):
    page = open_page()
    page.get_by_role("button", name="Add a note").click()
    here, there = (page.get_by_role("textbox", name=f"Note {k}") for k in (1, 2))
    here.fill("moved")
    here.press("Control+a")
    edges = {"source_position": {"x": 20, "y": 18}, "target_position": {"x": 30, "y": 20}}
    here.drag_to(there, **edges)
    expect(there).to_have_value("moved")
    expect(here).to_have_value("")
    for target, left in (("#parts h2", False), (".drop input", False), (".note textarea", True)):
        done = page.locator(target).first.evaluate(
            "target => {"
            "  const dataTransfer = new DataTransfer();"
            "  dataTransfer.setData('text/uri-list', 'http://127.0.0.1/elsewhere');"
            "  const options = { dataTransfer, bubbles: true, cancelable: true };"
            "  return target.dispatchEvent(new DragEvent('drop', options));"
            "}"
        )
        assert done == left  # to the browser, which follows a link where it is no text


def test_a_unit_chosen_for_a_column_or_written_in_a_cell_is_sent(open_page):
    page = open_page()
    page.get_by_label("Add a variable").select_option("temperature")
    page.get_by_label("hours, row 1", exact=True).fill("1")
    page.get_by_label("temperature, row 1", exact=True).fill("101.2")
    page.get_by_label("Unit of temperature").select_option("degF")
    page.get_by_label("diastolic_bp, row 1", exact=True).fill("8 KPA")
    plot = page.get_by_role("img", name="diastolic_bp: 1 values, 60 to 60 mmHg")
    expect(plot).to_be_visible()
    page.get_by_label("heart_rate, row 1", exact=True).fill("80 1/min")
    ask(page)
    seen = {each["field"]: each["detail"] for each in answer_of(page)["issues"]}
    assert seen["timeseries[0].temperature"] == "38.4444 degC"
    assert seen["timeseries[0].diastolic_bp"] == "60.0049 mmHg"


def test_a_key_is_sent_as_a_header_and_kept_nowhere(open_page):
    page = open_page()
    page.get_by_text("API key").click()
    page.get_by_label("Key", exact=True).fill("secret-1")
    page.get_by_label("Key", exact=True).press("Tab")
    with page.expect_request("**/predict/*") as asked:
        choose(page, "Only text")
    assert asked.value.headers["authorization"] == "Bearer secret-1"
    assert "Bearer $LANISTR_KEY" in page.get_by_role("region", name="Command line").inner_text()
    assert "secret-1" not in page.content()
    stored = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert stored == [0, 0, ""]


def test_a_service_that_wants_a_key_is_asked_again_once_there_is_one(open_page):
    page = open_page()

    def gate(route: Route) -> None:
        """Stand before the service, as a gateway with keys would."""
        if route.request.headers.get("authorization") == "Bearer secret-1":
            route.continue_()
        else:
            problem = {
                "title": "An API key is required",
                "code": "no_key",
                "detail": "no key was sent",
            }
            route.fulfill(status=401, json=problem)

    page.route("**/tasks*", gate)
    page.route("**/tasks/*", gate)
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("An API key is required")
    key = page.get_by_label("Key", exact=True)
    expect(key).to_be_focused()
    assert "no_key" in described(key)
    page.keyboard.type("secret-1")
    page.keyboard.press("Enter")
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_key_that_reaches_no_task_is_said_to(open_page):
    page = open_page()
    page.route("**/tasks", lambda route: route.fulfill(json={"tasks": []}))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("no_task")
    key = page.get_by_label("Key", exact=True)
    expect(key).to_be_focused()
    assert "This key gives access to no task" in described(key)
    page.unroute("**/tasks")
    page.keyboard.type("secret-1")
    page.keyboard.press("Enter")
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_long_series_is_sent_whole_though_not_all_of_it_is_shown(open_page, tmp_path):
    page = open_page()
    lines = [f"{k / 100},{80 + k % 7}" for k in range(4_500)]
    path = tmp_path / "vitals.csv"
    path.write_text("\n".join(["hours,heart_rate", *lines[:-1], "44.99,9999"]))
    page.get_by_text("Paste or open CSV").click()
    page.get_by_label("Open a CSV file").set_input_files(path)
    expect(page.get_by_text("4300 more rows are not shown")).to_be_visible()
    ask(page)
    answer = answer_of(page)
    issues = {each["code"]: each["field"] for each in answer["issues"]}
    assert issues["out_of_range"] == "timeseries[4499].heart_rate"
    assert repeated(page, tmp_path)["prediction"] == answer["prediction"]
    shutil.copy(STAY / "chest.jpg", tmp_path)
    page.get_by_label("Drop images here,").set_input_files(tmp_path / "chest.jpg")
    expect(page.locator(".pictures > li")).to_have_count(1)
    ask(page)
    assert repeated(page, tmp_path)["prediction"] == answer_of(page)["prediction"]


# ---- what is wrong ------------------------------------------------------------------------------


def test_every_issue_stands_beside_its_field(open_page, details):
    page = open_page()
    choose(page, "With mistakes")
    issues = answer_of(page)["issues"]
    assert {each["action"] for each in issues} >= {"dropped", "converted", "kept"}
    assert {each["field"].partition("[")[0].partition(".")[0] for each in issues} == {
        "tabular",
        "timeseries",
    }
    for issue in issues:
        page.get_by_role("button", name=issue["field"], exact=True).click()
        control = page.locator(":focus")
        assert issue["action"] in described(control).lower()
        assert issue["detail"] in described(control)
        name = issue["field"].rpartition(".")[2]
        label = control.get_attribute("aria-label") or described(control)
        assert name in label
        if found := re.match(r"timeseries\[(\d+)\]", issue["field"]):
            assert label == f"{name}, row {int(found[1]) + 1}"


@pytest.mark.parametrize(
    ("label", "value", "code"),
    [
        ("Age at admission", "seventy", "wrong_type"),
        ("heart_rate, row 1", "fast", "wrong_type"),
        ("Coverage", "140", "bad_parameter"),
        ("Coverage", "most", "bad_parameter"),
    ],
)
def test_a_problem_stands_at_the_field_it_names(open_page, label, value, code):
    page = open_page()
    page.get_by_label("Note 1").fill("a note")
    page.get_by_label("hours, row 1", exact=True).fill("1")
    control = page.get_by_label(label, exact=True)
    control.fill(value)
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text(code)
    expect(control).to_be_focused()
    expect(control).to_have_attribute("aria-invalid", "true")
    assert code in described(control)
    control.fill("60")
    ask(page)
    expect(page.get_by_role("alert")).to_be_empty()
    expect(control).not_to_have_attribute("aria-invalid", "true")


def test_a_coverage_that_is_none_is_said_in_the_unit_of_its_field(open_page):
    page = open_page()
    page.get_by_label("Note 1").fill("a note")
    control = page.get_by_label("Coverage")
    for value, detail in (("140", "less than 100"), ("-5", "greater than 0")):
        control.fill(value)
        page.get_by_role("button", name="Predict").click()
        words = f"Input should be {detail}: {value}. Accepted: a number above 0 and below 100, in"
        expect(page.get_by_role("alert")).to_contain_text(words)
        assert words in described(control)


def test_a_record_without_any_part_is_a_problem_in_words(open_page):
    page = open_page()
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing_present")


def test_what_looks_like_markup_in_a_task_stays_text(open_page):
    page = open_page("hostile")
    choose(page, "With mistakes")
    page.get_by_text("About this model").click()
    assert page.locator("body").inner_text().count(MARKUP) > 5
    assert page.locator("img[src='/markup']").count() == 0
    assert "ran" not in page.title().split()


# ---- the request again --------------------------------------------------------------------------


def repeated(page: Page, folder: Path) -> dict[str, Any]:
    """Run the command line that the page shows."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    line = page.get_by_role("region", name="Command line").text_content() or ""
    done = subprocess.run(["sh"], input=line.encode(), cwd=folder, capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_command_line_repeats_a_sample_with_its_picture(open_page, tmp_path):
    page = open_page()
    choose(page, "Complete")
    expect(page.get_by_text("For a POSIX shell: Linux, macOS, WSL, Git Bash")).to_be_visible()
    assert repeated(page, tmp_path)["prediction"] == answer_of(page)["prediction"]


def test_the_command_line_repeats_files_and_quoted_words(open_page, tmp_path):
    name = "chest; 'left' \"1\".jpg"
    shutil.copy(STAY / "chest.jpg", tmp_path / name)
    page = open_page()
    choose(page, "With mistakes")
    page.get_by_label("Drop images here,").set_input_files(tmp_path / name)
    expect(page.locator(".pictures > li")).to_have_count(1)
    page.get_by_label("Note 1").fill('pt didn\'t wake; "gcs" $HOME `low`\n@second line; type=x')
    page.get_by_role("button", name="Add a note").click()
    page.get_by_role("textbox", name="Note 2").fill("@file")
    ask(page)
    shown, again = answer_of(page), repeated(page, tmp_path)
    assert len(shown["modalities"]["used"]) == 4
    for key in ("prediction", "modalities", "issues"):
        assert again[key] == shown[key]


def test_the_command_line_repeats_notes_too_long_for_an_argument(open_page, tmp_path):
    shutil.copy(STAY / "chest.jpg", tmp_path)
    page = open_page()
    page.get_by_label("Drop images here,").set_input_files(tmp_path / "chest.jpg")
    expect(page.locator(".pictures > li")).to_have_count(1)
    page.get_by_label("Note 1").fill("é" * 99_000 + "\nRECORD\nslept well")
    page.get_by_role("button", name="Add a note").click()
    page.get_by_role("textbox", name="Note 2").fill("a " * 60_000)
    ask(page)
    shown, again = answer_of(page), repeated(page, tmp_path)
    for key in ("prediction", "modalities", "issues"):
        assert again[key] == shown[key]


def test_notes_are_counted_on_when_one_is_removed(open_page):
    page = open_page()
    for _ in range(2):
        page.get_by_role("button", name="Add a note").click()
    page.get_by_role("button", name="Remove note 2").click()
    page.get_by_role("button", name="Add a note").click()
    for number in (1, 3, 4):
        expect(page.get_by_role("textbox", name=f"Note {number}")).to_have_count(1)


def test_a_part_that_was_given_and_is_of_no_use_is_not_called_missing(open_page):
    page = open_page()
    page.get_by_label("Note 1").fill("a note")
    page.get_by_label("hours, row 1", exact=True).fill("1000")
    page.get_by_label("diastolic_bp, row 1", exact=True).fill("60")
    ask(page)
    assert answer_of(page)["modalities"]["used"] == ["text"]
    shown = page.locator("#result .missing")
    expect(shown.get_by_text("Not given: Images, Table row.", exact=True)).to_be_visible()
    said = "Given, but nothing in it could be used: Time series."
    expect(shown.get_by_text(said, exact=True)).to_be_visible()


# ---- for everyone -------------------------------------------------------------------------------


def test_the_keyboard_alone_leads_from_the_top_to_a_prediction(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the record")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#record")).to_be_focused()
    expect(page.get_by_label("Task")).to_have_value("mortality")
    age = page.get_by_label("Age at admission")
    for _ in range(40):
        page.keyboard.press("Tab")
        if age.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.type("71")
    page.keyboard.press("Enter")
    await_answer(page)
    assert answer_of(page)["modalities"]["used"] == ["tabular"]
    page.get_by_label("Note 1").focus()
    page.keyboard.type("alert and oriented")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".missing").first).to_have_text("Not given: Images, Time series.")


def test_the_keyboard_stays_where_a_note_or_a_row_was_removed(open_page):
    page = open_page()
    page.get_by_role("button", name="Add a note").click()
    page.get_by_role("button", name="Remove note 2").press("Enter")
    expect(page.get_by_role("textbox", name="Note 1")).to_be_focused()
    for _ in range(2):
        page.get_by_role("button", name="Add a row").click()
    page.get_by_label("hours, row 3", exact=True).fill("3")
    page.get_by_role("button", name="Remove row 2", exact=True).press("Enter")
    expect(page.get_by_label("hours, row 2", exact=True)).to_be_focused()
    expect(page.get_by_label("hours, row 2", exact=True)).to_have_value("3")
    page.get_by_role("button", name="Remove row 2", exact=True).press("Enter")
    expect(page.get_by_label("hours, row 1", exact=True)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_nothing_stands_in_the_way_of_a_screen_reader(open_page, task, scheme):
    page = open_page(task, color_scheme=scheme)
    assert violations(page) == []
    choose(page, "With mistakes")
    assert violations(page) == []
    page.get_by_label(re.compile("Age at admission|How many readers")).fill("many")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong_type")
    assert violations(page) == []


def test_the_page_is_dark_where_the_reader_wants_it_dark(open_page):
    grounds = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds[scheme] = max(int(each) for each in re.findall(r"\d+", colour)[:3])
    assert grounds["light"] > 200
    assert grounds["dark"] < 60


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_a_narrow_page_does_not_scroll_sideways(open_page, task):
    page = open_page(task, viewport={"width": 320, "height": 640})
    for sample in ("Complete", "With mistakes"):
        choose(page, sample)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        expect(page.locator(".headline")).to_be_in_viewport()
