"""A published checkpoint: a folder in the hub's format, here or fetched from the model hub.

fetch(name)                 the folder, whatever the name says
folder_here(name)           likewise, but for what is on the hub
weight_files(folder)        which of its files hold weights
read_json(path)             one of its files
load_published(...)         its weights, by the names that the installed transformers gives them
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from lanistr.errors import CheckpointError, one_line, shorten

ACCEPTED = (
    "a folder in the hub's format (config.json beside model.safetensors), or the name of a model "
    "on the hub"
)
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"

_DESCRIBING = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def fetch(name: str, *, weights: bool = False) -> Path:
    """Return the folder of a checkpoint; one on the hub is fetched into the hub's cache.

    Args:
        name: a folder, or else a name on the hub.
        weights: the weights are needed too, not only what describes them.

    Raises:
        CheckpointError: there is no such folder, and the hub does not provide it.
    """
    here = folder_here(name)
    if here is not None:
        return here
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_DESCRIBING)))
        for file in (SAFE, PICKLED) if weights else ():
            stem, kind = Path(file).stem, Path(file).suffix
            patterns = [file, f"{stem}-*{kind}", f"{file}.index.json"]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if any(folder.glob(f"{stem}*{kind}")):
                break  # one format is enough
    except Exception as exc:  # the client's errors, the transport's and the file system's
        raise CheckpointError(
            f"no such folder, and it could not be fetched from the model hub: {cause_of(exc)}",
            code="no_checkpoint",
            seen=name,
            accepted=ACCEPTED,
        ) from exc
    return folder


def folder_here(name: str) -> Path | None:
    """Return the folder that a name means; None where it is a name on the hub.

    Raises:
        CheckpointError: it is plainly a path, and no folder stands there.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith(("~", ".")) or name.count("/") > 1:
        raise CheckpointError("no such folder", code="no_checkpoint", seen=name)
    return None


def weight_files(folder: Path) -> list[Path]:
    """Return the files that a checkpoint's weights are read from: whole, or an index and shards."""
    for name in (SAFE, PICKLED):
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [index, *sorted(folder.glob(f"{whole.stem}-*{whole.suffix}"))]
    return []


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise CheckpointError(
            f"{path.parent} contains no {path.name}", code="no_checkpoint", accepted=ACCEPTED
        ) from exc
    except (OSError, ValueError) as exc:
        raise CheckpointError(
            f"cannot read {path}: {cause_of(exc)}", code="bad_config", accepted="JSON"
        ) from exc
    if not isinstance(data, dict):
        raise CheckpointError(
            f"cannot read {path}", code="bad_config", seen=data, accepted="a JSON object"
        )
    return data


def cause_of(exc: Exception) -> str:
    """Say in one short line which error a library raised, and what it said."""
    return str(shorten(one_line(f"{type(exc).__name__}: {exc}"), 200))


# ---- weights ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What a checkpoint holds for one of our modules.

    Attributes:
        tensors: by the module's own names; some of its weights may be missing.
        left: names of what the module has no place for.
    """

    tensors: Mapping[str, Tensor]
    left: frozenset[str]


def load_published(
    like: PreTrainedModel, folder: Path | None, config: Any, **options: Any
) -> Found:
    """Read weights with transformers, which knows the names that its models had in the past.

    Tensors are read from `model.safetensors` or else from `pytorch_model.bin`, of which
    transformers unpickles nothing but tensors.

    Args:
        like: module that the weights are for.
        folder: of the checkpoint; None where `options` bring a `state_dict`.
        config: the sizes that the checkpoint says it has.
        options: of `from_pretrained`.

    Raises:
        CheckpointError: the weights are missing, damaged, or not those that `config` describes.
    """
    try:
        with _quiet():
            model, found = type(like).from_pretrained(
                folder,
                config=config,
                add_pooling_layer=like.pooler is not None,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # refused below, by name
                output_loading_info=True,
                **options,
            )
    except Exception as exc:  # the libraries raise whatever a damaged file provokes
        raise CheckpointError(
            f"cannot read the weights: {cause_of(exc)}",
            code="damaged_weights",
            accepted=f"{SAFE}, or a {PICKLED} that contains only tensors",
        ) from exc
    if found["mismatched_keys"]:
        name, seen, accepted = min(found["mismatched_keys"])
        raise CheckpointError(
            f"the shape of {name} does not match config.json",
            code="wrong_shape",
            seen=str(tuple(seen)),
            accepted=str(tuple(accepted)),
        )
    inside = {name for name, _ in like.named_children()} - {"pooler"}
    for name in sorted(found["unexpected_keys"]):
        own = name.removeprefix(f"{like.base_model_prefix}.")
        if own.split(".")[0] in inside and own not in _COUNTERS:
            raise CheckpointError(
                f"{name} is not part of the model that config.json describes",
                code="wrong_weights",
                seen=name,
                accepted="the weights of that model and of heads",
            )
    tensors = model.state_dict()
    for name in found["missing_keys"]:  # these were drawn by chance
        tensors.pop(name, None)
    return Found(tensors, frozenset(found["unexpected_keys"]))


_COUNTERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""What older files hold although it is always the same: 0, 1, 2 and so on, and zeros."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting at length what the caller says in a line."""
    level, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
