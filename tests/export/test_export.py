"""From a run to a bundle that answers as the model does, or to nothing at all."""

import hashlib
import io
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import export.__main__ as export
from export.graphs import FusionGraph
from lanistr.batch import Features, collate, stack
from lanistr.bundle import Bundle
from lanistr.decision import Decision
from lanistr.errors import BundleError, ConfigError, DataError, LanistrError, ParityError
from lanistr.issues import IssueLog
from lanistr.modalities import Modality
from lanistr.model.checkpoint import from_pretrained
from lanistr.model.lanistr import Lanistr
from lanistr.model.tensors import to_tensors
from lanistr.preprocess import read_record
from lanistr.sample import to_record
from tests.conftest import ROOT
from tests.fixtures_runs import HOWEVER_BAD
from tests.servers import cut_off
from training.data.store import Dataset
from training.metrics import measure
from training.predict import predict
from training.prepare.synthetic import SyntheticOptions, draw
from training.run import Run

SUBSETS = [
    subset for size in range(1, 5) for subset in combinations(tuple(Modality), size)
]  # fmt: skip


def files(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.rglob("*")
        if each.is_file()
    }


# ---- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "run", "metrics"),
    [
        ("stays_bundle", "stays_finetuned", {"auroc", "auprc", "brier", "ece"}),
        ("ranks_bundle", "ranks_finetuned", {"accuracy", "macro_f1", "mae", "quadratic_kappa"}),
        ("stars_bundle", "stars_finetuned", {"mae", "rmse"}),
    ],
)
def test_a_bundle_is_whole_and_its_manifest_true(
    name: str, run: str, metrics: set[str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    source = Run.open(request.getfixturevalue(run))
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    assert {each: entry.sha256 for each, entry in manifest.files.items()} == {
        each: digest for each, digest in files(folder).items() if each != "manifest.json"
    }
    assert (manifest.task, manifest.name) == (source.task.name, source.folder.name)
    assert manifest.source_run == str(source.folder)
    assert manifest.demo
    assert manifest.metric == source.task.metric
    assert metrics <= set(manifest.metrics)
    graphs = {*source.task.modalities, "fusion"}
    for build in manifest.builds:
        assert set(build.graphs) == set(build.parity) == set(build.proof) == graphs
        assert build.metrics.keys() == manifest.metrics.keys()
        largest = 1e-4 if build.precision == "fp32" else 0.5
        assert all(0 <= each <= largest for each in (build.parity | build.proof).values())
        assert build.bytes == sum(
            (folder / graph.file).stat().st_size for graph in build.graphs.values()
        )
    assert bundle.task == source.task
    assert bundle.calibration == source.calibration()
    assert {"torch", "onnx", "onnxruntime", "lanistr"} <= set(manifest.software)


@pytest.mark.parametrize(
    ("name", "builds"),
    [
        (
            "stays_bundle",
            ["onnx fp32", "torchscript fp32", "onnx int8", "onnx fp16", "torchscript bf16"],
        ),
        ("ranks_bundle", ["onnx fp32", "onnx int8"]),
        ("stars_bundle", ["onnx fp32", "torchscript fp32", "onnx int8"]),
    ],
    ids=["all that there are", "one format", "what is usual"],
)
def test_a_bundle_has_the_builds_that_were_asked_for_and_the_files_that_they_need(
    name: str, builds: list[str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    manifest = Bundle.open(folder).manifest
    assert [each.name for each in manifest.builds] == builds
    needed = {graph.file for build in manifest.builds for graph in build.graphs.values()}
    held = {each for each in manifest.files if each.startswith(("onnx/", "torchscript/"))}
    assert held == needed
    assert not [each for each in folder.rglob("*") if each.is_dir() and not any(each.iterdir())]


def test_each_precision_has_graphs_of_its_own_but_bf16_which_is_float32_under_autocast(
    stays_bundle: Path,
) -> None:
    files = {
        build.name: {
            Path(graph.file).parent.as_posix()
            for name, graph in build.graphs.items()
            if name not in build.whole
        }
        for build in Bundle.open(stays_bundle).manifest.builds
    }
    assert files == {
        "onnx fp32": {"onnx/fp32"},
        "onnx int8": {"onnx/int8"},
        "onnx fp16": {"onnx/fp16"},
        "torchscript fp32": {"torchscript/fp32"},
        "torchscript bf16": {"torchscript/fp32"},
    }


def test_what_is_reduced_is_smaller_and_a_little_off(stays_bundle: Path) -> None:
    builds = {each.name: each for each in Bundle.open(stays_bundle).manifest.builds}
    assert builds["onnx int8"].bytes < builds["onnx fp16"].bytes < builds["onnx fp32"].bytes
    for name in ("onnx int8", "onnx fp16", "torchscript bf16"):
        assert 1e-5 < builds[name].parity["fusion"] < 0.1
        assert builds[name].fall is not None
    assert builds["onnx fp32"].fall == builds["torchscript fp32"].fall == 0


# ---- what it does not tell ----------------------------------------------------------------------


def test_no_file_tells_where_the_exporter_keeps_its_code(
    stays_bundle: Path, stars_bundle: Path
) -> None:
    places = [str(ROOT), str(Path(torch.__file__).parents[1]), "site-packages", str(Path.home())]
    for folder in (stays_bundle, stars_bundle):
        for path in (each for each in folder.rglob("*") if each.is_file()):
            data = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(data)
                del manifest["source_run"]
                data = json.dumps(manifest).encode()
            for packed in (data, *unpacked(data)):
                assert not [each for each in places if each.encode() in packed], path


def unpacked(data: bytes) -> list[bytes]:
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [archive.read(each) for each in archive.namelist()]


def test_no_file_holds_anything_of_a_real_case(stays_bundle: Path, stays_dataset: Dataset) -> None:
    """Neither what the graphs were recorded with nor what they were compared on."""
    batch = stays_dataset.batch(stays_dataset.rows("test").tolist())
    rows = {
        f"{modality} {name}": [row.tobytes() for row in array if row.size > 8 and row.any()]
        for modality, part in batch.parts.items()
        for name, array in part.arrays.items()
        if name != "attention_mask"
    }
    assert {"image pixels", "text token_ids", "timeseries values"} <= {n for n in rows if rows[n]}
    for path in (each for each in stays_bundle.rglob("*") if each.is_file()):
        data = path.read_bytes()
        for packed in (data, *unpacked(data)):
            for name, known in rows.items():
                assert not [each for each in known if each[:64] in packed], f"{name} in {path}"


# ---- what it answers ----------------------------------------------------------------------------


class Plain:
    """A reader of bundles that knows no more than the docstring of `lanistr.bundle`."""

    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle.open(folder)
        self.sessions = {
            name: onnxruntime.InferenceSession(folder / graph.file)
            for name, graph in self.bundle.build("onnx", "fp32").graphs.items()
        }

    def features(self, record: dict[str, Any]) -> Features:
        log = IssueLog()
        return self.bundle.preprocessor.apply(read_record(record, self.bundle.task, log), log)

    def tokens(self, features: Features) -> dict[Modality, np.ndarray]:
        """(N, D) by modality: several rows are averaged."""
        return {
            modality: self.sessions[modality].run(["tokens"], stack(rows))[0].mean(axis=0)
            for modality, rows in features.rows.items()
        }

    def fuse(self, tokens: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output, embedding = self.sessions["fusion"].run(
            ["output", "embedding"], {"tokens": tokens, "mask": mask}
        )
        return output, embedding

    def predict(self, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        found = self.tokens(self.features(record))
        row = np.concatenate([found[m] for m in Modality if m in found])[None]
        output, embedding = self.fuse(row, np.ones(row.shape[:2], np.bool_))
        return output[0], embedding[0]


def eager(model: Lanistr, *cases: Features) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        answer = model(to_tensors(collate(cases)))
    return answer.logits.numpy(), answer.embedding.numpy()


def records(task: str, count: int = 4) -> list[dict[str, Any]]:
    """Complete records that no model has seen."""
    options = SyntheticOptions(samples=count, missing=0, seed=99)
    return [to_record(each) for each in draw(task, options)]


@pytest.fixture(scope="module")
def stay() -> dict[str, Any]:
    """A complete record with two notes and two pictures."""
    first, second = records("mortality", 2)
    return first | {
        "text": [first["text"][0], second["text"][0]],
        "image": [first["image"][0], second["image"][0]],
    }


@pytest.fixture(scope="module")
def plain(stays_bundle: Path) -> Plain:
    return Plain(stays_bundle)


@pytest.fixture(scope="module")
def model(stays_finetuned: Path) -> Lanistr:
    return from_pretrained(stays_finetuned / "model", Lanistr)


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_a_raw_record_gets_the_models_answer_whatever_it_brings(
    subset: tuple[Modality, ...], plain: Plain, model: Lanistr, stay: dict[str, Any]
) -> None:
    record = {name: part for name, part in stay.items() if name in subset}
    features = plain.features(record)
    assert set(features.rows) == set(subset)
    output, embedding = plain.predict(record)
    wanted, wanted_embedding = eager(model, features)
    np.testing.assert_allclose(output, wanted[0], atol=1e-4)
    np.testing.assert_allclose(embedding, wanted_embedding[0], atol=1e-4)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_what_a_record_brings_makes_a_difference(plain: Plain, stay: dict[str, Any]) -> None:
    answers = [
        plain.predict({name: part for name, part in stay.items() if name in subset})[1]
        for subset in SUBSETS
    ]
    for first, second in combinations(answers, 2):
        assert np.abs(first - second).max() > 1e-4


def test_all_subsets_together_get_the_answers_that_they_get_alone(
    plain: Plain, stay: dict[str, Any]
) -> None:
    """Absent tokens are masked; what stands in their place does not count."""
    tokens = plain.tokens(plain.features(stay))
    row = np.concatenate([tokens[m] for m in Modality])
    owner = np.concatenate([np.full(len(tokens[m]), i) for i, m in enumerate(Modality)])
    numbers = [[list(Modality).index(m) for m in subset] for subset in SUBSETS]
    mask = np.stack([np.isin(owner, each) for each in numbers])
    noise = np.random.default_rng(0).normal(scale=30, size=(len(mask), *row.shape))
    together = np.where(mask[:, :, None], row, noise).astype(np.float32)
    output, embedding = plain.fuse(together, mask)
    for i, subset in enumerate(SUBSETS):
        record = {name: part for name, part in stay.items() if name in subset}
        alone = plain.predict(record)
        np.testing.assert_allclose(output[i], alone[0], atol=1e-4)
        np.testing.assert_allclose(embedding[i], alone[1], atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 7, 130])
def test_every_graph_takes_any_number_of_rows(size: int, plain: Plain, model: Lanistr) -> None:
    cases = [plain.features(each) for each in records("mortality", min(size, 7))]
    batch = collate([*islice(cycle(cases), size)])
    with torch.inference_mode():
        wanted = model.encode(to_tensors(batch).parts)
    for modality, part in batch.parts.items():
        (found,) = plain.sessions[modality].run(["tokens"], dict(part.arrays))
        assert len(found) == len(part.sample) >= size
        np.testing.assert_allclose(found, wanted[modality], atol=1e-4)


@pytest.mark.parametrize(("cases", "tokens"), [(1, 1), (2, 0), (5, 29), (16, 373)])
def test_fusion_takes_any_number_of_cases_and_tokens(
    cases: int, tokens: int, plain: Plain, model: Lanistr
) -> None:
    draw = np.random.default_rng(0)
    given = draw.normal(size=(cases, tokens, model.fusion.width)).astype(np.float32)
    mask = draw.random((cases, tokens)) < 0.7
    with torch.inference_mode():
        wanted = FusionGraph(model)(torch.from_numpy(given), torch.from_numpy(mask))
    for found, each in zip(plain.fuse(given, mask), wanted, strict=True):
        np.testing.assert_allclose(found, each.numpy(), atol=1e-4)


@pytest.mark.parametrize("length", [1, 30, 500])
def test_notes_of_any_length_are_taken(length: int, plain: Plain, model: Lanistr) -> None:
    record = {"text": "pt remains intubated. " * length}
    np.testing.assert_allclose(
        plain.predict(record)[0], eager(model, plain.features(record))[0][0], atol=1e-4
    )


def test_an_ordinal_bundle_answers_with_a_distribution_over_the_classes(
    ranks_bundle: Path, ranks_finetuned: Path
) -> None:
    reader, reference = Plain(ranks_bundle), from_pretrained(ranks_finetuned / "model", Lanistr)
    for record in records("rating"):
        row = {"tabular": record["tabular"]}
        output, _ = reader.predict(row)
        wanted, _ = eager(reference, reader.features(row))
        np.testing.assert_allclose(output, wanted[0], atol=1e-4)
        assert np.exp(output).sum() == pytest.approx(1, abs=1e-5)
        prediction = reader.bundle.calibration.predict(output, reader.bundle.task.label)
        assert prediction.expected is not None
        assert 1 <= prediction.expected <= 5
        assert prediction.label in reader.bundle.task.label.classes


def test_a_bundle_has_the_runs_decision_and_is_measured_by_it(
    ranks: Path, ranks_finetuned: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    folder, decision = tmp_path / "run", Decision(cuts=(2, 2.5, 3, 3.5))
    shutil.copytree(ranks_finetuned, folder)
    run, dataset = Run.open(folder), Dataset.open(ranks)
    run.write_calibration(run.calibration().model_copy(update={"decision": decision}))
    bundle = Bundle.open(make_bundle(folder, "decided", "--formats", "onnx", "--precision", "fp32"))
    assert bundle.calibration.decision == decision

    rows, label = dataset.rows("test", labelled=True), dataset.task.label
    logits = predict(from_pretrained(folder / "model", Lanistr), dataset, rows, torch.device("cpu"))
    outputs = logits / run.calibration().temperature
    expected = measure(outputs, dataset.labels[rows], label, decision)
    assert expected["accuracy"] != measure(outputs, dataset.labels[rows], label)["accuracy"]
    assert bundle.manifest.metrics == pytest.approx(expected, abs=1e-5)
    assert bundle.manifest.builds[0].metrics == pytest.approx(expected, abs=1e-4)
    card = bundle.card()
    assert "- Predicted (`label`) is a class by the expected value: 2 from 2, 3 from 2.5" in card
    assert f"{expected['accuracy']:.3f} (" in card


def test_a_regression_bundle_answers_with_a_number_and_an_interval(
    stars_bundle: Path, stars_finetuned: Path
) -> None:
    reader, reference = Plain(stars_bundle), from_pretrained(stars_finetuned / "model", Lanistr)
    for record in records("rating"):
        row = {"tabular": record["tabular"]}
        output, _ = reader.predict(row)
        wanted, _ = eager(reference, reader.features(row))
        assert output.shape == (1,)
        np.testing.assert_allclose(output, wanted[0], atol=1e-4)
        prediction = reader.bundle.calibration.predict(output, reader.bundle.task.label)
        assert prediction.value == pytest.approx(float(output[0]))
        assert prediction.interval is not None
        assert prediction.interval[0] < prediction.value < prediction.interval[1]
        assert prediction.probabilities is None


# ---- replacing and refusing ---------------------------------------------------------------------


def test_a_new_export_replaces_the_older_bundle_and_the_same_run_gives_the_same_version(
    stars_finetuned: Path, stars_bundle: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(stars_bundle, out)
    with (out / "MODEL_CARD.md").open("a") as card:  # damaged, but a bundle
        card.write("more")
    older = Bundle.open(stars_bundle).manifest
    again = ("--run", stars_finetuned, "--out", out, "--name", older.name, *HOWEVER_BAD)
    said = command(export.main, *again)
    newer = Bundle.open(out).manifest
    assert newer.version == older.version
    assert newer.version in said
    before, after = files(stars_bundle), files(out)
    del before["manifest.json"], after["manifest.json"]  # the date differs
    assert after == before
    assert any(each.endswith(".pt") for each in after)
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("stars_graphs")
def test_graphs_over_the_bound_leave_nothing_behind_and_the_older_bundle_as_it_was(
    stars_finetuned: Path,
    stars_bundle: Path,
    command: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = tmp_path / "older"
    shutil.copytree(stars_bundle, older)
    before = files(older)
    # The real proof with a bound that float32 cannot keep.
    monkeypatch.setattr("export.builds.BOUND", 1e-30)
    with pytest.raises(ParityError):
        command(export.main, "--run", stars_finetuned, "--out", older)
    assert files(older) == before
    assert [each.name for each in tmp_path.iterdir()] == ["older"]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(
    stays_pretrained: Path,
    stays_finetuned: Path,
    other_stays: Path,
    stars_finetuned: Path,
    verdicts: Path,
    command: Callable[..., str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "bundle"
    refused: list[tuple[type[Exception], str, tuple[object, ...]]] = [
        (DataError, "a fine-tuned run", ("--run", stays_pretrained)),
        (
            DataError,
            "not preprocessed as for the run:",
            ("--run", stays_finetuned, "--data", other_stays),
        ),
        (
            DataError,
            "set's label differs from the one",
            ("--run", stars_finetuned, "--data", verdicts),
        ),
    ]
    for error, said, arguments in refused:
        with pytest.raises(error, match=said):
            command(export.main, *arguments, "--out", out)
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="contains other files"):
        command(export.main, "--run", stars_finetuned, "--out", out)
    assert [each.name for each in out.iterdir()] == ["thesis.txt"]


def test_what_stands_in_the_way_is_found_before_the_model_is_measured(
    stars_finetuned: Path,
    command: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(export, "predict", measured)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="contains other files"):
        command(export.main, "--run", stars_finetuned, "--out", tmp_path / "mine")
    out = tmp_path / "mine" / "thesis.txt" / "bundle"
    with pytest.raises(ConfigError, match="the folder cannot be created"):
        command(export.main, "--run", stars_finetuned, "--out", out)
    release = tmp_path / "release"
    shutil.copytree(stars_finetuned, release)
    config = json.loads((release / "model" / "config.json").read_text())
    (release / "model" / "config.json").write_text(json.dumps(config | {"compat": "release"}))
    with pytest.raises(LanistrError, match="release"):
        command(export.main, "--run", release, "--out", tmp_path / "bundle")


@pytest.mark.usefixtures("stars_graphs")
def test_a_link_stays_and_what_it_names_becomes_the_bundle_and_one_to_a_run_gives_its_name(
    stars_finetuned: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "best").symlink_to(stars_finetuned)  # a link's own name says more
    command(
        export.main, "--run", tmp_path / "best", "--out", tmp_path / "link",
        "--formats", "onnx", "--precision", "fp32",
    )  # fmt: skip
    assert (tmp_path / "link").readlink() == tmp_path / "elsewhere"
    assert Bundle.open(tmp_path / "elsewhere").manifest.name == "best"


@pytest.mark.usefixtures("stars_graphs")
def test_a_run_that_one_stands_in_gives_the_bundle_its_name(
    stars_finetuned: Path,
    command: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(stars_finetuned)
    command(
        export.main, "--run", ".", "--out", tmp_path / "bundle",
        "--formats", "onnx", "--precision", "fp32",
    )  # fmt: skip
    assert Bundle.open(tmp_path / "bundle").manifest.name == stars_finetuned.name


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--most-fall", "nan"),
        ("--most-fall", "inf"),
        ("--most-fall", "much"),
        ("--cases", "0"),
        ("--cases", "abc"),
        ("--license", ""),
        ("--name", " "),
        ("--name", "M\udcfcller"),  # as bytes that are no UTF-8 come from the command line
        ("--license", "M\udcfcller"),
        ("--run", "M\udcfcller"),
    ],
)
def test_a_value_that_says_nothing_is_one_line_and_exit_code_2(
    option: str,
    value: str,
    command: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        command(export.main, "--run", tmp_path, "--out", tmp_path / "bundle", option, value)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument {option}: seen {value!r}; accepted: " in line


# ---- cut off ------------------------------------------------------------------------------------


def cut_off_by(number: signal.Signals, run: Path, out: Path) -> int:
    """Start an export, send it a signal while it writes graphs, and return its exit code."""
    words = ("export", "--run", str(run), "--out", str(out))
    return cut_off(words, number, out.parent, "proof.npz")


def test_asked_to_end_it_leaves_nothing_behind(stars_finetuned: Path, tmp_path: Path) -> None:
    assert cut_off_by(signal.SIGTERM, stars_finetuned, tmp_path / "bundle") == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stars_graphs")
def test_what_a_killed_export_left_is_removed_by_the_next(
    stars_finetuned: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    assert cut_off_by(signal.SIGKILL, stars_finetuned, out) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))  # as if that were long ago
    command(
        export.main, "--run", stars_finetuned, "--out", out,
        "--formats", "onnx", "--precision", "fp32",
    )  # fmt: skip
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_the_manifest_is_plain_json(stays_bundle: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = (stays_bundle / "manifest.json").read_text()
    assert json.loads(text, parse_constant=refuse)["format"] == 2
