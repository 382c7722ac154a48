"""`python -m training.prepare synthetic`: records made by chance."""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from lanistr import __version__
from lanistr.errors import ConfigError
from lanistr.sample import to_record
from lanistr.tasks import find_task
from training.data.store import Dataset, new_folder
from training.prepare import prepared
from training.prepare.kind import options, preprocess_options, split_options
from training.prepare.synthetic import MAKERS, SyntheticOptions, amazon, draw

HELP = "records made by chance"
EXAMPLE = "python -m training.prepare synthetic --task mortality --samples 2000 --out data/stays"

LAYOUTS: Mapping[str, tuple[str, Callable[..., None]]] = {"amazon": ("rating", amazon.write)}
"""By name, the task that a layout belongs to, and what writes it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many records, of what, and how incomplete."""
    parser.add_argument("--task", required=True, choices=sorted(MAKERS))
    parser.add_argument("--samples", type=int, default=2000, help="number of cases (2000)")
    parser.add_argument(
        "--missing", type=float, default=0.3, help="chance that a case lacks a part (0.3)"
    )
    parser.add_argument("--unlabelled", type=float, default=0.0, help="share without a label (0)")
    parser.add_argument("--raw", type=Path, help="also write the raw records into this new folder")
    parser.add_argument(
        "--raw-layout",
        choices=sorted(LAYOUTS),
        help="write records of their own, as many, in the files of that data set, with its gaps",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Make records and prepare them."""
    wanted = options(
        SyntheticOptions,
        samples=arguments.samples,
        missing=arguments.missing,
        unlabelled=arguments.unlabelled,
        seed=arguments.seed,
    )
    if arguments.raw_layout:
        _write_layout(arguments.task, wanted, arguments.raw_layout, arguments.raw)
    elif arguments.raw:
        _write_raw(arguments.task, wanted, arguments.raw)
    return prepared.prepare(
        lambda: draw(arguments.task, wanted),
        find_task(arguments.task),
        arguments.out,
        options=preprocess_options(arguments),
        splits=split_options(arguments),
        source={"from": "synthetic", "version": __version__, **wanted.model_dump()},
    )


def _write_raw(task: str, wanted: SyntheticOptions, out: Path) -> None:
    """Write the records as a user has them: one JSON line each, pictures as files beside."""
    with new_folder(out) as draft, (draft / "records.jsonl").open("w", encoding="utf-8") as lines:
        for sample in draw(task, wanted):
            record = to_record(sample) | {"label": sample.label}
            lines.write(json.dumps(record, default=partial(_write_picture, draft)) + "\n")


def _write_layout(task: str, wanted: SyntheticOptions, layout: str, out: Path | None) -> None:
    """Write raw records in the files of a data set.

    Raises:
        ConfigError: there is no folder to write to, or the layout is that of another task.
    """
    theirs, write = LAYOUTS[layout]
    if out is None or task != theirs:
        raise ConfigError(
            "the layout needs --raw" if out is None else "the layout belongs to another task",
            field="--raw-layout",
            seen=layout,
            accepted=f"--task {theirs} --raw DIR --raw-layout {layout}",
        )
    write(out, **wanted.model_dump())


def _write_picture(folder: Path, picture: bytes) -> str:
    """Write what JSON cannot hold into a file; return its name."""
    path = folder / "images" / f"{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    return path.relative_to(folder).as_posix()
