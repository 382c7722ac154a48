"""Memory under load: the command ends with figures and a curve, and the slope is the slope."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.memory import Reading, main, slope_of
from lanistr.errors import ConfigError


def readings(mb):
    return [Reading(seconds=2.0 * i, mb={1: each}, cache_mb=0, requests=i) for i, each in mb]


def test_a_slope_is_found_within_its_interval_and_noise_has_none():
    noise = np.random.default_rng(0).normal(0, 2, 900)
    slope, reach = slope_of(readings((i, 200 + noise[i]) for i in range(900)))
    assert abs(slope) < reach < 2
    slope, reach = slope_of(readings((i, 200 + 10 * i / 1800 + noise[i]) for i in range(900)))
    assert slope == pytest.approx(10, abs=2 * reach)
    assert slope > reach


def test_too_few_readings_for_an_interval_are_refused(monkeypatch):
    for words in (["--minutes", "0"], ["--every", "0"], ["--minutes", "1", "--every", "30"]):
        monkeypatch.setattr(sys, "argv", ["memory", *words])
        with pytest.raises(ConfigError, match="too short"):
            main()


@pytest.mark.usefixtures("forked_servers")
def test_the_command_prints_figures_and_draws_the_curve(monkeypatch, capsys, tmp_path):
    words = ["--minutes", "0.02", "--warm-minutes", "0.01", "--every", "0.1"]
    monkeypatch.setattr(sys, "argv", ["memory", *words, "--out", str(tmp_path)])
    main()
    *_, line, found = capsys.readouterr().out.splitlines()
    said = json.loads(found)
    assert (said["cache_full"], "the cache was not full" in line) == (False, True)
    assert said["requests"] > 0
    assert said["statuses"].keys() <= {"200", "422"}
    assert len(said["interval"]) == 2
    whole = json.loads((tmp_path / "memory.json").read_text())
    assert whole["cache_full"] is False
    assert all(each["mb"] for each in whole["readings"])
    with Image.open(tmp_path / "memory.png") as curve:
        assert curve.size == (1080, 540)
