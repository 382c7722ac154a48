"""The proof that the graphs compute what the model computes, on real cases."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from lanistr.bundle import FUSION
from lanistr.errors import ParityError
from lanistr.importance import subsets
from lanistr.modalities import Modality
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch, to_tensors
from training.data.store import Dataset

BATCH_SIZES = (1, 2, 7, 16)
BOUND = 1e-4
"""Largest difference allowed at float32, as a share of the output's own scale where above 1."""


def prove_parity(
    model: Lanistr,
    dataset: Dataset,
    positions: Sequence[int],
    graphs: Mapping[str, Path],
    bound: float = BOUND,
) -> dict[str, float]:
    """Run graphs and model side by side: several batch sizes, every subset of modalities.

    Args:
        model: in evaluation mode, on the CPU.
        dataset: whose cases are used.
        positions: cases, taken in turn for every batch size.
        graphs: file by name.
        bound: see `BOUND`.

    Returns:
        The largest difference by graph; that of fusion is over the whole way from arrays.

    Raises:
        ParityError: a difference over the bound, or not a number, or a graph that no case needs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for name, path in graphs.items()
    }
    worst: dict[str, float] = {}

    def compare(name: str, found: NDArray[Any], wanted: Tensor) -> None:
        scale = max(1.0, float(wanted.abs().max()))
        difference = float(np.abs(found - wanted.numpy()).max()) / scale
        worst[name] = max(worst.get(name, 0.0), difference)
        if not difference <= bound:
            raise ParityError(
                "the graph does not compute what the model computes",
                code="parity",
                field=name,
                seen=difference,
                accepted=f"a difference of at most {bound:g}",
            )

    for cases in _batches(positions):
        batch = to_tensors(dataset.batch(cases))
        with torch.inference_mode():
            expected = model.encode(batch.parts)
        found: dict[Modality, Tensor] = {}
        for modality, part in batch.parts.items():
            feed = {name: array.numpy() for name, array in part.arrays.items()}
            (tokens,) = sessions[modality].run(None, feed)
            compare(modality, tokens, expected[modality])
            found[modality] = torch.from_numpy(tokens)
        for subset in subsets(list(batch.parts)):
            part_of = TensorBatch(batch.size, {m: batch.parts[m] for m in subset})
            with torch.inference_mode():
                wanted = model(part_of)
                tokens_in, mask = model.assemble(part_of, {m: found[m] for m in subset})
            outputs = sessions[FUSION].run(
                ["output", "embedding"], {"tokens": tokens_in.numpy(), "mask": mask.numpy()}
            )
            compare(FUSION, outputs[0], wanted.logits)
            compare(FUSION, outputs[1], wanted.embedding)
    for name in graphs.keys() - worst.keys():
        raise ParityError(
            "nothing is proved of the graph",
            code="parity",
            field=name,
            accepted="cases that bring the modality",
        )
    return {name: worst[name] for name in graphs}


def _batches(positions: Sequence[int]) -> Iterator[list[int]]:
    """Cut the cases into one batch of every size, cases anew for each."""
    taken = 0
    for size in BATCH_SIZES:
        yield [positions[(taken + i) % len(positions)] for i in range(size)]
        taken += size
