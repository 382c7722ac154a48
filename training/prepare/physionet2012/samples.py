"""Stays of the challenge become samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lanistr.modalities import Modality
from lanistr.sample import Measurements, Sample, Value
from training.prepare.physionet2012.stays import DEATH, Stays


def samples(found: Stays) -> Iterator[Sample]:
    """Yield the stays in the order of their files, labelled where it is known who died."""
    events = found.events
    records = events["record_id"].to_numpy()
    hours, values = events["hours"].to_list(), events["value"].to_list()
    names = events["parameter"].to_list()
    for stay in found.stays.iter_rows(named=True):
        start, end = np.searchsorted(records, [stay["record_id"], stay["record_id"] + 1])
        measured: dict[float, dict[str, Value]] = {}
        for place in range(start, end):
            measured.setdefault(hours[place], {})[names[place]] = values[place]
        row = _row(stay)
        parts: dict[Modality, Any] = {Modality.TABULAR: row} if row else {}
        if measured:
            parts[Modality.TIMESERIES] = tuple(Measurements(h, v) for h, v in measured.items())
        yield Sample(
            parts,
            id=str(stay["record_id"]),
            label={0: "survived", 1: "died"}.get(stay[DEATH]),
            group=str(stay["record_id"]),
            subgroups=_subgroups(stay),
        )


def _row(stay: Mapping[str, Any]) -> dict[str, Value]:
    """Return the descriptors that were recorded."""
    names = {"age": "Age", "gender": "Gender", "height": "Height", "icu_type": "ICUType"}
    names["weight"] = "Weight"
    row = {field: stay[name] for field, name in names.items()}
    return {field: value for field, value in row.items() if value is not None and value != -1}


def _subgroups(stay: Mapping[str, Any]) -> dict[str, str]:
    named = {
        "gender": {0: "female", 1: "male"}.get(stay["Gender"]),
        "icu_type": dict(enumerate(("coronary", "cardiac_surgery", "medical", "surgical"), 1)).get(
            stay["ICUType"]
        ),
        "age": _decade(stay["Age"]),
        "set": stay["set"],
    }
    return {name: value for name, value in named.items() if value is not None}


def _decade(age: float | None) -> str | None:
    if age is None or age < 0:
        return None
    if age < 40:
        return "0 to 39"
    decade = 10 * int(age // 10)
    return "80 and more" if decade >= 80 else f"{decade} to {decade + 9}"
