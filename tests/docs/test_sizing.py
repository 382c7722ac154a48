"""`docs/sizing.md` says what `docs/serving-benchmarks.md` measured, and reckons with it rightly."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZING = (DOCS / "sizing.md").read_text("utf-8")
MEASURED = (DOCS / "serving-benchmarks.md").read_text("utf-8").split("\n\n")

FLOAT, INT8 = "| float32, 917 MiB", "| int8, 235 MiB"
SOURCES = {
    "none: HTTP, JSON, queue, answer": ["| no model"],
    "the demo's size, fp32": ["| the demo stays"],
    "the paper's sizes, int8": [INT8],
    "the paper's sizes, fp32 (bf16 on the GPU)": [FLOAT, "| | predictions per second"],
    "the same note and image an hour later (int8, cached)": ["With one measurement more"],
    "no model": ["| no model"],
    "the demo of stays, fp32, no cache": ["| the demo stays"],
    "the paper's sizes, int8, 235 MiB of graphs, a cache of 16 MiB": [INT8, "| MiB at the most"],
}
"""Where the figures of a row stand: beginnings of paragraphs."""


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the table under a heading, by their first."""
    section = SIZING.split(f"## {heading}\n")[1].split("## ")[0]
    lines = [line[1:-1] for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines[2:]]
    return {name: rest for name, *rest in cells}


RATES, MEMORY = rows("Predictions per second"), rows("Memory")


def figures(text: str) -> set[str]:
    text = re.sub(r"`[^`]*`", "", text)  # `--workers 2`
    return set(re.findall(r"(?<![\w.,])\.?\d+(?:[.,]\d+)*", text))


def paragraph(beginning: str) -> str:
    (found,) = (each for each in MEASURED if each.startswith(beginning))
    return found


def test_no_row_is_left_out():
    assert RATES.keys() | MEMORY.keys() == SOURCES.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_a_figure_stands_where_it_was_measured(name):
    said = figures(" ".join([name, *MEMORY.get(name, ())]))
    if name in RATES:
        *ways, _, gpu = RATES[name]
        said |= figures(" ".join([*ways, gpu]))
    assert said
    assert said <= set().union(*(figures(paragraph(each)) for each in SOURCES[name]))


@pytest.mark.parametrize("name", RATES)
def test_a_core_is_half_of_the_best_way(name):
    *ways, core, _ = RATES[name]
    half = max(float(each.replace(",", "")) for each in ways if each) / 2
    assert float(core) == float(f"{half:.2g}")


def test_what_is_reckoned_is_reckoned_with_the_best_figures():
    *ways, _, _ = RATES["the paper's sizes, int8"]
    *_, gpu = RATES["the paper's sizes, fp32 (bf16 on the GPU)"]
    reckoned = re.findall(r"20 / ([\d.,]+) / 0\.7 = ([\d.]+\d)", SIZING)
    assert [rate for rate, _ in reckoned] == [max(ways), gpu]
    for rate, copies in reckoned:
        assert copies == f"{20 / float(rate.replace(',', '')) / 0.7:.2g}"


def test_a_queue_is_as_long_as_it_was():
    waited = re.search(r"waited more than ([\d.]+) s .* to ([\d.]+) s", SIZING)
    (line,) = re.findall(r"(?m)^\| p50 / p99 s.*", paragraph(INT8))
    assert waited
    assert set(waited.groups()) <= {each.split()[0] for each in line.split("|")[7:] if each.strip()}
