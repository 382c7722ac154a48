"""Good requests beside dear ones are held against themselves alone; a wrong address is told."""

import sys
from contextlib import nullcontext

import httpx
import pytest

from benchmarks import neighbours
from benchmarks.neighbours import main
from lanistr.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://127.0.0.1:1"], "--url: no service .* seen .http://127.0.0.1:1: "),
        (["--url", "127.0.0.1:8000"], "--url: .*127.0.0.1:8000: .*accepted: .*http://"),
        (["--url", "http://[nowhere"], "--url: "),
        (["--url", ""], "--url: "),
        (["--seconds", "-1"], "--seconds: no such time; seen -1.0"),
        (["--seconds", "nan"], "--seconds: no such time"),
    ],
)
def test_a_mistake_is_told_in_a_line(words, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["neighbours", *words])
    monkeypatch.setattr(neighbours, "running", None)
    with pytest.raises(ConfigError, match=said):
        main()


def test_a_service_of_something_else_is_told(monkeypatch):
    transport = httpx.MockTransport(lambda _: httpx.Response(404))
    client = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **more: client(transport=transport, **more))
    monkeypatch.setattr(sys, "argv", ["neighbours", "--url", "http://there"])
    with pytest.raises(ConfigError, match="seen 'http://there, which answers 404'"):
        main()


def test_a_request_is_held_against_itself_alone_just_before(monkeypatch, capsys):
    taken = iter([[1.0], [3.0], [2.0], [4.0]])
    monkeypatch.setattr(neighbours, "measure", lambda *_: next(taken))
    monkeypatch.setattr(neighbours, "_attack", lambda *_: nullcontext())
    monkeypatch.setattr(neighbours.time, "sleep", lambda _: None)
    monkeypatch.setattr(neighbours, "NEIGHBOURS", {"one": bytes, "other": bytes})
    neighbours.compare("http://there", 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(line[0], line[3]) for line in lines] == [
        *(("none", "1.0"), ("one", "3.0"), ("none", "1.0"), ("other", "2.0"))
    ]
