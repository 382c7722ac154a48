"""The Dockerfile: what it copies is there, and what it makes of it runs."""

import ast
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest
from packaging.utils import canonicalize_name
from pathspec import PathSpec

from tests.servers import running
from tests.test_architecture import GRAPH, TREES, within

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("cpu", "gpu", "train")
SERVICE = ("lanistr.model", "clients.tables.parquet", "service.cluster")
WITHOUT = {
    "cpu": ("service.engine.backends.torch", *SERVICE),
    "gpu": ("service.engine.backends.onnx", "lanistr.session", *SERVICE),
    "train": ("service.cluster",),
}
"""Of the code in an image, what it has not the packages for and does not use."""


def code_in(stages, image: str) -> list[str]:
    """Return the modules of ours in an image that it can run."""
    (stage,) = re.findall(r"--from=(\S*code) ", " ".join(stages[image].all("COPY")))
    folders = stages[stage].sources()
    return [
        name
        for name in GRAPH
        if any(within(name, each) for each in folders)
        and not any(within(name, each) for each in WITHOUT[image])
    ]


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.fixture(scope="module")
def ignored() -> PathSpec:
    """What does not reach the builder: here and there the last line that fits decides."""
    return PathSpec.from_lines("gitignore", (ROOT / ".dockerignore").read_text().splitlines())


def test_what_the_images_are_made_of_is_there_and_not_ignored(stages, ignored):
    sources = {each for stage in stages.values() for each in stage.sources()}
    assert {"lanistr", "requirements/gpu.txt"} <= sources
    for source in sources:
        place = ROOT / source
        files = [place] if place.is_file() else list(place.rglob("*.*"))
        files = [each for each in files if "__pycache__" not in each.parts]
        assert files, source
        assert not [each for each in files if ignored.match_file(each.relative_to(ROOT))]


@pytest.mark.parametrize("image", IMAGES)
def test_what_the_code_of_an_image_imports_is_in_it(stages, image):
    code = code_in(stages, image)
    (packages,) = re.findall(r"--from=(\S+-packages) ", " ".join(stages[image].all("COPY")))
    (lock,) = stages[packages].sources()
    text = (ROOT / lock).read_text()
    locked = {canonicalize_name(each) for each in re.findall(r"(?m)^([\w.-]+)==", text)}
    known = packages_distributions()
    for name in code:
        for other in at_once(name):
            if other in known:
                offered = {canonicalize_name(each) for each in known[other]}
                assert offered & locked, f"{name} imports {other}"
        ours = {each for each in GRAPH[name] if each in GRAPH} - set(code)
        assert not [
            each for each in ours if not any(within(each, one) for one in WITHOUT[image])
        ], name


def at_once(name: str) -> Iterator[str]:
    """Yield the packages of others that a module imports when it is imported itself."""
    for node in TREES[name].body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("name", [".git/config", "keys.yaml", "runs/a/config.json", "data/x.arrow"])
def test_what_is_nobodys_business_does_not_reach_the_builder(ignored, name):
    assert ignored.match_file(name)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_numbered_user_who_is_not_root(stages, name):
    (user,) = stages[name].all("USER")
    assert all(int(each) > 0 for each in user.split(":"))


def test_a_build_without_a_target_is_the_service_on_a_cpu(stages):
    assert list(stages)[-1] == "cpu"


def test_the_service_answers_beyond_its_container(stages, settings_of):
    assert settings_of(stages["cpu"], []).host == "0.0.0.0"
    gpu = settings_of(stages["gpu"], stages["gpu"].words("CMD"))
    assert (gpu.host, gpu.backend, str(gpu.bundles)) == ("0.0.0.0", "torch", "/bundles")


def test_what_the_image_copies_is_all_that_the_service_needs_and_none_of_it_is_written_to(
    stages, settings_of, tmp_path
):
    image, home, other = tmp_path / "image", tmp_path / "home", tmp_path / "other"
    for each in stages["code"].sources():
        shutil.copytree(ROOT / each, image / each, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    other.mkdir()
    variables = stages["cpu"].variables()
    assert variables["PYTHONPATH"] == "/opt/lanistr"
    variables |= {"PYTHONPATH": str(image), "HOME": str(home), "TMPDIR": str(home)}
    command = (sys.executable, "-W", "error", *stages["cpu"].words("ENTRYPOINT")[1:])
    before = sorted(image.rglob("*"))
    log = tmp_path / "log.txt"
    with running(
        log, "--host", "127.0.0.1", command=command, folder=other, variables=variables
    ) as server:
        assert str(image) in server.log(), "the service of this checkout runs in its place"
        with httpx.Client(base_url=server.url) as client:
            answer = client.post("/predict/rating", json={"text": "good"}).json()
            assert answer["status"] == "predicted"
    assert sorted(image.rglob("*")) == before
    assert not [*home.iterdir(), *other.iterdir()]


def test_an_image_scores_tables_without_a_service(stages, tmp_path):
    image, cohort = tmp_path / "image", tmp_path / "cohort.csv"
    for each in stages["code"].sources():
        shutil.copytree(ROOT / each, image / each, ignore=shutil.ignore_patterns("__pycache__"))
    cohort.write_text("id,text\na,fits well\n")
    words = ["--bundle", image / "service/demo/rating", "--input", cohort, "--output"]
    variables = stages["cpu"].variables() | {"PYTHONPATH": str(image)}

    def run(output):
        # The image of the service has no pyarrow; this Python has.
        program = (
            "import runpy, sys; sys.modules['pyarrow'] = None; "
            "runpy.run_module('service.score', run_name='__main__', alter_sys=True)"
        )
        command = [sys.executable, "-c", program, *map(str, words), str(tmp_path / output)]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    done = run("scored.csv")
    assert done.returncode == 0, done.stderr
    assert "a,predicted," in (tmp_path / "scored.csv").read_text()
    done = run("scored.parquet")
    assert done.returncode == 2
    assert (
        "Parquet needs pyarrow; accepted: pip install pyarrow; or use CSV or JSON lines"
        in done.stderr
    )


# ---- health -------------------------------------------------------------------------------------


def healthy(stages, port: int) -> bool:
    """Run the image's health check, with its port moved and this Python in place of the image's."""
    python, *words = [
        each.replace("8000", str(port)) for each in stages["cpu"].words("HEALTHCHECK")
    ]
    assert python == "python"
    assert any(str(port) in each for each in words)
    return subprocess.run([sys.executable, *words], capture_output=True).returncode == 0


def test_the_health_check_holds_for_a_service_that_is_ready(stages, server):
    assert healthy(stages, httpx.URL(server.url).port)


def test_the_health_check_fails_where_nobody_listens(stages):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not healthy(stages, taken.getsockname()[1])


def test_the_health_check_fails_for_a_service_that_lives_but_is_not_ready(stages, tmp_path):
    with running(tmp_path / "log.txt", "--audit", "/dev/full") as server:
        refused = httpx.post(f"{server.url}/predict/rating", json={"text": "good"})
        assert refused.json()["code"] == "audit_unavailable"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert not healthy(stages, httpx.URL(server.url).port)
