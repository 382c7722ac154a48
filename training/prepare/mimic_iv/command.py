"""`python -m training.prepare mimic-iv`: intensive-care stays from MIMIC-IV's raw files."""

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from lanistr import __version__
from lanistr.errors import ConfigError, DataError
from lanistr.tasks import TaskSpec, find_task
from training.data.store import Dataset, Split
from training.prepare.kind import Preparation, begin
from training.prepare.mimic_iv.cohort import (
    ADULT,
    KNOWN,
    MEASURED,
    RULES,
    choose,
    read_patients,
    read_stays,
)
from training.prepare.mimic_iv.events import extract_events
from training.prepare.mimic_iv.layout import Layout, find_layout
from training.prepare.mimic_iv.notes import extract_notes
from training.prepare.mimic_iv.pairing import PAIRINGS, Extracted, samples_of
from training.prepare.mimic_iv.pictures import extract_pictures
from training.prepare.mimic_iv.tables import TIME
from training.prepare.mimic_iv.work import Work
from training.prepare.prepared import SplitOptions, assign_splits
from training.prepare.sources import file_hashes

log = logging.getLogger(__name__)

_CODE = Path(__file__).parent

HELP = "intensive-care stays from the raw files of MIMIC-IV"
EXAMPLE = "python -m training.prepare mimic-iv --source mimiciv/2.2 --out data/mortality"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the files are, and which set is wanted."""
    parser.add_argument("--source", required=True, type=Path, help="folder with hosp/ and icu/")
    parser.add_argument(
        "--notes", type=Path, help="folder with note/ of MIMIC-IV-Note (default: --source)"
    )
    parser.add_argument(
        "--pictures", type=Path, help="folder with files/ of MIMIC-CXR-JPG (default: --source)"
    )
    parser.add_argument(
        "--unlabelled",
        action="store_true",
        help="prepare the data for pretraining: the stays of all adults, without labels",
    )
    parser.add_argument(
        "--pairing",
        choices=PAIRINGS,
        default="stay",
        help="with --unlabelled: pair within a stay, or every combination in a patient (stay)",
    )
    parser.add_argument(
        "--allow-leaky-discharge-notes",
        action="store_true",
        help="use discharge summaries although they are written after the outcome, as the paper's "
        "released code does",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Choose the stays, extract what belongs to them, prepare."""
    if arguments.pairing != "stay" and not arguments.unlabelled:
        raise ConfigError(
            "a patient's combinations have no label",
            field="--pairing",
            seen=arguments.pairing,
            accepted="--pairing stay, or --unlabelled",
        )
    layout = find_layout(arguments.source, arguments.notes, arguments.pictures)
    for name in layout.lacking:
        log.warning("the source has no %s", name)
    task = find_task("mortality")
    preparation = begin(arguments, task)
    log.info("hashing the source files")
    hashes = _hashes(layout, arguments)
    wanted = {
        "unlabelled": arguments.unlabelled,
        "pairing": arguments.pairing,
        "leaky_discharge_notes": arguments.allow_leaky_discharge_notes,
    }
    key = {
        "version": __version__,
        "task": task.model_dump(mode="json"),
        "code": file_hashes(_CODE, _CODE.glob("*.py")),  # the items stand there, too
        "hashes": hashes,
        "pictures": str(layout.pictures and layout.pictures.resolve()),
        "max_pixels": preparation.options.image.max_pixels,
        **wanted,
    }
    with Work(arguments.out, key, preparation.problems) as work:
        extracted, split_of, found = _extract(arguments, layout, task, work, preparation)
        return preparation.run(
            partial(samples_of, extracted, arguments.pairing),
            place_of=lambda case: (layout.stays, None),
            split_of=split_of,
            source={
                "from": "mimic-iv",
                "version": __version__,
                "layout": f"v{layout.version}",
                "lacking": layout.lacking,
                **wanted,
                **found,
                "hashes": hashes,
            },
        )


def _extract(
    arguments: argparse.Namespace,
    layout: Layout,
    task: TaskSpec,
    work: Work,
    preparation: Preparation,
) -> tuple[Extracted, dict[str, Split], dict[str, Any]]:
    """Choose the stays and extract what belongs to them.

    Returns:
        the extracted parts, the split of every patient, and the figures for `dataset.json`.
    """
    # ---- which stays ----
    everyone = read_stays(layout, preparation.problems.add)
    stays, attrition = choose(everyone, (KNOWN, ADULT) if arguments.unlabelled else RULES)
    stays = stays.with_columns(stay=pl.int_range(pl.len(), dtype=pl.Int32))
    events_path, events = work.step(
        "events", lambda out, notebook: extract_events(layout, stays, task, out, notebook.add)
    )
    if not arguments.unlabelled and (layout.charts or layout.labs):
        measured = pl.read_parquet(events_path, columns=["stay"])["stay"].unique().implode()
        stays = stays.filter(pl.col("stay").is_in(measured))
        name, says = MEASURED
        attrition.append({"rule": name, "says": says, "left": len(stays)})
    _log_attrition(attrition)
    if stays.is_empty():
        raise DataError(
            "no stay meets all inclusion criteria",
            code="no_records",
            field=str(layout.stays),
            seen={str(each["rule"]): each["left"] for each in attrition},
        )

    # ---- what belongs to them ----
    stays, owners = _owners(stays, layout, arguments.pairing)
    discharge = arguments.allow_leaky_discharge_notes
    notes_path, notes = work.step(
        "notes",
        lambda out, notebook: extract_notes(layout, owners, out, notebook.add, discharge=discharge),
    )
    image = preparation.options.image
    pictures_path, pictures = work.step(
        "pictures",
        lambda out, notebook: extract_pictures(layout, owners, out, notebook, image),
    )
    extracted = Extracted(
        stays=stays,
        owners=owners,
        events=events_path,
        notes=notes_path,
        pictures=pictures_path,
        files=layout.pictures or arguments.source,
        labelled=not arguments.unlabelled,
    )
    figures = {"attrition": attrition, "events": events, "notes": notes, "pictures": pictures}
    return extracted, _splits(everyone, owners, preparation.splits), figures


def _owners(stays: pl.DataFrame, layout: Layout, pairing: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the stays with their `owner`, and the owners: the stays again, or the patients."""
    columns = ("owner", "subject_id", "hadm_id", "start", "end")
    if pairing == "stay":
        stays = stays.with_columns(owner=pl.int_range(pl.len(), dtype=pl.Int32))
        return stays, stays.select(columns)
    # What is wrong in the table was told when it was read with the stays.
    patients = read_patients(layout, lambda *_, **__: None).select("subject_id").sort("subject_id")
    owners = patients.select(
        owner=pl.int_range(pl.len(), dtype=pl.Int32),
        subject_id="subject_id",
        hadm_id=pl.lit(None, pl.Int64),
        start=pl.lit(None, TIME),
        end=pl.lit(None, TIME),
    )
    return stays.join(owners.select("owner", "subject_id"), on="subject_id"), owners


def _splits(
    everyone: pl.DataFrame, owners: pl.DataFrame, options: SplitOptions
) -> dict[str, Split]:
    """Deal the patients out, the same way for the labelled and the unlabelled set.

    The patients who can have a label are dealt out first and by themselves, so that the shares
    hold among them, and nobody is in one split of one set and in another split of the other.
    """
    labelled = choose(everyone, RULES)[0]["subject_id"].unique()
    others = pl.concat([everyone["subject_id"], owners["subject_id"]]).unique()
    others = others.filter(~others.is_in(labelled.implode()))
    dealt: dict[str, Split] = {}
    for patients in (labelled, others):
        if len(patients):
            dealt |= assign_splits([str(each) for each in patients.sort()], options)
    return dealt


def _hashes(layout: Layout, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the sha256 of each table that is read, by its place below the folder given."""
    hashes: dict[str, str] = {}
    files = [
        path
        for path in layout.files
        if path != layout.discharge or arguments.allow_leaky_discharge_notes
    ]
    for root in (arguments.source, arguments.notes, arguments.pictures):
        if root is not None:
            below = [path for path in files if path.is_relative_to(root)]
            hashes |= file_hashes(root, below)
            files = [path for path in files if path not in below]
    return hashes


def _log_attrition(attrition: list[dict[str, Any]]) -> None:
    for entry in attrition:
        log.info("%8d left: %s", entry["left"], entry["says"])
