"""`python -m training.prepare table`: a user's own table, with pictures and series beside it."""

import argparse
import logging
from pathlib import Path

from lanistr import __version__
from lanistr.errors import ConfigError
from training.data.store import Dataset
from training.prepare.kind import begin
from training.prepare.prepared import assign_splits
from training.prepare.problems import problems_path
from training.prepare.sources import file_hashes
from training.prepare.table.cases import CaseReader
from training.prepare.table.columns import read_columns
from training.prepare.table.guess.write import write_guess
from training.prepare.table.parts import Setting
from training.prepare.table.rows import MissingWords
from training.prepare.table.store import CaseStore
from training.prepare.table.tables import open_table

HELP = "your own CSV, JSON lines or Parquet table, with image and series files"
EXAMPLE = "python -m training.prepare table --source cases.csv --task task.yaml --out data/mine"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the table, and what its columns are."""
    parser.add_argument("--source", required=True, type=Path, help="the table, one row per case")
    parser.add_argument("--task", type=Path, help="task file that says how each column is used")
    parser.add_argument(
        "--files", type=Path, help="folder of images and series (default: the table's)"
    )
    parser.add_argument(
        "--guess",
        action="store_true",
        help="write a draft task file to --out for you to edit, then stop",
    )
    parser.add_argument("--series", type=Path, help="with --guess: the table that holds all series")


def prepare(arguments: argparse.Namespace) -> Dataset | None:
    """Prepare the table, or guess what its columns are."""
    files = arguments.files or arguments.source.parent
    given = arguments.task if arguments.guess else arguments.series
    if given is not None:
        raise ConfigError(
            "--guess writes a task file and does not read one"
            if arguments.guess
            else "--series is only for --guess: otherwise the task file says where the series are",
            code="not_together",
            field="--task" if arguments.guess else "--series",
            seen=str(given),
            accepted="one of the two",
        )
    if arguments.guess:
        write_guess(
            arguments.source, files, arguments.series, arguments.out, arguments.most_problems
        )
        return None
    if arguments.task is None:
        raise ConfigError(
            "the roles of the columns are not given",
            code="no_task",
            field="--task",
            accepted="a task file; --guess writes a first one",
        )
    task, source = read_columns(arguments.task)
    out: Path = arguments.out
    preparation = begin(arguments, task)
    problems = preparation.problems
    with CaseStore.beside(out) as store:
        setting = Setting(
            task,
            source,
            files,
            MissingWords(source.missing, source.missing_in, source.decimal),
            problems,
            store,
            preparation.options.image.max_pixels,
        )
        cases = CaseReader(
            open_table(arguments.source, source, problems), str(arguments.source), setting
        )
        log.info("checking %s", arguments.source)
        cases.check(learns=preparation.fitted is None)
        if cases.unlabelled:
            log.info("%d cases without a label", cases.unlabelled)
        dataset = preparation.run(
            cases.samples,
            source={
                "from": "table",
                "version": __version__,
                "files": file_hashes(arguments.source.parent, [arguments.source]),
                **cases.provenance(),
                "columns": source.model_dump(mode="json", exclude_defaults=True),
            },
            place_of=cases.place_of,
            split_of=cases.split_of or assign_splits(sorted(cases.groups), preparation.splits),
        )
    if problems.counts:
        found = ", ".join(f"{count} {code}" for code, count in problems.counts.most_common())
        log.warning("problems, listed in %s: %s", problems_path(out), found)
    return dataset
