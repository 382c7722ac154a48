"""A baseline in a bundle: the service answers what the model computes, and knows nothing of it."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import httpx
import onnxruntime
import pytest
import torch

from export.graphs import graph_sources
from export.onnx import export_onnx
from lanistr.batch import collate
from lanistr.bundle import Bundle
from lanistr.calibration import softmax
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.config import LanistrConfig
from lanistr.model.heads import HeadConfig
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import TensorBatch, TensorPart, to_tensors
from lanistr.preprocess import read_record
from lanistr.sample import to_record
from tests.servers import forked
from training.prepare.synthetic import SyntheticOptions, draw
from training.run import Run

Make = Callable[..., Path]

SMALL = {"vocab_size": 110, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(Modality, size)]
SMALLER = ("model.image.layers=1",)
SHALLOW = (*SMALLER, "model.text.layers=1", "model.timeseries.layers=1")
NO_ROWS = "modalities=[text, image, timeseries]"


@pytest.mark.parametrize(
    ("system", "sizes"), [("late-fusion", (*SHALLOW, NO_ROWS)), ("albef", SMALLER)]
)
def test_the_service_answers_what_a_baseline_computes(
    system: str,
    sizes: tuple[str, ...],
    stays: Path,
    make_baseline: Make,
    make_bundle: Make,
    tmp_path: Path,
) -> None:
    """Exporting it has proved the graphs for batches, notes and subsets of every size."""
    folder = make_baseline(system, stays, f"exported-{system}", *sizes)
    bundle = make_bundle(folder, f"{system}-bundle", "--formats", "onnx", "--precision", "fp32")
    run = Run.open(folder)
    model = from_pretrained(run.model_folder, Lanistr)
    assert Bundle.open(bundle).manifest.embedding == model.fusion.gathered

    wanted = SyntheticOptions(samples=1, missing=0, seed=77)
    (stay,) = [to_record(sample) for sample in draw("mortality", wanted)]
    stay["text"] = [*stay["text"], "extubated, on room air. pt stable overnight."]
    pictures = stay.pop("image")
    with (
        forked(tmp_path / "log", "--bundles", str(bundle)) as started,
        httpx.Client(base_url=started.url, timeout=60) as client,
    ):
        for subset in SUBSETS:
            if not set(subset) <= set(run.task.modalities):
                continue
            record = {name: part for name, part in stay.items() if name in subset}
            form = [
                (name, (None, json.dumps(part), "application/json"))
                for name, part in record.items()
                if name != "text"
            ]
            form += [("text", (None, note, "text/plain")) for note in record.get("text", ())]
            if Modality.IMAGE in subset:
                record["image"] = pictures
                form += [("image", ("chest.jpg", each, "image/jpeg")) for each in pictures]
            answer = client.post("/predict/mortality", files=form)
            assert answer.status_code == 200, answer.text
            log = IssueLog()
            features = run.preprocessor().apply(read_record(record, run.task, log), log)
            with torch.inference_mode():
                output = model(to_tensors(collate([features]))).logits[0].numpy()
            said = answer.json()
            assert said["modalities"]["used"] == list(subset)
            assert list(said["prediction"]["probabilities"].values()) == pytest.approx(
                softmax(output / run.calibration().temperature), abs=1e-4
            )
        embedded = client.post("/embed/mortality", json={"text": "pt stable overnight"}).json()
        assert len(embedded["embedding"]) == model.fusion.gathered


@pytest.mark.parametrize(
    "fusion",
    [
        {"kind": "autogluon-mlp"},
        {"kind": "autogluon-transformer", "layers": 1},
        {"kind": "medfuse"},
    ],
    ids=lambda fusion: fusion["kind"],
)
def test_the_graph_of_a_fuser_takes_any_number_of_cases_and_tokens(
    fusion: dict[str, object], tmp_path: Path
) -> None:
    sizes = {"text": SMALL, "tabular": {"kind": "columns", "numbers": 3, "categories": (4,)}}
    head = HeadConfig(kind="classes", outputs=2, layers=0)
    config = LanistrConfig.model_validate(sizes | {"fusion": fusion, "head": head})
    model = Lanistr(config).eval()
    generator = torch.Generator().manual_seed(0)
    parts = {
        m: TensorPart(torch.arange(3), model.encoders[m].drawn(3, generator))
        for m in model.config.modalities
    }
    source = graph_sources(model, TensorBatch(3, parts))["fusion"]
    export_onnx(source, tmp_path / "fusion.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "fusion.onnx")
    whole, mask = source.inputs.values()
    for tokens in (slice(0), slice(1), slice(3), slice(-3, None), slice(None)):
        for cases in (1, 3):
            given = whole[:cases, tokens], mask[:cases, tokens]
            wanted = source.module(*given)
            names = zip(source.inputs, (each.numpy() for each in given), strict=True)
            for found, each in zip(session.run(None, dict(names)), wanted, strict=True):
                torch.testing.assert_close(torch.from_numpy(found), each)
