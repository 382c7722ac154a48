"""A model on disk: `config.json` beside `model.safetensors`.

save_pretrained(model, folder)
from_pretrained(folder, Lanistr)            the whole model, as it was saved
load_core(model, folder)                    what pretraining learned, into a model with a head
load_encoders(model, folder, modalities)    some encoders alone
load_heads(model, folder)                   beside the core, what only pretraining needs
"""

import json
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lanistr.draft import draft_file, fsync
from lanistr.errors import CheckpointError
from lanistr.modalities import Modality
from lanistr.model.config import LanistrConfig
from lanistr.model.lanistr import ForPretraining, Lanistr
from lanistr.schema import Schema

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

Model = TypeVar("Model", bound=Lanistr | ForPretraining)


class StoredConfig(Schema):
    """What `config.json` holds.

    Attributes:
        model: name of the model's class.
        config: its sizes.
    """

    model: str
    config: LanistrConfig


def save_pretrained(model: Lanistr | ForPretraining, folder: Path) -> None:
    """Write a model into a folder; each file is replaced as a whole or not at all.

    When this returns, all is on the disk.

    Raises:
        CheckpointError: the weights cannot be written.
    """
    stored = StoredConfig(model=type(model).__name__, config=model.config)
    write_pretrained(stored, weights(model), folder)


def write_pretrained(stored: StoredConfig, named: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model of which only sizes and weights are at hand, as `save_pretrained` does."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.detach().contiguous().cpu() for name, each in named.items()}
    try:
        with draft_file(folder / WEIGHTS_NAME) as draft:
            draft.touch()
            mode = draft.stat().st_mode
            save_file(tensors, draft)
            draft.chmod(mode)  # the library makes a file for its owner alone
        with draft_file(folder / CONFIG_NAME) as draft:
            draft.write_text(stored.model_dump_json(indent=2) + "\n", encoding="utf-8")
        fsync(folder)
    except SafetensorError as exc:  # no OSError, though it mostly is one: a full disk
        raise CheckpointError(
            f"the weights cannot be written: {exc}",
            code="not_written",
            field=str(folder / WEIGHTS_NAME),
            accepted="a writable folder on a disk with enough free space",
        ) from exc


def from_pretrained(folder: Path, model_class: type[Model]) -> Model:
    """Read a model from a folder, on the CPU and in evaluation mode.

    Raises:
        CheckpointError: the folder, a file, a weight or a shape is missing or does not fit, or
            the folder holds a model of the other class.
    """
    stored = read_config(folder)
    if stored.model != model_class.__name__:
        raise CheckpointError(
            f"{folder} contains another kind of model",
            code="wrong_model",
            seen=stored.model,
            accepted=model_class.__name__,
        )
    model = model_class(stored.config)
    fill(model, read_weights(folder), folder)
    model.eval()
    return model


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Put tensors into all weights of a model.

    Args:
        model: changed in place.
        tensors: by the names of `weights`.
        source: where they come from, for errors.

    Raises:
        CheckpointError: a weight is missing or superfluous, or a shape does not fit.
    """
    own = weights(model)
    _refuse_others(own.keys(), tensors.keys(), source)
    _copy(tensors, own, source)


# ---- from pretraining to fine-tuning ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Which weights were loaded when a model was started from another.

    Attributes:
        loaded: parts of the model that were taken over, such as "encoders.text".
        fresh: parts of the model that start, at least in part, from their own initial weights.
        left: parts of the checkpoint that the model has no use for.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    left: tuple[str, ...]


def load_core(model: Lanistr, folder: Path, *, fresh: Collection[Modality] = ()) -> LoadReport:
    """Start a model from a saved one: encoders, projections and fusion, but not the head.

    An encoder that is not in the checkpoint would be trained from nothing or, worse, be frozen
    as it is; so that is an error unless its modality is named in `fresh`.

    Args:
        model: changed in place.
        folder: of a `Lanistr` or a `ForPretraining`.
        fresh: modalities whose encoder and projection start from their own initial weights.

    Raises:
        CheckpointError: as for `from_pretrained`, but for what the model does not need; or a part
            would compute something else with these weights.
    """
    parts = [each for each in model.config.modalities if each not in fresh]
    _refuse_other_settings(model, folder, [*parts, "fusion"])
    stored = read_weights(folder)
    tensors = {name.removeprefix("core."): tensor for name, tensor in stored.items()}
    new = {"head", "unimodal", *(f"{group}.{each}" for group in _BY_MODALITY for each in fresh)}
    own = weights(model)
    _refuse_other_shortcuts(model, tensors, parts, folder)
    wanted = {name: each for name, each in own.items() if _part_of(name) not in new}
    taken = {name: each for name, each in wanted.items() if name in tensors}
    parts_taken = parts_of(wanted)
    learned = {name for name in tensors if _part_of(name) in parts_taken}
    _refuse_others(wanted.keys(), learned, folder, _unused(model))
    _copy(tensors, taken, folder)
    return LoadReport(
        loaded=parts_of(taken),
        fresh=parts_of(own.keys() - taken.keys()),
        left=parts_of(tensors.keys() - taken.keys()),
    )


def load_encoders(model: Lanistr, folder: Path, modalities: Collection[Modality]) -> None:
    """Start some encoders of a model from those of a saved one.

    Args:
        model: changed in place.
        folder: of a `Lanistr` or a `ForPretraining` that has these encoders.
        modalities: whose.

    Raises:
        CheckpointError: the weights cannot be read, or an encoder is another than the model's.
    """
    _refuse_other_settings(model, folder, modalities)
    stored = read_weights(folder)
    tensors = {name.removeprefix("core."): tensor for name, tensor in stored.items()}
    # A model without shortcuts, such as a baseline, takes the rest of the encoder.
    unasked = tuple(_shortcut(each) for each in modalities if not model.encoder(each).shortcuts)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unasked)}
    _refuse_other_shortcuts(model, tensors, modalities, folder)
    wanted = tuple(f"encoders.{each}." for each in modalities)
    own = {name: each for name, each in weights(model).items() if name.startswith(wanted)}
    learned = {name for name in tensors if name.startswith(wanted)}
    _refuse_others(own.keys(), learned, folder, _unused(model))
    _copy(tensors, own, folder)


def load_heads(model: ForPretraining, folder: Path) -> LoadReport:
    """Start what only pretraining needs from a saved model, each part as a whole or not at all.

    A part that the saved model lacks, or has in other sizes, starts from its own initial weights.

    Args:
        model: changed in place, but for its core and what is not handed on.
        folder: of a `Lanistr`, which has none of it, or a `ForPretraining`.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    kept = tuple(f"{each}." for each in ("core", *model.begun_anew))
    stored, own = read_weights(folder), weights(model)
    groups = {name for name, each in model.named_children() if isinstance(each, nn.ModuleDict)}

    def by_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, torch.Size]]:
        found: dict[str, dict[str, torch.Size]] = {}
        for name, tensor in tensors.items():
            if not name.startswith(kept):
                first, *rest = name.split(".")
                part = f"{first}.{rest[0]}" if first in groups else first
                found.setdefault(part, {})[name] = tensor.shape
        return found

    ours, theirs = by_part(own), by_part(stored)
    fitting = sorted(part for part, shapes in ours.items() if shapes == theirs.get(part))
    _copy(stored, {name: own[name] for part in fitting for name in ours[part]}, folder)
    return LoadReport(
        loaded=tuple(fitting),
        fresh=tuple(sorted(ours.keys() - set(fitting))),
        left=tuple(sorted(theirs.keys() - set(fitting))),
    )


def _unused(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of names of weights that nothing depends on."""
    return tuple(
        f"{name}.{each}."
        for name, module in model.named_modules()
        for each in getattr(module, "unused", ())
    )


_SHAPELESS = ("heads", "norm_eps", "mean", "std", "gamma")
"""Settings that decide what a part computes and that no weight's shape shows."""


def _refuse_other_settings(model: Lanistr, folder: Path, parts: Collection[str]) -> None:
    """Refuse weights that a part of other settings learned.

    Raises:
        CheckpointError: naming the setting.
    """
    theirs = read_config(folder).config
    for part in parts:
        ours, learned = getattr(model.config, part), getattr(theirs, part, None)
        for name in _SHAPELESS:
            before = getattr(learned, name, None)
            if hasattr(ours, name) and before not in (None, getattr(ours, name)):
                raise CheckpointError(
                    f"the weights in {folder} were trained with another setting",
                    code="other_settings",
                    field=f"model.{part}.{name}",
                    seen=getattr(ours, name),
                    accepted=str(before),
                )


def _refuse_other_shortcuts(
    model: Lanistr, tensors: Collection[str], parts: Iterable[str], folder: Path
) -> None:
    """Refuse encoders without the shortcut that the model's have, or with one that they have not.

    Raises:
        CheckpointError: naming the setting.
    """
    for modality in parts:
        ours = model.encoder(modality).shortcuts > 0
        there = [name for name in tensors if name.startswith(f"encoders.{modality}.")]
        theirs = any(name.startswith(_shortcut(modality)) for name in there)
        if there and ours != theirs:
            raise CheckpointError(
                f"the {modality} weights in {folder} "
                f"have {'a' if theirs else 'no'} shortcut past fusion",
                code="other_settings",
                field="model.fusion.shortcut",
                seen="sizes" if ours else "null",
                accepted="sizes, as in that model's config" if theirs else "null",
            )


def _shortcut(modality: str) -> str:
    """Return how the names of the weights of an encoder's shortcut begin."""
    return f"encoders.{modality}.shortcut."


_BY_MODALITY = ("encoders", "projections")
"""The groups of modules that have one member a modality."""


def _part_of(name: str) -> str:
    """Return the part of the model that a weight belongs to, such as "encoders.text"."""
    steps = name.split(".")
    return ".".join(steps[:2] if steps[0] in _BY_MODALITY else steps[:1])


def parts_of(names: Collection[str]) -> tuple[str, ...]:
    """Return the parts of the model that weights belong to, each once."""
    return tuple(sorted({_part_of(name) for name in names}))


# ---- files --------------------------------------------------------------------------------------


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what of a model is stored: parameters and persistent buffers, each once.

    TabNet has some layers in several places; their weights go by the first of their names.
    """
    persistent = model.state_dict(keep_vars=True).keys()
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor for name, tensor in named if name in persistent}


def read_config(folder: Path) -> StoredConfig:
    """Read the sizes of the model in a folder.

    Raises:
        CheckpointError: there is no such folder, or its config is missing or wrong.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise CheckpointError(f"no such folder: {folder}", code="no_checkpoint")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CheckpointError(
            f"{folder} contains no model",
            code="no_checkpoint",
            accepted=f"a folder with {CONFIG_NAME} and {WEIGHTS_NAME}",
        ) from exc
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"cannot read {path}: {exc}", code="bad_config") from exc
    return StoredConfig.parse(data, CheckpointError, str(path))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of the model in a folder, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = folder / WEIGHTS_NAME
    try:
        return load_file(path)
    except FileNotFoundError as exc:
        raise CheckpointError(
            f"{folder} contains no weights", code="no_checkpoint", accepted=WEIGHTS_NAME
        ) from exc
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(f"cannot read {path}: {exc}", code="damaged_weights") from exc


def _refuse_others(
    own: Set[str], learned: Set[str], source: Path | str, unused: tuple[str, ...] = ()
) -> None:
    """Refuse weights that are not those of the model: of fewer layers, say, or of more.

    Args:
        own: names of the model's.
        learned: names of those in `source`.
        source: where they come from, for errors.
        unused: prefixes of names that only one of the two may have.

    Raises:
        CheckpointError: naming the first few that one of them lacks.
    """
    lacking, more = (
        {name for name in names if not name.startswith(unused)}
        for names in (own - learned, learned - own)
    )
    _refuse(lacking, f"weights are missing in {source}")
    _refuse(more, f"{source} contains weights that the model does not have")


def _refuse(names: Collection[str], message: str) -> None:
    """Raise a CheckpointError if there are any names, and name the first few."""
    if names:
        shown = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
        raise CheckpointError(f"{message} ({len(names)}): {shown}", code="wrong_weights")


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor], folder: Path | str) -> None:
    """Copy tensors by name into a model.

    Raises:
        CheckpointError: a shape differs; nothing has been copied then.
    """
    for name, tensor in target.items():
        if source[name].shape != tensor.shape:
            raise CheckpointError(
                f"a weight in {folder} does not match the model",
                code="wrong_shape",
                field=name,
                seen=str(tuple(source[name].shape)),
                accepted=str(tuple(tensor.shape)),
            )
    for name, tensor in target.items():
        tensor.copy_(source[name])
