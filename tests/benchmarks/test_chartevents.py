"""Reading chart events beside pandas: all do the same, and ratios are those of a turn."""

from pathlib import Path

import pytest

from benchmarks import chartevents


def test_all_readers_keep_the_same_rows(tmp_path: Path):
    chartevents.write_charts(tmp_path, 9000)
    found = {name: read(tmp_path) for name, read in chartevents.READERS.items()}
    assert len(set(found.values())) == 1
    assert found["ours"][0] == 9000


def test_a_ratio_is_that_of_a_turn(monkeypatch, capsys, tmp_path: Path):
    seconds = {"ours": [10, 20, 40], "pandas": [20, 60, 80], "chosen": [10, 20, 60]}
    turns = {name: iter(each) for name, each in seconds.items()}
    asked = []

    def measure(reader, _):
        asked.append(reader)
        taken = next(turns[reader])
        return {"read": 9, "kept": 3, "seconds": taken, "cpu": taken, "peak_mb": 1.0}

    monkeypatch.setattr(chartevents, "_measure", measure)
    chartevents.compare(tmp_path, 10, 3)
    assert asked == ["ours", "pandas", "chosen"] * 3
    printed = capsys.readouterr().out
    assert "ours is 2.0 (2.0 to 3.0) times as fast as pandas" in printed
    assert "ours is 1.0 (1.0 to 1.5) times as fast as chosen" in printed


@pytest.mark.parametrize("option", ["--rows", "--repetitions"])
def test_too_few_are_refused(option, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["chartevents", option, "0"])
    with pytest.raises(SystemExit):
        chartevents.main()
    assert f"{option}: too few; seen 0" in capsys.readouterr().err
