"""Cases line by line, over a socket: answered while they come, a few at a time, each by itself."""

import asyncio
import json
import select
import socket
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client import generate_latest

from service.app import create_app
from service.settings import Settings
from tests.servers import connected, leave, plain, wait_for

HEADERS = {"Content-Type": "application/x-ndjson"}


def ask(client, lines, path="/predict/mortality/stream", **query):
    """Send everything, then read everything: no more than sockets hold."""
    answer = client.post(path, content=lines, params=query, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


class Exchange:
    """A stream under way, written and read by hand."""

    def __init__(self, server):
        address = urlsplit(server.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=30)
        head = (
            "POST /predict/mortality/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        )
        self.socket.sendall((head + "Content-Type: application/x-ndjson\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")

    def write(self, data):
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def status(self):
        line = self.file.readline()
        while self.file.readline() != b"\r\n":
            pass
        return int(line.split()[1])

    def read(self):
        """Return the next answer; None at the end."""
        data = self.file.read(int(self.file.readline(), 16))
        self.file.readline()
        return json.loads(data) if data else None


@contextmanager
def exchange(server):
    opened = Exchange(server)
    try:
        yield opened
    finally:
        opened.file.close()
        opened.socket.close()


def test_the_answers_of_a_stream_are_those_of_its_cases_bit_for_bit(client, records):
    lines = "".join(json.dumps(each) + "\n" for each in records)
    items = ask(client, lines, explain=True)
    assert sorted(each["index"] for each in items) == list(range(len(records)))
    for item in items:
        record = records[item["index"]]
        alone = client.post("/predict/mortality", json=record, params={"explain": True}).json()
        assert plain(item.get("answer") or item["problem"]) == plain(alone)
    assert sum("problem" in each for each in items) == 4


def test_a_bad_line_is_its_own_problem_and_blank_ones_are_passed_over(client):
    lines = b'{"text": "a"}\r\n\n{"text": \n  \n{"text": "a", "text": "b"}\nnull\n'
    lines += b'{"tabular": {"age": 7}}'
    items = sorted(ask(client, lines), key=lambda each: each["index"])
    codes = [each.get("problem", {}).get("code") for each in items]
    assert codes == [None, "not_json", "repeated_field", "wrong_type", "nothing_usable"]
    assert items[4]["problem"]["issues"][0]["field"] == "tabular.age"
    assert {each["answer"]["status"] for each in items if "answer" in each} == {"predicted"}


def test_no_line_has_no_answer(client):
    assert ask(client, b"") == []
    assert ask(client, b"\n\n") == []


def test_a_line_is_answered_before_the_next_is_sent(server):
    with exchange(server) as stream:
        stream.write(b'{"text": "first", "id": "1"}\n')
        assert stream.status() == 200
        assert stream.read()["answer"]["id"] == "1"
        stream.write(b'{"text": "sec')  # a line may come in pieces
        stream.write(b'ond", "id": "2"}\n{"text": "third", "id": "3"}')
        second = stream.read()
        assert (second["index"], second["answer"]["id"]) == (1, "2")
        stream.socket.sendall(b"0\r\n\r\n")
        assert stream.read()["answer"]["id"] == "3"  # the last line needs no end
        assert stream.read() is None


def test_who_does_not_read_is_not_read_any_further(server):
    """What is sent and not answered stays bounded by what sockets hold."""
    line = json.dumps({"text": "word " * 20, "id": "x" * 8000}).encode() + b"\n"
    with exchange(server) as stream:
        stream.socket.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < 3_000:
                stream.write(line)
                sent += 1
        assert 8 <= sent < 2_500
        # Others are served meanwhile, and the stream goes on once it is read.
        assert httpx.post(f"{server.url}/predict/mortality", json={"text": "a"}).status_code == 200
        stream.socket.settimeout(30)
        assert stream.status() == 200
        found = sorted(stream.read()["index"] for _ in range(sent // 2))
        assert found[0] == 0
        assert found[-1] < sent // 2 + 8


@pytest.fixture(scope="module")
def narrow(start_server):
    """A server with one place, short lines and little patience."""
    limits = ("--body-bytes", "10000", "--body-seconds", "1", "--stream-seconds", "1")
    with start_server("--queue", "1", *limits) as started:
        yield started


def test_a_line_that_is_too_long_fails_alone(narrow):
    lines = b'{"text": "a"}\n{"text": "' + b"b" * 50_000 + b'"}\n{"text": "c"}\n'
    with httpx.Client(base_url=narrow.url, timeout=60) as client:
        items = sorted(ask(client, lines), key=lambda each: each["index"])
    assert ["answer" in each for each in items] == [True, False, True]
    assert items[1]["problem"]["code"] == "body_too_large"
    assert items[1]["problem"]["seen"] == "a line of more than 10,000 bytes"


def test_a_stream_from_which_nothing_comes_ends_with_a_problem(narrow):
    with exchange(narrow) as stream:
        stream.write(b'{"text": "a"}\n')
        assert stream.status() == 200
        assert stream.read()["index"] == 0
        last = stream.read()
        assert (last["index"], last["problem"]["code"]) == (1, "body_too_slow")
        assert stream.read() is None
    with exchange(narrow) as stream:
        assert stream.status() == 408


def test_what_is_no_stream_is_refused_before_it_begins(refused):
    path = "/predict/mortality/stream"
    refused(415, "unsupported_media_type", path, json=[])
    refused(422, "bad_parameter", path + "?coverage=2", content=b"", headers=HEADERS)
    refused(404, "unknown_task", "/predict/mortalty/stream", content=b"", headers=HEADERS)


def test_a_stream_that_brings_nothing_keeps_nobody_out(narrow):
    url = f"{narrow.url}/predict/mortality"
    with exchange(narrow) as stream:
        stream.write(b'{"text": "a"}\n')
        assert stream.status() == 200
        assert stream.read()["index"] == 0
        assert httpx.post(url, json={"text": "a"}, timeout=60).status_code == 200
        stream.write(b'{"text": "b"}\n' * 4)  # of which one at a time has the only place
        assert {stream.read()["answer"]["status"] for _ in range(4)} == {"predicted"}
    assert "ERROR" not in narrow.log()


def test_a_stream_of_blank_lines_ends(narrow):
    with exchange(narrow) as stream:
        stream.write(b'{"text": "a"}\n')
        assert stream.status() == 200
        assert stream.read()["index"] == 0
        ended = False
        with suppress(ConnectionError):
            while not ended:
                stream.write(b"\n")
                ended = bool(select.select([stream.socket], [], [], 0.1)[0])
        last = stream.read()
        assert (last["index"], last["problem"]["code"]) == (1, "body_too_slow")
        assert last["problem"]["seen"] == "only blank lines for 1 s"


async def test_a_client_that_leaves_stops_the_work():
    app = create_app(Settings())
    predictor = app.state.models["mortality"]
    submitted, dropped, full = [], [], asyncio.Event()

    async def never(job):
        submitted.append(job)
        if len(submitted) == 5:
            full.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.append(job)

    predictor.engine.submit = never
    body = b"".join(b'{"text": "note %d"}\n' % k for k in range(5))
    sent = await leave(app, "/predict/mortality/stream", b"application/x-ndjson", body, full.wait())
    assert (len(submitted), len(dropped), predictor.admission.inside) == (5, 5, 0)
    assert [each["type"] for each in sent] == ["http.response.start"]


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
async def test_a_client_that_leaves_stops_the_work_also_where_lines_are_left(end):
    app = create_app(Settings())
    predictor = app.state.models["mortality"]
    submitted, dropped = [], []

    async def never(job):
        submitted.append(job)
        try:
            await asyncio.Event().wait()
        finally:
            dropped.append(job)

    def counted():
        found = generate_latest(app.state.metrics.registry())
        return b'lanistr_requests_total{code="client_left"' in found

    predictor.engine.submit = never
    body = b"".join(b'{"text": "note %d"}\n' % k for k in range(8 if end else 300))
    head = b"POST /predict/mortality/stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    media_type = b"Content-Type: application/x-ndjson\r\n\r\n"
    async with connected(app) as (_, writer):
        writer.write(head + media_type + b"%x\r\n%s\r\n" % (len(body), body) + end)
        await asyncio.to_thread(wait_for, lambda: len(submitted) == 8)
        writer.close()
        await asyncio.to_thread(wait_for, counted)
    assert (len(submitted), len(dropped), predictor.admission.inside) == (8, 8, 0)
