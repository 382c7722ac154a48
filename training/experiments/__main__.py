"""`python -m training.experiments`: the paper's tables, on any prepared data.

Runs what is missing of a table and writes, below `--out`, `tables/NAME.json`, `NAME.md` and
`NAME.svg`, and `index.html` of all tables there. Runs stand beside them and are shared: LANISTR's
own is the same in every table.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lanistr.batch import Features
from lanistr.command import CommandParser, leave_when_asked, run_command
from lanistr.draft import draft_file
from lanistr.errors import ConfigError, DataError, LanistrError, unknown_name
from lanistr.modalities import Modality
from training.arguments import check_count, choose_device
from training.compatibility import same_preprocessing
from training.data.store import SPLITS, Dataset
from training.experiments.jobs import Workshop
from training.experiments.page import markdown, page, plot
from training.experiments.results import (
    FORMAT,
    Json,
    identity,
    published_beside,
    summary,
)
from training.experiments.tables import SCALES, TABLES, WHOLE, LeftOut, Row, Setup
from training.lock import lock_folder
from training.metrics import check_metric
from training.report.plots import standalone

EXAMPLE = """python -m training.experiments table1 --data data/stays --out experiments
  python -m training.experiments table4 --data data/stays --out experiments --device cuda:0 cuda:1
"""

RUNS, TABLES_FOLDER = "runs", "tables"

_OF_THE_TABLE = frozenset({"seed", "labels", "share", "complete", "modalities", "system", "task"})
"""Settings by which the rows differ, or which some would not follow."""


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
    _check(setup)
    beside = published_beside(arguments.table, arguments.beside, setup)
    lines = _chosen(list(TABLES[arguments.table][1](setup)), arguments.rows)
    rows = [each for each in lines if isinstance(each, Row)]
    jobs = [job for row in rows for candidates in row.by_seed for job in candidates]
    for device in arguments.device:
        choose_device(device)
    folder = out / TABLES_FOLDER
    name = arguments.name or f"{arguments.table}-{arguments.data.resolve().name}"
    if Path(name).name != name:
        raise ConfigError("no name of a file", field="--name", seen=name, accepted="one word")
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
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    _write(folder / f"{name}.json", text + "\n")
    _write(folder / f"{name}.md", markdown(found))
    _write(folder / f"{name}.svg", standalone(plot(found, name)))
    _write(out / "index.html", page(tables))
    print(markdown(found))
    print(f"{folder / name}.md\n{out / 'index.html'}")
    if failed:
        raise LanistrError(
            "not every run came to its end; the same command goes on with them",
            code="failed_command",
            field=arguments.table,
            seen=f"{len(failed)} runs failed, or wait for one that did",
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
                f"no table: {exc}",
                field=str(path),
                accepted="what this command writes; without the file, it makes the table again",
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
            "a table of this name is there that would be lost",
            code="exists",
            field=str(before),
            seen=", ".join(lost),
            accepted="--name, another --out, or the same settings and no fewer rows and seeds",
        )


def _check(setup: Setup) -> None:
    """Check that the data sets fit together, before hours are spent on them.

    Raises:
        DataError: one cannot be read.
        ConfigError: one is not what it is given as.
    """
    rates = {"optim.lr"} if setup.rates else set()
    for option, settings, fixed in (
        ("--pretrain-set", setup.pretrain, {"model"}),
        ("--finetune-set", setup.finetune, {"freeze_encoders", "model", "init", *rates}),
        ("--pretrained-set", setup.pretrained, {"model", "init", *rates}),
    ):
        for each in settings:
            name = each.partition("=")[0]
            steps = [name[:end] for end, letter in enumerate(f"{name}.") if letter == "."]
            if {*steps} & (_OF_THE_TABLE | fixed) and not _keeps_sizes(option, name):
                raise ConfigError(
                    "what the table sets by itself, or not all of its rows could follow",
                    field=option,
                    seen=each,
                    accepted="another setting (of the model, its head, and of pretraining what "
                    "losses ask for: simmmm, summary, mask_ratio, mask_run); "
                    "--seeds, --first-seed, --labels, --rates, --rows",
                )
    dataset = Dataset.open(setup.data)
    dataset.rows("train", labelled=True)
    for split in ("validation", "test"):
        targets = dataset.labels[dataset.rows(split, labelled=True)]
        check_metric(dataset.task.metric, targets, dataset.task.label, split)
    unlabelled, worded = setup.unlabelled, setup.worded
    if unlabelled is not None:
        _check_preprocessed("--pretraining-data", unlabelled, setup.data)
        _refuse_held_out(Dataset.open(unlabelled).only(dataset.task.modalities), dataset)
    if worded is not None:
        _check_words("--tab2txt", worded, setup.data)
    if setup.worded_unlabelled is not None:
        option = "--tab2txt-pretraining-data"
        if worded is None or unlabelled is None:
            raise ConfigError(
                "only words for the rows of other data, to pretrain systems on that learn words",
                field=option,
                seen=str(setup.worded_unlabelled),
                accepted="both --pretraining-data and --tab2txt beside it",
            )
        _check_words(option, setup.worded_unlabelled, unlabelled)
        _check_preprocessed(option, setup.worded_unlabelled, worded)


def _check_preprocessed(option: str, unlabelled: Path, data: Path) -> None:
    """Check that data to pretrain on bring what the task's do, preprocessed alike.

    Raises:
        ConfigError: they do not.
    """
    there = Dataset.open(unlabelled).task.modalities
    for modality in Dataset.open(data).task.modalities:
        if modality not in there or not same_preprocessing(unlabelled, data, modality):
            raise ConfigError(
                f"{modality} is not there, or not preprocessed as for the task",
                field=option,
                seen=str(unlabelled),
                accepted=f"data prepared with --preprocessing {data}, or the reverse",
            )


def _check_words(option: str, worded: Path, data: Path) -> None:
    """Check that a data set is another one with words in the place of rows.

    Raises:
        ConfigError: it is not.
    """
    words, rows = Dataset.open(worded), Dataset.open(data)
    wrong = ""
    if [*_cases(words).items()] != [*_cases(rows).items()]:
        wrong = "not the same cases, splits and labels"
    elif {*rows.task.modalities} <= {*words.task.modalities}:
        wrong = "there are rows still, and no words in their place"
    if wrong:
        accepted = f"what made {data}, with --tab2txt"
        raise ConfigError(wrong, field=option, seen=str(worded), accepted=accepted)


def _keeps_sizes(option: str, name: str) -> bool:
    """Whether a setting of the model leaves all rows models of the same size.

    The head's do, which all have, and in pretraining those of its losses, which go with it.
    """
    steps = name.split(".")
    if steps[0] != "model":
        return False
    return steps[1:2] == ["head"] or (
        option == "--pretrain-set"
        and (steps[1:2] in (["simmmm"], ["summary"]) or steps[-1] in ("mask_ratio", "mask_run"))
    )


def _refuse_held_out(unlabelled: Dataset, dataset: Dataset) -> None:
    """Check that no case which is held out is one to pretrain on.

    It is taken for the same where it has the same name and a note, a picture or a series in common,
    or where all is the same; of data from the same files, where its group (patient, product) is.

    Raises:
        ConfigError: there is one.
    """
    rows = unlabelled.rows("train").tolist()
    learned = dict(zip(unlabelled.ids(rows), rows, strict=True))
    known: set[str] = set()
    if _source_files(unlabelled) & _source_files(dataset):
        groups = unlabelled.groups
        known = {groups[row] for row in rows}
    splits, groups = dataset.splits, dataset.groups
    held_out = [row for row, split in enumerate(splits) if split != "train"]
    for name, row in zip(dataset.ids(held_out), held_out, strict=True):
        if groups[row] in known or (
            name in learned and _alike(dataset.features(row), unlabelled.features(learned[name]))
        ):
            raise ConfigError(
                "a case that is held out would be pretrained on",
                field="--pretraining-data",
                seen=f"{name} of {groups[row]}, {splits[row]} in {dataset.folder}",
                accepted="data whose training split has none of the other splits' cases",
            )


def _source_files(dataset: Dataset) -> set[str]:
    """Return the hashes of the files that it was prepared from."""
    source = dataset.card.source
    return {each for name in ("files", "hashes") for each in source.get(name, {}).values()}


def _alike(one: Features, other: Features) -> bool:
    """Whether two cases of one name have content in common that chance would not repeat."""
    shared = {
        modality
        for modality in one.rows.keys() & other.rows.keys()
        for mine, yours in product(one.rows[modality], other.rows[modality])
        if all(np.array_equal(mine[name], yours[name], equal_nan=True) for name in mine)
    }
    return bool(shared - {Modality.TABULAR}) or shared == one.rows.keys() == other.rows.keys()


def _cases(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """Return split and label of each case by its name, in the data set's order split by split."""
    there = {*dataset.splits}
    return {
        name: (split, str(label))
        for split in SPLITS
        if split in there
        for rows in (dataset.rows(split),)
        for name, label in zip(
            dataset.ids(rows.tolist()), dataset.labels[rows].tolist(), strict=True
        )
    }


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
        description="Make a table of the paper on prepared data: train what is missing of every "
        "row, and put the results beside the paper's.",
        epilog=f"example:\n  {EXAMPLE}",
    )
    add = parser.add_argument
    add("table", choices=tuple(TABLES))
    add("--data", required=True, type=Path, help="prepared data set of the task")
    add("--out", required=True, type=Path, help="folder of tables and runs; may be there already")
    add("--tab2txt", type=Path, help="the same data prepared with --tab2txt, for Tab2Txt's rows")
    add("--pretraining-data", type=Path, help="data set to pretrain on (default: --data)")
    add(
        "--tab2txt-pretraining-data",
        type=Path,
        help="the same as --pretraining-data, prepared with --tab2txt",
    )
    add("--seeds", type=int, default=3, help="number of them (3)")
    add("--first-seed", type=int, default=0, help="(0)")
    add("--labels", type=int, help="labelled cases to learn from (default: all)")
    add("--scale", choices=SCALES, default="small", help="sizes and training (small)")
    add("--category", choices=("beauty", "fashion"), default="beauty", help="of Amazon's (beauty)")
    add(
        "--beside",
        help="whose figures of the paper stand beside, or nobody (default: the table's first, if "
        "the task has their metric)",
    )
    add("--rows", nargs="+", help="only these, by key, and LANISTR's (default: all)")
    add(
        "--rates",
        type=float,
        nargs="+",
        default=[],
        help="learning rates of fine-tuning, the best of which each row takes by the validation "
        "split (default: the recipe's)",
    )
    add("--pretrain-once", action="store_true", help="one pretraining for all seeds, as the paper")
    change: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "PATH=VALUE"}
    add("--pretrain-set", **change, help="settings of every pretraining")
    add("--finetune-set", **change, help="settings of every fine-tuning")
    add("--pretrained-set", **change, help="settings of fine-tunings behind a pretraining")
    add(
        "--device",
        nargs="+",
        default=["auto"],
        help="one or several, each with one run at a time; name one twice for two (auto)",
    )
    add("--name", help="of the table's files (default: table and data set)")
    return parser


if __name__ == "__main__":
    run_command(main)
