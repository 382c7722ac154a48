"""A folder of tables is scored by several workers of Ray, each file as it is without."""

import json
import subprocess
import sys

import pytest

from clients.scoring import score
from service.score import Local
from service.settings import DEMO_BUNDLES, Settings

pytest.importorskip("ray.data", reason="needs ray[data], which no lock holds")

MORTALITY = DEMO_BUNDLES / "mortality"


def run(*words):
    command = [sys.executable, "-m", "service.score_ray", "--bundle", MORTALITY, *words]
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=300
    )


def test_two_workers_write_what_one_engine_does_and_go_on_where_they_were(tmp_path):
    cohort, scored, alone = (tmp_path / name for name in ("cohort", "scored", "alone"))
    cohort.mkdir()
    alone.mkdir()
    for name in ("a", "b", "c"):
        rows = [{"id": f"{name}-{k}", "text": f"note {k}", "age": 50 + k} for k in range(20)]
        (cohort / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (cohort / "d.CSV").write_text("text,text\n")
    (cohort / "notes.txt").write_text("not a table")

    words = ["--input", cohort, "--output", scored, "--workers", 2, "--column", "tabular.age=age"]
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert "1 of 4 files were not scored" in done.stderr
    assert "two columns are named 'text'" in done.stdout
    assert done.stdout.count("20 rows, 0 with an error; mortality by demo-mortality") == 3

    (cohort / "d.CSV").write_text("text,age\na note,71\n")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20 rows, 20 of them scored earlier") == 3
    assert done.stdout.count(": 1 rows, 0 with an error") == 1
    with Local.opened(MORTALITY, Settings(threads=1)) as local:
        for each in sorted({*cohort.iterdir()} - {cohort / "notes.txt"}):
            score(local, each, alone / each.name)
            assert (scored / each.name).read_bytes() == (alone / each.name).read_bytes()


@pytest.mark.parametrize("option", ["--workers", "--cpus"])
def test_less_than_one_worker_or_processor_is_refused(option, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\nslept well\n")
    done = run("--input", tmp_path / "in", "--output", tmp_path / "out", option, 0)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{option}: too few; seen 0; accepted: 1 or more" in done.stderr


def test_a_folder_without_tables_is_refused(tmp_path):
    done = run("--input", tmp_path, "--output", tmp_path / "scored")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no tables" in done.stderr
