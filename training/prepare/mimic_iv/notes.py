"""Which notes belong to a stay, or to a patient."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from training.prepare.mimic_iv.layout import Layout
from training.prepare.mimic_iv.tables import ROW, TIME, Report, read_blocks, typed

log = logging.getLogger(__name__)

DISCHARGE_TYPES = ("DS", "AD")
"""Note types of discharge summaries and their addenda."""

SCHEMA = {
    "owner": pl.Int32(),
    "charttime": TIME,
    "note_id": pl.String(),
    "text": pl.String(),
}

ORDER = ("owner", "charttime", "note_id")
"""Oldest first."""


def extract_notes(
    layout: Layout, owners: pl.DataFrame, out: Path, report: Report, *, discharge: bool
) -> dict[str, Any]:
    """Write the notes of the owners into a Parquet file; return what became of the records.

    Args:
        layout: says where the notes are.
        owners: `owner`, `subject_id`, `hadm_id`, and the window `start` to `end` in which a note
            must have been written; null: at any time.
        out: the file.
        report: takes what cannot be read.
        discharge: take discharge summaries too. They are written after the outcome, so for them
            the admission decides, or the patient where the window is open, not the time.
    """
    figures: dict[str, Any] = {}
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for path in (layout.radiology, layout.discharge):
            if path is None:
                continue
            if path == layout.discharge and not discharge:
                figures[path.name] = "not used: written after the outcome"
                log.info("%s is not used: it is written after the outcome", path.name)
                continue
            counts: Counter[str] = Counter()
            columns = {
                "note_id": pl.String(),
                "subject_id": pl.Int64(),
                "hadm_id": pl.Int64(),
                "note_type": pl.String(),
                "charttime": pl.String(),
                "text": pl.String(),
            }
            for block in read_blocks(path, columns, report):
                found = _belonging(block, owners, path, report, counts, discharge)
                if len(found):
                    writer.write_table(found.to_arrow().cast(schema))
            figures[path.name] = dict(counts)
    return figures


def _belonging(
    block: pl.DataFrame,
    owners: pl.DataFrame,
    path: Path,
    report: Report,
    counts: Counter[str],
    discharge: bool,
) -> pl.DataFrame:
    counts["read"] += block.height
    notes = block.join(owners, on="subject_id", how="semi")
    counts["of the patients"] += notes.height
    late = pl.col("note_type").str.to_uppercase().is_in(DISCHARGE_TYPES)
    if not discharge:
        refused = notes.filter(late)
        if len(refused):
            counts["discharge summaries, excluded"] += refused.height
        notes = notes.filter(~late.fill_null(False))
    notes = typed(notes, {"charttime": TIME}, path, report)
    owned = notes.join(owners, on="subject_id", suffix="_of_owner")
    within = pl.col("charttime").is_between("start", "end")
    same_admission = pl.col("hadm_id") == pl.col("hadm_id_of_owner")
    belongs = pl.when(late.fill_null(False)).then(same_admission).otherwise(within)
    owned = owned.filter(pl.col("start").is_null() | belongs.fill_null(False))
    counts["in the window"] += owned.height
    empty = pl.col("text").str.strip_chars().fill_null("") == ""
    kept = owned.filter(~empty)
    if kept.height < owned.height:
        counts["empty"] += owned.height - kept.height
    counts["kept"] += kept.height
    name = pl.col("note_id").fill_null(pl.format(f"{path.name}:{{}}", ROW))
    return kept.with_columns(name.alias("note_id")).select(*SCHEMA)
