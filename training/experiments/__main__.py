"""`python -m training.experiments`: the paper's tables, on any prepared data.

Runs what is missing of a table and writes, below `--out`, `tables/NAME.json`, `NAME.md` and
`NAME.svg`, and `index.html` of all tables there. Runs stand beside them and are shared: LANISTR's
own is the same in every table.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lanistr.command import CommandParser, leave_when_asked, run_command
from lanistr.draft import draft_file
from lanistr.errors import ConfigError, DataError, LanistrError, unknown_name
from lanistr.jsonfile import json_text
from training.arguments import check_count, choose_device
from training.experiments.checks import check_setup
from training.experiments.jobs import Workshop
from training.experiments.page import markdown, page, plot
from training.experiments.results import (
    FORMAT,
    Json,
    identity,
    published_beside,
    summary,
)
from training.experiments.setup import SCALES, LeftOut, Row, Setup
from training.experiments.tables import TABLES, WHOLE
from training.lock import lock_folder
from training.report.plots import standalone

EXAMPLE = """python -m training.experiments table1 --data data/stays --out experiments
  python -m training.experiments table4 --data data/stays --out experiments --device cuda:0 cuda:1
"""

RUNS, TABLES_FOLDER = "runs", "tables"


def main() -> None:
    """Make a table as the command line says."""
    arguments = _parser().parse_args()
    check_count("--seeds", arguments.seeds)
    check_count("--labels", arguments.labels)
    leave_when_asked()
    out: Path = arguments.out

    # ---- what is compared ----------------------------------------------------------------------
    setup = Setup(
        data=arguments.data,
        worded=arguments.tab2txt,
        unlabelled=arguments.pretraining_data,
        worded_unlabelled=arguments.tab2txt_pretraining_data,
        scale=arguments.scale,
        category=arguments.category,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        labels=arguments.labels,
        rates=tuple(arguments.rates),
        pretrain_once=arguments.pretrain_once,
        pretrain=tuple(arguments.pretrain_set),
        finetune=tuple(arguments.finetune_set),
        pretrained=tuple(arguments.pretrained_set),
    )
    check_setup(setup)
    beside = published_beside(arguments.table, arguments.beside, setup)
    lines = _chosen(list(TABLES[arguments.table][1](setup)), arguments.rows)
    rows = [each for each in lines if isinstance(each, Row)]
    jobs = [job for row in rows for candidates in row.by_seed for job in candidates]
    for device in arguments.device:
        choose_device(device)
    folder = out / TABLES_FOLDER
    name = arguments.name or f"{arguments.table}-{arguments.data.resolve().name}"
    if Path(name).name != name:
        raise ConfigError("not a file name", field="--name", seen=name, accepted="one word")
    tables = _tables(folder)
    if name in tables:
        _keep(folder / f"{name}.json", tables[name], setup, identity(arguments.table, setup), lines)
    folder.mkdir(parents=True, exist_ok=True)
    lock_folder(out)

    # ---- run what is missing -------------------------------------------------------------------
    runs = out / RUNS
    workshop = Workshop(runs, arguments.device, lambda line: print(line, flush=True))
    failed = workshop.do(jobs)

    # ---- the table -----------------------------------------------------------------------------
    found = summary(arguments.table, setup, lines, failed, runs, beside)
    tables = dict(sorted((_tables(folder) | {name: found}).items()))
    _write(folder / f"{name}.json", json_text(found))
    _write(folder / f"{name}.md", markdown(found))
    _write(folder / f"{name}.svg", standalone(plot(found, name)))
    _write(out / "index.html", page(tables))
    print(markdown(found))
    print(f"{folder / name}.md\n{out / 'index.html'}")
    if failed:
        raise LanistrError(
            "not all runs finished; repeat the command to resume them",
            code="failed_command",
            field=arguments.table,
            seen=f"{len(failed)} runs failed, or need one that failed",
        )


def _tables(folder: Path) -> dict[str, Json]:
    """Read the tables that were made so far, by name.

    Raises:
        DataError: one cannot be read.
    """
    found: dict[str, Json] = {}
    for path in folder.glob("*.json"):
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(table, dict) or table.get("format") != FORMAT:
                raise ValueError(f"not of format {FORMAT}")
        except ValueError as exc:
            raise DataError(
                f"not a table of results: {exc}",
                field=str(path),
                accepted="the file as written by this command; or remove it to compute the table "
                "again",
            ) from exc
        found[path.stem] = table
    return found


def _write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    with draft_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _keep(before: Path, old: Json, setup: Setup, new: Json, lines: Sequence[Row | LeftOut]) -> None:
    """Keep a table that was made otherwise, or has rows or seeds that the new one has not.

    Raises:
        ConfigError: it is such a one.
    """
    lost = [f"other {each}" for each in new if old.get(each) != new[each]]
    rows = {row["key"] for row in old["rows"]} - {each.key for each in lines}
    lost += [f"row {each}" for each in sorted(rows)]
    lost += [f"seed {each}" for each in sorted({*old["seeds"]} - {*setup.seeds})]
    if lost:
        raise ConfigError(
            "an existing table of this name would be overwritten",
            code="exists",
            field=str(before),
            seen=", ".join(lost),
            accepted="another --name or --out; or the same settings with at least the same rows "
            "and seeds",
        )


def _chosen(lines: list[Row | LeftOut], rows: list[str] | None) -> list[Row | LeftOut]:
    """Return the lines of some rows, and LANISTR's, which they are compared with.

    Raises:
        ConfigError: there is no such row.
    """
    if rows is None:
        return lines
    known = [each.key for each in lines]
    for each in rows:
        if each not in known:
            raise ConfigError(
                "the table has no such row",
                field="--rows",
                seen=each,
                accepted=unknown_name(each, known),
            )
    return [each for each in lines if each.key in (*rows, WHOLE)]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m training.experiments",
        description="Reproduce a table of the paper on prepared data: train the runs that are "
        "still missing, and show the results beside the paper's.",
        epilog=f"example:\n  {EXAMPLE}",
    )
    add = parser.add_argument
    add("table", choices=tuple(TABLES))
    add("--data", required=True, type=Path, help="prepared data set of the task")
    add("--out", required=True, type=Path, help="folder for tables and runs; may exist")
    add("--tab2txt", type=Path, help="the same data prepared with --tab2txt, for Tab2Txt's rows")
    add("--pretraining-data", type=Path, help="data set to pretrain on (default: --data)")
    add(
        "--tab2txt-pretraining-data",
        type=Path,
        help="the same as --pretraining-data, prepared with --tab2txt",
    )
    add("--seeds", type=int, default=3, help="number of seeds (3)")
    add("--first-seed", type=int, default=0, help="the first seed (0)")
    add("--labels", type=int, help="labelled cases to learn from (default: all)")
    add("--scale", choices=SCALES, default="small", help="scale of model and training (small)")
    add(
        "--category",
        choices=("beauty", "fashion"),
        default="beauty",
        help="category of the Amazon reviews (beauty)",
    )
    add(
        "--beside",
        help="whose figures from the paper to show, or nobody (default: the table's first, if "
        "the task has their metric)",
    )
    add("--rows", nargs="+", help="keys of the rows to make, besides LANISTR's (default: all)")
    add(
        "--rates",
        type=float,
        nargs="+",
        default=[],
        help="learning rates of fine-tuning to try; each row uses its best by validation "
        "(default: the recipe's)",
    )
    add(
        "--pretrain-once",
        action="store_true",
        help="pretrain once for all seeds, as the paper does",
    )
    change: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "PATH=VALUE"}
    add("--pretrain-set", **change, help="settings for every pretraining")
    add("--finetune-set", **change, help="settings for every fine-tuning")
    add("--pretrained-set", **change, help="settings for fine-tunings that follow a pretraining")
    add(
        "--device",
        nargs="+",
        default=["auto"],
        help="one or more devices, each with one run at a time; name one twice for two runs (auto)",
    )
    add("--name", help="name of the table's files (default: table and data set)")
    return parser


if __name__ == "__main__":
    run_command(main)
