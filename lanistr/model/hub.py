"""Initial weights of text, image and fusion from published checkpoints.

initial_sizes(init)          what the model's config must say to take them
load_initial(model, init)    the weights, into a model of these sizes
files_here(init)             which of its files are in local folders

Whether token ids mean the same to data and checkpoint is `lanistr.model.vocabulary`'s to say.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

import torch
from pydantic import Field
from transformers import PreTrainedModel

from lanistr.errors import CheckpointError
from lanistr.model.checkpoint import LoadReport, parts_of, weights
from lanistr.model.lanistr import Lanistr
from lanistr.model.published import Found, fetch, folder_here, read_json, weight_files
from lanistr.model.timm_vit import TimmViT
from lanistr.model.transformers_models import BERT, FLAVA, PIXELS, VIT
from lanistr.schema import Schema

log = logging.getLogger(__name__)

Name = Annotated[str, Field(min_length=1)]


class InitialWeights(Schema):
    """Where parts of a model start: a folder in the hub's format or a name on the hub, each.

    Attributes:
        text: a BERT; None starts at random, here and below.
        image: a ViT of transformers, or a plain one of timm.
        fusion: a FLAVA, whole or its multimodal encoder alone.

    Source: LANISTR paper, section 4.
    """

    text: Name | None = None
    image: Name | None = None
    fusion: Name | None = None

    def named(self) -> dict[str, str]:
        """Return the names that are given, by part."""
        return {part: name for part, name in self if name is not None}

    def local(self) -> Self:
        """Return only what is in local folders, which can be read without the hub."""
        away = {p: None for p, name in self.named().items() if not Path(name).expanduser().is_dir()}
        return self.model_copy(update=away)


# ---- kinds of checkpoints -----------------------------------------------------------------------


class Source(Protocol):
    """Reads one kind of checkpoint, as `transformers_models` and `timm_vit` do."""

    @property
    def accepted(self) -> str:
        """What it reads, in words."""

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is of this kind."""

    def sizes(self, folder: Path) -> dict[str, Any]:
        """Return what the part's config must say for the weights to mean what they meant."""

    def found(self, folder: Path, like: PreTrainedModel) -> Found:
        """Read the weights for a module."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the model that published checkpoints have weights for.

    Attributes:
        module: path of the module in a `Lanistr`.
        sources: what its checkpoints may be.
        fresh: where the names of weights begin that a checkpoint may lack: poolers, which nothing
            depends on, and what hides patches in pretraining.
        tables: weights of which the model may take the first rows alone.
        at_most: sizes that the model may have smaller than the checkpoint.
    """

    module: str
    sources: tuple[Source, ...]
    fresh: tuple[str, ...] = ("pooler.",)
    tables: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()


PARTS: Mapping[str, Part] = {
    "text": Part(
        "encoders.text.bert",
        (BERT,),
        tables=("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"),
        at_most=("max_tokens",),
    ),
    "image": Part(
        "encoders.image.vit",
        (VIT, TimmViT()),
        fresh=("pooler.", "embeddings.mask_token"),
    ),
    "fusion": Part("fusion.flava", (FLAVA,)),
}


# ---- what to call -------------------------------------------------------------------------------


def initial_sizes(init: InitialWeights) -> dict[str, dict[str, Any]]:
    """Return, by part, the values that its config in `LanistrConfig` must have.

    The text encoder's `max_tokens` may be smaller: it then keeps the first positions only.

    Raises:
        CheckpointError: a checkpoint is not to be had, is of another kind, or is damaged.
    """
    sizes = {}
    for part, name in init.named().items():
        with _naming(part, name):
            folder = fetch(name)
            sizes[part] = _source(part, folder).sizes(folder)
    return sizes


def files_here(init: InitialWeights) -> list[Path]:
    """Return the files in local folders that a model is made from; of those on the hub, none.

    Raises:
        CheckpointError: a name is plainly a path, and no folder stands there.
    """
    files = []
    for part, name in init.named().items():
        with _naming(part, name):
            folder = folder_here(name)
        if folder is not None:
            describing = (folder / each for each in ("config.json", PIXELS))
            files += [each for each in describing if each.is_file()] + weight_files(folder)
    return files


def load_initial(model: Lanistr, init: InitialWeights) -> LoadReport:
    """Copy published weights into a model.

    A checkpoint for a part that the model lacks is skipped, with a warning. Where one checkpoint is
    refused, the parts before it in the order of `PARTS` have been copied.

    Args:
        model: of the sizes that `initial_sizes` gives; changed in place.
        init: what to read; None leaves a part as it is.

    Returns:
        what was taken; what starts at random, whole parts and single modules of parts that were
        taken otherwise; what of the checkpoints was left.

    Raises:
        CheckpointError: a checkpoint is not to be had, is of another kind, is damaged, lacks a
            weight, or does not fit the model.
    """
    modules = dict(model.named_modules())
    loaded: list[str] = []
    fresh: list[str] = []
    left: list[str] = []
    for part, name in init.named().items():
        path = PARTS[part].module
        module = modules.get(path)
        if module is None:
            log.warning("init.%s is ignored: the model has no %s encoder", part, part)
            left.append(f"{part}: {name}")
            continue
        assert isinstance(module, PreTrainedModel)
        with _naming(part, name):
            folder = fetch(name, weights=True)
            source = _source(part, folder)
            _refuse_sizes(part, source.sizes(folder), getattr(model.config, part))
            found = source.found(folder, module)
            lacking, cut = _copy(found.tensors, module, PARTS[part])
            _continue(model, found.tensors, part)
        loaded.append(path)
        new = sorted({f"{path}.{_module_of(each)}" for each in lacking})
        fresh += new
        left += sorted({f"{part}: {each}" for each in (*map(_module_of, found.left), *cut)})
        log.info("%s is initialized from %s", path, name)
        for each in new:
            log.warning("%s is initialized at random: %s has no weights for it", each, name)
    other = [each for each in weights(model) if not each.startswith(tuple(f"{p}." for p in loaded))]
    return LoadReport(tuple(loaded), (*parts_of(other), *fresh), tuple(left))


# ---- steps --------------------------------------------------------------------------------------


@contextmanager
def _naming(part: str, name: str) -> Iterator[None]:
    """Say in an error which part it is about and which checkpoint."""
    try:
        yield
    except CheckpointError as exc:
        raise CheckpointError(
            f"{name}: {f'{exc.field}: ' if exc.field else ''}{exc.message}",
            code=exc.code,
            field=f"init.{part}",
            seen=exc.seen,
            accepted=exc.accepted,
        ) from exc


def _source(part: str, folder: Path) -> Source:
    """Return what can read a checkpoint."""
    config = read_json(folder / "config.json")
    for source in PARTS[part].sources:
        if source.accepts(config):
            return source
    raise CheckpointError(
        f"no checkpoint for {part}",
        code="wrong_model",
        seen=f"model_type {config.get('model_type')}",
        accepted=", or ".join(each.accepted for each in PARTS[part].sources),
    )


def _refuse_sizes(part: str, wanted: Mapping[str, Any], config: Schema) -> None:
    """Refuse weights that would mean something else in a module of other sizes."""
    for name, value in wanted.items():
        ours = getattr(config, name)
        ours = list(ours) if isinstance(ours, tuple) else ours
        value = list(value) if isinstance(value, tuple) else value
        fewer = name in PARTS[part].at_most
        if ours != value and not (fewer and ours < value):
            raise CheckpointError(
                "the model's sizes differ from the checkpoint's",
                code="wrong_shape",
                field=f"model.{part}.{name}",
                seen=ours,
                accepted=f"at most {value}" if fewer else str(value),
            )


@torch.no_grad()
def _copy(
    tensors: Mapping[str, torch.Tensor], module: PreTrainedModel, part: Part
) -> tuple[list[str], list[str]]:
    """Copy weights into a module.

    Returns:
        names of what the checkpoint lacks and may lack, and of the rows that had no place.
    """
    own = weights(module)
    lacking = own.keys() - tensors.keys()
    missing = sorted(each for each in lacking if not each.startswith(part.fresh))
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} of {len(own)} weights",
            code="wrong_weights",
            seen=f"no {shown}",
            accepted=f"every weight of {type(module).__name__}",
        )
    cut = []
    chosen = {}
    for name in own.keys() - lacking:
        tensor, rows = tensors[name], len(own[name])
        if name in part.tables and len(tensor) > rows:
            cut.append(f"{name} from row {rows}")
            tensor = tensor[:rows]
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                "a weight does not match the model",
                code="wrong_shape",
                field=name,
                seen=str(tuple(tensor.shape)),
                accepted=str(tuple(own[name].shape)),
            )
        chosen[name] = tensor
    for name, tensor in chosen.items():
        own[name].copy_(tensor)
    return sorted(lacking), cut


@torch.no_grad()
def _continue(model: Lanistr, tensors: Mapping[str, torch.Tensor], part: str) -> None:
    """Copy what of a part's checkpoint is the fuser's; see `Fuser.continued`."""
    own = weights(model.fusion)
    for name, theirs in model.fusion.continued(part).items():
        own[name].copy_(tensors[theirs])


def _module_of(name: str) -> str:
    """Return the first two steps of a weight's name, without what kind of weight it is."""
    stem = name.removesuffix(".weight").removesuffix(".bias")
    return ".".join(stem.split(".")[:2])
