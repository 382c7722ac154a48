"""Every way in which asking can fail has its own error, from both clients."""

import asyncio
import pickle
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from clients import (
    AsyncClient,
    Client,
    ClientError,
    ConnectionFailed,
    InvalidInput,
    InvalidRequest,
    ProblemError,
    ServerError,
    TimedOut,
    TooBusy,
    UnreadableAnswer,
)

HTML = b"<html><h1>502 Bad Gateway</h1></html>"


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Ask for a prediction with one client or the other; once, unless told to ask again."""

    async def waiting(url, **options):
        with Client(url, **{"retry_seconds": 0} | options) as client:
            return client.predict("mortality", text="note")

    async def awaited(url, **options):
        async with AsyncClient(url, **{"retry_seconds": 0} | options) as client:
            return await client.predict("mortality", text="note")

    return waiting if request.param == "sync" else awaited


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, InvalidRequest),
        (404, InvalidRequest),
        (413, InvalidRequest),
        (415, InvalidRequest),
        (422, InvalidRequest),
        (429, TooBusy),
        (500, ServerError),
        (503, TooBusy),
        (504, ServerError),
    ],
)
async def test_a_problem_is_an_error_by_its_status(ask, service, status, kind):
    service.answers({"title": "No", "status": status, "code": "no"}, status=status)
    with pytest.raises(ProblemError, match="No") as caught:
        await ask(service.url)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "no")
    assert caught.value.request_id == service.last.headers["X-Request-ID"]


async def test_a_busy_service_says_when_to_come_back(ask, service):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    busy = {"title": "Busy", "code": "queue_full"}
    for header, low, high in [("7", 7, 7), (soon, 50, 60), (past, 0, 0)]:
        service.answers(busy, status=429, Retry_After=header)
        with pytest.raises(TooBusy, match="try again in") as caught:
            await ask(service.url)
        assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize(
    "header",
    [
        "soon", "-3", "1.5", "Wed, 99 Oct 2015 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999",
    ],
)  # fmt: skip
async def test_a_time_that_cannot_be_read_is_no_time(ask, service, header):
    service.answers({"title": "Busy", "code": "queue_full"}, status=503, Retry_After=header)
    with pytest.raises(TooBusy) as caught:
        await ask(service.url)
    assert caught.value.retry_after is None


async def test_what_is_accepted_may_be_a_list(ask, service, problem):
    service.answers(problem | {"accepted": ["F", "M"]}, status=422)
    with pytest.raises(InvalidRequest, match="accepted: F, M"):
        await ask(service.url)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (502, "text/html", HTML),
        (404, "text/html", HTML),
        (200, "text/html", HTML),
        (200, "application/json", b'{"id": "stay-17", "task": "mort'),
        (200, "application/json", b""),
        (200, "application/json", b"[1, 2]"),
        (200, "application/json", b"\xff\xfe\xff"),
        (200, "application/json", b'{"task": NaN}'),
        (200, "application/json", b"[" * 100_000),
        (307, "application/json", b"{}"),
        (500, "application/problem+json", b'{"oops": 1}'),
        (422, "application/problem+json", b'{"code": "no", "title": "No", "issues": [{}]}'),
    ],
)
async def test_an_answer_that_is_none_is_unreadable(ask, service, status, kind, body):
    service.answers_bytes(body, kind, status=status, X_Request_ID="r-9")
    with pytest.raises(UnreadableAnswer, match=f"answered {status}, but not as") as caught:
        await ask(service.url)
    assert (caught.value.status, caught.value.request_id) == (status, "r-9")
    assert len(caught.value.body) <= 200


async def test_an_answer_that_breaks_off_is_a_failed_connection(ask, service):
    service.answers_bytes(b'{"id"', "application/json", Content_Length="500")
    with pytest.raises(ConnectionFailed, match="was lost") as caught:
        await ask(service.url)
    assert caught.value.reached
    assert caught.value.request_id == service.last.headers["X-Request-ID"]


@pytest.mark.parametrize("junk", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_a_server_that_does_not_speak_http_is_a_failed_connection(ask, service, junk):
    service.raw = junk
    with pytest.raises(ConnectionFailed, match="was lost") as caught:
        await ask(service.url)
    assert caught.value.reached


async def test_a_body_that_cannot_be_decompressed_is_a_failed_connection(ask, service):
    service.answers_bytes(b"not gzip", "application/json", Content_Encoding="gzip")
    with pytest.raises(ConnectionFailed):
        await ask(service.url)


async def test_nobody_listening_is_a_failed_connection(ask, deserted_url):
    with pytest.raises(ConnectionFailed, match=f"not reachable at {deserted_url}") as caught:
        await ask(deserted_url)
    assert not caught.value.reached
    assert caught.value.url == deserted_url


async def test_a_silent_service_is_timed_out(ask, service):
    service.silent = True
    start = time.monotonic()
    with pytest.raises(TimedOut, match=r"no answer from .* within 0\.2 s") as caught:
        await ask(service.url, timeout=0.2)
    assert time.monotonic() - start < 5
    assert caught.value.request_id == service.last.headers["X-Request-ID"]


@pytest.fixture
def deaf():
    """An address whose server takes no connection: one waits for it already, and one is room."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield "http://{}:{}".format(*listener.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the queue may have more room")
async def test_a_connection_that_is_not_made_is_timed_out(ask, deaf):
    with pytest.raises(TimedOut, match=rf"no connection to {deaf} within 0\.2 s"):
        await ask(deaf, connect_timeout=0.2)


async def test_a_body_that_nobody_reads_is_timed_out():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
        with Client(url, timeout=0.2) as client, pytest.raises(TimedOut):
            client.predict("mortality", text="x" * 50_000_000)


def test_a_connection_that_others_have_is_not_waited_for_without_end(service):
    service.silent = True
    with Client(service.url, connections=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.health)
        while not service.received:
            time.sleep(0.01)
        with pytest.raises(TimedOut):
            client.predict("mortality", text="note", timeout=0.2)
        assert not first.done()
        service.released.set()
        with pytest.raises(ConnectionFailed):
            first.result()


async def test_an_answer_that_comes_in_pieces_is_not_timed_out(ask, service, mortality):
    service.answers(mortality)
    service.pieces = 7
    assert (await ask(service.url, timeout=1.5)).label == "survived"


@pytest.mark.parametrize(
    "asking", [Client, Client.predict, Client.predict_many, Client.predict_list, Client.score]
)
def test_what_a_timeout_is_stands_where_it_is_given(asking):
    (said,) = re.findall(r"(?m)^ +timeout: (.*)", asking.__doc__)
    assert said.startswith("longest silence")


def test_one_request_may_have_its_own_timeout(service):
    service.silent = True
    with Client(service.url) as client, pytest.raises(TimedOut, match=r"within 0\.2 s"):
        client.predict("mortality", text="note", timeout=0.2)


def test_a_client_goes_on_after_an_error(service, mortality):
    with Client(service.url) as client:
        service.raw = b"junk"
        with pytest.raises(ClientError):
            client.predict("mortality", text="note")
        service.raw = None
        service.answers(mortality)
        assert client.predict("mortality", text="note").label == "survived"


def test_a_problem_about_readiness_is_a_problem(service):
    service.answers({"title": "Busy", "code": "queue_full"}, status=503)
    with Client(service.url) as client, pytest.raises(TooBusy):
        client.ready()


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("tabular.age", "nan cannot be sent", accepted="a finite number"),
        ConnectionFailed("was lost", url="http://a", request_id="1", reached=True),
        TimedOut("no answer", url="http://a", request_id="1"),
        TooBusy(status=429, code="busy", detail="later", retry_after=2.0, raw={"code": "busy"}),
        UnreadableAnswer("a page", status=502, request_id="1", body="<html>"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_another_process_as_it_was(error):
    """A pool of processes dies of an error that does not."""
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert (str(found), vars(found)) == (str(error), vars(error))


async def test_a_password_in_the_address_is_sent_and_told_nobody(ask, service, deserted_url):
    service.answers_bytes(HTML, "text/html")
    messages = []
    for url in (service.url, deserted_url):
        with pytest.raises(ClientError) as caught:
            await ask(url.replace("://", "://ward:hush@"))
        messages += [str(caught.value), str(vars(caught.value))]
    assert service.last.headers["Authorization"].startswith("Basic ")
    assert not any("hush" in each for each in messages)


def test_a_client_that_is_closed_or_of_another_event_loop_says_what_to_do(service):
    service.answers({"status": "ok"})
    service.keeps = True
    with Client(service.url) as client:
        client.health()
    with pytest.raises(ClientError, match=r"has been closed\.; a closed client cannot be used"):
        client.health()
    with asyncio.Runner() as runner:
        other = AsyncClient(service.url)
        runner.run(other.health())
        with pytest.raises(
            ClientError, match="different event loop; a closed client cannot be used"
        ):
            asyncio.run(other.health())
        runner.run(other.aclose())


FORKED = """\
import os, sys
from clients import Client

with Client(sys.argv[1]) as client:
    client.health()
    if (child := os.fork()) == 0:
        client.health()
        client.health()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.health()
"""


def test_a_forked_process_asks_over_a_connection_of_its_own(service):
    """Two that read from one get the answers to each other's cases."""
    service.answers({"status": "ok"})
    service.keeps = True
    subprocess.run([sys.executable, "-c", FORKED, service.url], check=True)
    parent, child, again, back = (each.sender for each in service.received)
    assert (parent, child) == (back, again)
    assert parent != child
