"""What a run starts from: its data and its initial weights, checked against one another."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanistr.errors import ConfigError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import read_config
from lanistr.model.hub import InitialWeights, initial_sizes
from lanistr.model.vocabulary import check_vocabulary
from lanistr.preprocess import Preprocessor
from lanistr.preprocess.text import TextPreprocessor
from training.compatibility import check_part_fits
from training.data.store import Dataset
from training.recipe import Recipe
from training.run import Run

_PUBLISHED_KINDS = ("vit", "transformer")
"""Values of `kind`, where a recipe gives one, of the parts that published weights fit."""

log = logging.getLogger(__name__)


def open_data(folder: Path, recipe: Recipe) -> Dataset:
    """Open prepared data with the modalities that a recipe reads.

    Raises:
        DataError: see `Dataset.open` and `Dataset.only`.
        ConfigError: the recipe mirrors pictures and the task forbids it, or the data lack a
            modality that the recipe reads.
    """
    dataset = Dataset.open(folder, recipe.augment)
    refuse_lacking("modalities", recipe.modalities or (), dataset)
    image = dataset.task.image
    if recipe.augment.flip and image is not None and not image.flip:
        raise ConfigError(
            "the task file does not allow mirrored images",
            field="augment.flip",
            seen=recipe.augment.flip,
            accepted="0; or prepare the data with image: {flip: true} in the task file",
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
            f"the data in {dataset.folder} do not have a requested modality",
            field=setting,
            seen=", ".join(lacking),
            accepted="of " + ", ".join(dataset.task.modalities),
        )


def refuse_two_starts(recipe: Recipe, run: Path | None, encoders: Sequence[Path] = ()) -> None:
    """Refuse a run to start from together with other initial weights.

    Raises:
        ConfigError: both are given.
    """
    if run and encoders:
        raise ConfigError(
            "both a model and single encoders are given to start from",
            field="--encoders",
            seen=" ".join(map(str, encoders)),
            accepted="either --init or --encoders",
        )
    if run and recipe.init.named():
        raise ConfigError(
            "weights are given by a run and, in the recipe's init, by "
            + ", ".join(recipe.init.named().values()),
            field="--init",
            seen=str(run),
            accepted="only one of them: no --init, or --set init={}",
        )


def refuse_other_system(recipe: Recipe, run: Run) -> None:
    """Refuse to start from a run of another system, whose parts mean something else.

    Raises:
        ConfigError: the run's system is not the recipe's.
    """
    theirs = run.config.recipe.get("system")
    if theirs != recipe.system:
        raise ConfigError(
            f"the recipe trains {recipe.system or 'LANISTR'}, but the run is of another system",
            field="--init",
            seen=theirs or "LANISTR",
            accepted=f"a run of {recipe.system or 'LANISTR'}, or --set system={theirs or 'null'}",
        )


def encoders_from(runs: Sequence[Run], dataset: Dataset) -> list[tuple[Run, tuple[Modality, ...]]]:
    """Return each run with the modalities whose encoders are taken from it: those of the data.

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
                    accepted="one run per modality",
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
    """Refuse to freeze encoders that would start with random weights.

    Args:
        init: published weights.
        modalities: of the data.
        given: those whose encoders start from a run's.

    Raises:
        ConfigError: naming the modalities whose encoders would start at random.
    """
    random = [each for each in modalities if each not in init.named() and each not in given]
    if random:
        raise ConfigError(
            "encoders would be frozen with random weights: " + ", ".join(random),
            field="--init",
            accepted="a pretrained run, or --set freeze_encoders=false",
        )


def initial_model(
    sizes: Mapping[str, Any], init: InitialWeights, fitted: Preprocessor | None
) -> dict[str, Any]:
    """Replace a recipe's sizes by those of published weights.

    Args:
        sizes: a recipe's `model`.
        init: names the checkpoints, which are read.
        fitted: preprocessing of the data, whose vocabulary must be that of the text's checkpoint.
            None: no data.

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
                "initial weights are given for a component of another kind",
                field=f"init.{part}",
                seen=name,
                accepted=f"null, as model.{part}.kind is {kind}",
            )
    for part, found in initial_sizes(init).items():
        chosen = merged.get(part, {})
        if chosen is None:
            raise ConfigError(
                "initial weights are given for a component that the model does not have",
                field=f"init.{part}",
                seen=init.named()[part],
                accepted=f"null, or sizes in model.{part}",
            )
        for name, value in found.items():
            if name in chosen and json.dumps(chosen[name]) != json.dumps(value):
                log.warning(
                    "model.%s.%s is %s, as in the initial weights, instead of the recipe's %s",
                    *(part, name, value, chosen[name]),
                )
        merged[part] = {**chosen, **found}
    return merged
