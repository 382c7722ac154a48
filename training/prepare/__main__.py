"""`python -m training.prepare`: from raw records to a prepared data set."""

import argparse
import hashlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lanistr import __version__
from lanistr.command import CommandParser, run_command
from lanistr.errors import ConfigError
from lanistr.preprocess import PreprocessOptions
from lanistr.sample import to_record
from lanistr.schema import Schema
from lanistr.tasks import find_task
from training.data.store import Dataset, new_folder
from training.prepare.prepared import SplitOptions, prepare
from training.prepare.synthetic import MAKERS, SyntheticOptions, draw

SchemaT = TypeVar("SchemaT", bound=Schema)

EXAMPLE = """example:
  python -m training.prepare synthetic --task mortality --samples 2000 --out data/stays
"""


def main() -> None:
    """Read the command line, prepare, say what came out."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args()
    dataset = _synthetic(arguments)
    card = dataset.card
    print(
        f"{arguments.out}: {sum(card.cases.values())} cases "
        f"({', '.join(f'{n} {split}' for split, n in card.cases.items())}), "
        f"{sum(card.labelled.values())} labelled; missing: "
        + ", ".join(f"{m} {share:.0%}" for m, share in card.missing.items())
    )


def _synthetic(arguments: argparse.Namespace) -> Dataset:
    task = find_task(arguments.task)
    wanted = _options(
        SyntheticOptions,
        samples=arguments.samples,
        missing=arguments.missing,
        unlabelled=arguments.unlabelled,
        seed=arguments.seed,
    )
    preprocessing = _options(
        PreprocessOptions,
        text={
            "vocabulary": arguments.vocabulary,
            "vocabulary_size": arguments.vocabulary_size,
            "max_tokens": arguments.max_tokens,
        },
        image={"size": arguments.image_size},
    )
    if arguments.raw:
        _write_raw(arguments.task, wanted, arguments.raw)
    return prepare(
        lambda: draw(arguments.task, wanted),
        task,
        arguments.out,
        options=preprocessing,
        splits=SplitOptions(seed=arguments.seed),
        source={"from": "synthetic", "version": __version__, **wanted.model_dump()},
    )


def _options(kind: type[SchemaT], **given: Any) -> SchemaT:
    return kind.parse(given, ConfigError, "command line")


def _write_raw(task: str, options: SyntheticOptions, out: Path) -> None:
    """Write the records as a user has them: one JSON line each, pictures as files beside."""
    with new_folder(out) as draft, (draft / "records.jsonl").open("w", encoding="utf-8") as lines:
        for sample in draw(task, options):
            record = to_record(sample) | {"label": sample.label}
            lines.write(json.dumps(record, default=partial(_write_picture, draft)) + "\n")


def _write_picture(folder: Path, picture: bytes) -> str:
    """Write what JSON cannot hold into a file; return its name."""
    path = folder / "images" / f"{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    return path.relative_to(folder).as_posix()


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.prepare",
        description="Turn raw records into a prepared data set.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    made = kinds.add_parser(
        "synthetic", help="records made by chance", formatter_class=parser.formatter_class
    )
    made.add_argument("--task", required=True, choices=sorted(MAKERS))
    made.add_argument("--out", required=True, type=Path, help="folder to make")
    made.add_argument("--samples", type=int, default=2000, help="number of cases (2000)")
    made.add_argument(
        "--missing", type=float, default=0.3, help="chance that a case lacks a part (0.3)"
    )
    made.add_argument("--unlabelled", type=float, default=0.0, help="share without a label (0)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--vocabulary", type=Path, help="a BERT vocab.txt (default: trained)")
    made.add_argument("--vocabulary-size", type=int, default=4000, help="of a trained one (4000)")
    made.add_argument("--max-tokens", type=int, default=512, help="longest note, in tokens (512)")
    made.add_argument("--image-size", type=int, default=224, help="side of a picture (224)")
    made.add_argument("--raw", type=Path, help="also write the raw records into this new folder")
    return parser


if __name__ == "__main__":
    run_command(main)
