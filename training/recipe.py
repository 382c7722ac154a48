"""Recipes: how a model is built and trained, as data.

`recipes/pretrain/NAME.yaml` and `recipes/finetune/NAME.yaml` name a model of
`recipes/model/NAME.yaml`; any single value can be overridden by its path, such as `optim.lr=1e-4`
or `model.text.layers=2`. Another model by name takes a recipe of one's own.

`recipes/system/NAME.yaml` says, by stage, what makes a recipe one of a system that LANISTR is
compared with; `system=NAME` as an override has any recipe train that system at its own sizes.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field

from lanistr.document import read_settings, read_yaml
from lanistr.errors import ConfigError, one_line, unknown_name
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.hub import InitialWeights
from lanistr.schema import Schema
from lanistr.tasks import LabelSpec
from training.data.codecs import Augmentation

log = logging.getLogger(__name__)

RECIPES = Path(__file__).parent / "recipes"


Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Schema):
    """How weights move.

    Attributes:
        rates: factor of the learning rate by part of the model, such as
            ``{encoders: 0.1, encoders.text: 0.05}``; the longest name counts. 0 freezes nothing,
            but leaves the part where it is.
        layer_decay: factor of the learning rate from each Transformer layer of an encoder to the
            one before it, and from the first to what stands before it. What stands behind the last
            layer has the full rate, and so has an encoder without such layers.
        batch_size: cases a step, over all processes.
        warmup: share of all steps over which the learning rate rises; the first step is not at 0.
        plateau: fine-tuning halves the learning rate after more than so many epochs without a
            better validation metric; else, after the warm-up, it stays. None: it falls as a cosine.
        clip: largest norm of the gradient.
    """

    lr: float = Field(gt=0)
    rates: dict[str, Annotated[float, Field(ge=0)]] = {}
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(ge=0)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    warmup: float = Field(default=0.1, ge=0, le=1)
    plateau: int | None = Field(default=None, ge=0)
    clip: float = Field(default=5.0, gt=0)


class LossWeights(Schema):
    """Weights of the losses of pretraining.

    Attributes:
        itc, itm: of ALBEF, which counts all of its three alike.

    Source: LANISTR paper, Table 5, but for that of summary modelling, which is not of the paper,
    and those of ALBEF.
    """

    mlm: float = Field(default=1.0, ge=0)
    mim: float = Field(default=1.0, ge=0)
    mfm: float = Field(default=0.01, ge=0)
    mtm: float = Field(default=0.1, ge=0)
    simmmm: float = Field(default=0.5, ge=0)
    summary: float = Field(default=1.0, ge=0)
    itc: float = Field(default=1.0, ge=0)
    itm: float = Field(default=1.0, ge=0)


class RuntimeConfig(Schema):
    """How a run uses its machines; what is learned is the same in the mean.

    Attributes:
        tokens: most tokens that a process takes at once, one case alone excepted: words, padded
            to the case with most, and what fusion gets of pictures, series and rows; not what
            notes of one case are padded by. A step of more is taken in several turns, whose
            gradients are added up. None: a step is one turn.
        strategy: of several processes: "ddp", each with the whole model, or "fsdp", each with a
            share of weights, gradients and optimiser state.
        precision: of the arithmetic; weights are float32. "auto" is bf16 on a GPU.
        compile: have `torch.compile` compile each block (Transformer layer).
        checkpoint_activations: keep only each block's input for the backward pass and compute the
            block again: less memory, a third more arithmetic.
        workers: processes that read and decode ahead; 0 reads in the training process.
    """

    tokens: int | None = Field(default=None, ge=1)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    checkpoint_activations: bool = False
    workers: int = Field(default=0, ge=0)


class CheckpointConfig(Schema):
    """When the state of a run is stored, so that it can go on after an interruption.

    Attributes:
        every: steps from one to the next.
        keep: how many to keep, the newest.
    """

    every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)


class Recipe(Schema):
    """What both stages choose.

    Attributes:
        task: whose data the recipe is made for; None for any.
        system: what is trained, a name in `recipes/system`; None for LANISTR.
        modalities: of the data that are read; those that a case brings besides are not looked at.
            None: all.
        model: sizes by part, as in `LanistrConfig`; what the data decide may be left out. None
            for a part that the model is to do without.
        init: published weights to start from, whose sizes go before those of `model`.
        augment: how pictures vary from epoch to epoch.
        seed: of weights, order, masks and dropout.
    """

    task: str | None = None
    system: str | None = None
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] | None = None
    model: dict[str, dict[str, Any] | None]
    init: InitialWeights = InitialWeights()
    optim: OptimConfig
    runtime: RuntimeConfig = RuntimeConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    augment: Augmentation = Augmentation()
    seed: int = Field(default=0, ge=0, lt=2**32)


class PretrainRecipe(Recipe):
    """Learning from cases, labelled or not.

    Attributes:
        share: of the training cases that are learned from, drawn with the seed.
        complete: learn only from cases that bring every modality: parallel data.
    """

    share: float = Field(default=1.0, gt=0, le=1)
    complete: bool = False
    losses: LossWeights = LossWeights()


def _class_weights(value: Any) -> Any:
    """Refuse what is neither a word nor weights; of a union pydantic names the first part alone."""
    numbers = isinstance(value, list | tuple) and all(
        type(each) in (int, float) and 0 < each < math.inf for each in value
    )
    if not numbers and value not in ("equal", "balanced"):
        raise ValueError("should be equal, balanced, or a number above 0 for each class")
    return value


class FinetuneRecipe(Recipe):
    """Learning a task from labelled cases.

    Attributes:
        freeze_encoders: train projections, fusion and head alone.
        modality_dropout: chance that a present modality of a case is hidden in a step; a case may
            lose all of them, which teaches what to say of nothing.
        cache_features: encode what frozen encoders see once, before the first epoch, and read it
            in every epoch. Pictures are then not augmented.
        ordinal: what an ordinal label's head is: one score with cuts, or classes without order.
        class_weights: weight of each class in the loss: all 1, "balanced" (as rare as a class is,
            so heavy), or a number for each. Probabilities stay those of the data: what the
            weights shift is taken back from the head after training.
        validate_every: epochs between validations, or a share of one; the last epoch is always
            validated. With few labels an epoch is a handful of steps, and validating costs more
            than it.
        patience: epochs without a better validation metric before training stops.
        labels: learn from so many labelled cases only, drawn with the seed. None: all.
        complete: learn only from labelled cases that bring every modality. All that are labelled
            are validated and tested.
        unimodal: weight of the loss of one head a modality, which learns the task from that
            modality alone and is of no use afterwards; 0 for none.
        average: keep the weights of so many of the best validations, and hand out their mean as
            far as it is no worse on the validation split; see `training.soup`.
    """

    freeze_encoders: bool = True
    cache_features: bool = True
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    class_weights: Annotated[
        Literal["equal", "balanced"] | tuple[float, ...], BeforeValidator(_class_weights)
    ] = "equal"
    ordinal: Literal["score", "classes"] = "score"
    validate_every: float = Field(default=1, gt=0)
    patience: int = Field(default=10, ge=1)
    labels: int | None = Field(default=None, ge=1)
    complete: bool = False
    unimodal: float = Field(default=0.0, ge=0)
    average: int = Field(default=1, ge=1)


RecipeT = TypeVar("RecipeT", bound=Recipe)


def load_recipe(
    name: str, stage: Literal["pretrain", "finetune"], kind: type[RecipeT], overrides: Sequence[str]
) -> RecipeT:
    """Read a recipe by name (or path of a file) and apply overrides.

    Raises:
        ConfigError: no such recipe or system, or a key or value of it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / stage / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in (RECIPES / stage).glob("*.yaml"))
        raise ConfigError(
            f"no such {stage} recipe",
            field="recipe",
            seen=name,
            accepted=unknown_name(name, known) + ", or the path of a .yaml file",
        )
    data = read_settings(path, "recipe", ConfigError)
    data["model"] = _sizes(data.get("model"))
    systems = [each for each in overrides if each.startswith("system=")]
    for each in systems:
        override(data, each)
    if data.get("system") is not None:
        data = _merged(data, _system(data["system"], stage))
    for each in overrides:
        if each not in systems:
            override(data, each)
    return kind.parse(data, ConfigError, path.name)


def model_config(
    sizes: Mapping[str, Any],
    dimensions: Mapping[Modality, Mapping[str, Any]] | None,
    head: HeadConfig | None = None,
    *,
    unimodal: bool = False,
) -> LanistrConfig:
    """Bring a recipe's sizes and what the data decide together.

    Args:
        sizes: the recipe's `model`.
        dimensions: `Preprocessor.dimensions`; modalities it lacks are left out of the model. None
            takes the recipe's word for everything.
        head: the task's head.
        unimodal: whether each modality has a head of its own, too.

    Raises:
        ConfigError: a size is missing, unknown or impossible, or is a head's where there is none.
    """
    merged = dict(sizes)
    for modality in Modality:
        if dimensions is not None and modality not in dimensions:
            merged.pop(modality, None)
        elif dimensions is not None:
            if modality not in merged:
                log.warning(
                    "the recipe has no sizes for %s: its encoder gets the default size", modality
                )
            chosen = merged.get(modality, {})
            if chosen is None:
                raise ConfigError(
                    "the data have a modality that the model does not",
                    field=f"model.{modality}",
                    accepted="sizes of its encoder",
                )
            for name in chosen.keys() & dimensions[modality].keys():
                found = dimensions[modality][name]
                # As JSON, since a tuple of the data is a list in a recipe.
                if chosen[name] and json.dumps(chosen[name]) != json.dumps(found):
                    log.warning(
                        "model.%s.%s is %s, as in the data, instead of the recipe's or initial "
                        "weights' %s",
                        *(modality, name, found, chosen[name]),
                    )
            merged[modality] = {**chosen, **dimensions[modality]}
    if head is not None:
        merged["unimodal"] = unimodal
        sizes_of_head = merged.get("head") or {}
        for name in ("kind", "outputs"):
            if name in sizes_of_head:
                raise ConfigError(
                    "the task's label determines what the head outputs",
                    field=f"model.head.{name}",
                    seen=sizes_of_head[name],
                    accepted="layers and dropout; for ordinal labels, ordinal=score or classes",
                )
        merged["head"] = head.model_dump() | sizes_of_head
    elif merged.get("head") is not None:
        raise ConfigError(
            "pretraining has no head",
            field="model.head",
            seen=merged["head"],
            accepted="no head; its sizes are set for fine-tuning",
        )
    return LanistrConfig.parse(merged, ConfigError, "recipe", within=("model",))


def head_config(label: LabelSpec, recipe: FinetuneRecipe) -> HeadConfig:
    """Return the head that a label asks for."""
    kind: Literal["classes", "ordinal", "regression"] = "classes"
    if label.kind == "regression":
        kind = "regression"
    elif label.kind == "ordinal" and recipe.ordinal == "score":
        kind = "ordinal"
    return HeadConfig(kind=kind, outputs=label.outputs)


def _sizes(model: Any) -> Any:
    """Resolve a model given by name, or by name with changes: {like: NAME, text: {...}}."""
    if isinstance(model, str):
        return _model(model)
    if not isinstance(model, dict) or "like" not in model:
        return model
    changes = {part: each for part, each in model.items() if part != "like"}
    return _merged(_model(model["like"]), changes)


def _merged(settings: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes, group by group; one of another `kind` takes a group's place."""
    merged = dict(settings)
    for name, value in changes.items():
        before = merged.get(name)
        grouped = isinstance(value, dict) and isinstance(before, dict) and "kind" not in value
        merged[name] = _merged(before or {}, value) if grouped else value
    return merged


def _system(name: Any, stage: str) -> dict[str, Any]:
    """Return what makes a recipe of a stage one of a system.

    Raises:
        ConfigError: there is no such system, or it has no such stage.
    """
    path = RECIPES / "system" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.yaml"))
        raise ConfigError(
            "no such system", field="system", seen=name, accepted=unknown_name(name, known)
        )
    stages = read_settings(path, "system", ConfigError)
    if stage not in stages:
        raise ConfigError(
            f"{name} has no such stage",
            field="system",
            seen=f"training.{stage}",
            accepted=" or ".join(f"training.{each}" for each in stages),
        )
    return stages[stage]


def _model(name: str) -> dict[str, Any]:
    path = RECIPES / "model" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.yaml"))
        raise ConfigError(
            "no such model", field="model", seen=name, accepted=unknown_name(name, known)
        )
    return read_settings(path, "model", ConfigError)


def override(data: dict[str, Any], change: str) -> None:
    """Set one value by its path; whether the key is known is checked with the whole.

    Raises:
        ConfigError: not `path=value`, or the path leads through a value.
    """
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise ConfigError("not an override", field="--set", seen=change, accepted="path=value")
    *steps, last = path.split(".")
    place: Any = data
    for step in steps:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise ConfigError(
                "not a group of settings", field="--set", seen=change, accepted="path=value"
            )
    value: Any = text
    try:
        value = read_yaml(text)
        if isinstance(value, str):
            value = float(value)  # YAML 1.1 reads 1e-4 as a word
    except ValueError:
        pass
    except yaml.YAMLError as exc:
        raise ConfigError(f"not a value: {one_line(exc)}", field="--set", seen=change) from exc
    place[last] = value
