"""Encoders and fusion go through torch's exporter as they are, and onnxruntime agrees."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from lanistr.batch import Arrays, stack
from lanistr.modalities import Modality
from lanistr.model.fusion import Fusion
from lanistr.model.lanistr import Lanistr, LanistrConfig

MakeRows = Callable[..., tuple[Arrays, ...]]

pytestmark = [
    # torch's exporter against torch's own pytree.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)`:FutureWarning"),
    # Said whenever two inputs have an axis in common, as intended here.
    pytest.mark.filterwarnings("ignore:# The axis name. .* will not be used:UserWarning"),
]


def export(
    module: nn.Module, example: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, Any]]
) -> onnxruntime.InferenceSession:
    """Export, check that every dynamic axis stayed so, and load."""
    program = torch.onnx.export(
        Named(module).eval(),
        (),
        kwargs={"arrays": dict(example)},
        dynamic_shapes={"arrays": dict(dynamic)},
        input_names=list(example),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    graph = io.BytesIO()
    program.save(graph)
    session = onnxruntime.InferenceSession(graph.getvalue(), providers=["CPUExecutionProvider"])
    for each in session.get_inputs():
        assert {axis for axis, size in enumerate(each.shape) if isinstance(size, str)} == set(
            dynamic[each.name]
        )
    return session


class Named(nn.Module):
    """A module that takes its arrays in one mapping: the exporter knows no `**arrays`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, arrays: dict[str, Tensor]) -> Tensor:
        return self.module(**arrays)


def assert_agrees(
    session: onnxruntime.InferenceSession, module: nn.Module, arrays: Mapping[str, Tensor]
) -> None:
    with torch.no_grad():
        want = module(**arrays).numpy()
    (got,) = session.run(None, {name: each.numpy() for name, each in arrays.items()})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


class Projected(nn.Module):
    """An encoder and its projection, which is what is exported."""

    def __init__(self, model: Lanistr, modality: Modality) -> None:
        super().__init__()
        self.encoder, self.projection = model.encoders[modality], model.projections[modality]

    def forward(self, **arrays: Tensor) -> Tensor:
        return self.projection(self.encoder(**arrays))


@pytest.mark.parametrize("modality", Modality)
def test_an_encoder_exports_for_any_number_of_rows_and_tokens(
    finetuning: LanistrConfig, make_rows: MakeRows, modality: Modality
) -> None:
    module = Projected(Lanistr(finetuning), modality)

    def arrays(rows: int) -> dict[str, Tensor]:
        each = [make_rows(modality, case)[0] for case in range(rows)]
        return {name: torch.from_numpy(array) for name, array in stack(each).items()}

    module.train()
    for _ in range(5):  # batch norms with statistics of their own
        module(**arrays(64))
    ragged = {"token_ids", "attention_mask"}
    example, rows, length = arrays(3), Dim("rows"), Dim("length", max=16)
    dynamic = {name: {0: rows, 1: length} if name in ragged else {0: rows} for name in example}
    session = export(module, example, dynamic)
    for count in (1, 2, 9, 130):
        assert_agrees(session, module, arrays(count))


def test_fusion_exports_for_any_number_of_cases_and_tokens(finetuning: LanistrConfig) -> None:
    fusion = Fusion(finetuning.fusion)

    def arrays(cases: int, tokens: int) -> dict[str, Tensor]:
        mask = torch.rand(cases, tokens) < 0.7
        return {"tokens": torch.randn(cases, tokens, 24), "mask": mask}

    axes = {0: Dim("cases"), 1: Dim("tokens")}
    session = export(fusion, arrays(3, 7), {"tokens": axes, "mask": axes})
    for cases, tokens in ((1, 1), (2, 0), (5, 29), (16, 373)):
        assert_agrees(session, fusion, arrays(cases, tokens))
