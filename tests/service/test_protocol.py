"""Connections that keep a service waiting."""

import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest


@pytest.fixture(scope="module")
def impatient(start_server):
    with start_server(
        "--header-seconds", "1", "--header-bytes", "2048", "--body-seconds", "1"
    ) as started:
        yield started


def talk(server, *pieces: bytes, pause: float = 0.0, until: float = 10) -> tuple[bytes, float]:
    """Send pieces, return what came until the service hung up, and after how many seconds."""
    address = urlsplit(server.url)
    started = time.monotonic()
    with socket.create_connection((address.hostname, address.port), timeout=until) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                found += piece
    return found, time.monotonic() - started


def problem(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"nosniff" in head
    return json.loads(body)


def test_headers_that_do_not_end_are_not_waited_for(impatient):
    answer, seconds = talk(impatient, b"GET /healthz HTTP/1.1\r\n", b"Host: a\r\n", pause=0.2)
    assert answer.startswith(b"HTTP/1.1 408")
    assert problem(answer)["code"] == "headers_too_slow"
    assert seconds < 5


def test_headers_that_trickle_are_not_waited_for(impatient):
    trickle = [b"GET /healthz HTTP/1.1\r\nHost: a\r\n", *[b"X: y\r\n"] * 20]
    answer, seconds = talk(impatient, *trickle, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408")
    assert seconds < 5


def test_a_connection_without_a_request_is_closed_in_silence(impatient):
    for pieces in ((), (b"\r\n",)):
        answer, seconds = talk(impatient, *pieces)
        assert answer == b""
        assert 0.5 < seconds < 5


def test_headers_have_a_size(impatient):
    lines = [b"X-%d: %s\r\n" % (i, b"y" * 500) for i in range(20)]
    answer, _ = talk(impatient, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", *lines, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 431")
    assert problem(answer)["accepted"] == "at most 2,048 bytes"


def test_what_is_not_http_is_a_problem_too(impatient):
    answer, _ = talk(impatient, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert problem(answer)["code"] == "not_http"


def test_the_rest_of_a_refused_body_is_not_waited_for_either(impatient):
    head = b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n"
    answer, seconds = talk(
        impatient, head + b"Content-Type: application/json\r\n\r\n", *[b"["] * 20, pause=0.2
    )
    assert answer.startswith(b"HTTP/1.1 413")
    assert seconds < 5


def test_a_large_body_that_is_refused_is_read_so_that_its_sender_hears_why(impatient):
    answer = httpx.post(
        impatient.url + "/predict/mortality",
        content=b"[" * 30_000_000,
        headers={"Content-Type": "application/json"},
    )
    assert answer.json()["code"] == "body_too_large"


def test_requests_one_after_another_have_their_time_each(impatient, stay):
    with httpx.Client(base_url=impatient.url) as client:
        for _ in range(4):
            assert client.post("/predict/mortality", json=stay).status_code == 200
            time.sleep(0.5)
