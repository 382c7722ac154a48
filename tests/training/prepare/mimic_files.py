"""Small files in the format of MIMIC-IV, MIMIC-IV-Note and MIMIC-CXR-JPG."""

import argparse
import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from lanistr.command import CommandParser
from training.data.store import Dataset
from training.prepare.kind import add_shared_arguments
from training.prepare.mimic_iv import command

HEADERS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,"
    "admit_provider_id,admission_location,discharge_location,insurance,language,marital_status,"
    "race,edregtime,edouttime,hospital_expire_flag",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,"
    "valuenum,valueuom,warning",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,"
    "charttime,storetime,value,valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,"
    "comments",
    "hosp/d_labitems": "itemid,label,fluid,category",
    "note/radiology": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "note/discharge": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "mimic-cxr-2.0.0-metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,"
    "ViewPosition,Rows,Columns,StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning",
}

IN = datetime(2150, 3, 1, 10, 0, 0)
"""When every stay begins, unless a test says otherwise."""


def at(hours: float) -> str:
    """Return the time so many hours after `IN`, as the files have it."""
    return (IN + timedelta(seconds=round(hours * 3600))).strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class Files:
    """A source to be; each method adds a row, `write` writes the tables that have any."""

    rows: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def add(self, table: str, **row: Any) -> None:
        """Add a row to a table."""
        self.rows.setdefault(table, []).append(row)

    def stay(self, number: int, **other: Any) -> None:
        """Add a patient with an admission and a stay of 72 hours, all of this number."""
        row: dict[str, Any] = {
            "subject_id": 10_000_000 + number,
            "hadm_id": 20_000_000 + number,
            "stay_id": 30_000_000 + number,
            "gender": "F",
            "anchor_age": 60,
            "anchor_year": 2150,
            "admittime": at(-5),
            "dischtime": at(200),
            "admission_type": "URGENT",
            "race": "WHITE",
            "hospital_expire_flag": 0,
            "first_careunit": "Medical Intensive Care Unit (MICU)",
            "last_careunit": "Medical Intensive Care Unit (MICU)",
            "intime": at(0),
            "outtime": at(72),
            "los": 3,
        }
        row |= other
        for table in ("hosp/patients", "hosp/admissions", "icu/icustays"):
            self.add(table, **row)

    def chart(self, number: int, hours: float, item: int, value: Any = "", **other: Any) -> None:
        """Chart a value of a stay; a number stands in both columns."""
        row: dict[str, Any] = {"stay_id": 30_000_000 + number, "charttime": at(hours)}
        row |= {"itemid": item, "value": value, "warning": 0}
        row["valuenum"] = value if isinstance(value, int | float) else ""
        self.add("icu/chartevents", **(row | other))

    def lab(self, number: int, hours: float, item: int, value: Any, **other: Any) -> None:
        """Add a laboratory value of a patient."""
        row: dict[str, Any] = {"subject_id": 10_000_000 + number, "charttime": at(hours)}
        row |= {"itemid": item, "value": value, "valuenum": value}
        self.add("hosp/labevents", **(row | other))

    def note(self, number: int, hours: float, text: str, kind: str = "RR", **other: Any) -> None:
        """Add a note of a patient."""
        table = "note/discharge" if kind == "DS" else "note/radiology"
        count = len(self.rows.get(table, ()))
        row: dict[str, Any] = {"note_id": f"{10_000_000 + number}-{kind}-{count}"}
        row |= {"subject_id": 10_000_000 + number, "hadm_id": 20_000_000 + number}
        row |= {"note_type": kind, "charttime": at(hours), "text": text}
        self.add(table, **(row | other))

    def xray(
        self, number: int, hours: float, name: str, view: str = "AP", grey: int = 90, **other: Any
    ) -> None:
        """Add a picture of a patient, in a study of its own."""
        time = IN + timedelta(hours=hours)
        subject, study = 10_000_000 + number, 50_000_000 + len(self.pictures)
        row: dict[str, Any] = {"dicom_id": name, "subject_id": subject, "study_id": study}
        row |= {"ViewPosition": view, "StudyDate": time.strftime("%Y%m%d")}
        # The real file keeps the time as a number: no leading zeros, but fractions.
        row |= {"StudyTime": f"{int(time.strftime('%H%M%S'))}.531"}
        self.add("mimic-cxr-2.0.0-metadata", **(row | other))
        out = io.BytesIO()
        Image.new("L", (40, 32), grey).save(out, "JPEG")
        self.pictures[f"files/p10/p{subject}/s{study}/{name}.jpg"] = out.getvalue()

    def write(self, folder: Path, *, packed: bool = True, tables: Sequence[str] = ()) -> Path:
        """Write the tables, and those named although they are empty."""
        for table in {**dict.fromkeys(tables), **self.rows}:
            out = io.StringIO()
            writer = csv.DictWriter(
                out, HEADERS[table].split(","), extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(self.rows.get(table, ()))
            path = folder / f"{table}.csv{'.gz' if packed else ''}"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = out.getvalue().encode()
            path.write_bytes(gzip.compress(data, 1) if packed else data)
        for name, picture in self.pictures.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        return folder


def arguments(source: Path, out: Path, *options: str) -> argparse.Namespace:
    """Read a command line as `python -m training.prepare mimic-iv` does."""
    parser = CommandParser()
    add_shared_arguments(parser)
    command.add_arguments(parser)
    fast = ("--image-size", "16", "--vocabulary-size", "200", "--max-tokens", "64")
    return parser.parse_args(["--source", str(source), "--out", str(out), *fast, *options])


def prepare(source: Path, out: Path, *options: str) -> Dataset:
    """Prepare a source."""
    return command.prepare(arguments(source, out, *options))
