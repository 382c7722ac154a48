"""The proof that graphs compute what the model computes fails when they do not."""

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.cases import chosen_cases, example_cases
from export.exported import Exported, Run, open_graphs
from export.graphs import GraphSource, graph_sources
from export.parity import Reference, make_proof, try_proof
from export.torchscript import export_torchscript
from lanistr.bundle import Bundle
from lanistr.errors import BundleError, DataError, ParityError
from lanistr.manifest import Build, Runtime
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from lanistr.proof import BOUND
from training.data.store import Dataset

NAMES = ("text", "image", "tabular", "timeseries", "fusion")
RUNTIMES: tuple[Runtime, ...] = ("onnx", "torchscript")
AT_FP32 = dict.fromkeys(NAMES, BOUND)


@pytest.fixture(scope="module")
def model(stays_finetuned: Path) -> Lanistr:
    return from_pretrained(stays_finetuned / "model", Lanistr)


@pytest.fixture(scope="module")
def reference(model: Lanistr, stays_dataset: Dataset) -> Reference:
    return Reference.of(model, stays_dataset, chosen_cases(stays_dataset))


@pytest.fixture(scope="module")
def bundle(stays_bundle: Path) -> Bundle:
    return Bundle.open(stays_bundle)


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> dict[Runtime, dict[str, Run]]:
    return {each: open_graphs(bundle.build(each, "fp32"), bundle.read) for each in RUNTIMES}


# ---- what is run --------------------------------------------------------------------------------


def test_an_export_says_what_it_compared(bundle: Bundle, stays_dataset: Dataset) -> None:
    extent = bundle.manifest.extent
    assert extent is not None
    assert extent.batch_sizes == (1, 2, 7, 16)
    assert len(extent.lengths) >= 4
    assert extent.lengths[0] == 1
    assert extent.subsets == 16
    assert extent.bound == BOUND == 1e-4
    # The split has fewer than the 27 that the batches take: they are taken in turn.
    assert extent.cases == len(stays_dataset.rows("test", labelled=True)) < 27


def noted(name: str, run: Run, seen: dict[str, list[tuple[int, ...]]]) -> Run:
    """Note the shape of what a graph is given."""

    def noting(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        seen.setdefault(name, []).append(tuple(next(iter(inputs.values())).shape))
        return run(inputs)

    return noting


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_size_length_and_subset_is_really_run(
    runtime: Runtime,
    model: Lanistr,
    reference: Reference,
    bundle: Bundle,
    graphs: dict[Runtime, dict[str, Run]],
) -> None:
    seen: dict[str, list[tuple[int, ...]]] = {}
    noting = {name: noted(name, run, seen) for name, run in graphs[runtime].items()}
    found = reference.differences(Exported(model, noting), AT_FP32)
    assert set(found) == set(NAMES)
    assert all(each <= BOUND for each in found.values())
    extent = bundle.manifest.extent
    assert extent is not None
    assert {shape[0] for shape in seen["fusion"]} == set(extent.batch_sizes)
    assert {shape[1] for shape in seen["text"]} == set(extent.lengths)
    # Once a subset of what a batch brings, nothing at all included.
    brought = [2 ** len(batch.parts) for batch in reference.batches]
    assert len(seen["fusion"]) == sum(brought)
    assert max(brought) == extent.subsets
    widest = [shape for shape in seen["fusion"] if shape[0] == 16]
    assert len({shape[1] for shape in widest}) > 10
    assert 0 in {shape[1] for shape in widest}
    for name in NAMES[:-1]:
        assert len({shape[0] for shape in seen[name]}) > 2


def test_the_largest_batch_brings_everything(reference: Reference) -> None:
    assert set(reference.batches[-1].parts) == set(Modality)


def test_cases_that_bring_little_are_not_enough(model: Lanistr, stays_dataset: Dataset) -> None:
    rows = stays_dataset.rows("train")
    without = [int(row) for row in rows if not stays_dataset.brings(int(row), Modality.IMAGE)]
    with pytest.raises(ParityError, match="no case to check the graph with") as refused:
        Reference.of(model, stays_dataset, without)
    assert refused.value.field == "image"


def test_examples_bring_every_part_twice(stays_dataset: Dataset) -> None:
    chosen = example_cases(stays_dataset)
    for modality in Modality:
        assert sum(stays_dataset.brings(row, modality) for row in chosen) >= 2
    assert set(chosen) <= set(stays_dataset.rows("test", labelled=True).tolist())


def test_a_part_that_the_test_split_lacks_is_named(
    command: Callable[..., str], tmp_path: Path
) -> None:
    from training.prepare.__main__ import main

    command(
        main, "synthetic", "--task", "rating", "--samples", 60, "--missing", "image=0.97",
        "--image-size", 16, "--vocabulary-size", 400, "--out", tmp_path / "data",
    )  # fmt: skip
    with pytest.raises(DataError, match="too few cases have this modality") as refused:
        example_cases(Dataset.open(tmp_path / "data"))
    assert (refused.value.field, refused.value.seen) == ("image", 0)
    assert '--set "modalities=[text, tabular]"' in str(refused.value)


# ---- spoilt weights -----------------------------------------------------------------------------

Change = Callable[[np.ndarray], np.ndarray]


def spoilt_onnx(data: bytes, change: Change) -> bytes:
    """Change the largest weight of an ONNX graph."""
    proto = onnx.load_from_string(data)
    largest = max(proto.graph.initializer, key=lambda each: int(np.prod(each.dims)))
    array = change(numpy_helper.to_array(largest).copy())
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    return proto.SerializeToString()


def spoilt_torchscript(data: bytes, change: Change) -> bytes:
    """Change the largest weight of a TorchScript graph."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(changed, "w") as spoilt:
        weights = [each for each in whole.infolist() if "/constants/" in each.filename]
        largest = max(weights, key=lambda each: each.file_size).filename
        for entry in whole.infolist():
            content = whole.read(entry)
            if entry.filename == largest:
                content = change(np.frombuffer(content, np.float32)).tobytes()
            spoilt.writestr(entry, content)
    return changed.getvalue()


SPOIL = {"onnx": spoilt_onnx, "torchscript": spoilt_torchscript}


def with_spoilt(bundle: Bundle, build: Build, name: str, change: Change) -> dict[str, Run]:
    """Open the graphs of a build, one of them spoilt."""
    spoil, bad = SPOIL[build.runtime], build.graphs[name].file

    def read(file: str) -> bytes:
        return spoil(bundle.read(file), change) if file == bad else bundle.read(file)

    return open_graphs(build, read)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("factor", [1.01, math.nan])
@pytest.mark.parametrize("name", NAMES)
def test_a_graph_whose_weights_differ_is_named(
    name: str,
    factor: float,
    runtime: Runtime,
    model: Lanistr,
    reference: Reference,
    bundle: Bundle,
) -> None:
    spoilt = with_spoilt(
        bundle, bundle.build(runtime, "fp32"), name, lambda a: a * a.dtype.type(factor)
    )
    with pytest.raises(ParityError, match="graph's outputs differ from the model's") as refused:
        reference.differences(Exported(model, spoilt), AT_FP32)
    assert refused.value.field == name
    with pytest.raises(ParityError) as refused:
        try_proof(bundle.proof(), spoilt, AT_FP32)
    assert refused.value.field == name


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_in_any_precision(
    weight: float, model: Lanistr, reference: Reference, bundle: Bundle
) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        return np.full_like(array, weight)

    unbounded = dict.fromkeys(NAMES, math.inf)
    spoilt = with_spoilt(bundle, bundle.build("onnx", "fp32"), "image", change)
    with pytest.raises(ParityError) as refused:
        reference.differences(Exported(model, spoilt), unbounded)
    assert refused.value.field == "image"
    with pytest.raises(ParityError) as refused:
        try_proof(bundle.proof(), spoilt, unbounded)
    assert refused.value.field == "image"


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        ("projections.image.0.bias", "image"),
        ("fusion", "fusion"),
        ("head.mlp.6.bias", "fusion"),
    ],
)
def test_a_model_that_differs_from_its_graphs_is_found_out(
    weight: str,
    name: str,
    stays_finetuned: Path,
    stays_dataset: Dataset,
    graphs: dict[Runtime, dict[str, Run]],
) -> None:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    changed = next(each for n, each in model.named_parameters() if n.startswith(weight))
    with torch.no_grad():
        changed += 0.05 * torch.randn_like(changed)
    reference = Reference.of(model, stays_dataset, chosen_cases(stays_dataset))
    with pytest.raises(ParityError) as refused:
        reference.differences(Exported(model, graphs["onnx"]), AT_FP32)
    assert refused.value.field == name


def test_the_bound_is_as_tight_as_asked_for(
    model: Lanistr, reference: Reference, graphs: dict[Runtime, dict[str, Run]]
) -> None:
    with pytest.raises(ParityError) as refused:
        reference.differences(Exported(model, graphs["onnx"]), dict.fromkeys(NAMES, 1e-12))
    assert refused.value.accepted == "a difference of at most 1e-12"


# ---- axes that froze ----------------------------------------------------------------------------


FROZEN = pytest.mark.parametrize(("axis", "size"), [(0, 2), (1, 19)], ids=["batch", "length"])
"""Axes of a note, and how much of them a graph takes, whatever it is given."""


def frozen_onnx(data: bytes, axis: int, size: int) -> bytes:
    proto = onnx.load_from_string(data)
    names = {each.name: f"{each.name}_cut" for each in proto.graph.input}
    for node in proto.graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
    for name, value in (("starts", 0), ("ends", size), ("axes", axis)):
        tensor = helper.make_tensor(name, TensorProto.INT64, [1], [value])
        proto.graph.initializer.append(tensor)
    for name, cut in names.items():
        slice = helper.make_node("Slice", [name, "starts", "ends", "axes"], [cut])
        proto.graph.node.insert(0, slice)
    return proto.SerializeToString()


class Frozen(nn.Module):
    def __init__(self, module: nn.Module, axis: int, size: int) -> None:
        super().__init__()
        self.module = module
        self.cut = (slice(None),) * axis + (slice(size),)

    def forward(self, *arrays: Tensor) -> Tensor:
        return self.module(*(each[self.cut] for each in arrays))


def with_text(bundle: Bundle, build: Build, data: bytes) -> dict[str, Run]:
    """Open the graphs of a build, that of notes from elsewhere."""
    text = build.graphs["text"].file
    return open_graphs(build, lambda file: data if file == text else bundle.read(file))


@FROZEN
def test_an_axis_that_froze_in_onnx_is_found(
    axis: int, size: int, model: Lanistr, reference: Reference, bundle: Bundle
) -> None:
    build = bundle.build("onnx", "fp32")
    frozen = frozen_onnx(bundle.read(build.graphs["text"].file), axis, size)
    with pytest.raises(ParityError) as refused:
        reference.differences(Exported(model, with_text(bundle, build, frozen)), AT_FP32)
    assert refused.value.field == "text"


@FROZEN
def test_an_axis_that_froze_in_torchscript_is_found(
    axis: int,
    size: int,
    model: Lanistr,
    stays_dataset: Dataset,
    reference: Reference,
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    examples = to_tensors(stays_dataset.batch(example_cases(stays_dataset)))
    text = graph_sources(model, examples)["text"]
    module = Frozen(text.module, axis, size).eval()
    export_torchscript(
        GraphSource(module, text.inputs, text.dynamic, text.outputs), tmp_path / "text.pt"
    )
    build = bundle.build("torchscript", "fp32")
    opened = with_text(bundle, build, (tmp_path / "text.pt").read_bytes())
    with pytest.raises(ParityError) as refused:
        reference.differences(Exported(model, opened), AT_FP32)
    assert refused.value.field == "text"


# ---- inputs made by chance ----------------------------------------------------------------------


def test_a_proof_has_several_rows_for_every_graph_and_masks_some(
    bundle: Bundle, model: Lanistr
) -> None:
    proof = bundle.proof()
    assert {key.partition("/")[0] for key in proof} == set(NAMES)
    assert all(len(array) >= 3 for array in proof.values())
    notes = proof["text/inputs/attention_mask"].sum(axis=1)
    assert len(set(notes.tolist())) == len(notes)
    mask = proof["fusion/inputs/mask"]
    assert mask[0].all()
    assert not mask[1:].all()


def test_a_proof_is_the_models_alone_and_always_the_same(bundle: Bundle, model: Lanistr) -> None:
    again, proof = make_proof(model), bundle.proof()
    assert again.keys() == proof.keys()
    for key, array in again.items():
        np.testing.assert_array_equal(proof[key], array)


def test_a_proof_is_tried_on_every_build(bundle: Bundle) -> None:
    for build in bundle.manifest.builds:
        found = try_proof(
            bundle.proof(), open_graphs(build, bundle.read), dict.fromkeys(NAMES, math.inf)
        )
        assert found == pytest.approx(build.proof, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_changed_proof_is_found(
    runtime: Runtime, name: str, bundle: Bundle, graphs: dict[Runtime, dict[str, Run]]
) -> None:
    proof = bundle.proof()
    for key in proof:
        if key.startswith(f"{name}/outputs/"):
            proof[key] = proof[key] * np.float32(1.01)
    with pytest.raises(ParityError) as refused:
        try_proof(proof, graphs[runtime], AT_FP32)
    assert refused.value.field == name


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inputs_that_a_graph_cannot_take_are_an_error_of_its_file(
    runtime: Runtime, bundle: Bundle, graphs: dict[Runtime, dict[str, Run]]
) -> None:
    file = bundle.build(runtime, "fp32").graphs["text"].file
    ids = torch.full((2, 3), 10**6)  # of no word
    with pytest.raises(BundleError, match="the graph cannot be run") as refused:
        graphs[runtime]["text"]({"token_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert refused.value.field == file
