"""The benchmark of scoring: all ways are measured, and engine and service write one table."""

import json
import sys

import pytest

from benchmarks.scoring import main


@pytest.mark.usefixtures("forked_servers")
def test_every_figure_is_there(monkeypatch, capsys):
    words = ["--rows", "8", "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", ["scoring", *words])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    ways = {"engine", "http", "a row"}
    ratios = {"engine / http", "http / a row", "engine / a row"}
    assert set(found) == {"bundle", "rows", "precision"} | ways | ratios | {
        f"{way}, cpu ms" for way in ways
    }
    assert found["rows"] == 8
    assert all(found[name]["median"] > 0 for name in ways | ratios)
