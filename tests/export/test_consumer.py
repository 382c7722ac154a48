"""The example of a reader of bundles without our code, run where our code cannot be imported."""

import ast
import base64
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from lanistr.batch import stack
from lanistr.bundle import Bundle
from lanistr.issues import IssueLog
from lanistr.manifest import FUSION, Build
from lanistr.modalities import Modality
from lanistr.preprocess import read_record
from lanistr.preprocess.values import cleaner
from lanistr.sample import Measurements, to_record
from training.prepare.synthetic import SyntheticOptions, draw

CONSUMER = Path(__file__).resolve().parents[2] / "docs" / "consumer.py"
ALLOWED = {"numpy", "onnxruntime", "PIL", "tokenizers"}

Record = dict[str, Any]


# ---- the two readers ----------------------------------------------------------------------------


def alone(*words: str | Path, folder: Path, stdin: str = "") -> str:
    """Run Python where nothing of this repository can be imported; return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-I", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def consumed(folder: Path, record: Record, place: Path, *precision: str) -> dict[str, float]:
    """Ask the example."""
    said = alone(CONSUMER, folder, *precision, folder=place, stdin=json.dumps(record))
    answer: dict[str, float] = json.loads(said)
    return answer


def predicted(bundle: Bundle, build: Build, record: Record) -> dict[str, float]:
    """Ask our own code, row by row as the example does: int8 scales what it is given together."""
    run = {
        name: onnxruntime.InferenceSession(bundle.folder / graph.file)
        for name, graph in build.graphs.items()
    }
    log = IssueLog()
    features = bundle.preprocessor.apply(read_record(record, bundle.task, log), log)
    tokens = np.concatenate(
        [
            np.mean([run[each].run(None, stack([row]))[0][0] for row in features.rows[each]], 0)
            for each in Modality
            if each in features.rows
        ]
    )[None]
    mask = np.ones(tokens.shape[:2], np.bool_)
    (output,) = run[FUSION].run(["output"], {"tokens": tokens, "mask": mask})
    said = bundle.calibration.predict(output[0], bundle.task.label)
    return said.probabilities or {"value": said.value or 0.0}


# ---- records ------------------------------------------------------------------------------------


def clean(bundle: Bundle, record: Record) -> Record:
    """Bring a record's values into the task's own units, ranges and words, pictures into base64."""
    log = IssueLog()
    sample = read_record(record, bundle.task, log)

    def values(fields: Any, given: Any) -> Record:
        return {name: cleaner(fields[name])(each, name, log) for name, each in given.items()}

    def row(each: Measurements) -> Record:
        assert bundle.task.timeseries is not None
        return {"hours": each.hours} | values(bundle.task.timeseries.variables, each.values)

    made = dict(record)
    if Modality.IMAGE in sample.parts:
        made["image"] = [base64.b64encode(each).decode() for each in sample.parts[Modality.IMAGE]]
    if Modality.TABULAR in sample.parts:
        assert bundle.task.tabular is not None
        made["tabular"] = values(bundle.task.tabular.fields, sample.parts[Modality.TABULAR])
    if Modality.TIMESERIES in sample.parts:
        made["timeseries"] = [row(each) for each in sample.parts[Modality.TIMESERIES]]
    return made


def drawn(task: str, samples: int) -> list[Record]:
    """Complete records that no model has seen."""
    options = SyntheticOptions(samples=samples, missing=0, seed=99)
    return [to_record(each) for each in draw(task, options)]


@pytest.fixture(scope="module")
def stay_reader(stays_bundle: Path) -> Bundle:
    return Bundle.open(stays_bundle)


# ---- what it is ---------------------------------------------------------------------------------


def test_it_is_sixty_lines_and_imports_four_libraries() -> None:
    source = CONSUMER.read_text()
    lines = source.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == ALLOWED


def test_where_it_runs_our_code_cannot_be_imported(tmp_path: Path) -> None:
    ours = "lanistr", "training", "export", "service", "clients"
    look = f"import importlib.util as u; print([u.find_spec(each) for each in {ours}])"
    assert alone("-c", look, folder=tmp_path).strip() == str([None] * len(ours))


# ---- what it answers ----------------------------------------------------------------------------


BROUGHT = [each for size in (1, 3, 4) for each in combinations(Modality, size)]


@pytest.mark.parametrize("brought", BROUGHT, ids=" ".join)
def test_it_predicts_a_stay_as_we_do_whatever_the_stay_brings(
    brought: tuple[Modality, ...], stay_reader: Bundle, tmp_path: Path
) -> None:
    first, second = drawn("mortality", 2)
    # Several notes and pictures in one of the cases; what is absent is null in half of them.
    record = {each.value: first[each] for each in brought}
    if len(brought) == 4:
        record |= {each: [*first[each], *second[each]] for each in ("text", "image")}
    if len(brought) == 3:
        record |= {each.value: None for each in Modality if each not in brought}
    wanted = predicted(stay_reader, stay_reader.build("onnx", "fp32"), record)
    found = consumed(stay_reader.folder, clean(stay_reader, record), tmp_path)
    assert found == pytest.approx(wanted, abs=1e-6)


def test_it_takes_every_onnx_build_of_a_bundle(stay_reader: Bundle, tmp_path: Path) -> None:
    (record,) = drawn("mortality", 1)
    for build in stay_reader.manifest.builds:
        if build.runtime == "onnx":
            wanted = predicted(stay_reader, build, record)
            found = consumed(
                stay_reader.folder, clean(stay_reader, record), tmp_path, build.precision
            )
            assert found == pytest.approx(wanted, abs=1e-6), build.name


def test_it_takes_one_note_and_one_picture_by_its_path(stay_reader: Bundle, tmp_path: Path) -> None:
    (record,) = drawn("mortality", 1)
    record = {"text": "seen by ___ at [**Hospital**]. [MASK] on", "image": record["image"][:1]}
    (tmp_path / "chest.jpg").write_bytes(record["image"][0])
    wanted = predicted(stay_reader, stay_reader.build("onnx", "fp32"), record)
    found = consumed(stay_reader.folder, record | {"image": "chest.jpg"}, tmp_path)
    assert found == pytest.approx(wanted, abs=1e-6)


def test_what_was_not_measured_or_is_unknown_is_so_to_it_too(
    stay_reader: Bundle, tmp_path: Path
) -> None:
    record: Record = {
        "tabular": {"age": None, "gender": "other", "hours_before_icu": 3},
        "timeseries": [
            {"hours": 47.99, "gcs_eye": "4", "gcs_motor": "6", "gcs_verbal": "5"},
            {"hours": 48, "gcs_total": "14", "ph": None},
            {"hours": 2.5, "gcs_eye": "1", "gcs_motor": "1", "gcs_verbal": "2", "heart_rate": 70},
            {"hours": 2.25, "heart_rate": 90, "capillary_refill_rate": "unheard of"},
            {"hours": 7, "heart_rate": 120, "temperature": 39.5},
            {"hours": -1, "heart_rate": 20},
            {"hours": 48.5, "heart_rate": 20},
        ],
    }
    wanted = predicted(stay_reader, stay_reader.build("onnx", "fp32"), record)
    assert consumed(stay_reader.folder, record, tmp_path) == pytest.approx(wanted, abs=1e-6)


def test_codes_and_switches_may_be_numbers_and_truth_values(
    stay_reader: Bundle, ranks_bundle: Path, tmp_path: Path
) -> None:
    stars = Bundle.open(ranks_bundle)
    low, high = (
        {
            "timeseries": [
                {"hours": 1, "gcs_eye": each, "gcs_motor": float(each), "gcs_verbal": each}
            ]
        }
        for each in (1, 4)
    )
    for bundle, record, unlike in (
        (stay_reader, low, high),
        (stars, {"tabular": {"verified": True}}, {"tabular": {"verified": False}}),
    ):
        build = bundle.build("onnx", "fp32")
        wanted = predicted(bundle, build, record)
        assert consumed(bundle.folder, record, tmp_path) == pytest.approx(wanted, abs=1e-6)
        assert predicted(bundle, build, unlike) != pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "said"), [("ranks_bundle", {"1", "2", "3", "4", "5"}), ("stars_bundle", {"value"})]
)
def test_it_reads_classes_in_order_and_numbers(
    name: str, said: set[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle = Bundle.open(request.getfixturevalue(name))
    for each in drawn("rating", 3):
        record = {"tabular": each["tabular"]}
        wanted = predicted(bundle, bundle.build("onnx", "fp32"), record)
        found = consumed(bundle.folder, clean(bundle, record), tmp_path)
        assert found == pytest.approx(wanted, abs=1e-6)
        assert found.keys() == said


def test_no_answer_comes_of_nothing(stay_reader: Bundle, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="need at least one array"):
        consumed(stay_reader.folder, {"id": "stay-17", "text": []}, tmp_path)
