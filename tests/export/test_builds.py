"""What is reduced is kept only if it predicts as well, and what is asked for only if it exists."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime import InferenceSession
from torch import Tensor

import export.__main__ as export
from export import reduce
from export.builds import BuildReference, Writer, as_served, check_fit, make_build, points_lost
from export.cases import chosen_cases, example_cases, labelled_cases
from export.exported import Exported, open_graphs
from export.graphs import graph_sources
from export.parity import Reference, make_proof
from lanistr.batch import Arrays, Features, collate, stack
from lanistr.bundle import Bundle
from lanistr.errors import BundleError
from lanistr.manifest import FUSION, Build
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from training.data.store import Dataset
from training.predict import predict
from training.run import Run

NEVER = ("--most-fall", "-1000")
"""As if every metric had fallen."""


# ---- a metric that falls ------------------------------------------------------------------------


@pytest.mark.usefixtures("stars_graphs")
def test_a_reduced_build_that_was_not_asked_for_is_left_out_with_a_warning(
    stars_finetuned: Path,
    command: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "bundle"
    said = command(export.main, "--run", stars_finetuned, "--out", out, *NEVER)
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "not exported: mae: onnx int8 loses too much of the metric" in warning.message
    assert "at most -1000 points lost (--most-fall)" in warning.message
    assert "int8" not in said
    bundle = Bundle.open(out)
    assert [each.name for each in bundle.manifest.builds] == ["onnx fp32", "torchscript fp32"]
    assert "int8" not in bundle.card()
    assert not [each for each in bundle.manifest.files if "int8" in each]


@pytest.mark.usefixtures("stars_graphs")
def test_a_reduced_build_that_was_asked_for_is_refused_and_leaves_nothing(
    stars_finetuned: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="onnx int8 loses too much of the metric") as refused:
        command(
            export.main, "--run", stars_finetuned, "--out", tmp_path / "bundle", *NEVER,
            "--formats", "onnx", "--precision", "int8",
        )  # fmt: skip
    assert refused.value.field == "mae"
    assert str(refused.value.seen).endswith("points lost")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stars_graphs")
def test_a_reduced_build_that_overflows_is_left_out_too(
    stars_finetuned: Path,
    command: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    really = reduce.REDUCERS["int8"]

    def overflow(graph: Path, out: Path) -> None:
        really(graph, out)
        proto = onnx.load(out)
        for tensor in proto.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                endless = np.full_like(numpy_helper.to_array(tensor), np.inf)
                tensor.CopyFrom(numpy_helper.from_array(endless, tensor.name))
        onnx.save(proto, out)

    monkeypatch.setitem(reduce.REDUCERS, "int8", overflow)
    out = tmp_path / "bundle"
    command(export.main, "--run", stars_finetuned, "--out", out, "--formats", "onnx")
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "the graph's outputs differ from the model's" in warning.message
    assert [each.name for each in Bundle.open(out).manifest.builds] == ["onnx fp32"]
    assert not (out / "onnx" / "int8").exists()


def test_a_metric_that_the_test_split_does_not_determine_says_nothing_for_a_reduced_build(
    ranks_finetuned: Path,
    ranks_bundle: Path,
    take_graphs: Callable[[Path], None],
    alike: Path,
    command: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    take_graphs(ranks_bundle)
    out = tmp_path / "bundle"
    command(
        export.main, "--run", ranks_finetuned, "--data", alike, "--out", out, "--formats", "onnx",
        "--most-fall", "1000",
    )  # fmt: skip
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "the test split does not determine it" in warning.message
    (build,) = Bundle.open(out).manifest.builds
    assert build.name == "onnx fp32"
    assert build.fall is None
    assert "quadratic_kappa" not in build.metrics
    with pytest.raises(BundleError, match="the test split does not determine it"):
        check_fit(build.model_copy(update={"precision": "int8"}), "quadratic_kappa", 1000)


@pytest.mark.parametrize(
    ("metric", "before", "after", "points"),
    [
        ("auroc", 0.9, 0.89, 1),
        ("auroc", 0.89, 0.9, -1),
        ("rmse", 2.0, 2.02, 1),
        ("rmse", 2.0, 1.98, -1),
        ("auroc", 0.9, 0.9, 0),
        ("mae", 0.0, 0.0, 0),
        ("mae", 0.0, 0.1, None),
        ("auroc", None, 0.9, None),
        ("auroc", 0.9, None, None),
    ],
)
def test_points_are_hundredths_of_a_share_and_per_cents_of_an_error(
    metric: str, before: float | None, after: float | None, points: float | None
) -> None:
    assert points_lost(metric, before, after) == points


def build(**changes: Any) -> Build:
    whole = Build(runtime="onnx", precision="int8", bytes=1, graphs={}, parity={}, fall=0.5)
    return whole.model_copy(update=changes)


def test_a_fall_as_large_as_allowed_is_allowed() -> None:
    check_fit(build(), "auroc", 0.5)
    check_fit(build(fall=-3), "auroc", 0.5)
    check_fit(build(precision="fp32", fall=None), "auroc", 0.5)
    with pytest.raises(BundleError, match="loses too much of the metric") as refused:
        check_fit(build(fall=0.51), "auroc", 0.5)
    assert (refused.value.seen, refused.value.field) == ("0.51 points lost", "auroc")


# ---- a graph that is far off --------------------------------------------------------------------


@pytest.mark.usefixtures("stars_graphs")
def test_a_graph_that_is_far_off_stays_at_float32_and_the_fusion_is_measured_again(
    stars_finetuned: Path,
    stars_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run.open(stars_finetuned)
    model = from_pretrained(run.model_folder, Lanistr)
    examples = to_tensors(stars_dataset.batch(example_cases(stars_dataset)))
    expected = BuildReference(
        model,
        Reference.of(model, stars_dataset, chosen_cases(stars_dataset)),
        make_proof(model),
        stars_dataset,
        labelled_cases(stars_dataset),
        metrics={},
        calibration=run.calibration(),
    )
    writer = Writer(tmp_path, graph_sources(model, examples))
    whole = make_build(writer, expected, "onnx", "fp32")
    caplog.set_level(logging.INFO, logger="export")

    monkeypatch.setattr("export.builds._FAR_OFF", math.inf)
    reduced = make_build(writer, expected, "onnx", "int8")
    narrow = make_build(writer, expected, "torchscript", "bf16")
    assert not reduced.whole + narrow.whole
    assert not [each for each in caplog.messages if "kept in" in each]
    monkeypatch.setattr("export.builds._FAR_OFF", 1e-4)
    mixed = make_build(writer, expected, "onnx", "int8")
    assert "onnx int8: kept in fp32: tabular" in caplog.messages
    assert mixed.whole == ("tabular",)

    files = {name: graph.file for name, graph in mixed.graphs.items()}
    assert files == {"tabular": "onnx/fp32/tabular.onnx", "fusion": "onnx/int8/fusion.onnx"}
    assert mixed.parity["tabular"] == whole.parity["tabular"] < 1e-4 < reduced.parity["tabular"]
    assert mixed.proof["tabular"] == whole.proof["tabular"] != reduced.proof["tabular"]
    assert whole.parity["fusion"] < mixed.parity["fusion"] != reduced.parity["fusion"]
    assert mixed.metrics != reduced.metrics
    assert mixed.bytes == sum((tmp_path / each).stat().st_size for each in files.values())

    # Autocast, which has no files of its own, is left out for that graph.
    outside = make_build(writer, expected, "torchscript", "bf16")
    assert outside.whole == ("tabular",)
    assert outside.graphs == narrow.graphs
    assert outside.parity["tabular"] < 1e-4 < narrow.parity["tabular"]
    assert outside.parity["fusion"] > 1e-4

    # Of the graphs in float32 that the others were made of, only this one is kept.
    writer.keep([mixed])
    left = {each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file()}
    assert left == set(files.values())


# ---- what is not offered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--formats", "onnx", "--precision", "fp32", "bf16"),
            "--precision bf16 is not available with --formats onnx",
        ),
        (
            ("--formats", "torchscript", "--precision", "int8"),
            "--precision int8 is not available with --formats torchscript",
        ),
        (("--precision", "fp8"), "seen 'fp8'; accepted: one of fp32, int8, fp16, bf16"),
        (("--formats", "onxx"), "did you mean 'onnx'?"),
    ],
)
def test_a_combination_that_is_not_offered_is_one_line_and_exit_code_2(
    options: tuple[str, ...],
    said: str,
    command: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        command(export.main, "--run", tmp_path, "--out", tmp_path / "bundle", *options)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.usefixtures("stars_graphs")
def test_torchscript_alone_needs_no_word_of_precision(
    stars_finetuned: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    command(export.main, "--run", stars_finetuned, "--out", out, "--formats", "torchscript")
    assert [each.name for each in Bundle.open(out).manifest.builds] == ["torchscript fp32"]
    assert not (out / "onnx").exists()


# ---- as it is served ----------------------------------------------------------------------------


def test_int8_is_measured_on_rows_one_by_one_without_padding(
    stays_bundle: Path, stays_finetuned: Path, stays_dataset: Dataset
) -> None:
    """Of cases with several notes, as a reader does that knows nothing of batches."""
    bundle = Bundle.open(stays_bundle)
    build = bundle.build("onnx", "int8")
    run = {n: InferenceSession(bundle.folder / each.file) for n, each in build.graphs.items()}
    rows = np.flatnonzero(stays_dataset.row_counts(Modality.TEXT) > 1)
    assert len(rows)
    outputs = []
    for row in rows:
        features = stays_dataset.features(int(row))
        tokens = [
            np.mean([run[each].run(["tokens"], stack([part]))[0][0] for part in parts], axis=0)
            for each, parts in features.rows.items()
        ]
        fused = np.concatenate(tokens)[None]
        inputs = {"tokens": fused, "mask": np.ones(fused.shape[:2], np.bool_)}
        outputs.append(run[FUSION].run(["output"], inputs)[0][0])
    opened = open_graphs(build, bundle.read)
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    found = as_served(build, opened, model, stays_dataset, rows)
    np.testing.assert_allclose(found, np.stack(outputs), atol=1e-6)
    padded = predict(Exported(model, opened), stays_dataset, rows, torch.device("cpu"), 1)
    assert np.abs(padded - found).max() > 1e-5


def test_two_notes_of_one_case_run_one_by_one_at_int8_each_as_long_as_it_is(
    stays_bundle: Path, stays_finetuned: Path, stays_dataset: Dataset
) -> None:
    bundle = Bundle.open(stays_bundle)
    model = from_pretrained(stays_finetuned / "model", Lanistr)
    opened = open_graphs(bundle.build("onnx", "int8"), bundle.read)
    notes = [stays_dataset.arrays(Modality.TEXT, row) for row in range(20)]
    notes.sort(key=lambda each: len(each["token_ids"]))
    short, long = notes[0], notes[-1]
    assert len(short["token_ids"]) < len(long["token_ids"])

    def tokens(*rows: Arrays, alone: bool) -> Tensor:
        batch = to_tensors(collate([Features({Modality.TEXT: rows})]))
        return Exported(model, opened, alone=alone).encode(batch.parts)[Modality.TEXT]

    each = torch.cat([tokens(short, alone=False), tokens(long, alone=False)])
    torch.testing.assert_close(tokens(short, long, alone=True), each, rtol=0, atol=0)
    assert not torch.equal(tokens(short, long, alone=False), each)
