"""What each of the paper's tables compares."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from lanistr.errors import DataError
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.pretraining import LanistrForPretraining
from lanistr.model.variant import FAMILIES
from training.cases import complete_cases, draw_labelled
from training.data.store import Dataset
from training.experiments.jobs import Job
from training.experiments.setup import LeftOut, Row, Setup
from training.recipe import FinetuneRecipe, PretrainRecipe, load_recipe, model_config

WHOLE = "lanistr"
"""Key of the row that the others are compared with."""

SHARES = (0, 25, 50, 75)
"""Percent of the unlabelled data, besides all. Source: LANISTR paper, Table 4."""

Lines = Iterator[Row | LeftOut]


def systems(setup: Setup) -> Lines:
    """Tables 1 and 2: every system on the same data, and what a practitioner would try first."""

    def tuned(system: str) -> FinetuneRecipe:
        return load_recipe("demo", "finetune", FinetuneRecipe, [f"system={system}"])

    brought = _brought(setup.data, labelled=True)
    alone = [partial(setup.scratches, modalities=[each]) for each in brought]
    for method, name in (("logistic", "Logistic regression"), ("trees", "Boosted trees")):
        yield setup.row(method, name, partial(setup.yardstick, method))
    yield setup.row(
        "single",
        "Best single modality",
        lambda seed: tuple(job for candidate in alone for job in candidate(seed)),
    )
    medfuse = setup.row("medfuse", "MedFuse", partial(_medfuse, setup))
    yield _if_fit(setup, medfuse, tuned("medfuse"))
    for system, name in (
        ("autogluon-mlp", "AutoGluon-MLP"),
        ("autogluon-tf", "AutoGluon-TF"),
        ("late-fusion", "LateFusion"),
    ):
        row = setup.row(system, name, partial(setup.finetunings, system, system=system))
        yield _if_fit(setup, row, tuned(system))
    of_all = "late-fusion-all"  # beside the paper's, which learns from complete cases alone
    yield setup.row(
        of_all,
        "LateFusion, incomplete cases too",
        lambda seed: setup.finetunings(of_all, seed, "complete=false", system="late-fusion"),
    )
    pairs = load_recipe("demo", "pretrain", PretrainRecipe, ["system=albef"])
    yield _if_fit(setup, setup.lanistr("albef", "ALBEF", system="albef"), pairs)
    albef, lanistr = names = (
        ("albef-tab2txt", "ALBEF + Tab2Txt"),
        ("lanistr-tab2txt", "LANISTR + Tab2Txt"),
    )
    worded = setup.in_words
    if worded is None:
        which = "--tab2txt" if setup.worded is None else "--tab2txt-pretraining-data"
        why = f"needs the same data with words instead of table rows: {which}"
        yield from (LeftOut(*each, why) for each in names)
    else:
        yield _if_fit(worded, worded.lanistr(*albef, system="albef"), pairs)
        yield worded.lanistr(*lanistr)
    yield setup.scratch("scratch", "LANISTR without pretraining")
    yield setup.lanistr(WHOLE, "LANISTR")


def _if_fit(setup: Setup, row: Row, recipe: PretrainRecipe | FinetuneRecipe) -> Row | LeftOut:
    """Return the row of a system if the data bring what its recipe learns from."""
    taken = recipe.modalities or setup.modalities
    lacking = [each for each in taken if each not in setup.modalities]
    if lacking:
        return LeftOut(row.key, row.name, f"the data do not have {', '.join(lacking)}")
    if recipe.complete:
        labelled = isinstance(recipe, FinetuneRecipe)
        dataset = Dataset.open(setup.data if labelled else setup.pretrained_on).only(taken)
        learned = [dataset.rows("train")]
        if labelled:
            learned = [draw_labelled(dataset, setup.labels, seed) for seed in setup.seeds]
        try:
            for each in learned:
                complete_cases(dataset, each)
        except DataError:
            which = "labelled case in the draw" if labelled else "case"
            return LeftOut(row.key, row.name, f"no {which} has all of {', '.join(taken)}")
    return row


def _medfuse(setup: Setup, seed: int) -> tuple[Job, ...]:
    """Return MedFuse's second stage behind its first over series, of the same learning rate.

    The other first stage takes labels that belong to pictures, which these data have not.
    """
    found: list[Job] = []
    for rate in setup.rates or (None,):
        of = setup if rate is None else replace(setup, rates=(rate,))
        asked = rate is not None or any(each.startswith("optim.lr=") for each in setup.finetune)
        published = ["optim.lr=5.4e-4"] if setup.scale == "paper" and not asked else []
        series = [Modality.TIMESERIES]
        (first,) = of.finetunings(
            "medfuse-series", seed, *published, system="medfuse", modalities=series
        )
        found += of.finetunings("medfuse", seed, system="medfuse", start=("--encoders", first))
    return tuple(found)


def ablations(setup: Setup) -> Lines:
    """Table 3: without one modality, without one loss, without the cases that lack something."""
    yield setup.lanistr(WHOLE, "LANISTR")
    recipe, config = _pretraining(setup)
    summed = _summed_up(config)
    shown = _brought(setup.pretrained_on)
    brought = {*shown, *_brought(setup.data, labelled=True)}
    for modality in setup.modalities:
        key, name = f"no-{modality}", f"without {modality}"
        left = [each for each in setup.modalities if each != modality]
        lost = ["model.summary=null"] if summed == {modality} else []
        if modality not in brought:
            why = f"no case for pretraining and no labelled training case has {modality}"
            yield LeftOut(key, name, why)
        elif left:
            yield setup.lanistr(key, name, *lost, modalities=left)
    for of, key, name, setting in _losses(recipe, config):
        if of is None or of in shown:
            yield setup.lanistr(key, name, setting)
        else:
            yield LeftOut(key, name, f"no case for pretraining has {of}")
    row = setup.lanistr("parallel", "without non-parallel data", "complete=true")
    complete = load_recipe("demo", "pretrain", PretrainRecipe, ["complete=true"])
    yield _if_fit(setup, row, complete)


def _brought(data: Path, labelled: bool = False) -> list[Modality]:
    """Return what the training split's cases bring, all or the labelled ones."""
    dataset = Dataset.open(data)
    cases = dataset.rows("train", labelled=labelled)
    return [each for each in dataset.task.modalities if dataset.row_counts(each)[cases].any()]


def _pretraining(setup: Setup) -> tuple[PretrainRecipe, LanistrConfig]:
    """Return how LANISTR is pretrained, and of what sizes it is."""
    name, _ = setup.recipe("pretrain", None)
    recipe = load_recipe(name, "pretrain", PretrainRecipe, setup.pretrain)
    return recipe, model_config(recipe.model, Dataset.open(setup.data).preprocessor.dimensions())


def _summed_up(config: LanistrConfig) -> set[Modality]:
    """Return of which modalities summary modelling tells the figures; of none without it."""
    if config.summary is None:
        return set()
    with torch.device("meta"):
        return set(map(Modality, LanistrForPretraining(config).summaries))


def _losses(
    recipe: PretrainRecipe, config: LanistrConfig
) -> Iterator[tuple[Modality | None, str, str, str]]:
    """Yield of each loss that counts whose it is, and key, name and setting of the row without."""
    for modality in config.modalities:
        loss = FAMILIES[type(getattr(config, modality))].loss
        if getattr(recipe.losses, loss):
            yield modality, f"no-{loss}", f"without {loss.upper()}", f"losses.{loss}=0"
    if config.simmmm and recipe.losses.simmmm:
        yield None, "no-simmmm", "without SimMMM", "model.simmmm=null"
    if config.summary and recipe.losses.summary:
        yield None, "no-summary", "without summary modelling", "model.summary=null"


def shares(setup: Setup) -> Lines:
    """Table 4: pretrained on a share of the unlabelled data."""
    for percent in SHARES:
        key, name = f"share-{percent}", f"{percent}% of the unlabelled data"
        if percent == 0:
            yield setup.scratch(key, f"{name} (without pretraining)")
        else:
            yield setup.lanistr(key, name, f"share={percent / 100:g}")
    yield setup.lanistr(WHOLE, "100% of the unlabelled data")


TABLES: Mapping[str, tuple[str, Callable[[Setup], Lines]]] = {
    "table1": ("Systems (the paper's Table 1, MIMIC-IV)", systems),
    "table2": ("Systems (the paper's Table 2, Amazon reviews)", systems),
    "table3": ("Ablations (the paper's Table 3)", ablations),
    "table4": ("Share of the unlabelled data (the paper's Table 4)", shares),
}
