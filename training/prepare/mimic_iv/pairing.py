"""Parts become samples: those of one stay together, or all combinations within a patient."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import polars as pl

from lanistr.modalities import Modality
from lanistr.sample import Sample
from training.prepare.lazy import Shared
from training.prepare.mimic_iv import events, notes, pictures
from training.prepare.mimic_iv.cohort import row_of, subgroups_of
from training.prepare.mimic_iv.events import series_of

ItemT = TypeVar("ItemT")
Pairing = Literal["stay", "patient-product"]
PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)

_OWNERS_AT_ONCE = 2048
"""Stays or patients whose events and notes are in memory together."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was extracted from the raw files.

    Attributes:
        stays: those chosen, by `stay`, their position.
        owners: whose notes and pictures were chosen, by `owner`: the stays, or the patients.
        events: Parquet file of `events.extract_events`.
        notes: likewise.
        pictures: likewise.
        files: the folder that the pictures' paths begin at.
        labelled: whether the samples are to have their labels.
    """

    stays: pl.DataFrame
    owners: pl.DataFrame
    events: Path
    notes: Path
    pictures: Path
    files: Path
    labelled: bool


def samples_of(extracted: Extracted, pairing: Pairing) -> Iterator[Sample]:
    """Yield the samples, a bounded number of stays or patients in memory at once.

    A pair of stay brings the notes, the last picture, the row and the series of one stay, as far
    as there are any. A patient's product brings every combination of one picture, one note and one
    stay of the patient, or none where the patient has none; the stay brings row and series.
    """
    of_owner = {"stay": _of_stay, "patient-product": _of_patient}[pairing]
    for first in range(0, len(extracted.owners), _OWNERS_AT_ONCE):
        owners = extracted.owners.slice(first, _OWNERS_AT_ONCE)
        own = pl.col("owner").is_between(first, first + len(owners) - 1)
        stays = extracted.stays.filter(own)
        stays_of: dict[int, list[dict[str, Any]]] = {}
        for stay in stays.iter_rows(named=True):
            stays_of.setdefault(stay["owner"], []).append(stay)
        theirs = pl.col("stay").is_between(stays["stay"].min(), stays["stay"].max())
        measured = _read(extracted.events, theirs, events.ORDER)
        written = _read(extracted.notes, own, notes.ORDER)
        taken = _read(extracted.pictures, own, pictures.ORDER)
        for owner, subject in owners.select("owner", "subject_id").iter_rows():
            yield from of_owner(
                extracted,
                str(subject),
                stays_of.get(owner, []),
                measured,
                written.get(owner),
                taken.get(owner),
            )


def _read(path: Path, chosen: pl.Expr, order: Sequence[str]) -> dict[int, pl.DataFrame]:
    """Read some owners' records, by owner, in order."""
    frame = pl.scan_parquet(path).filter(chosen).collect().sort(order)
    parts = frame.partition_by(order[0], as_dict=True, maintain_order=True)
    return {owner: part for (owner,), part in parts.items()}


def _of_stay(
    extracted: Extracted,
    subject: str,
    stays: list[dict[str, Any]],
    measured: Mapping[int, pl.DataFrame],
    written: pl.DataFrame | None,
    taken: pl.DataFrame | None,
) -> Iterator[Sample]:
    (stay,) = stays
    parts = _stay_parts(stay, measured)
    if written is not None:
        parts[Modality.TEXT] = tuple(written["text"])
    if taken is not None:
        parts[Modality.IMAGE] = _picture(extracted.files, taken["path"][-1])
    yield Sample(
        parts,
        id=str(stay["stay_id"]),
        label=("died" if stay["died"] else "survived") if extracted.labelled else None,
        group=subject,
        subgroups=subgroups_of(stay),
    )


def _of_patient(
    extracted: Extracted,
    subject: str,
    stays: list[dict[str, Any]],
    measured: Mapping[int, pl.DataFrame],
    written: pl.DataFrame | None,
    taken: pl.DataFrame | None,
) -> Iterator[Sample]:
    texts = [] if written is None else written.select("note_id", "text").rows()
    texts = [(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]
    paths = [] if taken is None else taken["path"].to_list()
    for stay, note, path in product(_any(stays), _any(texts), _any(paths)):
        parts = {} if stay is None else _stay_parts(stay, measured)
        if note is not None:
            parts[Modality.TEXT] = Shared(note[2], partial(tuple, (note[1],)))
        if path is not None:
            parts[Modality.IMAGE] = _picture(extracted.files, path)
        names = (
            "" if stay is None else stay["stay_id"],
            "" if note is None else note[0],
            "" if path is None else Path(path).stem,
        )
        yield Sample(
            parts,
            id="/".join(str(name) for name in names),
            group=subject,
            subgroups={} if stay is None else subgroups_of(stay),
        )


def _any(found: Sequence[ItemT]) -> Sequence[ItemT | None]:
    """Return what was found, or one that is missing."""
    return found or [None]


def _stay_parts(
    stay: Mapping[str, Any], measured: Mapping[int, pl.DataFrame]
) -> dict[Modality, Any]:
    """Return row and series of a stay."""
    parts: dict[Modality, Any] = {}
    row = row_of(stay)
    if row:
        parts[Modality.TABULAR] = row
    found = measured.get(stay["stay"])
    if found is not None:
        parts[Modality.TIMESERIES] = Shared(str(stay["stay_id"]), partial(series_of, found))
    return parts


def _picture(files: Path, path: str) -> Shared[bytes]:
    return Shared(path, lambda: ((files / path).read_bytes(),))
