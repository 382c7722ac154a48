"""The parts of a model as graphs: their names, inputs, axes, and that they are the model."""

from pathlib import Path

import pytest
import torch

from export.graphs import GraphSource, graph_sources
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.store import Dataset


@pytest.fixture(scope="module", params=["with shortcuts", "as in the paper"])
def model(stays_finetuned: Path, request: pytest.FixtureRequest) -> Lanistr:
    """The second has weights as they are drawn."""
    learned = from_pretrained(stays_finetuned / "model", Lanistr)
    if request.param == "with shortcuts":
        return learned
    fusion = learned.config.fusion.model_copy(update={"shortcut": None})
    return Lanistr(learned.config.model_copy(update={"fusion": fusion})).eval()


@pytest.fixture(scope="module")
def sources(model: Lanistr, stays_dataset: Dataset) -> dict[str, GraphSource]:
    return graph_sources(model, to_tensors(stays_dataset.batch(range(8))))


def test_there_is_a_graph_a_modality_and_one_of_fusion(sources: dict[str, GraphSource]) -> None:
    assert list(sources) == ["text", "image", "tabular", "timeseries", "fusion"]
    assert {name: list(each.inputs) for name, each in sources.items()} == {
        "text": ["token_ids", "attention_mask"],
        "image": ["pixels"],
        "tabular": ["numbers", "categories"],
        "timeseries": ["values"],
        "fusion": ["tokens", "mask"],
    }
    assert sources["fusion"].outputs == ("output", "embedding")
    assert all(each.outputs == ("tokens",) for name, each in sources.items() if name != "fusion")


def test_rows_and_lengths_cases_and_tokens_may_change_and_nothing_else(
    sources: dict[str, GraphSource],
) -> None:
    assert {name: dict(each.dynamic) for name, each in sources.items()} == {
        "text": {name: {0: "rows", 1: "length"} for name in ("token_ids", "attention_mask")},
        "image": {"pixels": {0: "rows"}},
        "tabular": {"numbers": {0: "rows"}, "categories": {0: "rows"}},
        "timeseries": {"values": {0: "rows"}},
        "fusion": {name: {0: "cases", 1: "tokens"} for name in ("tokens", "mask")},
    }


def test_graphs_one_after_the_other_are_the_model(
    sources: dict[str, GraphSource], model: Lanistr, stays_dataset: Dataset
) -> None:
    batch = to_tensors(stays_dataset.batch(range(8)))
    with torch.inference_mode():
        wanted = model(batch)
        tokens = {
            each: sources[each].module(*sources[each].inputs.values()) for each in batch.parts
        }
        output, embedding = sources["fusion"].module(*model.assemble(batch, tokens))
    torch.testing.assert_close(output, wanted.logits)
    torch.testing.assert_close(embedding, wanted.embedding)
    assert not any(each.module.training for each in sources.values())
