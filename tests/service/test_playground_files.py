"""Files in the playground: read late, or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.pages import answer_of, ask, choose, paste

STAY = Path(__file__).resolve().parents[2] / "examples" / "stay"


def drop(page: Page, target: str, *files: Path) -> None:
    """Drop files of the disk, or of what is no longer there, as a hand would."""
    holder = page.evaluate_handle(
        "Object.assign(document.createElement('input'), { type: 'file', multiple: true })"
    ).as_element()
    assert holder is not None
    holder.set_input_files(files)
    transfer = page.evaluate_handle(
        "holder => {"
        "  const transfer = new DataTransfer();"
        "  for (const each of holder.files) transfer.items.add(each);"
        "  return transfer;"
        "}",
        holder,
    )
    for each in files:
        if each.name.startswith("gone"):
            each.unlink()
    page.locator(target).first.dispatch_event("drop", {"dataTransfer": transfer})


@pytest.fixture
def slow_page(open_page: Callable[..., Page]) -> Page:
    """A page whose files are read only when `read()` is called."""
    page: Page = open_page()
    page.evaluate(
        "() => {"
        "  const { readAsDataURL } = FileReader.prototype, { arrayBuffer } = Blob.prototype;"
        "  const waiting = [];"
        "  FileReader.prototype.readAsDataURL = function (file) {"
        "    waiting.push(() => readAsDataURL.call(this, file));"
        "  };"
        "  Blob.prototype.arrayBuffer = async function () {"
        "    await new Promise(resolve => waiting.push(resolve));"
        "    return arrayBuffer.call(this);"
        "  };"
        "  window.read = () => waiting.splice(0).forEach(each => each());"
        "}"
    )
    return page


def pictures(page: Page) -> Locator:
    return page.locator(".pictures > li")


def settle(page: Page) -> None:
    """Let the page read what waits, and do what follows."""
    page.evaluate("read()")
    page.wait_for_timeout(300)


@pytest.mark.parametrize("sample", ["Clear", "Only text"])
def test_a_picture_that_is_read_late_does_not_fall_into_the_next_record(slow_page, sample):
    slow_page.get_by_label("Drop images here,").set_input_files(STAY / "chest.jpg")
    slow_page.get_by_role("button", name=sample, exact=True).click()
    settle(slow_page)
    expect(pictures(slow_page)).to_have_count(0)
    expect(slow_page.get_by_text("The record has changed")).to_be_hidden()


def test_a_picture_that_is_read_late_does_not_mark_the_answer_of_another_task(slow_page):
    slow_page.get_by_label("Drop images here,").set_input_files(STAY / "chest.jpg")
    slow_page.get_by_label("Task").select_option("rating")
    expect(slow_page.locator("#predict")).to_be_enabled()
    choose(slow_page, "Only text")
    settle(slow_page)
    expect(slow_page.get_by_text("The record has changed")).to_be_hidden()


def test_a_prediction_waits_for_the_pictures_that_are_being_read(slow_page):
    choose(slow_page, "Only text")
    slow_page.get_by_label("Drop images here,").set_input_files(STAY / "chest.jpg")
    expect(slow_page.get_by_text("The record has changed")).to_be_hidden()
    slow_page.get_by_role("button", name="Predict").click()
    expect(slow_page.locator("#result")).to_have_attribute("aria-busy", "true")
    expect(slow_page.get_by_text("Reading files\u2026")).to_be_visible()
    settle(slow_page)
    expect(slow_page.locator("#result")).not_to_have_attribute("aria-busy", "true")
    assert answer_of(slow_page)["modalities"]["used"] == ["text", "image"]
    expect(slow_page.get_by_text("The record has changed")).to_be_hidden()
    expect(slow_page.locator(".stale")).to_have_count(0)


def test_a_file_that_cannot_be_read_is_not_told_of_in_the_next_record(slow_page, tmp_path):
    (tmp_path / "gone.jpg").write_bytes(b"x")
    drop(slow_page, ".drop", tmp_path / "gone.jpg")
    slow_page.get_by_role("button", name="Clear", exact=True).click()
    settle(slow_page)
    expect(slow_page.get_by_text("A file could not be read")).to_be_hidden()


def use(page: Page, text: str) -> None:
    page.get_by_label("CSV, with the column names in the first line").fill(text)
    page.get_by_role("button", name="Use as series").click()


def test_a_table_that_was_taken_after_a_file_was_opened_stays(slow_page):
    slow_page.get_by_text("Paste or open CSV").click()
    file = slow_page.get_by_label("Open a CSV file")
    first = slow_page.get_by_label("hours, row 1", exact=True)
    file.set_input_files(STAY / "vitals.csv")
    use(slow_page, "hours,heart_rate\n7,99\n")
    settle(slow_page)
    expect(first).to_have_value("7")
    file.set_input_files(STAY / "vitals.csv")
    paste(first, "hours,heart_rate\n8,99\n")
    settle(slow_page)
    expect(first).to_have_value("8")
    file.set_input_files(STAY / "vitals.csv")
    use(slow_page, "minutes\n9\n")  # which is none
    settle(slow_page)
    expect(slow_page.get_by_label("hours, row 2", exact=True)).to_be_visible()


def test_a_fault_of_the_page_is_not_told_as_the_files_and_stops_no_other(open_page):
    page = open_page()
    found = page.evaluate(
        "async () => {"
        "  const { Files } = await import('/playground/file.js');"
        "  const told = [], shown = [], taken = [];"
        "  const listen = (event) => (event.preventDefault(), told.push(event.message));"
        "  addEventListener('error', listen);"
        "  const take = (file) => {"
        "    if (file.name === 'a') throw new Error('a fault');"
        "    taken.push(file.name);"
        "  };"
        "  const place = { clear() {}, show: (...said) => shown.push(said) };"
        "  const files = new Files((file) => file.text(), take, place);"
        "  files.open([new File([], 'a'), new File([], 'b')]);"
        "  await files.done;"
        "  return [told, shown, taken];"
        "}"
    )
    assert found == [["Uncaught Error: a fault"], [], ["b"]]


def test_files_that_cannot_be_read_are_named_and_the_others_taken(open_page, tmp_path):
    (tmp_path / "gone.jpg").write_bytes(b"x")
    page = open_page()
    drop(page, ".drop", tmp_path / "gone.jpg", STAY / "chest.jpg")
    expect(pictures(page)).to_have_count(1)
    said = page.get_by_text("A file could not be read: gone.jpg: ")
    expect(said).to_be_visible()
    drop(page, ".drop", STAY / "chest.jpg")
    expect(pictures(page)).to_have_count(2)
    expect(said).to_be_hidden()
    ask(page)
    assert answer_of(page)["modalities"]["used"] == ["image"]


def test_a_file_that_is_no_table_is_named(open_page, tmp_path):
    page = open_page()
    for name, content, said in (
        ("1.csv", "hours,Temp\xe9rature\n1,37\n".encode("latin-1"), "it is not UTF-8"),
        ("2.csv", "hours,heart_rate\n1,80\n".encode("utf-16"), "it is not UTF-8"),
        ("v.xlsx", b"PK", "its name must end in .csv, .tsv or .txt"),
        ("gone.csv", b"hours,heart_rate\n1,80\n", ""),
    ):
        (tmp_path / name).write_bytes(content)
        drop(page, ".series", tmp_path / name)
        expect(page.get_by_text(f"A file could not be read: {name}: {said}")).to_be_visible()
        expect(page.get_by_label("hours, row 1", exact=True)).to_have_value("")


def test_several_tables_at_once_are_not_taken_for_one(open_page):
    page = open_page()
    drop(page, ".series", STAY / "vitals.csv", STAY / "chest.jpg")
    expect(
        page.get_by_text("More than one file: vitals.csv, chest.jpg. Accepted: one file")
    ).to_be_visible()
    expect(page.get_by_label("hours, row 1", exact=True)).to_have_value("")


def test_a_table_that_was_edited_can_be_opened_again(open_page, tmp_path):
    page = open_page()
    page.get_by_text("Paste or open CSV").click()
    for value in ("80", "81"):
        (tmp_path / "v.csv").write_text(f"\ufeffhours,heart_rate\n1,{value}\n")
        chooser = page.get_by_label("Open a CSV file")
        chooser.set_input_files(tmp_path / "v.csv")
        expect(page.get_by_label("heart_rate, row 1", exact=True)).to_have_value(value)
        expect(chooser).to_have_value("")
