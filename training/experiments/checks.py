"""Checks of what a table is made with: its settings, and that its data sets belong together."""

from itertools import product
from pathlib import Path

import numpy as np

from lanistr.batch import Features
from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from training.compatibility import same_preprocessing
from training.data.store import SPLITS, Dataset
from training.experiments.setup import Setup
from training.metrics import check_metric

_OF_THE_TABLE = frozenset({"seed", "labels", "share", "complete", "modalities", "system", "task"})
"""Settings in which the rows differ, or which some rows do not have."""


def check_setup(setup: Setup) -> None:
    """Check settings and data sets before hours are spent on them.

    Raises:
        DataError: a data set cannot be read.
        ConfigError: a setting is the table's own, or a data set is not what its option asks for.
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
                    "the table sets this itself, or it would not apply to all of its rows",
                    field=option,
                    seen=each,
                    accepted="another setting (of the model, its head, and for pretraining "
                    "simmmm, summary, mask_ratio and mask_run); or --seeds, --first-seed, "
                    "--labels, --rates, --rows",
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
                "needs --pretraining-data and --tab2txt as well",
                field=option,
                seen=str(setup.worded_unlabelled),
                accepted="all three options, or without this one",
            )
        _check_words(option, setup.worded_unlabelled, unlabelled)
        _check_preprocessed(option, setup.worded_unlabelled, worded)


def _check_preprocessed(option: str, unlabelled: Path, data: Path) -> None:
    """Check that data to pretrain on have the task's modalities with the same preprocessing.

    Raises:
        ConfigError: they do not.
    """
    there = Dataset.open(unlabelled).task.modalities
    for modality in Dataset.open(data).task.modalities:
        if modality not in there or not same_preprocessing(unlabelled, data, modality):
            raise ConfigError(
                f"{modality} is missing, or not preprocessed as for the task",
                field=option,
                seen=str(unlabelled),
                accepted=f"data prepared with --preprocessing {data}, or the other way round",
            )


def _check_words(option: str, worded: Path, data: Path) -> None:
    """Check that a data set is another one with its rows as words.

    Raises:
        ConfigError: it is not.
    """
    words, rows = Dataset.open(worded), Dataset.open(data)
    wrong = ""
    if [*_cases(words).items()] != [*_cases(rows).items()]:
        wrong = "the cases, splits and labels are not the same"
    elif {*rows.task.modalities} <= {*words.task.modalities}:
        wrong = "it still has table rows instead of words"
    if wrong:
        accepted = f"the command that prepared {data}, with --tab2txt"
        raise ConfigError(wrong, field=option, seen=str(worded), accepted=accepted)


def _keeps_sizes(option: str, name: str) -> bool:
    """Whether with a setting the models of all rows still have the same sizes.

    So it is for the head, which all have, and for the losses of pretraining, which are not kept.
    """
    steps = name.split(".")
    if steps[0] != "model":
        return False
    return steps[1:2] == ["head"] or (
        option == "--pretrain-set"
        and (steps[1:2] in (["simmmm"], ["summary"]) or steps[-1] in ("mask_ratio", "mask_run"))
    )


def _refuse_held_out(unlabelled: Dataset, dataset: Dataset) -> None:
    """Check that no held-out case is among those to pretrain on.

    Two cases are the same if they have one name and share a note, a picture or a series, or all
    content; in data from the same files, if they share the group (patient, product).

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
                "pretraining would use a held-out case",
                field="--pretraining-data",
                seen=f"{name} of {groups[row]}, {splits[row]} in {dataset.folder}",
                accepted="data whose training split has no case of the task's other splits",
            )


def _source_files(dataset: Dataset) -> set[str]:
    """Return the hashes of the files that it was prepared from."""
    source = dataset.card.source
    return {each for name in ("files", "hashes") for each in source.get(name, {}).values()}


def _alike(one: Features, other: Features) -> bool:
    """Whether two cases of one name share content that does not repeat by chance."""
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
