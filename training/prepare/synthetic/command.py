"""`python -m training.prepare synthetic`: records made by chance."""

import argparse
import hashlib
import json
from functools import partial
from pathlib import Path

from lanistr import __version__
from lanistr.sample import to_record
from lanistr.tasks import find_task
from training.data.store import Dataset, new_folder
from training.prepare import prepared
from training.prepare.kind import options, preprocess_options, report_options, split_options
from training.prepare.synthetic import MAKERS, SyntheticOptions, draw

HELP = "records made by chance"
EXAMPLE = "python -m training.prepare synthetic --task mortality --samples 2000 --out data/stays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many records, of what, and how incomplete."""
    parser.add_argument("--task", required=True, choices=sorted(MAKERS))
    parser.add_argument("--samples", type=int, default=2000, help="number of cases (2000)")
    parser.add_argument(
        "--missing", type=float, default=0.3, help="chance that a case lacks a part (0.3)"
    )
    parser.add_argument("--unlabelled", type=float, default=0.0, help="share without a label (0)")
    parser.add_argument("--raw", type=Path, help="also write the raw records into this new folder")


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Make records and prepare them."""
    wanted = options(
        SyntheticOptions,
        samples=arguments.samples,
        missing=arguments.missing,
        unlabelled=arguments.unlabelled,
        seed=arguments.seed,
    )
    if arguments.raw:
        _write_raw(arguments.task, wanted, arguments.raw)
    return prepared.prepare(
        lambda: draw(arguments.task, wanted),
        find_task(arguments.task),
        arguments.out,
        options=preprocess_options(arguments),
        report=report_options(arguments),
        splits=split_options(arguments),
        source={"from": "synthetic", "version": __version__, **wanted.model_dump()},
    )


def _write_raw(task: str, wanted: SyntheticOptions, out: Path) -> None:
    """Write the records as a user has them: one JSON line each, pictures as files beside."""
    with new_folder(out) as draft, (draft / "records.jsonl").open("w", encoding="utf-8") as lines:
        for sample in draw(task, wanted):
            record = to_record(sample) | {"label": sample.label}
            lines.write(json.dumps(record, default=partial(_write_picture, draft)) + "\n")


def _write_picture(folder: Path, picture: bytes) -> str:
    """Write what JSON cannot hold into a file; return its name."""
    path = folder / "images" / f"{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    return path.relative_to(folder).as_posix()
