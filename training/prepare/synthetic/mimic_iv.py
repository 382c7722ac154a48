"""Made-up stays in MIMIC-IV's raw file layout, with its dirt, for the real preparer to be run on.

Each stay that is given becomes a patient with one admission and one stay of 48 hours or longer. A
stay that lacks a part has no such records, but for the row, which every real stay has. Around them
stands what the preparer must leave out: other items, hours before the stay and after its window,
stays that break a rule, lateral pictures, and discharge summaries that tell the outcome.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lanistr.modalities import Modality
from lanistr.sample import Measurements, Quantity, Sample, Value
from training.prepare.synthetic import stays

OTHER_EVENTS = 4
"""Chart events of other items for each one of the 17 variables (the demo: 5.1)."""

BREAKING_A_RULE = 0.5
"""Further stays that no labelled set may hold, for each one that is given."""

_TABLES: Mapping[str, Sequence[str]] = {
    "hosp/patients": (
        "subject_id",
        "gender",
        "anchor_age",
        "anchor_year",
        "anchor_year_group",
        "dod",
    ),
    "hosp/admissions": (
        *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
        *("admit_provider_id", "admission_location", "discharge_location", "insurance"),
        *("language", "marital_status", "race", "edregtime", "edouttime", "hospital_expire_flag"),
    ),
    "hosp/labevents": (
        *("labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "order_provider_id"),
        *("charttime", "storetime", "value", "valuenum", "valueuom", "ref_range_lower"),
        *("ref_range_upper", "flag", "priority", "comments"),
    ),
    "hosp/d_labitems": ("itemid", "label", "fluid", "category"),
    "icu/icustays": (
        *("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime"),
        *("outtime", "los"),
    ),
    "icu/chartevents": (
        *("subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime", "storetime", "itemid"),
        *("value", "valuenum", "valueuom", "warning"),
    ),
    "note/radiology": (
        *("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime"),
        "text",
    ),
    "note/discharge": (
        *("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime"),
        "text",
    ),
    "mimic-cxr-2.0.0-metadata": (
        *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription"),
        *("ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime"),
        *("ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning"),
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
}

# Variable: the items it is charted under, each with what stands in `valueuom`.
_ITEMS: Mapping[str, tuple[tuple[int, str], ...]] = {
    "heart_rate": ((220045, "bpm"),),
    "respiratory_rate": ((220210, "insp/min"), (224690, "insp/min"), (224422, "bpm")),
    "oxygen_saturation": ((220277, "%"),),
    "systolic_bp": ((220050, "mmHg"), (220179, "mmHg")),
    "diastolic_bp": ((220051, "mmHg"), (220180, "mmHg")),
    "mean_bp": ((220052, "mmHg"), (220181, "mmHg")),
    "fio2": ((223835, ""),),
    "gcs_eye": ((220739, ""),),
    "gcs_motor": ((223901, ""),),
    "gcs_verbal": ((223900, ""),),
    "temperature": ((223762, "°C"),),
    "weight": ((224639, "kg"),),
}
_FAHRENHEIT = ((223761, "°F"), (223761, "?F"), (223761, ""))
_POUNDS = (226531, "")
_LABS: Mapping[str, tuple[int, str]] = {"glucose": (50931, "mg/dL"), "ph": (50820, "units")}
_LAB_NAMES = (
    (50931, "Glucose", "Blood", "Chemistry"),
    (50820, "pH", "Blood", "Blood Gas"),
    (51478, "Glucose", "Urine", "Hematology"),
    (51491, "pH", "Urine", "Hematology"),
)
_SCORES: Mapping[str, tuple[str, ...]] = {
    "gcs_eye": ("None", "To Pain", "To Speech", "Spontaneously"),
    "gcs_verbal": (
        *("No Response-ETT", "Incomprehensible sounds", "Inappropriate Words", "Confused"),
        "Oriented",
    ),
    "gcs_motor": (
        *("No response", "Abnormal extension", "Abnormal Flexion", "Flex-withdraws"),
        *("Localizes Pain", "Obeys Commands"),
    ),
}
_OTHER_ITEMS = (
    *((220048, "SR (Sinus Rhythm)", ""), (224650, "None", ""), (223907, "Diminished", "")),
    *((224080, "Side, back", ""), (227944, "Alarms on", ""), (224695, "24", "cmH2O")),
    *((220339, "5", "cmH2O"), (224685, "480", "mL"), (227457, "182", "K/uL")),
    *((220615, "1.1", "mg/dL"), (220645, "139", "mEq/L"), (220546, "10.4", "K/uL")),
)
_UNITS = {
    "medical": "Medical Intensive Care Unit (MICU)",
    "MICU": "Medical Intensive Care Unit (MICU)",
    "surgical": "Surgical Intensive Care Unit (SICU)",
    "trauma_surgical": "Trauma SICU (TSICU)",
    "coronary": "Coronary Care Unit (CCU)",
    "CVICU": "Cardiac Vascular Intensive Care Unit (CVICU)",
    "neuro": "Neuro Surgical Intensive Care Unit (Neuro SICU)",
}
_ADMISSIONS = {
    "emergency": "EW EMER.",
    "urgent": "URGENT",
    "elective": "ELECTIVE",
    "observation": "EU OBSERVATION",
}
_RACES = (
    "WHITE",
    "BLACK/AFRICAN AMERICAN",
    "ASIAN - CHINESE",
    "HISPANIC/LATINO - CUBAN",
    "UNKNOWN",
)

_Row = Mapping[str, Any]


def write_mimic_iv(samples: Iterable[Sample], folder: Path, seed: int) -> None:
    """Write stays as the files of MIMIC-IV, MIMIC-IV-Note and MIMIC-CXR-JPG.

    Args:
        samples: made by `stays.make`, complete or not.
        folder: exists; takes `hosp/`, `icu/`, `note/`, `files/` and the metadata of the pictures.
        seed: of what is drawn besides; the same samples and seed give the same files.
    """
    with _Writers(folder) as tables:
        for item, label, fluid, category in _LAB_NAMES:
            row = {"itemid": item, "label": label, "fluid": fluid, "category": category}
            tables.add("hosp/d_labitems", row)
        for number, sample in enumerate(samples):
            rng = np.random.default_rng([seed, number, 1])
            stay = _Stay.drawn(10_000_000 + 2 * number, sample, rng)
            _write_stay(tables, stay, sample, rng)
            if rng.random() < BREAKING_A_RULE:
                other = _another(sample, np.random.default_rng([seed, number, 2]))
                _write_broken(tables, _Stay.drawn(10_000_001 + 2 * number, other, rng), other, rng)


class _Writers:
    """The tables, each opened when its first row comes, packed the same way each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._writers: dict[str, csv.DictWriter[str]] = {}

    def __enter__(self) -> "_Writers":
        for name in ("hosp/patients", "hosp/admissions", "icu/icustays"):
            self._writer(name)
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def add(self, name: str, row: _Row) -> None:
        """Write a row; columns that it lacks stay empty."""
        self._writer(name).writerow(row)

    def picture(self, place: str, data: bytes) -> None:
        """Write a picture file."""
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _writer(self, name: str) -> "csv.DictWriter[str]":
        if name not in self._writers:
            path = self.folder / f"{name}.csv.gz"
            path.parent.mkdir(exist_ok=True)
            raw = self._open.enter_context(path.open("wb"))
            # No name and no time in the header: the same rows give the same file.
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)
            text = io.TextIOWrapper(self._open.enter_context(packed), encoding="utf-8", newline="")
            self._open.enter_context(text)
            writer = csv.DictWriter(text, _TABLES[name], lineterminator="\n")
            writer.writeheader()
            self._writers[name] = writer
        return self._writers[name]


# ---- a stay -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stay:
    """Who, when and where."""

    subject: int
    start: datetime
    hours: float
    before: float  # hours in the hospital before
    age: int
    died: bool | None
    gender: str
    admission_type: str
    care_unit: str
    race: str

    @classmethod
    def drawn(cls, subject: int, sample: Sample, rng: np.random.Generator) -> "_Stay":
        """Take what the sample's row says, and draw what it leaves out."""
        row = sample.parts.get(Modality.TABULAR, {})
        kind = str(row.get("admission_type", "urgent"))
        unit = str(row.get("care_unit", "medical"))
        return cls(
            subject=subject,
            start=datetime(2110, 1, 1) + timedelta(minutes=int(rng.integers(50_000_000))),
            hours=float(np.round(48 + rng.exponential(60), 2)),
            before=float(row.get("hours_before_icu", np.round(rng.exponential(8), 1))),
            age=int(row.get("age", rng.integers(18, 92))),
            died=None if sample.label is None else sample.label == "died",
            gender=str(row.get("gender", "")),
            admission_type=_ADMISSIONS.get(kind, kind),
            care_unit=_UNITS.get(unit, unit),
            race=str(rng.choice(_RACES)),
        )

    @property
    def admission(self) -> int:
        return self.subject + 10_000_000

    @property
    def number(self) -> int:
        return self.subject + 20_000_000

    def at(self, hours: float) -> str:
        """Return a time, by hours since the stay began."""
        return _written(self.start + timedelta(seconds=round(3600 * hours)))


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _write_stay(
    tables: _Writers, stay: _Stay, sample: Sample, rng: np.random.Generator, last_unit: str = ""
) -> None:
    leaves = stay.hours + float(np.round(rng.exponential(70), 2))
    admitted = stay.start - timedelta(seconds=round(3600 * stay.before))
    since_anchor = admitted.year % 4
    tables.add(
        "hosp/patients",
        {
            "subject_id": stay.subject,
            "gender": stay.gender,
            "anchor_age": stay.age - since_anchor,
            "anchor_year": admitted.year - since_anchor,
            "anchor_year_group": "2011 - 2013",
            "dod": stay.at(leaves)[:10] if stay.died else "",
        },
    )
    tables.add(
        "hosp/admissions",
        {
            "subject_id": stay.subject,
            "hadm_id": stay.admission,
            "admittime": _written(admitted),
            "dischtime": stay.at(leaves),
            "deathtime": stay.at(leaves) if stay.died else "",
            "admission_type": stay.admission_type,
            "discharge_location": "DIED" if stay.died else "HOME",
            "race": stay.race,
            "hospital_expire_flag": "" if stay.died is None else int(stay.died),
        },
    )
    _add_stay(tables, stay, stay.number, 0, stay.hours, last_unit)
    for event in sorted(_events(sample.parts.get(Modality.TIMESERIES, ()), stay, rng)):
        _add_event(tables, stay, event, rng)
    _write_notes(tables, stay, sample.parts.get(Modality.TEXT, ()), leaves, rng)
    _write_pictures(tables, stay, sample.parts.get(Modality.IMAGE, ()), rng)


def _add_stay(
    tables: _Writers, stay: _Stay, number: int, begins: float, ends: float, last_unit: str = ""
) -> None:
    tables.add(
        "icu/icustays",
        {
            "subject_id": stay.subject,
            "hadm_id": stay.admission,
            "stay_id": number,
            "first_careunit": stay.care_unit,
            "last_careunit": last_unit or stay.care_unit,
            "intime": stay.at(begins),
            "outtime": stay.at(ends),
            "los": round((ends - begins) / 24, 4),
        },
    )


def _another(sample: Sample, rng: np.random.Generator) -> Sample:
    """Make a stay that brings what the sample does, and a label if that has one."""
    made = stays.make(0, rng)
    parts = {each: part for each, part in made.parts.items() if each in sample.parts}
    return replace(made, parts=parts, label=None if sample.label is None else made.label)


def _write_broken(tables: _Writers, stay: _Stay, sample: Sample, rng: np.random.Generator) -> None:
    """Write a stay that breaks one of the rules, with records as a good one has them."""
    match int(rng.integers(4)):
        case 0:
            _write_stay(tables, replace(stay, age=17), sample, rng)
        case 1:
            _write_stay(tables, replace(stay, hours=30.0), sample, rng)
        case 2:
            _write_stay(tables, stay, sample, rng, last_unit="Neuro Stepdown")
        case _:
            _write_stay(tables, stay, sample, rng)
            again = stay.hours + 12
            _add_stay(tables, stay, stay.number + 5_000_000, again, again + 60)


# ---- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class _Event:
    """What one record of chart or laboratory events says."""

    hours: float
    table: str
    item: int
    value: str
    number: str
    unit: str


def _events(
    series: Sequence[Measurements], stay: _Stay, rng: np.random.Generator
) -> Iterator[_Event]:
    """Yield what was measured, and what else stands in such tables."""
    for row in series:
        for name, value in row.values.items():
            yield _measured(row.hours, name, value, rng)
            for _ in range(OTHER_EVENTS):
                item, text, unit = _OTHER_ITEMS[int(rng.integers(len(_OTHER_ITEMS)))]
                number = text if text.replace(".", "").isdecimal() else ""
                yield _Event(row.hours, "icu/chartevents", item, text, number, unit)
    if not series:
        return
    # Outside the window, where a careless preparer would find the outcome.
    for hours in (-0.5, *np.arange(48.5, stay.hours, 4).tolist()):
        rate = 30 if stay.died else 75
        yield _Event(hours, "icu/chartevents", 220045, str(rate), str(rate), "bpm")
    for hours in (2.0, 50.0):
        yield _Event(hours, "hosp/labevents", 51491, "6.5", "6.5", "units")
    if rng.random() < 0.02:
        yield _Event(3.0, "hosp/labevents", 50931, "GREATER THAN 500", "", "mg/dL")
    if rng.random() < 0.05:
        yield _Event(1.0, "icu/chartevents", 226730, "170", "170", "cm")
        yield _Event(1.0, "icu/chartevents", 226707, "67", "67", "Inch")


def _measured(hours: float, name: str, value: Value, rng: np.random.Generator) -> _Event:
    unit = value.unit if isinstance(value, Quantity) else ""
    plain = value.value if isinstance(value, Quantity) else value
    if name in _LABS:
        item, written = _LABS[name]
        return _Event(hours, "hosp/labevents", item, str(plain), str(plain), written)
    if unit == "degF":
        item, written = _FAHRENHEIT[int(rng.integers(len(_FAHRENHEIT)))]
    elif unit == "lb":
        item, written = _POUNDS
    else:
        item, written = _ITEMS[name][int(rng.integers(len(_ITEMS[name])))]
    if name in _SCORES:
        assert isinstance(plain, int)
        return _Event(hours, "icu/chartevents", item, _SCORES[name][plain - 1], str(plain), written)
    number = "" if rng.random() < 0.001 else str(plain)  # now and then in the text column alone
    return _Event(hours, "icu/chartevents", item, str(plain), number, written)


def _add_event(tables: _Writers, stay: _Stay, event: _Event, rng: np.random.Generator) -> None:
    row: dict[str, Any] = {
        "subject_id": stay.subject,
        "charttime": stay.at(event.hours),
        "storetime": stay.at(event.hours + 0.3),
        "itemid": event.item,
        "value": event.value,
        "valuenum": event.number,
        "valueuom": event.unit,
    }
    if event.table == "icu/chartevents":
        row |= {"hadm_id": stay.admission, "stay_id": stay.number, "caregiver_id": 4321}
        row |= {"warning": 0}
    elif rng.random() < 0.8:  # of the demo's laboratory events a fifth name no admission
        row |= {"hadm_id": stay.admission}
    tables.add(event.table, row)


# ---- notes and pictures -------------------------------------------------------------------------


def _write_notes(
    tables: _Writers,
    stay: _Stay,
    notes: Sequence[str],
    leaves: float,
    rng: np.random.Generator,
) -> None:
    def add(table: str, kind: str, number: int, hours: float, text: str) -> None:
        row = {"note_id": f"{stay.subject}-{kind}-{number}", "subject_id": stay.subject}
        row |= {"hadm_id": stay.admission, "note_type": kind, "note_seq": number}
        row |= {"charttime": stay.at(hours), "storetime": stay.at(hours + 1), "text": text}
        tables.add(table, row)

    times = np.sort(np.round(rng.uniform(0.1, 47.9, len(notes)), 2)).tolist()
    for number, (hours, text) in enumerate(zip(times, notes, strict=True), 1):
        add("note/radiology", "RR", number, hours, f"EXAMINATION: ___\n\n  {text}\n")
    if notes:
        fate = "Expired." if stay.died else "Discharged home."
        add("note/radiology", "RR", 9, 48.6, f'FINDINGS: "{fate}", after the window')
        add("note/discharge", "DS", 1, leaves, f"Discharge Disposition:\n{fate}")


def _write_pictures(
    tables: _Writers, stay: _Stay, pictures: Sequence[bytes], rng: np.random.Generator
) -> None:
    """Write the pictures as the last frontal ones of the window, and others around them."""
    if not pictures:
        return
    (last,) = pictures
    taken = float(np.round(rng.uniform(10, 47.9), 2))
    for number, (hours, view) in enumerate(
        (
            (taken - 9, "AP"),
            (taken, str(rng.choice(["AP", "PA"]))),
            (taken, "LATERAL"),
            (49.0, "PA"),
        )
    ):
        wanted = hours == taken and view != "LATERAL"
        data = last if wanted else _other_picture(stay.subject, number)
        study = 50_000_000 + 4 * (stay.subject - 10_000_000) + number
        name = hashlib.sha256(f"{stay.subject}-{number}".encode()).hexdigest()[:40]
        name = "-".join(name[i : i + 8] for i in range(0, 40, 8))
        time = stay.start + timedelta(seconds=round(3600 * hours))
        tables.add(
            "mimic-cxr-2.0.0-metadata",
            {
                "dicom_id": name,
                "subject_id": stay.subject,
                "study_id": study,
                "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)",
                "ViewPosition": view,
                "StudyDate": time.strftime("%Y%m%d"),
                "StudyTime": f"{int(time.strftime('%H%M%S'))}.{int(rng.integers(1000)):03}",
            },
        )
        subject = str(stay.subject)
        tables.picture(f"files/p{subject[:2]}/p{subject}/s{study}/{name}.jpg", data)


def _other_picture(subject: int, number: int) -> bytes:
    """Return a picture of blotches, each its own: one that all had would be in every split."""
    blotches = np.random.default_rng([subject, number]).integers(256, size=(8, 8), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((64, 64)).save(out, "JPEG")
    return out.getvalue()
