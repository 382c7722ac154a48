"""What a run starts from: its data, and weights checked against them and against one another."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import read_config
from lanistr.model.hub import InitialWeights, initial_sizes
from lanistr.model.lanistr import ForPretraining
from lanistr.model.vocabulary import check_vocabulary
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.text import TextPreprocessor
from training.compatibility import check_part_fits
from training.data.store import Dataset
from training.recipe import PretrainRecipe, Recipe
from training.run import Run

_PUBLISHED_KINDS = ("vit", "transformer")
"""The kinds of parts that published weights are of, where a recipe spells them out."""

log = logging.getLogger(__name__)


def open_data(folder: Path, recipe: Recipe) -> Dataset:
    """Open prepared data, as much of them as a recipe reads.

    Raises:
        DataError: see `Dataset.open` and `Dataset.only`.
        ConfigError: pictures are to be mirrored that then mean something else, or the data lack a
            modality that the recipe reads.
    """
    dataset = Dataset.open(folder, recipe.augment)
    refuse_lacking("modalities", recipe.modalities or (), dataset)
    image = dataset.task.image
    if recipe.augment.flip and image is not None and not image.flip:
        raise ConfigError(
            "a mirrored picture does not mean the same here, says the task file",
            field="augment.flip",
            seen=recipe.augment.flip,
            accepted="0; or prepare with image: {flip: true}",
        )
    return dataset if recipe.modalities is None else dataset.only(recipe.modalities)


def refuse_lacking(setting: str, wanted: Iterable[Modality], dataset: Dataset) -> None:
    """Refuse to read modalities that the data do not bring.

    Raises:
        ConfigError: naming them.
    """
    lacking = [each for each in wanted if each not in dataset.task.modalities]
    if lacking:
        raise ConfigError(
            f"the data in {dataset.folder} do not bring what is to be read",
            field=setting,
            seen=", ".join(lacking),
            accepted="of " + ", ".join(dataset.task.modalities),
        )


_OF_SOME = {"summary", "itc", "itm"}
"""Losses that not all models have, and none gets by the data. Of the others recipes say how much
they weigh whatever the data bring."""


def refuse_plateau(recipe: PretrainRecipe) -> None:
    """Refuse to pretrain with what only validations have.

    Raises:
        ConfigError: the recipe does.
    """
    if recipe.optim.plateau is not None:
        raise ConfigError(
            "pretraining validates nothing: no plateau would be seen, and the rate would stay",
            field="optim.plateau",
            seen=recipe.optim.plateau,
            accepted="null here; a number when fine-tuning",
        )


def warn_of_no_use(recipe: PretrainRecipe, model: ForPretraining) -> None:
    """Warn of weights of losses that the model has not: rows of one table share them."""
    had = {loss.split("_")[0] for loss in model.means}
    for name in sorted(_OF_SOME & recipe.losses.model_fields_set - had):
        if getattr(recipe.losses, name):
            log.warning("losses.%s is of no use: the model has no such loss", name)


def refuse_unfit(recipe: PretrainRecipe, model: ForPretraining) -> None:
    """Refuse a recipe that pretrains a model in a way that it cannot be.

    Raises:
        ConfigError: naming the setting.
    """
    if model.complete and not recipe.complete:
        raise ConfigError(
            f"{recipe.system} learns from cases that bring every modality",
            field="complete",
            seen=recipe.complete,
            accepted="true",
        )
    if recipe.runtime.strategy == "fsdp" and not model.shards:
        raise ConfigError(
            f"the weights of {recipe.system} are not shared out: others follow them, whole",
            field="runtime.strategy",
            seen=recipe.runtime.strategy,
            accepted="ddp",
        )


def refuse_two_starts(recipe: Recipe, run: Path | None, encoders: Sequence[Path] = ()) -> None:
    """Refuse a run together with other weights: a model starts from one of them.

    Raises:
        ConfigError: both are asked for.
    """
    if run and encoders:
        raise ConfigError(
            "a whole model and single encoders are to come from runs",
            field="--encoders",
            seen=" ".join(map(str, encoders)),
            accepted="either --init or --encoders",
        )
    if run and recipe.init.named():
        raise ConfigError(
            "weights are to come from a run and, by the recipe's init, from "
            + ", ".join(recipe.init.named().values()),
            field="--init",
            seen=str(run),
            accepted="one of them: no --init, or --set init={}",
        )


def refuse_other_system(recipe: Recipe, run: Run) -> None:
    """Refuse to go on from a run of another system, whose parts mean something else.

    Raises:
        ConfigError: the run is of another one than the recipe.
    """
    theirs = run.config.recipe.get("system")
    if theirs != recipe.system:
        raise ConfigError(
            f"the recipe trains {recipe.system or 'LANISTR'}, and that run is of another system",
            field="--init",
            seen=theirs or "LANISTR",
            accepted=f"a run of {recipe.system or 'LANISTR'}, or --set system={theirs or 'null'}",
        )


def encoders_from(runs: Sequence[Run], dataset: Dataset) -> list[tuple[Run, tuple[Modality, ...]]]:
    """Say which encoders are taken from which run: those of the modalities that the data bring.

    Raises:
        ConfigError: a run has none of them, or two have the same one.
        DataError: a modality was preprocessed otherwise for the run.
    """
    taken: dict[Modality, Run] = {}
    for run in runs:
        theirs = read_config(run.model_folder).config.modalities
        found = [each for each in dataset.task.modalities if each in theirs]
        for modality in found:
            if modality in taken:
                raise ConfigError(
                    f"two runs have an encoder of {modality}",
                    field="--encoders",
                    seen=f"{taken[modality].folder} {run.folder}",
                    accepted="one run a modality",
                )
            check_part_fits(run, dataset, modality)
            taken[modality] = run
        if not found:
            raise ConfigError(
                "the run has no encoder for these data",
                field="--encoders",
                seen=f"{run.folder}: {', '.join(theirs)}",
                accepted="one of " + ", ".join(dataset.task.modalities),
            )
    return [(run, tuple(m for m in taken if taken[m] is run)) for run in runs]


def refuse_frozen_at_random(
    init: InitialWeights, modalities: Iterable[Modality], given: Collection[Modality] = ()
) -> None:
    """Without a run to start from, encoders may be frozen only where all have weights.

    Args:
        init: has some.
        modalities: of the data.
        given: whose encoders start from a run's.

    Raises:
        ConfigError: naming the modalities whose encoders would start at random.
    """
    random = [each for each in modalities if each not in init.named() and each not in given]
    if random:
        raise ConfigError(
            "encoders with random weights would be frozen as they are: " + ", ".join(random),
            field="--init",
            accepted="a pretrained run, or --set freeze_encoders=false",
        )


def initial_model(
    sizes: Mapping[str, Any], init: InitialWeights, fitted: Preprocessor | None
) -> dict[str, Any]:
    """Put the sizes that published weights have in the place of a recipe's.

    Args:
        sizes: a recipe's `model`.
        init: whose checkpoints are looked into.
        fitted: preprocessing of the data, whose vocabulary must be that of the text's checkpoint
            and whose modalities are the only ones that weights are needed for. None: no data.

    Raises:
        ConfigError: weights are named for a part that the recipe leaves out.
        CheckpointError: a checkpoint cannot be used, see `initial_sizes`.
        DataError: the data have another vocabulary.
    """
    merged = dict(sizes)
    text = fitted and fitted.parts.get(Modality.TEXT)
    if init.text and isinstance(text, TextPreprocessor):
        check_vocabulary(init.text, text.tokenizer)
    for part, name in init.named().items():
        kind = (merged.get(part) or {}).get("kind")
        if kind not in (None, *_PUBLISHED_KINDS):
            raise ConfigError(
                "weights are named for a part that is of another kind",
                field=f"init.{part}",
                seen=name,
                accepted=f"null, as model.{part}.kind is {kind}",
            )
    for part, found in initial_sizes(init).items():
        chosen = merged.get(part, {})
        if chosen is None:
            raise ConfigError(
                "weights are named for what the model is to do without",
                field=f"init.{part}",
                seen=init.named()[part],
                accepted=f"null, or sizes in model.{part}",
            )
        for name, value in found.items():
            if name in chosen and json.dumps(chosen[name]) != json.dumps(value):
                log.warning(
                    "model.%s.%s is %s, as the initial weights have it, not %s as the recipe",
                    *(part, name, value, chosen[name]),
                )
        merged[part] = {**chosen, **found}
    return merged
