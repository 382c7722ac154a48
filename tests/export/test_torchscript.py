"""TorchScript graphs: the same bytes from the same model, and nothing of who made them."""

import io
import zipfile
from pathlib import Path

import pytest
import torch

from export.graphs import GraphSource, graph_sources
from export.torchscript import export_torchscript, load_torchscript
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.store import Dataset


@pytest.fixture(scope="module")
def sources(stays_finetuned: Path, stays_dataset: Dataset) -> dict[str, GraphSource]:
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    return graph_sources(model, to_tensors(stays_dataset.batch(range(8))))


def test_a_graph_computes_what_its_module_computes(
    sources: dict[str, GraphSource], tmp_path: Path
) -> None:
    for name, source in sources.items():
        export_torchscript(source, tmp_path / f"{name}.pt")
        graph = load_torchscript((tmp_path / f"{name}.pt").read_bytes())
        with torch.no_grad():
            found, wanted = (each(*source.inputs.values()) for each in (graph, source.module))
        torch.testing.assert_close(found, wanted)


def test_the_same_model_gives_the_same_bytes_whatever_was_recorded_before(
    sources: dict[str, GraphSource], tmp_path: Path
) -> None:
    for number, names in enumerate((["text", "fusion"], ["fusion", "image", "text"])):
        for name in names:
            export_torchscript(sources[name], tmp_path / str(number) / f"{name}.pt")
    for name in ("text", "fusion"):
        first, second = ((tmp_path / each / f"{name}.pt").read_bytes() for each in ("0", "1"))
        assert first == second


def test_an_archive_holds_weights_and_code_and_no_inputs(
    sources: dict[str, GraphSource], tmp_path: Path
) -> None:
    export_torchscript(sources["image"], tmp_path / "image.pt")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "image.pt").read_bytes())) as archive:
        names = {each.partition("/")[2] for each in archive.namelist()}
        sizes = {each.file_size for each in archive.infolist()}
    others = {each for each in names if not each.startswith("constants/")}
    assert others == {
        "data.pkl", "code/__torch__.py", "constants.pkl", ".data/version", "byteorder",
    }  # fmt: skip
    pixels = sources["image"].inputs["pixels"]
    assert pixels.numel() not in sizes
