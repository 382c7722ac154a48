"""Time series beside a user's own table: a file each, or one of all."""

import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lanistr.errors import DataError
from lanistr.modalities import Modality
from tests.training.prepare.tables import COLUMNS, SERIES, as_csv, prepared, problems_of, rows
from training.data.store import Dataset

Changes = dict[str, Any]

WIDE = "stay,minutes,pulse,PH\nstay-1,90,90,\nother,0,1,1\nstay-1,0,80,7.4\nstay-2,0,80,7.4\n"
LONG = (
    "stay,days,what,value,unit\nstay-1,0,HR,80,\nstay-1,0,ph,7.4,\nstay-1,0.0625,hr,90,\n"
    "stay-1,0.0625,GCS,15,\nstay-2,0,HR,80,\nstay-2,0,ph,7.4,\n"
)
ALL_SERIES: dict[str, tuple[str, Changes]] = {
    "wide": (WIDE, {"time": "minutes", "time_unit": "minutes", "names": {"ph": "PH"}}),
    "long": (
        LONG,
        {"time": "days", "time_unit": "days", "variable": "what", "value": "value", "unit": "unit",
         "names": {"pulse": "HR"}, "ignore": ["gcs"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", ALL_SERIES)
def test_one_table_of_all_series_gives_the_same_as_a_file_each(
    shape: str, usual: Dataset, tmp_path: Path
):
    text, described = ALL_SERIES[shape]
    source = {"timeseries": {"file": "all.csv", "id": "stay", **described}}
    data = prepared(tmp_path, as_csv(rows()), source=source, files={"all.csv": text.encode()})
    for at in (0, 1):
        found, wanted = (each.features(at).rows[Modality.TIMESERIES][0] for each in (data, usual))
        counted = 3 if at == 0 else 2
        assert found["values"][:, 2:].sum() == counted
        if at == 0:
            assert (found["values"][:, 2:] == wanted["values"][:, 2:]).all()
    assert data.row_counts(Modality.TIMESERIES).tolist() == [1, 1, 0, 0, 0, 0]
    assert data.card.source["rows_of_other_cases"] == (1 if shape == "wide" else 0)
    assert list(data.card.source["series"]) == ["all.csv"]
    assert problems_of(data.folder) == []


def test_rows_of_cases_without_a_start_are_none_of_others(tmp_path: Path):
    """Nor are they of no case at all, where no start can be read; a table of others stops."""
    text = "stay,when,pulse,ph\nstay-1,2020-01-01,80,7\nstay-2,2020-01-01,80,7\nx,2020-01-01,8,7\n"
    described = {"file": "all.csv", "id": "stay", "time": "when", "start": "admitted"}

    def cases(*starts: str) -> bytes:
        given = [{**case, "admitted": day} for case, day in zip(rows(2), starts, strict=True)]
        return as_csv(given, columns=(*COLUMNS, "admitted"))

    for name, starts, counted in (
        ("both", ("2020-01-01", "2020-01-01"), 0),
        ("one", ("2020-01-01", ""), 1),
        ("none", ("noon", ""), 2),
    ):
        data = prepared(
            tmp_path / name, cases(*starts), source={"timeseries": described},
            files={"all.csv": text.encode()},
        )  # fmt: skip
        assert data.card.source["rows_without_start"] == counted
        assert data.card.source["rows_of_other_cases"] == 1
    with pytest.raises(DataError) as caught:
        prepared(
            tmp_path / "others", cases("", ""), source={"timeseries": described},
            files={"all.csv": text.replace("stay-", "other-").encode()},
        )  # fmt: skip
    assert caught.value.code == "no_case_matches"


def test_words_of_a_long_table_may_differ_in_case_alone(tmp_path: Path):
    text = "stay,hours,what,value\nstay-1,0,Ca,80\nstay-1,1,CA,7.4\nstay-1,2,ca,5\n"
    source = {
        "timeseries": {"file": "all.csv", "id": "stay", "time": "hours", "variable": "what",
                       "value": "value", "names": {"pulse": "Ca", "ph": "CA"}}
    }  # fmt: skip
    data = prepared(tmp_path, as_csv(rows()), source=source, files={"all.csv": text.encode()})
    measured = data.features(0).rows[Modality.TIMESERIES][0]["values"][:, 2:]
    assert measured[:3].tolist() == [[1, 0], [0, 1], [0, 0]]  # nobody knows which `ca` is


def test_long_rows_name_codes_with_decimals_words_for_missing_and_categories_beside_a_unit(
    tmp_path: Path,
):
    text = (
        "stay,hours,what,value,unit\nstay-1,0,220045.0,80,bpm\nstay-1,0,NA,140,\n"
        "stay-1,1,9.0,NA,points\nstay-1,1,7.0,1,\n"
    )
    number = {"kind": "number"}
    words = {"kind": "category", "categories": ["A", "NA"], "normal": "A"}
    variables = {"pulse": {**number, "unit": "bpm"}, "sodium": number, "pain": words}
    series = {
        "file": "all.csv", "id": "stay", "variable": "what", "value": "value", "unit": "unit",
        "names": {"pulse": "220045", "sodium": "NA", "pain": "9"}, "ignore": ["7"],
    }  # fmt: skip
    data = prepared(
        tmp_path, as_csv(rows()), files={"all.csv": text.encode()}, source={"timeseries": series},
        task={"timeseries": {"horizon_hours": 2, "step_hours": 1, "variables": variables}},
    )  # fmt: skip
    assert problems_of(data.folder) == []
    values = data.features(0).rows[Modality.TIMESERIES][0]["values"]
    assert values[:, -3:].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert values[:, 2:4].tolist() == [[1, 0], [0, 1]]


def test_dates_count_from_the_start_of_the_case(tmp_path: Path):
    cases = [{**case, "admitted": "2020-01-01 08:00:00"} for case in rows()]
    text = (
        "stay,when,pulse,ph\nstay-1,2020-01-01T09:30:00,90,\nstay-1,2020-01-01 08:00,80,7.4\n"
        "stay-1,2020-01-01 07:00,70,7\n"
    )
    source = {"timeseries": {"file": "all.csv", "id": "stay", "time": "when", "start": "admitted"}}
    data = prepared(
        tmp_path, as_csv(cases, columns=(*COLUMNS, "admitted")), source=source,
        files={"all.csv": text.encode()},
    )  # fmt: skip
    measured = data.features(0).rows[Modality.TIMESERIES][0]["values"][:, 2:]
    assert measured.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    assert data.card.issues["before_start/dropped"] == 1


def test_dates_and_durations_of_parquet_are_taken(tmp_path: Path):
    start = datetime(2020, 1, 1, 8)
    hours = [timedelta(0), timedelta(hours=1, minutes=30)]
    series = pl.DataFrame({"stay": [1, 1], "t": hours, "pulse": [80.0, 90.0], "ph": [7.4, None]})
    cases = pl.DataFrame([{**case, "id": i, "in": start} for i, case in enumerate(rows(), 1)])
    for name, frame, described in (
        ("durations", series, {}),
        ("dates", series.with_columns(pl.col("t") + start), {"start": "in"}),
        ("nanoseconds", series.with_columns(pl.col("t").cast(pl.Duration("ns"))), {}),
        ("whatever the unit", series, {"time_unit": "minutes"}),
    ):
        main, measured = io.BytesIO(), io.BytesIO()
        cases.write_parquet(main)
        frame.write_parquet(measured)
        source = {"timeseries": {"file": "all.parquet", "id": "stay", "time": "t", **described}}
        data = prepared(
            tmp_path / name, main.getvalue(), "cases.parquet", source,
            files={"all.parquet": measured.getvalue()},
        )  # fmt: skip
        found = data.features(0).rows[Modality.TIMESERIES][0]["values"][:, 2:]
        assert found.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]], name


def test_a_series_that_breaks_off_is_not_kept_in_part(tmp_path: Path):
    cases = rows()
    cases[0]["vitals"] = "broken.csv"
    data = prepared(tmp_path, as_csv(cases), files={"broken.csv": SERIES.encode() + b'2,"90\n'})
    assert not data.brings(0, Modality.TIMESERIES)
    assert data.brings(1, Modality.TIMESERIES)


def test_what_a_struct_of_a_cases_own_series_holds_is_no_stranger_where_it_is_named(
    usual: Dataset, tmp_path: Path
):
    frame = pl.DataFrame(
        {
            "hours": [0.0, 1.5],
            "v": [{"hr": 80, "x": 1}, {"hr": 90, "x": 1}],
            "ph": [{"value": 7.4, "unit": None}, None],
            "odd": [{"y": 1}, {"y": 2}],
        }
    )
    out = io.BytesIO()
    frame.write_parquet(out)
    described = {"column": "vitals", "names": {"pulse": "v.hr"}, "ignore": ["odd"]}
    cases = [{**case, "vitals": "own.parquet"} for case in rows()]
    data = prepared(
        tmp_path, as_csv(cases), source={"timeseries": described},
        files={"own.parquet": out.getvalue()},
    )  # fmt: skip
    found, wanted = (each.features(0).rows[Modality.TIMESERIES][0] for each in (data, usual))
    assert (found["values"] == wanted["values"]).all()
    assert [each["column"] for each in problems_of(data.folder)] == ["v.x"]


@pytest.mark.parametrize(("decimal", "end"), [(".", ".0"), (",", ",0")])
def test_ids_join_with_decimals_and_without(decimal: str, end: str, tmp_path: Path):
    cases = [{**case, "id": str(i)} for i, case in enumerate(rows())]
    lines = [f"{i}{end if i % 2 else ''};0;80;7" for i in range(6)] + [f"0{end};1;-1{end};7"]
    described = {"file": "all.csv", "id": "stay", "decimal": decimal}
    data = prepared(
        tmp_path, as_csv(cases), source={"timeseries": described, "missing": ["", "-1"]},
        files={"all.csv": "\n".join(["stay;hours;pulse;ph", *lines]).encode()},
    )  # fmt: skip
    assert problems_of(data.folder) == []
    assert data.row_counts(Modality.TIMESERIES).tolist() == [1] * 6
    assert data.card.source["rows_of_other_cases"] == 0
    measured = data.features(0).rows[Modality.TIMESERIES][0]["values"][:, 2:]
    assert measured.tolist() == [[1, 1], [0, 1], [0, 0], [0, 0]]


def test_ids_of_many_digits_join_as_whole_numbers_and_as_decimals(tmp_path: Path):
    least = 12345678901234567  # a float has every second one alone
    cases = [{**case, "id": least + i, "patient": least + i} for i, case in enumerate(rows())]
    series = pl.DataFrame({"stay": [least + i for i in range(6)], "hours": 0, "pulse": range(6)})
    made = []
    whole, decimal = pl.Int64(), pl.Decimal(38, 0)
    for kind, kind_there in ((whole, whole), (whole, decimal), (decimal, whole)):
        out = io.BytesIO()
        series.with_columns(pl.col("stay").cast(kind_there), ph=7).write_parquet(out)
        table = io.BytesIO()
        frame = pl.DataFrame(cases).drop("vitals")
        frame.with_columns(pl.col("id", "patient").cast(kind)).write_parquet(table)
        made.append(
            prepared(
                tmp_path / str(len(made)), table.getvalue(), "cases.parquet",
                source={"timeseries": {"file": "all.parquet", "id": "stay"}},
                files={"all.parquet": out.getvalue()},
            )
        )  # fmt: skip
        assert problems_of(made[-1].folder) == []
    for at in range(6):
        first, *others = (
            each.features(at).rows[Modality.TIMESERIES][0]["values"].tolist() for each in made
        )
        assert others == [first, first]
