"""The parts of a model that become graphs, with the inputs and outputs that a bundle promises.

Shapes: R row of one modality, B case, N token, D width of a token, E of the embedding, C output.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lanistr.batch import PADDED
from lanistr.errors import BundleError
from lanistr.manifest import FUSION
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch


class EncoderGraph(nn.Module):
    """One modality's encoder with its projection: arrays to `tokens` (R, N, D)."""

    def __init__(self, encoder: nn.Module, projection: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.names = names

    def forward(self, *arrays: Tensor) -> Tensor:
        """Take the arrays in the order of `names`."""
        tokens: Tensor = self.projection(self.encoder(**dict(zip(self.names, arrays, strict=True))))
        return tokens


class FusionGraph(nn.Module):
    """Fusion with the head: `tokens`, `mask` to `output` (B, C) and `embedding` (B, E)."""

    def __init__(self, model: Lanistr) -> None:
        super().__init__()
        self.fusion = model.fusion
        self.head = model.head

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Take (B, N, D) and (B, N) bool."""
        assert self.head is not None
        gathered = self.fusion.gather(tokens, mask)
        return self.head(gathered), self.fusion.embedding(gathered)


@dataclass(frozen=True)
class GraphSource:
    """A module to be exported, with real inputs.

    Attributes:
        module: in evaluation mode, without gradients, on the CPU.
        inputs: example tensors by name, in the order in which `module` takes them.
        dynamic: by input, the name of each axis that may change.
        outputs: names, in order.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]

    @property
    def variadic(self) -> bool:
        """Whether the module takes any number of arrays."""
        return isinstance(self.module, EncoderGraph)


def graph_sources(model: Lanistr, batch: TensorBatch) -> dict[str, GraphSource]:
    """Return every graph of a model by name, with inputs from real cases.

    Args:
        model: in evaluation mode, on the CPU.
        batch: two cases or more (an axis of 1 would be taken for fixed) that together bring every
            modality of the model.

    Raises:
        BundleError: the model computes as the release did, which encodes what is absent; a
            bundle has no place for that.
    """
    if model.config.compat:
        raise BundleError(
            "a model converted from the research release cannot be exported",
            code="not_exportable",
            field="compat",
            seen=model.config.compat,
            accepted="a model trained with this software",
        )
    sources: dict[str, GraphSource] = {}
    for modality in model.config.modalities:
        arrays = batch.parts[modality].arrays
        module = EncoderGraph(model.encoders[modality], model.projections[modality], tuple(arrays))
        axes = {n: {0: "rows", 1: "length"} if n in PADDED else {0: "rows"} for n in arrays}
        sources[modality] = GraphSource(_fixed(module), arrays, axes, ("tokens",))
    with torch.no_grad():
        tokens, mask = model.assemble(batch, model.encode(batch.parts))
    sources[FUSION] = GraphSource(
        _fixed(FusionGraph(model)),
        {"tokens": tokens, "mask": mask},
        {name: {0: "cases", 1: "tokens"} for name in ("tokens", "mask")},
        ("output", "embedding"),
    )
    return sources


def by_name(names: Iterable[str], outputs: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return what a graph's module returned, one tensor or several, under their names."""
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    return dict(zip(names, several, strict=True))


def _fixed(module: nn.Module) -> nn.Module:
    """Return the module ready to be recorded, its weights as constants."""
    return module.eval().requires_grad_(False)
