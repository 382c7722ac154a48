"""A small table of cases with pictures and series beside it, as a user has it, and the command."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from training.data.store import Dataset
from training.prepare.__main__ import KINDS, _parser

TASK: dict[str, Any] = {
    "name": "stays",
    "title": "Stays",
    "label": {"kind": "binary", "name": "died", "classes": ["survived", "died"]},
    "metric": "auroc",
    "text": {},
    "image": {},
    "tabular": {
        "fields": {
            "age": {"kind": "number", "unit": "years"},
            "temperature": {
                "kind": "number",
                "unit": "degC",
                "units": {"degF": {"scale": 0.5555555555555556, "offset": -17.77777777777778}},
            },
            "sex": {"kind": "category", "categories": ["F", "M"]},
        }
    },
    "timeseries": {
        "horizon_hours": 4,
        "step_hours": 1,
        "variables": {"pulse": {"kind": "number"}, "ph": {"kind": "number"}},
    },
}

SOURCE: dict[str, Any] = {
    "id": "id",
    "group": "patient",
    "label": "died",
    "text": {"columns": ["note"]},
    "image": {"columns": ["picture"]},
    "timeseries": {"column": "vitals"},
}

COLUMNS = ("id", "patient", "age", "temperature", "sex", "note", "picture", "vitals", "died")
SERIES = "hours,pulse,ph\n0,80,7.4\n1.5,90,\n"


def rows(count: int = 6) -> list[dict[str, Any]]:
    """Return so many cases in which nothing is wrong."""
    return [
        {
            "id": f"stay-{i}",
            "patient": f"p{i}",
            "age": str(40 + i),
            "temperature": "36.5",
            "sex": "FM"[i % 2],
            "note": "walked well, slept well",
            "picture": "pictures/chest.png",
            "vitals": "series/vitals.csv",
            "died": ("survived", "died")[i % 2],
        }
        for i in range(1, count + 1)
    ]


def picture(size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("L", size, 90).save(out, kind)
    return out.getvalue()


def as_csv(
    cases: Iterable[Mapping[str, Any]],
    delimiter: str = ",",
    columns: Sequence[str] = COLUMNS,
    end: str = "\n",
) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(cases)
    return out.getvalue().encode()


def as_jsonl(cases: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(case) + "\n" for case in cases).encode()


def place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, the usual picture and the usual series into a folder."""
    usual = {"pictures/chest.png": picture(), "series/vitals.csv": SERIES.encode()}
    for name, data in {**usual, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_task(folder: Path, task: Mapping[str, Any], source: Mapping[str, Any] | None) -> Path:
    path = folder / "task.yaml"
    more = {} if source is None else {"source": dict(source)}
    path.write_text(yaml.safe_dump({**task, **more}, sort_keys=False), encoding="utf-8")
    return path


def prepare_table(table: Path, task: Path, out: Path, *more: str) -> Dataset | None:
    """Run the command in this process."""
    arguments = _parser().parse_args(
        ["table", "--source", str(table), "--task", str(task), "--out", str(out),
         "--image-size", "8", "--vocabulary-size", "200", "--splits", "0.5", "0.25", "0.25", *more]
    )  # fmt: skip
    return KINDS["table"].prepare(arguments)


def problems_of(out: Path) -> list[dict[str, Any]]:
    path = out.with_name(out.name + ".problems.jsonl")
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepared(
    folder: Path,
    data: bytes,
    name: str = "cases.csv",
    source: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    files: dict[str, bytes] | None = None,
    more: tuple[str, ...] = (),
) -> Dataset:
    """Prepare a table in a folder of its own, and return the data set."""
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    place(raw, {name: data, **(files or {})})
    file = write_task(raw, {**TASK, **(task or {})}, {**SOURCE, **(source or {})})
    made = prepare_table(raw / name, file, folder / "data", *more)
    assert made is not None
    return made
