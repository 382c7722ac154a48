"""The benchmark of serving: workload and answers are as said, every figure is there."""

import base64
import io
import json
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from contextlib import contextmanager
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import benchmarks.raw
import benchmarks.serving
import benchmarks.setting
from benchmarks.answers import in_words, rate_ratio, refuse_wrong, summary
from benchmarks.bundles import without_model
from benchmarks.load import Load
from benchmarks.pace import figure
from benchmarks.raw import Raw
from benchmarks.servers import running
from benchmarks.servers.model import Model
from benchmarks.serving import again, beside, main
from benchmarks.setting import OTHERS, Setting
from benchmarks.targets import judge
from benchmarks.workload import SMALLEST, an_hour_later, broken, picture, workload
from lanistr.bundle import Bundle
from lanistr.errors import LanistrError
from lanistr.modalities import Modality
from service.settings import DEMO_BUNDLES


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEMO_BUNDLES / "mortality")


def test_pictures_are_as_large_as_those_of_the_plan():
    sizes = [len(picture(np.random.default_rng(seed))) for seed in range(5)]
    assert 20_000 < min(sizes) < max(sizes) < 60_000


def test_the_workload_is_the_same_for_a_seed_and_lacks_what_it_should(bundle):
    records = workload(bundle, 100, seed=0)
    assert json.dumps(records) == json.dumps(workload(bundle, 100, seed=0))
    lacking = [len(Modality) - len(each) for each in records]
    assert set(lacking) == {0, 1, 2}
    assert 0.25 < lacking.count(0) / 100 < 0.55
    notes = [len(each["text"].split()) for each in records if "text" in each]
    assert 60 <= min(notes) < max(notes) <= 400
    assert base64.b64decode(next(each["image"] for each in records if "image" in each))


def test_a_case_an_hour_later_differs_in_its_series_alone(bundle):
    record = next(each for each in workload(bundle, 20, seed=0) if len(each) == len(Modality))
    later = [an_hour_later(record, number) for number in (1, 2)]
    assert later[0]["timeseries"] != later[1]["timeseries"]
    assert {name: each for name, each in later[0].items() if name != "timeseries"} == {
        name: each for name, each in record.items() if name != "timeseries"
    }
    assert len(an_hour_later({"text": "a"}, 1)["timeseries"]) == 1


def test_a_broken_picture_is_a_picture_cut_off(bundle):
    record = next(each for each in workload(bundle, 20, seed=0) if "image" in each)
    cut = Image.open(io.BytesIO(base64.b64decode(broken(record)["image"])))
    with pytest.raises(OSError, match="truncated"):
        cut.load()


# ---- what answers -------------------------------------------------------------------------------


def test_a_padded_batch_is_answered_as_its_cases_alone(bundle):
    model = Model(bundle.folder, "fp32", threads=1)
    cases = [model.read(each) for each in workload(bundle, 8, seed=0)]
    assert len({frozenset(each.rows) for each in cases}) > 1
    for alone, together in zip(map(model.alone, cases), model.together(cases), strict=True):
        assert together["label"] == alone["label"]
        assert together["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_a_bundle_without_a_model_answers_every_case_alike(bundle, tmp_path):
    nothing = without_model(bundle, tmp_path / "nothing")
    model = Model(nothing.folder, "fp32", threads=1)
    records = [*workload(bundle, 4, seed=0), dict(SMALLEST)]
    answers = model.together([model.read(each) for each in records])
    assert all(each["probabilities"] == answers[0]["probabilities"] for each in answers)
    assert model.alone(model.read(dict(SMALLEST))) == answers[0]


@pytest.mark.usefixtures("forked_servers")
def test_every_server_that_is_there_answers_everything(monkeypatch, capsys):
    words = ["--precision", "int8", "--clients", "2", "--cases", "24", "--requests", "8"]
    monkeypatch.setattr(sys, "argv", ["benchmarks.serving", *words, "--repetitions", "1"])
    main()
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    servers = {row["server"] for row in found["rates"]}
    assert servers >= {"raw", "naive", "bare", "lanistr", "lanistr / n", "lanistr x n"}
    for each in OTHERS.keys() - servers:
        assert f"{each} is left out" in printed
    assert {row["bundle"] for row in found["rates"]} == {"nothing", "tiny"}
    for row in found["rates"]:
        assert row["failed"] == 0
        assert 0 < row["rate"]["low"] <= row["rate"]["median"] <= row["rate"]["high"]
        assert 0 < row["p50"]["low"] <= row["p99"]["high"]
        assert [row["rate"]["median"]] == row["turns"]["rate"]
    assert all(row["differs"] == 0 for row in found["rates"] if row["server"] == "lanistr")
    assert [row["differs"] for row in found["again"]] == [0]
    assert all(row["peak"] >= row["after"] > 50e6 for row in found["memory"])
    assert {row["server"]: row["bad"] for row in found["neighbours"]}["lanistr"] == [422]
    failing = "tiny int8: good ones failed, lanistr"
    assert {each["what"]: each["met"] for each in found["targets"]} == {failing: True}


def test_nothing_is_measured_cold(bundle, monkeypatch):
    sent = defaultdict(list)
    load = Load(1.0, [0.1], [200], [0], [b'{"probabilities": {"died": 0.5}}'])

    def send(_setting, name, _server, _records, _clients, requests):
        sent[name].append(requests)
        return load

    @contextmanager
    def started(_words):
        yield SimpleNamespace(bytes_now=lambda: 1, peak_bytes=lambda: 1)

    monkeypatch.setattr(benchmarks.serving, "running", started)
    monkeypatch.setattr(Setting, "send", send)
    raw = SimpleNamespace(run=lambda asked: send(None, "raw", None, None, None, len(asked)))
    setting = Setting("paper", bundle, "fp32", cases=24, requests=40)
    arguments = Namespace(clients=[8], repetitions=1)
    beside([(setting, raw)], arguments, defaultdict(list))
    assert {*map(tuple, sent.values())} == {(16, 40)}
    sent.clear()
    again(setting, raw, arguments, defaultdict(list))
    assert sent["lanistr"] == sent["lanistr, cached"] == [24, 12, 40]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--requests", "0"], "--requests: too few"),
        (["--repetitions", "0"], "--repetitions: too few"),
        (["--clients", "8", "0"], "--clients: too few"),
        (["--parts", "paper"], "--paper: not given"),
        (["--precision", "fp99"], "seen 'fp99'; accepted: one of fp32, int8, fp16"),
        (["--precision", "fp16"], "accepted: onnx fp32, onnx int8"),
        (["--tiny", str(DEMO_BUNDLES / "rating")], "seen 'rating'; accepted: one of stays"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(words, said, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks.setting, "Raw", None)
    monkeypatch.setattr(sys, "argv", ["benchmarks.serving", *words])
    with pytest.raises((LanistrError, SystemExit)) as caught:
        main()
    assert said in f"{caught.value} {capsys.readouterr().err}"


def test_what_does_not_start_is_told(tmp_path):
    words = ["benchmarks.servers.bare", "--bundle", str(tmp_path)]
    with pytest.raises(LanistrError, match="did not start") as caught, running(words):
        pass
    assert caught.value.seen == "exit code 2"
    raw = Raw(tmp_path, "fp32", 1)
    with pytest.raises(LanistrError, match="cannot be run"):
        raw.run([(0, None)])
    raw.close()


def test_the_graphs_alone_need_to_be_told_whose(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks.raw"])
    with pytest.raises(SystemExit):
        benchmarks.raw.main()
    assert "required: --bundle, --precision, --cases" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("litserve") is not None, reason="it is installed")
def test_a_server_that_is_not_installed_says_so_in_a_line():
    words = [sys.executable, "-m", "benchmarks.servers.lit", "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: litserve is not installed; accepted: ")
    assert done.stderr.count("\n") == 1


# ---- what is made of it -------------------------------------------------------------------------


def test_targets_compare_what_they_say():
    def row(bundle, precision, server, rate, clients=32):
        turns = {"rate": [rate, 2 * rate, 4 * rate], "p50": [2.0, 1.0], "p99": [3.0, 1.5]}
        return {
            **{"bundle": bundle, "precision": precision, "server": server, "clients": clients},
            **{name: figure(each) for name, each in turns.items()},
            "turns": turns,
        }

    paper = {"raw": 2.0, "naive": 1.8, "litserve": 1.0, "lanistr": 1.6}
    found = {
        "rates": [
            *(row("paper", "fp32", name, rate, 1) for name, rate in paper.items() if name == "raw"),
            *(row("paper", "fp32", name, rate) for name, rate in paper.items() if name != "raw"),
            row("paper", "fp32", "lanistr", 9.0, clients=8),
            row("paper", "int8", "lanistr", 4.5),
            row("nothing", "fp32", "litserve", 100.0),
            row("nothing", "fp32", "lanistr", 300.0),
            row("tiny", "int8", "naive", 50.0),
            row("tiny", "int8", "lanistr", 40.0),
        ],
        "again": [
            {"bundle": bundle, "precision": "fp32", "ratio": figure([9.0])}
            for bundle in ("tiny", "paper")
        ],
        "memory": [
            {"bundle": "paper", "precision": "int8", "graphs": 200, "cache": cache}
            | {"peak": 450, "after": 360}
            for cache in (0, 100)
        ],
        "neighbours": [
            {"bundle": "tiny", "precision": "int8", "server": name, "good": 9, "failed": 3}
            for name in ("litserve", "lanistr")
        ],
    }
    assert {
        each.what: (round(each.found["median"], 3), each.wanted(), each.met)
        for each in judge(found)
    } == {
        "nothing fp32: rate / litserve": (3.0, ">= 2", True),
        "tiny int8: rate / naive": (0.8, ">= 1", False),
        "paper fp32: rate / raw": (0.8, ">= 0.95", False),
        "paper fp32: rate / litserve": (1.6, ">= 1.5", True),
        "paper int8: rate / litserve fp32": (4.5, ">= 3", True),
        "paper int8: rate / naive fp32": (2.5, ">= 2", True),
        "paper fp32: p99 / p50": (1.5, "<= 1.3", False),
        "paper int8: p99 / p50": (1.5, "<= 1.3", False),
        "paper fp32: an hour later, cached / uncached": (9.0, ">= 8", True),
        "paper int8: memory, peak / (graphs + cache)": (1.5, "<= 1.3", False),
        "paper int8: memory, after / (graphs + cache)": (1.2, "<= 1.3", True),
        "tiny int8: good ones failed, lanistr": (3, "<= 0", False),
    }


def row_of(server, turns):
    """Return the row of a server that answers with these statuses, turn by turn, in a second."""
    answer = b'{"probabilities": {"died": 0.25}}'
    loads = [Load(1.0, [0.1] * len(s), s, [0] * len(s), [answer] * len(s)) for s in turns]
    about = {"bundle": "tiny", "precision": "fp32", "server": server, "clients": 32}
    return about | summary(loads, {0: {"died": 0.5}})


def test_a_ratio_is_that_of_a_turn_for_the_speed_of_the_machine_drifts():
    # Twice as fast in every turn but one. The medians, of different turns, are 40 and 30.
    ours = row_of("lanistr", [[200] * rate for rate in (20, 40, 100)])
    theirs = row_of("naive", [[200] * rate for rate in (10, 30, 50)])
    found = {"rates": [ours, theirs], "again": [], "memory": [], "neighbours": []}
    (target,) = judge(found)
    assert target.found == {"median": 2.0, "low": pytest.approx(4 / 3), "high": 2.0}
    assert "2.00 (1.33 to 2.00)" in in_words(ours, rate_ratio(ours, theirs))


def test_a_server_of_ours_that_answers_nothing_misses_its_target():
    rest = {"again": [], "memory": [], "neighbours": []}
    good, bad = [[200]], [[500]]
    (target,) = judge(rest | {"rates": [row_of("lanistr", bad), row_of("naive", good)]})
    assert (target.found["median"], target.met) == (0, False)
    assert judge(rest | {"rates": [row_of("lanistr", good), row_of("naive", bad)]}) == []


def test_a_server_that_failed_has_no_distance_and_no_latency():
    row = row_of("bentoml", [[500, 503]])
    assert (row["failed"], row["differs"], row["p50"], row["p99"]) == (2, None, None, None)
    assert in_words(row, figure([0])).split()[-4:] == ["nothing", "compared,", "2", "FAILED"]
    assert row_of("bentoml", [[500], [200, 503]])["differs"] == 0.25
    with pytest.raises(LanistrError, match="lanistr: none of a server's answers could be compared"):
        refuse_wrong("lanistr", row["differs"], 1e-4)


def test_how_fast_a_server_refuses_is_no_latency_of_its_answers():
    load = Load(1.0, [0.001, 0.5, 0.001], [503, 200, 503], [0, 1, 2], [b"", b"{}", b""])
    found = summary([load], {})
    assert (found["p50"]["median"], found["p99"]["median"], found["failed"]) == (0.5, 0.5, 2)


def test_no_target_is_met_where_nothing_was_asked():
    row = {"bundle": "tiny", "precision": "fp32", "server": "lanistr", "good": 0, "failed": 0}
    assert judge({"rates": [], "again": [], "memory": [], "neighbours": [row]}) == []


def test_a_workload_without_a_complete_case_has_none_that_comes_again(bundle, monkeypatch, capsys):
    monkeypatch.setattr(Setting, "records", lambda _: [{"text": "a"}])
    setting = Setting("tiny", bundle, "fp32", cases=1, requests=8)
    again(setting, None, Namespace(repetitions=1), found := defaultdict(list))
    assert (found, "no case is complete" in capsys.readouterr().out) == ({}, True)


def test_the_turns_of_a_bundle_hold_its_precisions_and_go_there_and_back(bundle, monkeypatch):
    started = []

    @contextmanager
    def noted(words):
        started.append(words)
        yield SimpleNamespace(bytes_now=lambda: 1, peak_bytes=lambda: 1)

    load = Load(1.0, [0.1], [200], [0], [b'{"probabilities": {"died": 0.5}}'])
    monkeypatch.setattr(benchmarks.serving, "running", noted)
    monkeypatch.setattr(Setting, "send", lambda *_: load)
    monkeypatch.setattr(Setting, "commands", lambda each: {n: (n, each.precision) for n in "ab"})
    raw = SimpleNamespace(run=lambda _: load)
    settings = [(Setting("paper", bundle, each, 24, 40), raw) for each in ("fp32", "int8")]
    found = defaultdict(list)
    beside(settings, Namespace(clients=[8], repetitions=2), found)
    there = [("a", "fp32"), ("a", "int8"), ("b", "fp32"), ("b", "int8")]
    assert started == [*there, *there[2:], *there[:2]]
    assert [(r["precision"], r["server"], len(r["turns"]["rate"])) for r in found["rates"]] == [
        (precision, server, 2) for precision in ("fp32", "int8") for server in ("raw", "a", "b")
    ]
