"""Wheel and sdist: what is installed from them runs, wherever it is started."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

import lanistr
from tests.servers import running

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"lanistr", "tasks", "training", "export", "service", "clients"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A Python with the wheel, and beside it the packages of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (here,) = {each for each in sys.path if each.endswith("site-packages")}
    (there,) = folder.glob("lib/python*/site-packages")
    (there / "environment.pth").write_text(here + "\n")
    words = [sys.executable, "-m", "installer", "--prefix", str(folder), str(built[1])]
    subprocess.run(words, check=True)
    return python


def test_the_wheel_holds_what_runs_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        metadata = message_from_bytes(
            wheel.read(f"lanistr-{lanistr.__version__}.dist-info/METADATA")
        )
    tops = {name.partition("/")[0] for name in names}
    assert tops == PACKAGES | {f"lanistr-{lanistr.__version__}.dist-info"}
    wanted = {
        each.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for each in (ROOT / package).rglob("*")
        if each.is_file() and "__pycache__" not in each.parts
    }
    assert names >= wanted
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)`", page.split("Extras: ")[1].split("\n\n")[0]))
    assert told == set(metadata.get_all("Provides-Extra")) - {"dev", "peers"}
    needed = [Requirement(each) for each in metadata.get_all("Requires-Dist")]
    alone = {each.name for each in needed if each.marker is None}
    assert "numpy" in alone
    assert not alone & {"torch", "onnxruntime", "fastapi"}


def test_the_version_is_where_whoever_releases_is_told():
    with (ROOT / "pyproject.toml").open("rb") as file:
        path = tomllib.load(file)["tool"]["hatch"]["version"]["path"]
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    (step,) = re.findall(r"(?m)^2\. `__version__` in `([^`]+)`", page)
    assert step == path
    assert f'__version__ = "{lanistr.__version__}"' in (ROOT / path).read_text()


def test_the_sdist_holds_the_tests_and_no_one_s_data(built):
    with tarfile.open(built[0]) as sdist:
        tops = {Path(each).parts[1] for each in sdist.getnames()}
    assert {"tests", "docs", "Makefile", "requirements"} <= tops
    assert not tops & {".venv", ".git", "data", "runs", "bundles", "build"}


def test_what_is_installed_serves_the_demo_from_any_folder(installed, tmp_path):
    command = (str(installed), "-W", "error", "-m", "service")
    with running(tmp_path / "log.txt", command=command, folder=tmp_path, variables={}) as server:
        assert f"from {installed.parents[1]}" in server.log()
        with httpx.Client(base_url=server.url) as client:
            answer = client.post("/predict/rating", json={"text": "good"}).json()
            assert answer["model"]["demo"]
            assert "<title>" in client.get("/").text


def test_what_is_installed_finds_the_tasks(installed, tmp_path):
    words = [
        str(installed),
        "-W",
        "error",
        "-c",
        "import lanistr.tasks as t; t.find_task('rating')",
    ]
    done = subprocess.run(words, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
