"""Everything goes wrong around a service, and no answer does; for longer: `benchmarks.chaos`."""

import json
from pathlib import Path

import httpx

from benchmarks.chaos import chaos
from benchmarks.disasters import DISASTERS
from benchmarks.mixed import Known, asks


def test_every_request_is_answered_rightly_or_told_why_not_whatever_happens(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.chaos.PLACES", 5)  # and ten times as many come, all at once
    report = chaos(tmp_path, seconds=0, seed=1)
    assert not report.faults
    assert len(report.happened) == len(DISASTERS) + 1
    assert report.answered["200 ok"] > 50
    assert report.answered["503 too_busy"]
    assert report.answered["503 audit_unavailable"]


def answer(url: str, known: Known, which: int, name: str) -> bytes:
    ask = known.asks[which]
    headers = {"Content-Type": ask.media_type, "X-Request-ID": name}
    return httpx.post(url + ask.path, content=ask.body(name), headers=headers).content


def test_an_answer_that_is_another_s_or_changed_is_a_fault(start_server, tmp_path: Path, bundles):
    version = bundles["mortality"].manifest.version
    with start_server() as server:
        known = Known(server.url, asks(bundles["mortality"], 8, seed=0), [version])
        one, two = (answer(server.url, known, 0, name) for name in ("r-1", "r-2"))
    assert known.fault(0, "r-1", one) == ""
    assert "answered for request r-2" in known.fault(0, "r-1", two)
    other = json.loads(one)
    other["prediction"]["probability"] += 0.001
    assert "is not" in known.fault(0, "r-1", json.dumps(other).encode())
    assert "is not" in known.fault(2, "r-1", one)  # the answer to another case, by the right name
