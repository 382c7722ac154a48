"""Published checkpoints in transformers' format: which are taken, and what they say of sizes."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any

from transformers import BertModel, FlavaMultimodalModel, PreTrainedModel, ViTModel

from lanistr.errors import CheckpointError
from lanistr.model.published import Found, cause_of, load_published, read_json
from lanistr.model.vocabulary import read_vocabulary

log = logging.getLogger(__name__)

_SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feedforward": "intermediate_size",
}
"""Our names of sizes, and those of transformers' configs."""


@dataclass(frozen=True)
class Transformers:
    """Reads checkpoints that transformers wrote, of one model type or another that contains it.

    Attributes:
        module: the library's class of our module.
        types: accepted values of `model_type`.
        demands: what the config must say, since our module can be built no other way.
        sizes_by: our names of sizes, and those of the config.
        beside: reads sizes that stand in other files of the folder.
        options: of `from_pretrained`.
    """

    module: type[PreTrainedModel]
    types: tuple[str, ...]
    demands: Mapping[str, Any]
    sizes_by: Mapping[str, str]
    beside: Callable[[Path], Mapping[str, Any]] = lambda folder: {}
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> str:
        """What is read, in words."""
        return "model_type " + " or ".join(self.types)

    def accepts(self, config: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is of one of the types."""
        return config.get("model_type") in self.types

    def sizes(self, folder: Path) -> dict[str, Any]:
        """Return what the part's config must say for the weights to mean what they meant.

        Raises:
            CheckpointError: the config is damaged, or our module cannot be as it says.
        """
        config = self._config(folder)
        for name, wanted in self.demands.items():
            found = getattr(config, name, wanted)
            if found != wanted:
                raise CheckpointError(
                    "the model has a setting that is not supported",
                    code="wrong_model",
                    field=name,
                    seen=found,
                    accepted=str(wanted),
                )
        own = {ours: _side(getattr(config, theirs)) for ours, theirs in self.sizes_by.items()}
        return {**own, **self.beside(folder)}

    def found(self, folder: Path, like: PreTrainedModel) -> Found:
        """Read the weights for a module."""
        return load_published(like, folder, self._config(folder), **self.options)

    def _config(self, folder: Path) -> Any:
        try:
            return self.module.config_class.from_pretrained(folder)
        except Exception as exc:  # whatever a wrong value provokes
            raise CheckpointError(
                f"cannot read config.json: {cause_of(exc)}", code="bad_config"
            ) from exc


def _side(size: Any) -> Any:
    """Return the side of a square that may be given as height and width."""
    if not isinstance(size, list | tuple):
        return size
    if len(set(size)) != 1:
        raise CheckpointError(
            "images or patches are not square",
            code="wrong_model",
            seen=size,
            accepted="square images and patches",
        )
    return size[0]


def _known_words(folder: Path) -> dict[str, Any]:
    """Return how many tokens there are: tables are padded with unused rows, for speed."""
    vocabulary = read_vocabulary(folder)
    return {} if vocabulary is None else {"vocab_size": len(vocabulary)}


PIXELS = "preprocessor_config.json"


def _normalisation(folder: Path) -> dict[str, Any]:
    """Return the mean and deviation of pixels that a ViT was trained with."""
    usual = [0.5, 0.5, 0.5]
    said: Mapping[str, Any] = {}
    if (folder / PIXELS).is_file():
        said = read_json(folder / PIXELS)
    else:
        log.warning(
            "%s has no %s: the pixels' mean and standard deviation are taken to be 0.5",
            folder,
            PIXELS,
        )
    # Absent, the scale is the library's usual one, from 0 to 1.
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1
    if not isinstance(factor, int | float) or not isclose(factor, 1 / 255, rel_tol=1e-3):
        raise CheckpointError(
            f"{PIXELS} has an unsupported pixel scale",
            code="wrong_model",
            field="rescale_factor",
            seen=factor,
            accepted="1/255",
        )
    if not said.get("do_normalize", True):
        return {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    mean, std = said.get("image_mean", usual), said.get("image_std", usual)
    # A single figure stands for all three channels.
    return {
        name: each if isinstance(each, list) else [each] * 3
        for name, each in (("mean", mean), ("std", std))
    }


BERT = Transformers(
    module=BertModel,
    types=("bert",),
    demands={
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    sizes_by=_SIZES | {"vocab_size": "vocab_size", "max_tokens": "max_position_embeddings"},
    beside=_known_words,
)

VIT = Transformers(
    module=ViTModel,
    types=("vit",),
    demands={"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3},
    sizes_by=_SIZES | {"size": "image_size", "patch": "patch_size", "norm_eps": "layer_norm_eps"},
    beside=_normalisation,
    options={"use_mask_token": True},
)

FLAVA = Transformers(
    module=FlavaMultimodalModel,
    types=("flava", "flava_multimodal_model"),
    demands={
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
        "use_cls_token": True,
    },
    sizes_by=_SIZES,
    # The library finds these weights in FlavaForPreTraining, but none of them in FlavaModel.
    options={"key_mapping": {r"^(flava\.)?multimodal_model\.": ""}},
)
