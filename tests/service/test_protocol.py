"""Connections that keep a service waiting."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from service.settings import Settings
from tests.servers import connected


@pytest.fixture(scope="module")
def impatient(start_server):
    limits = ("--header-seconds", "1", "--header-bytes", "2048", "--body-seconds", "1")
    with start_server(*limits, "--idle-seconds", "5") as started:
        yield started


LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_connections_are_kept_longer_than_proxies_and_clients_keep_them():
    """What is sent into one that the service is just closing is lost: a proxy's 502."""
    nginx, aws, httpx_ = 60, 60, httpx._config.DEFAULT_LIMITS.keepalive_expiry
    assert Settings().idle_seconds > max(nginx, aws, httpx_)


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
    with ThreadPoolExecutor() as threads:
        for answer, seconds in threads.map(partial(talk, impatient), (b"", b"\r\n")):
            assert answer == b""
            assert 0.5 < seconds < 5


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([b"GET /healthz HTTP/1.1\r\nHost: a\r\n"], 408, "headers_too_slow"),
        ([b"GET / HTTP/1.1\r\nX: ", b"y" * 5000], 431, "headers_too_large"),
        ([b"GET / HTTP/1.1\r\nX: " + b"y" * 5000 + b"\r\n\r\n"], 431, "headers_too_large"),
        ([b"hello\r\n\r\n"], 400, "not_http"),
    ],
)
def test_what_is_refused_before_it_is_a_request_is_counted_and_has_a_line(
    impatient, pieces, status, code
):
    counted = counts(impatient)
    talk(impatient, *pieces, pause=0.1)
    assert counts(impatient) - counted == {f'code="{code}",parts="",status="{status}",task=""': 1}
    *_, line = lines(impatient)
    assert line.endswith(f"rejected before it became a request: {status} code {code}")


def counts(server) -> Counter[str]:
    """Return how many requests were counted by now, apart from those for this."""
    text = httpx.get(server.url + "/metrics").text
    found = re.findall(r"lanistr_requests_total\{(.*)\} (.*)", text)
    return Counter({name: int(float(n)) for name, n in found if 'status="200"' not in name})


def lines(server) -> list[str]:
    """Return the log's lines on requests, apart from those of `counts`."""
    return [each for each in server.log().splitlines() if " code " in each]


@pytest.mark.parametrize(
    ("behind", "status", "code"),
    [
        ((b"1;X=", *[b"y" * 500] * 20), 431, "headers_too_large"),
        ((b"no size\r\n",), 400, "not_http"),
    ],
)
def test_a_request_whose_body_is_refused_is_counted_and_told_once_as_what_it_is(
    impatient, behind, status, code
):
    counted, told = counts(impatient), len(lines(impatient))
    talk(impatient, chunked(JSON), *behind, pause=0.1)
    assert impatient.says(f"/predict/mortality' {status} ")
    (name,) = counts(impatient) - counted
    assert f'code="{code}"' in name
    assert f'status="{status}"' in name
    (line,) = lines(impatient)[told:]
    assert f"'/predict/mortality' {status} " in line
    assert line.endswith(f" code {code}")


def test_headers_have_a_size(impatient):
    lines = [b"X-%d: %s\r\n" % (i, b"y" * 500) for i in range(20)]
    answer, _ = talk(impatient, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", *lines, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 431")
    assert problem(answer)["accepted"] == "at most 2,048 bytes"


def test_headers_have_a_size_also_where_they_come_in_one_piece(impatient):
    head = b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nX: %s\r\nContent-Length: 2\r\n\r\n{}"
    answer, _ = talk(impatient, head % (b"y" * 3000))
    assert problem(answer)["code"] == "headers_too_large"
    answer, _ = talk(impatient, b"GET /" + b"y" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert problem(answer)["code"] == "headers_too_large"


def first_and_rest(answer: bytes) -> tuple[bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head).group(1))
    return head, body[length:]


@pytest.mark.parametrize(
    ("behind", "code"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", "not_http"),
        (b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"y" * 3000), "headers_too_large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", "not_http"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "not_http"),
        (b"GET http://a:99999999/ HTTP/1.1\r\nHost: a\r\n\r\n", "not_http"),
    ],
)
def test_what_is_wrong_behind_a_request_is_told_after_its_answer(impatient, stay, behind, code):
    body = json.dumps(stay).encode()
    head = b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    answer, _ = talk(impatient, request + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + behind)
    first, rest = first_and_rest(answer)
    assert first.startswith(b"HTTP/1.1 200")
    second, rest = first_and_rest(rest)
    assert second.startswith(b"HTTP/1.1 200")
    assert problem(rest)["code"] == code


def test_a_body_that_breaks_off_is_told_in_place_of_its_answer(impatient):
    head = b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    pieces = head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"no size\r\n"
    answer, _ = talk(impatient, *pieces, pause=0.2)
    assert problem(answer)["code"] == "not_http"


def test_what_is_not_http_is_a_problem_too(impatient):
    answer, _ = talk(impatient, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert problem(answer)["code"] == "not_http"


@pytest.mark.parametrize("line", [b"CONNECT a:80", b"GET http://[::1", b"GET http://a:99999999/"])
def test_a_wrong_request_line_is_a_problem_on_a_fresh_and_on_a_used_connection(impatient, line):
    wrong = line + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    answer, _ = talk(impatient, wrong)
    assert problem(answer)["code"] == "not_http"
    answer, _ = talk(impatient, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", wrong, pause=0.3)
    first, rest = first_and_rest(answer)
    assert first.startswith(b"HTTP/1.1 200")
    assert problem(rest)["code"] == "not_http"


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_who_offers_another_protocol_is_answered_in_this_one(impatient, stay, pause):
    body = json.dumps(stay).encode()
    head = (
        b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    pieces = (head, body) if pause else (head + body,)
    behind = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer, _ = talk(impatient, *pieces, behind * 2 + LAST, pause=pause)
    for _ in range(4):
        first, answer = first_and_rest(answer)
        assert first.startswith(b"HTTP/1.1 200")
    assert answer == b""


def test_headers_behind_a_large_body_are_counted_alone(impatient):
    body = json.dumps({"text": "word " * 40_000}).encode()
    head = b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    answer, _ = talk(impatient, request + LAST[:-2], LAST[-2:], pause=0.2)
    _, rest = first_and_rest(answer)
    assert rest.startswith(b"HTTP/1.1 200")


def test_headers_behind_other_requests_of_one_piece_are_counted_alone(impatient):
    other = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    count = 10_000 // len(other)
    answer, _ = talk(impatient, other * count + LAST[:-2], LAST[-2:], pause=0.5)
    assert answer.count(b"HTTP/1.1 200") == count + 1
    assert b" 431 " not in answer


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


def test_who_does_not_read_an_answer_is_not_waited_for_either(impatient):
    """Ten megabytes: more than sockets hold."""
    page = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    whole = len(httpx.get(impatient.url + "/static-offline-docs/swagger-ui-bundle.js").content)
    times = 10_000_000 // whole
    answer, _ = talk(impatient, page * times, pause=3)
    assert 0 < len(answer) < times * whole
    assert "ERROR" not in impatient.log()


def test_blanks_behind_a_header_are_no_part_of_it(impatient):
    """Source: RFC 9110, section 5.5."""
    for blanks in (b" ", b"\t \t"):
        answer, _ = talk(
            impatient,
            b"GET /tasks HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"X-Request-Timeout-Ms: 5000"
            + blanks
            + b"\r\nX-Request-ID: r-7"
            + blanks
            + b"\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nx-request-id: r-7\r\n" in answer


def chunked(*headers: bytes) -> bytes:
    first = b"POST /predict/mortality HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"
    return b"\r\n".join([*first, *headers, b"", b""])


def pieces_of(body: bytes, *, behind: bytes) -> bytes:
    return b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n" + behind + b"\r\n"


JSON = b"Content-Type: application/json"


def test_what_stands_behind_a_body_is_no_header(impatient):
    body = b'{"text": "stable"}'
    for head, trailer, status in (
        (JSON, b"Content-Encoding: gzip\r\n", 200),
        (b"X: y", JSON + b"\r\n", 415),
    ):
        whole = chunked(head, b"Connection: close") + pieces_of(body, behind=trailer)
        answer, _ = talk(impatient, whole)
        assert answer.startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize(
    "endless",
    [
        (b"0\r\n", *[b"X: %s\r\n" % (b"y" * 500)] * 20),
        (b"0\r\nX: ", *[b"y" * 500] * 20),
        (b"1;X=", *[b"y" * 500] * 20),
        (b'{"text": "a"}'.join((b"d\r\n", b"\r\n0\r\nX: ")), *[b"y" * 500] * 20),
    ],
)
def test_what_stands_beside_a_body_has_a_size_too(impatient, endless):
    httpx.get(impatient.url + "/nowhere")  # made once, the document of addresses would hold it up
    answer, _ = talk(impatient, chunked(JSON), *endless, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 431")
    assert problem(answer)["accepted"] == "at most 2,048 bytes"
    refused = chunked().replace(b"/predict", b"/nowhere")
    another = b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    answer, _ = talk(impatient, refused, *endless, another, pause=0.01)
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_may_come_in_any_number_of_small_pieces(impatient):
    body = json.dumps({"text": "word " * 200}).encode()
    pieces = [piece for each in body for piece in (b"1\r\n", b"%c\r\n" % each)]
    answer, _ = talk(impatient, chunked(JSON, b"Connection: close"), *pieces, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(impatient, stay):
    lines = (json.dumps(stay) + "\n").encode() * 3
    head = b"POST /predict/mortality/stream HTTP/1.0\r\nContent-Type: application/x-ndjson\r\n"
    answer, _ = talk(impatient, head + b"Content-Length: %d\r\n\r\n" % len(lines) + lines)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head.lower()
    assert sorted(json.loads(each)["index"] for each in body.splitlines()) == [0, 1, 2]
    whole, _ = talk(impatient, b"GET /tasks HTTP/1.0\r\n\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head


def test_requests_one_after_another_have_their_time_each(impatient, stay):
    with httpx.Client(base_url=impatient.url) as client:
        for _ in range(3):
            assert client.post("/predict/mortality", json=stay).status_code == 200
            time.sleep(0.6)


@pytest.mark.parametrize("behind", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_a_request_under_way_hears_that_its_client_has_left(behind):
    begun, heard = asyncio.Event(), asyncio.Event()

    async def answer(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            begun.set()
        heard.set()

    async with connected(answer) as (_, writer):
        writer.write(b"POST /predict/mortality HTTP/1.1\r\nHost: a\r\n\r\n" + behind)
        await begun.wait()
        writer.close()
        await asyncio.wait_for(heard.wait(), 10)


async def test_a_body_may_come_later_than_headers_may():
    async def answer(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with connected(answer, header_seconds=0.2) as (reader, writer):
        for _ in range(2):  # a fresh connection, and one that is used again
            for piece in (b"POST / HTTP/1.1\r\nHost: a\r\n", b"Content-Length: 2\r\n\r\n"):
                writer.write(piece)
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.4)
            writer.write(b"{}")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 204")
