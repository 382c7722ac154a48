"""The proof that graphs compute what the model computes fails when they do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.parity import BATCH_SIZES, BOUND, prove_parity
from lanistr.bundle import Bundle
from lanistr.errors import ParityError
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from training.data.store import Dataset

Graphs = dict[str, Path]


@pytest.fixture
def model(stays_finetuned: Path) -> Lanistr:
    return from_pretrained(stays_finetuned / "model", Lanistr)


@pytest.fixture
def graphs(stays_bundle: Path) -> Graphs:
    manifest = Bundle.open(stays_bundle).manifest
    return {name: stays_bundle / graph.file for name, graph in manifest.graphs.items()}


def spoil(graph: Path, out: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Change the largest weight of a graph."""
    proto = onnx.load(graph)
    largest = max(proto.graph.initializer, key=lambda each: int(np.prod(each.dims)))
    array = change(numpy_helper.to_array(largest).copy())
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    onnx.save(proto, out)
    return out


def test_every_graph_is_measured_on_cases_not_seen_by_the_exporter(
    model: Lanistr, stays_dataset: Dataset, graphs: Graphs
) -> None:
    assert BATCH_SIZES == (1, 2, 7, 16)
    found = prove_parity(model, stays_dataset, stays_dataset.rows("train").tolist(), graphs)
    assert list(found) == ["text", "image", "tabular", "timeseries", "fusion"]
    assert all(0 < each < BOUND for each in found.values())


@pytest.mark.parametrize("name", ["text", "image", "tabular", "timeseries", "fusion"])
@pytest.mark.parametrize("factor", [1.01, np.nan])
def test_a_graph_whose_weights_differ_is_named(
    name: str,
    factor: float,
    model: Lanistr,
    stays_dataset: Dataset,
    graphs: Graphs,
    tmp_path: Path,
) -> None:
    spoilt = graphs | {name: spoil(graphs[name], tmp_path / "bad.onnx", lambda a: a * factor)}
    with pytest.raises(ParityError, match="does not compute what the model computes") as refused:
        prove_parity(model, stays_dataset, stays_dataset.rows("test").tolist(), spoilt)
    assert refused.value.field == name


@pytest.mark.parametrize(
    ("weight", "name"),
    [("projections.image.0.bias", "image"), ("fusion", "fusion"), ("head.mlp.6.bias", "fusion")],
)
def test_a_model_that_differs_from_its_graphs_is_found_out(
    weight: str, name: str, model: Lanistr, stays_dataset: Dataset, graphs: Graphs
) -> None:
    changed = next(each for n, each in model.named_parameters() if n.startswith(weight))
    with torch.no_grad():
        changed += 0.05 * torch.randn_like(changed)
    with pytest.raises(ParityError) as refused:
        prove_parity(model, stays_dataset, stays_dataset.rows("test").tolist(), graphs)
    assert refused.value.field == name


def test_a_graph_that_no_case_needs_is_not_called_proved(
    model: Lanistr, stays_dataset: Dataset, graphs: Graphs
) -> None:
    rows = stays_dataset.rows("train")
    without = [int(row) for row in rows if not stays_dataset.brings(int(row), Modality.IMAGE)]
    with pytest.raises(ParityError, match="nothing is proved of the graph") as refused:
        prove_parity(model, stays_dataset, without, graphs)
    assert refused.value.field == "image"


def test_the_bound_is_as_tight_as_asked_for(
    model: Lanistr, stays_dataset: Dataset, graphs: Graphs
) -> None:
    with pytest.raises(ParityError, match="at most 1e-12"):
        prove_parity(model, stays_dataset, stays_dataset.rows("test").tolist(), graphs, bound=1e-12)
