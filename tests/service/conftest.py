"""A real server on the demo bundles, its page in a real browser, real records, and pictures."""

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from lanistr.bundle import Bundle, write_bundle
from lanistr.manifest import MANIFEST, read_manifest
from lanistr.tasks import find_task
from service.examples import example
from service.settings import DEMO_BUNDLES
from tests.browsers import chromium
from tests.forked import preload
from tests.pages import MARKUP, opening
from tests.servers import Server, exported_later, forked, running

preload("service.__main__", "service.score", "service.engine.backends.onnx")

ROOT = Path(__file__).resolve().parents[2]


# ---- servers ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Start a server of one's own: a context manager that takes options."""
    return lambda *options: forked(tmp_path_factory.mktemp("service") / "log.txt", *options)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server that most tests ask."""
    with running(tmp_path_factory.mktemp("service") / "log.txt") as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def refused(client: httpx.Client) -> Callable[..., dict[str, Any]]:
    """Send what must be refused; return the problem after checking its form."""

    def send(status: int, code: str, path: str = "/predict/mortality", **request: Any) -> Any:
        answer = client.post(path, **request)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(problem) == {
            "type", "title", "status", "code", "detail",
            "field", "seen", "accepted", "request_id", "issues",
        }  # fmt: skip
        assert problem["status"] == status
        assert problem["request_id"] == answer.headers["x-request-id"]
        return problem

    return send


# ---- bundles and records ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    return {name: Bundle.open(DEMO_BUNDLES / name) for name in ("mortality", "rating")}


@pytest.fixture(scope="session")
def another_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo of stays, exported later with another card."""
    folder = tmp_path_factory.mktemp("another") / "mortality"
    exported_later(folder)
    return folder


@pytest.fixture(scope="session")
def strict_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo of stays as a task that asks for some parts, with scores by what cases bring."""
    demo = DEMO_BUNDLES / "mortality"
    manifest = read_manifest(demo)
    task = json.loads((demo / "task.json").read_text())
    task["minimum"] = [["text"], ["tabular", "timeseries"]]
    task["text"] = find_task("mortality").model_dump(mode="json")["text"]
    fitted = json.loads((demo / "calibration.json").read_text())
    fitted["by_pattern"] = {"text": [0.01] * 60, "text+tabular": [0.99] * 80}

    def fill(draft: Path) -> None:
        shutil.copytree(demo, draft, dirs_exist_ok=True)
        (draft / MANIFEST).unlink()
        (draft / "task.json").write_text(json.dumps(task))
        (draft / "calibration.json").write_text(json.dumps(fitted))

    described = manifest.model_dump(exclude={"format", "version", "created", "files"})
    folder = tmp_path_factory.mktemp("strict") / "mortality"
    return write_bundle(folder, fill, lambda: described).folder


@pytest.fixture(scope="session")
def strict_server(start_server: Callable[..., Any], strict_bundle: Path) -> Iterator[Server]:
    with start_server("--bundles", str(strict_bundle)) as started:
        yield started


@pytest.fixture
def strict(strict_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict_server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """Make an encoded picture."""

    def make(
        format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (97, 61), seed: int = 0
    ) -> bytes:
        rng = np.random.default_rng(seed)
        if mode == "I;16":
            pixels = rng.integers(0, 2**16, size[::-1], dtype=np.uint16)
        else:
            shape = size[::-1] if mode == "L" else (*size[::-1], 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def stay(bundles: dict[str, Bundle]) -> dict[str, Any]:
    """A record of an intensive-care stay without a picture."""
    return example(bundles["mortality"].task)


@pytest.fixture
def records(stay: dict[str, Any]) -> list[Any]:
    """Good records of every kind, and bad ones among them."""
    good = [stay | {"id": f"stay-{k}", "text": "word " * (7 * k + 1)} for k in range(12)] + [
        {name: part} for name, part in stay.items()
    ]
    bad = [{}, {"tabular": {"agee": 1}}, 17, {"text": "a", "timeseries": [{"hours": "x"}]}]
    return [each for k in range(4) for each in (*good[4 * k : 4 * k + 4], bad[k])]


# ---- the playground -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(
    start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The demo tasks, and one whose texts look like markup, in two versions."""
    folder = tmp_path_factory.mktemp("bundles")
    for demo in DEMO_BUNDLES.iterdir():
        shutil.copytree(demo, folder / demo.name)
    manifest = read_manifest(DEMO_BUNDLES / "rating")
    described = manifest.model_dump(exclude={"format", "version", "created", "files"})
    described |= {"task": "hostile", "name": MARKUP}

    def fill(draft: Path, card: str) -> None:
        shutil.copytree(DEMO_BUNDLES / "rating", draft, dirs_exist_ok=True)
        (draft / MANIFEST).unlink()
        task = json.loads((draft / "task.json").read_text())
        task |= {"name": "hostile", "title": MARKUP, "description": MARKUP}
        task["label"] |= {"name": MARKUP, "classes": [f"{MARKUP}{i}" for i in range(5)]}
        task["text"] = {"description": MARKUP, "examples": [MARKUP]}
        task["tabular"]["fields"]["vote"] |= {"description": MARKUP, "unit": MARKUP}
        (draft / "task.json").write_text(json.dumps(task))
        (draft / "MODEL_CARD.md").write_text(card)

    for card in (MARKUP, f"another {MARKUP}"):
        write_bundle(folder / f"hostile-{len(card)}", partial(fill, card=card), lambda: described)
    with start_server("--bundles", str(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser: Browser, served: Server) -> Iterator[Callable[..., Page]]:
    """Open the page on a task; see `opening`."""
    with opening(browser, served.url) as open_:
        yield open_


@pytest.fixture
def details(served: Server) -> Callable[[str], dict[str, Any]]:
    return lambda task: httpx.get(f"{served.url}/tasks/{task}").json()


# ---- open data ----------------------------------------------------------------------------------

VARIABLES = {
    "HR": "heart_rate", "SysABP": "systolic_bp", "DiasABP": "diastolic_bp", "MAP": "mean_bp",
    "RespRate": "respiratory_rate", "Temp": "temperature", "SaO2": "oxygen_saturation",
    "Glucose": "glucose", "pH": "ph", "FiO2": "fio2", "GCS": "gcs_total", "Weight": "weight",
}  # fmt: skip
CARE_UNITS = {1: "coronary", 2: "cardiac_surgery", 3: "medical", 4: "surgical"}


@pytest.fixture(scope="session")
def real_stays(open_data: Path) -> list[dict[str, Any]]:
    """Ten stays of PhysioNet 2012 as records, under our names."""
    with (open_data / "physionet2012" / "stays_a.csv").open() as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(10), strict=False)]
    ids = [int(row["record_id"]) for row in rows]
    events = pq.read_table(
        open_data / "physionet2012" / "events_a.parquet", filters=[("record_id", "in", ids)]
    ).to_pylist()
    records = []
    for row in rows:
        series: dict[float, dict[str, Any]] = {}
        for event in events:
            name = VARIABLES.get(event["parameter"])
            if event["record_id"] == int(row["record_id"]) and name is not None:
                hours = event["hours"]
                series.setdefault(hours, {"hours": hours})[name] = event["value"]
        gender = {"0.0": "F", "1.0": "M"}.get(row["Gender"])
        unit = CARE_UNITS[int(float(row["ICUType"]))]
        tabular = {"age": float(row["Age"]), "gender": gender, "care_unit": unit}
        records.append(
            {"id": row["record_id"], "tabular": tabular, "timeseries": list(series.values())}
        )
    return records


@pytest.fixture(scope="session")
def x_rays(open_data: Path) -> list[tuple[str, bytes]]:
    """Five chest X-rays of covid_cxr with their notes."""
    with (open_data / "covid_cxr" / "metadata.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["clinical_notes"]][:5]
    folder = open_data / "covid_cxr"
    return [(row["clinical_notes"], (folder / row["pack_image"]).read_bytes()) for row in rows]


@pytest.fixture(scope="session")
def reviews(open_data: Path) -> list[dict[str, Any]]:
    """Reviews of Amazon Fashion: the first, and those with odd votes or without text."""
    path = open_data / "amazon_2018_5core" / "AMAZON_FASHION_5.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    odd = [each for each in found if "reviewText" not in each or "," in each.get("vote", "")]
    voted = [each for each in found if "vote" in each]
    assert odd
    return [*found[:5], *voted[:5], *odd[:20]]
