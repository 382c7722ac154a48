"""The proof that exported graphs compute what the model computes.

Real cases, for the export itself: several batch sizes, lengths of notes, and every subset of
modalities. Inputs made by chance, which go into the bundle, since patients' records must not: with
them anybody can try the graphs later, on another machine, or in another language.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from export.exported import Exported, Run
from export.graphs import by_name, graph_sources
from lanistr.batch import PADDED
from lanistr.errors import ParityError
from lanistr.importance import Subset, subsets
from lanistr.manifest import FUSION, Build, Extent
from lanistr.modalities import Modality
from lanistr.model.lanistr import Lanistr, Output
from lanistr.model.tensors import TensorBatch, TensorPart, to_tensors
from lanistr.proof import BOUND, Proof, difference, sides
from training.data.store import Dataset

BATCHES = ((1, 1.0), (1, 0.0), (2, 0.3), (7, 0.6), (16, 1.0))
"""Sizes, and the share of the longest note that is left of all (0: one token)."""

CASES = sum(size for size, _ in BATCHES)

_ROWS = 3
"""Of each modality, in the inputs made by chance."""


# ---- on real cases ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What the model itself says of real cases.

    Attributes:
        cases: how many.
        batches: of several sizes and lengths.
        projected: for each, the tokens by modality.
        fused: for each, what it makes of every subset of the modalities.
    """

    cases: int
    batches: Sequence[TensorBatch]
    projected: Sequence[Mapping[Modality, Tensor]]
    fused: Sequence[Mapping[Subset, Output]]

    @classmethod
    def of(cls, model: Lanistr, dataset: Dataset, positions: Sequence[int]) -> Self:
        """Run the model.

        Args:
            model: in evaluation mode, on the CPU.
            dataset: whose cases are used.
            positions: cases, taken in turn for every batch.

        Raises:
            ParityError: no batch brings one of the model's modalities.
        """
        turn = cycle(positions)
        chosen = [list(islice(turn, size)) for size, _ in BATCHES]
        batches = [
            _cut(to_tensors(dataset.batch(cases)), share)
            for cases, (_, share) in zip(chosen, BATCHES, strict=True)
        ]
        for modality in model.config.modalities:
            if not any(modality in batch.parts for batch in batches):
                raise ParityError(
                    "no case to check the graph with",
                    code="parity",
                    field=modality,
                    accepted="cases that have the modality",
                )
        with torch.inference_mode():
            projected = [model.encode(batch.parts) for batch in batches]
            fused = [
                {
                    subset: model.fuse(_part_of(batch, subset), {m: tokens[m] for m in subset})
                    for subset in subsets(list(batch.parts))
                }
                for batch, tokens in zip(batches, projected, strict=True)
            ]
        return cls(len(set().union(*chosen)), batches, projected, fused)

    def extent(self, measured: int) -> Extent:
        """Return what the comparison covers; and the metric, so many cases."""
        return Extent(
            measured=measured,
            cases=self.cases,
            batch_sizes=tuple(sorted({batch.size for batch in self.batches})),
            lengths=tuple(sorted({each for batch in self.batches for each in _lengths(batch)})),
            subsets=max(map(len, self.fused)),
            bound=BOUND,
        )

    def differences(self, exported: Exported, bounds: Mapping[str, float]) -> dict[str, float]:
        """Return the largest difference by graph; fusion's is over the whole way from arrays.

        Args:
            exported: graphs.
            bounds: on the difference, by graph; infinite where only what is not finite is wrong.

        Raises:
            ParityError: a difference over the bound, or not finite.
        """
        worst: dict[str, float] = {}
        for batch, projected, fused in zip(self.batches, self.projected, self.fused, strict=True):
            found = exported.encode(batch.parts)
            for modality, tokens in found.items():
                _compare(worst, modality, tokens, projected[modality], bounds[modality])
            for subset, wanted in fused.items():
                output = exported.fuse(_part_of(batch, subset), {m: found[m] for m in subset})
                _compare(worst, FUSION, output.logits, wanted.logits, bounds[FUSION])
                _compare(worst, FUSION, output.embedding, wanted.embedding, bounds[FUSION])
        return worst


def _part_of(batch: TensorBatch, subset: Subset) -> TensorBatch:
    return TensorBatch(batch.size, {m: batch.parts[m] for m in Modality if m in subset})


def _cut(batch: TensorBatch, share: float) -> TensorBatch:
    """Leave so much of the arrays whose rows differ in length, at least one token."""

    def cut(array: Tensor) -> Tensor:
        return array[:, : max(1, round(share * array.shape[1]))]

    return TensorBatch(
        batch.size,
        {
            modality: TensorPart(
                part.sample, {n: cut(a) if n in PADDED else a for n, a in part.arrays.items()}
            )
            for modality, part in batch.parts.items()
        },
    )


def _lengths(batch: TensorBatch) -> list[int]:
    arrays = [item for part in batch.parts.values() for item in part.arrays.items()]
    return [array.shape[1] for name, array in arrays if name in PADDED]


def _compare(
    worst: dict[str, float], name: str, found: Tensor, wanted: Tensor, bound: float
) -> None:
    if found.shape != wanted.shape:
        raise _different(name, tuple(found.shape), f"{tuple(wanted.shape)}")
    off = difference(found.numpy(), wanted.numpy())
    worst[name] = max(worst.get(name, 0.0), off)
    if not (off <= bound and math.isfinite(off)):
        raise _different(name, off, f"a difference of at most {bound:g}")


@contextmanager
def naming_build(build: Build) -> Iterator[None]:
    """Say of a graph that differs whose it is: every build has one of its name."""
    try:
        yield
    except ParityError as exc:
        exc.field = f"{build.name} {exc.field}"
        raise


def _different(name: str, seen: object, accepted: str) -> ParityError:
    return ParityError(
        "the graph's outputs differ from the model's",
        code="parity",
        field=name,
        seen=seen,
        accepted=accepted,
    )


# ---- on inputs made by chance -------------------------------------------------------------------


def make_proof(model: Lanistr, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return inputs for every graph, and what the model makes of them.

    Args:
        model: in evaluation mode, on the CPU.
        seed: of the inputs.
    """
    generator = Generator().manual_seed(seed)
    parts: dict[Modality, TensorPart] = {}
    for modality in model.config.modalities:
        encoder = model.encoder(modality)
        parts[modality] = TensorPart(torch.arange(_ROWS), encoder.drawn(_ROWS, generator))
    proof: dict[str, NDArray[Any]] = {}
    for name, source in graph_sources(model, TensorBatch(_ROWS, parts)).items():
        inputs = dict(source.inputs)
        if "mask" in inputs:  # the first case has all its tokens, the others some
            kept = torch.rand(inputs["mask"].shape, generator=generator) < 0.5
            kept[0] = True
            inputs["mask"] = inputs["mask"] & kept
        with torch.inference_mode():
            outputs = source.module(*inputs.values())
        named = by_name(source.outputs, outputs)
        proof |= {f"{name}/inputs/{each}": array.numpy() for each, array in inputs.items()}
        proof |= {f"{name}/outputs/{each}": array.numpy() for each, array in named.items()}
    return proof


def try_proof(
    proof: Proof, graphs: Mapping[str, Run], bounds: Mapping[str, float]
) -> dict[str, float]:
    """Run graphs on the inputs of a proof; return the largest difference by graph.

    Args:
        proof: see `make_proof`.
        graphs: by name.
        bounds: on the difference, by graph.

    Raises:
        ParityError: a difference over the bound, or not finite.
    """
    worst: dict[str, float] = {}
    for name, run in graphs.items():
        inputs, outputs = sides(proof, name)
        found = run({each: torch.as_tensor(array) for each, array in inputs.items()})
        for each, wanted in outputs.items():
            _compare(worst, name, found[each], torch.as_tensor(wanted), bounds[name])
    return worst
