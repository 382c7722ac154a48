"""What was charted or analysed in the window of each stay, as the series of the 17 variables.

Values are handed on as they were charted, with their unit: converting, dropping and clipping is the
preprocessor's, for training and serving alike.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from lanistr.fields import CategoryField
from lanistr.sample import Measurements, Quantity, Value
from lanistr.tasks import TaskSpec
from training.prepare.mimic_iv.layout import Layout
from training.prepare.mimic_iv.tables import (
    ROW,
    ROW_TYPE,
    TIME,
    Report,
    read_blocks,
    read_table,
    typed,
)
from training.prepare.mimic_iv.variables import (
    CHART_ITEMS,
    ITEM_UNITS,
    LAB_ITEMS,
    OWN,
    UNITS,
    fold_unit,
)

_AT_ONCE = 200_000
"""Events of the stays that are worked on together."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)$"


# ---- extraction ---------------------------------------------------------------------------------


class Extraction:
    """Reads chart events or laboratory events and keeps those that belong to a stay.

    Attributes:
        counts: what became of the records.
    """

    def __init__(self, stays: pl.DataFrame, task: TaskSpec, report: Report) -> None:
        """Begin.

        Args:
            stays: `stay` (its position), `stay_id`, `subject_id`, `start`, `end`.
            task: names the categories.
            report: takes what cannot be read.
        """
        assert task.timeseries is not None
        self.counts: Counter[str] = Counter()
        self._stays = stays.select("stay", "stay_id", "subject_id", "start", "end")
        self._report = report
        self._unknown_units: Counter[tuple[int, str]] = Counter()
        self._words = _words(task)

    def read(
        self, path: Path, items: Mapping[str, tuple[int, ...]], by: str
    ) -> Iterator[pl.DataFrame]:
        """Yield the events of the stays, block by block.

        Args:
            path: chart or laboratory events.
            items: item ids by variable.
            by: the column that says whose event it is: `stay_id`, or `subject_id`.

        Yields:
            `stay`, `seconds` since its start, `variable`, `number` or `word`, `unit` (empty: the
            variable's own) and `ROW`.
        """
        columns = {
            by: pl.Int64(),
            "itemid": pl.Int64(),
            "charttime": pl.String(),
            "value": pl.String(),
            "valuenum": pl.Float64(),
            "valueuom": pl.String(),
        }
        wanted = [item for ids in items.values() for item in ids]
        of_stays = self._stays[by].unique()
        waiting: list[pl.DataFrame] = []
        for block in read_blocks(path, columns, self._report):
            self.counts["read"] += block.height
            ours = block["itemid"].is_in(wanted)
            self.counts["of the variables"] += int(ours.sum())
            waiting.append(block.filter(ours & block[by].is_in(of_stays.implode())))
            if sum(map(len, waiting)) >= _AT_ONCE:
                yield self._in_window(pl.concat(waiting), items, by, path)
                waiting.clear()
        if waiting:
            yield self._in_window(pl.concat(waiting), items, by, path)
        self._tell_unknown_units(path)

    def _in_window(
        self, events: pl.DataFrame, items: Mapping[str, tuple[int, ...]], by: str, path: Path
    ) -> pl.DataFrame:
        """Keep what was measured while a stay may be looked at."""
        self.counts["of the stays or their patients"] += events.height
        variables = {item: name for name, ids in items.items() for item in ids}
        events = typed(events, {"charttime": TIME}, path, self._report)
        events = events.join(self._stays, on=by).filter(
            pl.col("charttime").is_between("start", "end")
        )
        self.counts["in the window of a stay"] += events.height
        name = pl.col("itemid").replace_strict(variables, return_dtype=pl.String)
        return self._valued(events.with_columns(name.alias("variable")))

    def _valued(self, events: pl.DataFrame) -> pl.DataFrame:
        """Find what was measured, as a word or as a number with its unit."""
        text = pl.col("value").str.strip_chars()
        category = pl.col("variable").is_in(list(self._words))
        spelled = pl.concat_str("variable", text.str.to_lowercase(), separator=":")
        known = [f"{name}:{word}" for name, words in self._words.items() for word in words]
        # A word of the task; else the number beside it (a score); else the word, kept as unknown.
        word = (
            pl.when(spelled.is_in(known))
            .then(text)
            .when(pl.col("valuenum") % 1 == 0)
            .then(pl.col("valuenum").cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(text)
        )
        number = pl.coalesce(
            pl.when(pl.col("valuenum").is_finite()).then("valuenum"),
            pl.when(text.str.contains(_NUMBER)).then(text.cast(pl.Float64, strict=False)),
        )
        events = self._with_units(
            events.with_columns(
                word=pl.when(category).then(word),
                number=pl.when(~category).then(number),
            )
        )
        empty = pl.col("word").is_null() & pl.col("number").is_null()
        self._count(events, "without a value", empty & text.is_null())
        self._count(events, "value is not a number", empty & text.is_not_null())
        kept = events.filter(~empty & pl.col("unit").is_not_null())
        self.counts["kept"] += kept.height
        seconds = (pl.col("charttime") - pl.col("start")).dt.total_seconds().cast(pl.Int32)
        return kept.with_columns(seconds=seconds).select(name for name in _SCHEMA if name != "file")

    def _with_units(self, events: pl.DataFrame) -> pl.DataFrame:
        """Add `unit`; null where the row names one that is not known."""
        seen = events.select("variable", "itemid", "valueuom").unique()
        units = [_unit(variable, item, unit) for variable, item, unit in seen.iter_rows()]
        seen = seen.with_columns(
            unit=pl.Series(units, dtype=pl.String),
            own=pl.Series([_unit(v, i, None) for v, i, _ in seen.iter_rows()], dtype=pl.String),
        )
        events = events.join(
            seen,
            on=["variable", "itemid", "valueuom"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        unknown = events.filter(pl.col("unit").is_null())
        self._count(events, "unknown unit", pl.col("unit").is_null())
        self._unknown_units.update(unknown.select("itemid", "valueuom").iter_rows())
        self._count(events, "not the unit of the item", pl.col("unit") != pl.col("own"))
        return events

    def _count(self, events: pl.DataFrame, what: str, condition: pl.Expr) -> None:
        found = int(events.select(condition.fill_null(False).sum()).item())
        if found:
            self.counts[what] += found

    def _tell_unknown_units(self, path: Path) -> None:
        for (item, unit), number in sorted(self._unknown_units.items()):
            variable = next(
                n for n, ids in (*CHART_ITEMS.items(), *LAB_ITEMS.items()) if item in ids
            )
            self._report(
                "unknown_unit",
                f"{number} values of item {item} ({variable}) are in an unknown unit and count as "
                f"missing; known: {', '.join(UNITS.get(variable, {})) or 'none'}",
                file=path.name,
                column="valueuom",
                seen=unit,
            )
        self._unknown_units.clear()


_SCHEMA = {
    "stay": pl.Int32(),
    "seconds": pl.Int32(),
    "variable": pl.String(),
    "number": pl.Float64(),
    "word": pl.String(),
    "unit": pl.String(),
    "file": pl.Int8(),
    ROW: ROW_TYPE,
}


def _words(task: TaskSpec) -> dict[str, set[str]]:
    """Return the known words of every categorical variable, in lower case."""
    assert task.timeseries is not None
    return {
        name: {word.lower() for word in (*(spec.categories or ()), *spec.synonyms)}
        for name, spec in task.timeseries.variables.items()
        if isinstance(spec, CategoryField)
    }


def _unit(variable: str, item: int, written: str | None) -> str | None:
    """Return the unit of a value: what its row says, else what its item says; None: not known."""
    if written is None or not (folded := fold_unit(written)):
        return ITEM_UNITS.get(item, OWN)
    return UNITS[variable].get(folded) if variable in UNITS else OWN


def extract_events(
    layout: Layout, stays: pl.DataFrame, task: TaskSpec, out: Path, report: Report
) -> dict[str, Any]:
    """Write the events of the stays into a Parquet file; return what became of the records."""
    figures: dict[str, Any] = {}
    sources = (
        (layout.charts, CHART_ITEMS, "stay_id"),
        (layout.labs, _blood_items(layout, figures, report), "subject_id"),
    )
    schema = pl.DataFrame(schema=_SCHEMA).to_arrow().schema
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for number, (path, items, by) in enumerate(sources):
            if path is None:
                continue
            extraction = Extraction(stays, task, report)
            for events in extraction.read(path, items, by):
                if len(events):
                    table = events.with_columns(file=pl.lit(number, pl.Int8)).select(*_SCHEMA)
                    writer.write_table(table.to_arrow().cast(schema))
            figures[path.name] = dict(extraction.counts)
    return figures


def _blood_items(
    layout: Layout, figures: dict[str, Any], report: Report
) -> Mapping[str, tuple[int, ...]]:
    """Leave out the laboratory items that the dictionary says are not of blood."""
    if layout.lab_items is None:
        return LAB_ITEMS
    listed = read_table(layout.lab_items, {"itemid": pl.Int64(), "fluid": pl.String()}, report)
    fluids = dict(listed.select("itemid", "fluid").iter_rows())
    others = {
        item: fluids[item]
        for ids in LAB_ITEMS.values()
        for item in ids
        if (fluids.get(item) or "Blood").casefold() != "blood"
    }
    if others:
        figures["laboratory items not of blood, left out"] = {str(i): f for i, f in others.items()}
    return {name: tuple(i for i in ids if i not in others) for name, ids in LAB_ITEMS.items()}


ORDER = ("stay", "seconds", "file", ROW)
"""How the events of a stay follow each other."""


# ---- series -------------------------------------------------------------------------------------


def series_of(events: pl.DataFrame) -> tuple[Measurements, ...]:
    """Return the series of one stay from its events, which are in order.

    What was measured at the same time stands in one row, but for a variable that was measured
    twice: the later record then stands in a row of its own, and is the one that counts.
    """
    rows: list[Measurements] = []
    values: dict[str, Value] = {}
    at: int | None = None
    columns = events.select("seconds", "variable", "number", "word", "unit")
    for seconds, variable, number, word, unit in columns.iter_rows():
        if seconds != at or variable in values:
            values = {}
            rows.append(Measurements(seconds / 3600, values))
            at = seconds
        values[variable] = word if word is not None else Quantity(number, unit) if unit else number
    return tuple(rows)
