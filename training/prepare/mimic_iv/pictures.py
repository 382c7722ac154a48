"""Which chest X-rays belong to a stay, or to a patient."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from lanistr.errors import InputError
from lanistr.issues import IssueLog
from lanistr.preprocess.image import ImageOptions, ImagePreprocessor
from training.prepare.mimic_iv.layout import Layout
from training.prepare.mimic_iv.tables import ROW, ROW_TYPE, TIME, Report, read_blocks
from training.prepare.mimic_iv.work import Notebook

FRONTAL = ("AP", "PA")

SCHEMA = {"owner": pl.Int32(), "time": TIME, "dicom_id": pl.String(), "path": pl.String()}

ORDER = ("owner", "time", "dicom_id")
"""Oldest first."""


def extract_pictures(
    layout: Layout, owners: pl.DataFrame, out: Path, notebook: Notebook, options: ImageOptions
) -> dict[str, Any]:
    """Write which X-rays belong to the owners into a Parquet file; return what became of them.

    An owner with a window gets the last frontal one taken in it; one without gets all pictures.
    Each is opened and decoded: one that is missing or broken is reported and not kept, and no
    other stands in for it.

    Args:
        layout: says where they are.
        owners: see `extract_notes`.
        out: the file.
        notebook: takes what cannot be read, and which pictures were looked at.
        options: say how large a picture may be.

    Returns:
        counts, and under `sha256` one hash over all pictures that are kept.
    """
    if layout.metadata is None or layout.pictures is None:
        pl.DataFrame(schema=SCHEMA).write_parquet(out)
        return {}
    counts: Counter[str] = Counter()
    blocks = [pl.DataFrame(schema={ROW: ROW_TYPE, **SCHEMA})]
    columns = {
        "dicom_id": pl.String(),
        "subject_id": pl.Int64(),
        "study_id": pl.Int64(),
        "ViewPosition": pl.String(),
        "StudyDate": pl.String(),
        "StudyTime": pl.String(),
    }
    for block in read_blocks(layout.metadata, columns, notebook.add):
        blocks.append(_belonging(block, owners, layout.metadata, notebook.add, counts))
    found = pl.concat(blocks).sort(ORDER)
    windowed = owners.filter(pl.col("start").is_not_null()).select("owner")
    last = (
        found.join(windowed, on="owner", how="semi").group_by("owner", maintain_order=True).last()
    )
    found = pl.concat(
        [found.join(windowed, on="owner", how="anti"), last.select(found.columns)]
    ).sort(ORDER)
    counts["wanted"] = found.height
    kept, digest = _checked(found, layout.pictures, layout.metadata, notebook, options)
    counts["kept"] = kept.height
    kept.select(*SCHEMA).write_parquet(out)
    return {layout.metadata.name: dict(counts), "sha256": digest}


def _belonging(
    block: pl.DataFrame, owners: pl.DataFrame, path: Path, report: Report, counts: Counter[str]
) -> pl.DataFrame:
    counts["read"] += block.height
    block = block.join(owners, on="subject_id", how="semi")
    counts["of the patients"] += block.height
    block = block.with_columns(_study_time().alias("time"))
    for row, date, time in (
        block.filter(pl.col("time").is_null()).select(ROW, "StudyDate", "StudyTime").iter_rows()
    ):
        report(
            "wrong_type",
            "not a study date and time, such as 21800506 and 213014.531",
            file=path.name,
            row=row,
            column="StudyDate",
            seen=f"{date} {time}",
        )
    owned = block.join(owners, on="subject_id")
    anytime = pl.col("start").is_null()
    within = pl.col("time").is_between("start", "end")
    frontal = pl.col("ViewPosition").is_in(FRONTAL)
    counts["in the window"] += owned.filter(anytime | within).height
    owned = owned.filter((anytime & pl.col("time").is_not_null()) | (within & frontal))
    counts["in the window and frontal"] += owned.height
    subject = pl.col("subject_id").cast(pl.String)
    place = pl.format(
        "files/p{}/p{}/s{}/{}.jpg", subject.str.slice(0, 2), subject, "study_id", "dicom_id"
    )
    return owned.with_columns(place.alias("path")).select(ROW, *SCHEMA)


def _study_time() -> pl.Expr:
    """Read a date such as 21800506 and a time such as 83014.531, which is 08:30:14."""
    clock = pl.col("StudyTime").str.strip_chars().str.split(".").list.first().str.zfill(6)
    date = pl.col("StudyDate").str.strip_chars()
    return (date + clock).str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False)


def _checked(
    found: pl.DataFrame, root: Path, metadata: Path, notebook: Notebook, options: ImageOptions
) -> tuple[pl.DataFrame, str]:
    """Return the pictures that can be decoded, and a hash over them."""
    decoder = ImagePreprocessor(options)

    def look(path: str) -> tuple[str, str, str]:
        """Return the picture's hash, or else a code and what is wrong."""
        notebook.look_at(root / path)
        try:
            data = (root / path).read_bytes()
        except OSError as exc:
            return "", "missing_picture", f"the image cannot be read: {exc.strerror}"
        try:
            decoder.decode(data, path, IssueLog(), roughly=True)
        except InputError as exc:
            return "", "unreadable_picture", exc.message
        return hashlib.sha256(data).hexdigest(), "", ""

    paths = found["path"].unique(maintain_order=True).to_list()
    looked: dict[str, tuple[str, str, str]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        looks = threads.map(look, paths)
        for path, result in tqdm(
            zip(paths, looks, strict=True),
            desc="looking at pictures",
            total=len(paths),
            disable=None,
        ):
            looked[path] = result
    return _kept(found, looked, metadata, notebook.add)


def _kept(
    found: pl.DataFrame,
    looked: Mapping[str, tuple[str, str, str]],
    metadata: Path,
    report: Report,
) -> tuple[pl.DataFrame, str]:
    digest = hashlib.sha256()
    good: list[bool] = []
    for row, path in found.select(ROW, "path").iter_rows():
        sha256, code, wrong = looked[path]
        good.append(not code)
        if code:
            report(code, wrong, file=metadata.name, row=row, column="dicom_id", seen=path)
        else:
            digest.update(f"{path} {sha256}\n".encode())
    return found.filter(pl.Series(good, dtype=pl.Boolean)), digest.hexdigest()
