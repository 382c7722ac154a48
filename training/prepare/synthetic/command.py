"""`python -m training.prepare synthetic`: records made by chance."""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from lanistr import __version__
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.sample import to_record
from lanistr.tasks import find_task
from training.data.store import Dataset, new_folder
from training.prepare.kind import begin, options
from training.prepare.synthetic import MAKERS, SyntheticOptions, draw
from training.prepare.synthetic.amazon import write_amazon
from training.prepare.synthetic.mimic_iv import write_mimic_iv

HELP = "synthetic records"
EXAMPLE = "python -m training.prepare synthetic --task mortality --samples 2000 --out data/stays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many records, of what, and how incomplete."""
    parser.add_argument("--task", required=True, choices=sorted(MAKERS))
    parser.add_argument("--samples", type=int, default=2000, help="number of cases (2000)")
    parser.add_argument(
        "--missing",
        nargs="+",
        default=["0.3"],
        metavar="SHARE",
        help="chance that a case lacks a modality (0.3), or by modality: image=0.95 tabular=0.3",
    )
    parser.add_argument(
        "--unlabelled", type=float, default=0.0, help="share of cases without a label (0)"
    )
    parser.add_argument("--raw", type=Path, help="also write the raw records to this new folder")
    parser.add_argument(
        "--raw-layout",
        choices=sorted(LAYOUTS),
        help="format of --raw: JSON lines, or a source's raw files, for its own preparer (jsonl)",
    )


def prepare(arguments: argparse.Namespace) -> Dataset:
    """Make records and prepare them."""
    wanted = options(
        SyntheticOptions,
        samples=arguments.samples,
        missing=_missing(arguments.missing),
        unlabelled=arguments.unlabelled,
        seed=arguments.seed,
    )
    task = find_task(arguments.task)
    if arguments.raw_layout and not arguments.raw:
        raise ConfigError(
            "the layout needs a folder to write to",
            field="--raw-layout",
            seen=arguments.raw_layout,
            accepted=f"--raw DIR --raw-layout {arguments.raw_layout}",
        )
    preparation = begin(arguments, task)
    if arguments.raw:
        write = LAYOUTS[arguments.raw_layout or "jsonl"]
        with new_folder(arguments.raw) as draft:
            write(arguments.task, wanted, draft)
    return preparation.run(
        lambda: draw(arguments.task, wanted),
        source={"from": "synthetic", "version": __version__, **wanted.model_dump(mode="json")},
    )


def _missing(words: list[str]) -> str | dict[str, str]:
    """Read one share for all modalities, or MODALITY=SHARE for some; `SyntheticOptions` checks."""
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    shares: dict[str, str] = {}
    for word in words:
        modality, equals, share = word.partition("=")
        if not equals or modality in shares:
            raise ConfigError(
                "named twice" if equals else "not one share, and not one by modality",
                field="--missing",
                seen=word,
                accepted="one number, or such as image=0.95 tabular=0.3",
            )
        shares[modality] = share
    return shares


def _write_jsonl(task: str, wanted: SyntheticOptions, folder: Path) -> None:
    """Write the records as a user has them: one JSON line each, pictures as files beside."""
    with (folder / "records.jsonl").open("w", encoding="utf-8") as lines:
        for sample in draw(task, wanted):
            record = to_record(sample) | {"label": sample.label}
            lines.write(json.dumps(record, default=partial(_write_picture, folder)) + "\n")


def _write_mimic_iv(task: str, wanted: SyntheticOptions, folder: Path) -> None:
    _check_layout("mimic-iv", "mortality", task)
    write_mimic_iv(draw(task, wanted), folder, wanted.seed)


def _write_amazon(task: str, wanted: SyntheticOptions, folder: Path) -> None:
    _check_layout("amazon", "rating", task)
    write_amazon(
        folder,
        samples=wanted.samples,
        missing=wanted.share(Modality.IMAGE),
        unlabelled=wanted.unlabelled,
        seed=wanted.seed,
    )


def _check_layout(layout: str, theirs: str, task: str) -> None:
    if task != theirs:
        raise ConfigError(
            "the layout belongs to another task",
            field="--raw-layout",
            seen=layout,
            accepted=f"--task {theirs} --raw DIR --raw-layout {layout}",
        )


def _write_picture(folder: Path, picture: bytes) -> str:
    """Write what JSON cannot hold into a file; return its name."""
    path = folder / "images" / f"{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    return path.relative_to(folder).as_posix()


LAYOUTS: Mapping[str, Callable[[str, SyntheticOptions, Path], None]] = {
    "jsonl": _write_jsonl,
    "mimic-iv": _write_mimic_iv,
    "amazon": _write_amazon,
}
"""How raw records are written."""
