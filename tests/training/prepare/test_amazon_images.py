"""Fetching pictures: what servers do wrong, what is asked of them, going on after a cut."""

import asyncio
import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from lanistr.errors import DataError
from training.prepare.amazon import fetch
from training.prepare.amazon.fetch import FetchOptions
from training.prepare.amazon.images import Named, fetch_pictures
from training.prepare.amazon.pictures import MANIFEST, Entry, Manifest, read_manifest

ROOT = Path(__file__).resolve().parents[3]


def picture(shade: int = 0, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (shade % 256, 90, 120)).save(out, kind)
    return out.getvalue()


def noisy_picture() -> bytes:
    pixels = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


# ---- a server that does what the path says ------------------------------------------------------


class Shop(ThreadingHTTPServer):
    """Keeps what it was asked for, when, and how many were at it at a time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, float]] = []
        self.agents: set[str] = set()
        self.sent = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}/{path}"

    def count(self, path: str) -> int:
        return sum(each == f"/{path}" for each, _ in self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side hung up, as it should."""


class _Handler(BaseHTTPRequestHandler):
    server: Shop
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        shop = self.server
        with shop.lock:
            shop.asked.append((self.path, time.monotonic()))
            shop.agents.add(self.headers["User-Agent"])
            shop.at_once += 1
            shop.most_at_once = max(shop.most_at_once, shop.at_once)
        try:
            what, _, which = self.path[1:].partition("/")
            getattr(self, f"give_{what}")(which)
        finally:
            with shop.lock:
                shop.at_once -= 1

    def answer(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.server.sent += len(body)

    def give_good(self, which: str) -> None:
        self.answer(200, picture(int(which or 0)))

    def give_png(self, which: str) -> None:
        self.answer(200, picture(kind="PNG"), Content_Type="image/jpeg")

    def give_slow(self, which: str) -> None:
        time.sleep(0.05)
        self.give_good(which)

    def give_missing(self, which: str) -> None:
        self.answer(404)

    def give_forbidden(self, which: str) -> None:
        self.answer(403)

    def give_status(self, which: str) -> None:
        self.answer(int(which))

    def give_flaky(self, which: str) -> None:
        first = self.server.count(self.path[1:]) <= 2
        self.answer(500) if first else self.give_good("1")

    def give_busy(self, which: str) -> None:
        first = self.server.count(self.path[1:]) == 1
        self.answer(429, Retry_After=which) if first else self.give_good("1")

    def give_later(self, which: str) -> None:
        self.answer(503, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT")

    def give_stall(self, which: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.flush()
        self.server.closing.wait(20)

    def give_drip(self, which: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()

    def give_cut(self, which: str) -> None:
        body = picture()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def give_half(self, which: str) -> None:
        """Half a picture, by a server that does not say how long it is."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        whole = noisy_picture()
        self.wfile.write(whole[: len(whole) // 2])
        self.close_connection = True

    def give_junk(self, which: str) -> None:
        self.answer(200, b"<html>Sorry, we just need to make sure you are not a robot.</html>")

    def give_packed(self, which: str) -> None:
        self.answer(200, gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")

    def give_huge(self, which: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        self.server.closing.wait(20)  # nothing of it has come when it is given up

    def give_endless(self, which: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.server.closing.is_set():
            self.wfile.write(bytes(10_000))
            self.server.sent += 10_000

    def give_moved(self, which: str) -> None:
        self.answer(302, Location=f"/good/{which}")

    def give_loop(self, which: str) -> None:
        self.answer(302, Location=f"/loop/{int(which) + 1}")

    def give_file(self, which: str) -> None:
        self.answer(302, Location="file:///etc/passwd")


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


PATIENT: Mapping[str, Any] = {"read_timeout": 30, "total_timeout": 60}
"""For tests that count requests: on a busy machine an answer may take longer than QUICK waits."""

QUICK: Mapping[str, Any] = {
    "allow_private": True,
    "rate": 1e6,
    "back_off": 0.01,
    "read_timeout": 0.3,
    "total_timeout": 0.6,
    "tries": 3,
    "largest": 100_000,
}


def fetched(folder: Path, *urls: str, forget: bool = False, **options: Any) -> dict[str, Entry]:
    """Fetch addresses as if each were a product's first picture."""
    named = Named({url: (url,) for url in urls}, ())
    wanted = FetchOptions.model_validate({**QUICK, **options})
    asyncio.run(fetch_pictures(named, Manifest(folder, forget_failures=forget), wanted))
    return read_manifest(folder)


# ---- what servers do wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["good/7", "flaky/1", "moved/7", "png/1"])
def test_what_is_a_picture_in_the_end_is_kept_whole(shop: Shop, tmp_path: Path, path: str):
    entry = fetched(tmp_path, shop.url(path))[shop.url(path)]
    assert entry.status == "kept"
    assert entry.whole(tmp_path)
    assert entry.file is not None
    assert entry.file.endswith(".png" if path.startswith("png") else ".jpg")
    with Image.open(tmp_path / entry.file) as kept:
        assert kept.size == (40, 30)


@pytest.mark.parametrize(
    ("path", "reason", "final", "asked"),
    [
        ("missing/1", "http_404", True, 1),
        ("status/410", "http_410", True, 1),
        ("forbidden/1", "http_403", False, 1),
        ("status/500", "http_500", False, 3),
        ("status/429", "http_429", False, 3),
        ("stall/1", "timeout", False, 3),
        ("drip/1", "timeout", False, 3),
        ("cut/1", "connection", False, 3),
        ("half/1", "broken_image", False, 3),
        ("junk/1", "not_an_image", True, 1),
        ("packed/1", "not_an_image", True, 1),
        ("huge/1", "too_large", True, 1),
        ("endless/1", "too_large", True, 1),
        ("file/1", "bad_address", True, 1),
    ],
)
def test_a_failure_is_written_down_with_its_reason_after_so_many_tries(
    shop: Shop, tmp_path: Path, path: str, reason: str, final: bool, asked: int
):
    url = shop.url(path)
    patience = {} if reason == "timeout" else PATIENT
    entry = fetched(tmp_path, url, **patience)[url]
    assert (entry.status, entry.reason, entry.final) == ("failed", reason, final)
    assert entry.tries == asked == shop.count(path)
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == [MANIFEST]


def test_no_more_is_read_than_a_picture_may_have(shop: Shop, tmp_path: Path):
    fetched(tmp_path, shop.url("endless/1"))
    time.sleep(0.05)
    sent = shop.sent
    time.sleep(0.05)
    assert sent == shop.sent < 20_000_000  # what stands in the sockets' buffers, and no more


def test_redirects_end(shop: Shop, tmp_path: Path):
    entry = fetched(tmp_path, shop.url("loop/0"), redirects=3)[shop.url("loop/0")]
    assert (entry.reason, entry.final) == ("redirects", True)
    assert len(shop.asked) == 4


def test_one_that_refuses_does_not_keep_the_rest_from_coming(shop: Shop, tmp_path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        refuses = f"http://127.0.0.1:{closed.getsockname()[1]}/1.jpg"
        urls = [refuses, shop.url("stall/1"), *(shop.url(f"good/{i}") for i in range(20))]
        found = fetched(tmp_path, *urls, tries=2)
    assert found[refuses].reason == "connection"
    assert Counter(each.status for each in found.values()) == {"kept": 20, "failed": 2}


@pytest.mark.parametrize(
    "url",
    ["ftp://shop.example/1.jpg", "file:///etc/passwd", "//x", "", "http://", "http://a:port/"],
)
def test_what_is_no_web_address_is_never_asked_for(tmp_path: Path, url: str):
    assert fetched(tmp_path, url)[url].reason == "bad_address"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_private_networks_are_not_followed_into_unless_that_is_allowed(
    shop: Shop, tmp_path: Path, host: str
):
    url = shop.url("good/1", host)
    entry = fetched(tmp_path, url, allow_private=False)[url]
    assert (entry.reason, entry.final) == ("private_address", False)
    assert shop.asked == []


async def test_the_connection_is_made_to_the_number_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
):
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    async def resolve(host: str) -> str:
        return {"shop.example": "192.0.2.7", "six.example": "2001:db8::7"}[host]

    monkeypatch.setattr(fetch, "_public_number", resolve)
    transport = fetch.PublicOnly(httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=transport) as client:
        for host in ("shop.example", "six.example"):
            found = await client.get(f"https://{host}:8443/1.jpg?x=1")
            assert str(found.request.url) == f"https://{host}:8443/1.jpg?x=1"
    assert [str(each.url) for each in seen] == [
        "https://192.0.2.7:8443/1.jpg?x=1",
        "https://[2001:db8::7]:8443/1.jpg?x=1",
    ]
    for request, host in zip(seen, ("shop.example", "six.example"), strict=True):
        assert request.headers["Host"] == f"{host}:8443"
        assert request.extensions["sni_hostname"] == host  # certificates are held against it


def test_a_host_that_there_is_not_is_a_failure(tmp_path: Path):
    url = "http://no-such-host.invalid/1.jpg"
    entry = fetched(tmp_path, url, allow_private=False, tries=1)[url]
    assert (entry.reason, entry.final) == ("no_such_host", False)


# ---- what is asked of servers -------------------------------------------------------------------


def test_no_more_requests_at_a_time_than_allowed(shop: Shop, tmp_path: Path):
    fetched(tmp_path, *(shop.url(f"slow/{i}") for i in range(12)), per_host=2, **PATIENT)
    assert shop.most_at_once == 2
    assert len(shop.asked) == 12


def test_no_more_requests_a_second_than_allowed_whatever_they_lead_to(shop: Shop, tmp_path: Path):
    fetched(tmp_path, *(shop.url(f"moved/{i}") for i in range(4)), rate=25.0, **PATIENT)
    times = [when for _, when in shop.asked]
    assert len(times) == 8
    assert times[-1] - times[0] >= 7 / 25 * 0.9


def test_retry_after_holds_for_all_of_the_host(shop: Shop, tmp_path: Path):
    urls = [shop.url("busy/1"), *(shop.url(f"slow/{i}") for i in range(3))]
    found = fetched(tmp_path, *urls, at_once=1, **PATIENT)
    assert {each.status for each in found.values()} == {"kept"}
    (first, asked), *rest = shop.asked
    assert first == "/busy/1"
    assert all(when - asked >= 0.95 for _, when in rest)


def test_a_host_that_wants_rest_for_too_long_is_left_alone(shop: Shop, tmp_path: Path):
    urls = [shop.url("later/1"), *(shop.url(f"good/{i}") for i in range(5))]
    found = fetched(tmp_path, *urls, at_once=1, longest_wait=2.0)
    assert {each.reason for each in found.values()} == {"host_rests"}
    assert not any(each.final for each in found.values())  # the next run asks again
    assert len(shop.asked) == 1


def test_we_say_who_we_are(shop: Shop, tmp_path: Path):
    fetched(tmp_path, shop.url("good/1"), user_agent="reviews of a shop (mail@shop.example)")
    assert shop.agents == {"reviews of a shop (mail@shop.example)"}


# ---- going on -----------------------------------------------------------------------------------


def test_what_is_there_whole_is_not_fetched_again_and_what_is_not_is(shop: Shop, tmp_path: Path):
    urls = [shop.url(f"good/{i}") for i in range(4)]
    before = fetched(tmp_path, *urls)
    manifest = (tmp_path / MANIFEST).read_bytes()
    files = [tmp_path / str(before[url].file) for url in urls]
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:-1])
    files[3].write_bytes(b"x" * files[3].stat().st_size)
    fetched(tmp_path, *urls)
    assert Counter(path for path, _ in shop.asked) == {
        "/good/0": 1, "/good/1": 2, "/good/2": 2, "/good/3": 2,
    }  # fmt: skip
    assert (tmp_path / MANIFEST).read_bytes() == manifest


def test_only_failures_that_may_pass_are_tried_again(shop: Shop, tmp_path: Path):
    urls = [shop.url("missing/1"), shop.url("status/500")]
    fetched(tmp_path, *urls)
    fetched(tmp_path, *urls)
    assert (shop.count("missing/1"), shop.count("status/500")) == (1, 6)
    fetched(tmp_path, *urls, forget=True)
    assert (shop.count("missing/1"), shop.count("status/500")) == (2, 9)


def test_a_last_line_that_was_cut_off_does_not_count(shop: Shop, tmp_path: Path):
    urls = [shop.url("good/1"), shop.url("good/2")]
    fetched(tmp_path, *urls)
    path = tmp_path / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert len(read_manifest(tmp_path)) == 1
    fetched(tmp_path, *urls)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("not JSON", "damaged_manifest"),
        ('{"url": "a"}', "bad_schema"),
        ('{"url": "a", "status": "kept", "file": "../../a.jpg"}', "damaged_manifest"),
        ('{"url": "a", "status": "kept", "file": "/etc/passwd"}', "damaged_manifest"),
    ],
)
def test_a_damaged_manifest_is_refused_by_its_line(tmp_path: Path, line: str, code: str):
    good = Entry(url="b", status="failed", reason="http_404").line()
    (tmp_path / MANIFEST).write_text(good + line + "\n")
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path)
    assert caught.value.code == code
    assert "line 2" in str(caught.value)


# ---- the command --------------------------------------------------------------------------------


def write_raw(folder: Path, shop: Shop, products: int) -> None:
    folder.mkdir()
    reviews, metadata = [], []
    for i in range(products):
        image = [shop.url(f"good/{100 + i}")]
        reviews.append({"asin": f"B{i}", "reviewerID": "A", "overall": 5.0, "image": image})
        high, low = {
            0: ([shop.url("slow/0")], [shop.url("good/0")]),
            1: ([shop.url("missing/1")], [shop.url("slow/1")]),
            2: ([], [shop.url("junk/2")]),
        }[i % 3]
        metadata.append({"asin": f"B{i}", "imageURLHighRes": high, "imageURL": low})
    metadata.append({"asin": "B-not-reviewed", "imageURLHighRes": [shop.url("good/9")]})
    for name, records in (("Toys.json", reviews), ("meta_Toys.json", metadata)):
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in records))


def command(raw: Path, out: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "training.prepare", "amazon-images"),
            *("--source", str(raw), "--out", str(out), "--allow-private-addresses"),
            *("--rate", "1000", "--at-once", "1"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_next_best_picture_is_fetched_only_where_the_best_is_not_there(
    shop: Shop, tmp_path: Path
):
    write_raw(tmp_path / "raw", shop, products=3)
    said, errors = command(tmp_path / "raw", tmp_path / "pictures").communicate(timeout=60)
    assert said.strip() == (
        f"{tmp_path / 'pictures'}: 3 images, 2 failed (1 http_404, 1 not_an_image)"
    ), errors
    assert sorted(path for path, _ in shop.asked) == [
        "/good/102", "/junk/2", "/missing/1", "/slow/0", "/slow/1",
    ]  # fmt: skip


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(shop: Shop, tmp_path: Path):
    raw, out = tmp_path / "raw", tmp_path / "pictures"
    raw.mkdir()
    reviews = [{"asin": "B", "image": [shop.url(f"slow/{i}")]} for i in range(30)]
    (raw / "Toys.json").write_text("".join(json.dumps(each) + "\n" for each in reviews))
    killed = command(raw, out)
    while len(shop.asked) < 8:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    before = len(read_manifest(out))
    assert 0 < before < 30
    asked = len(shop.asked)
    urls = [shop.url(f"slow/{i}") for i in range(30)]
    assert {each.status for each in fetched(out, *urls).values()} == {"kept"}
    assert len(shop.asked) - asked == 30 - before
    fetched(tmp_path / "straight", *urls)
    assert (out / MANIFEST).read_bytes() == (tmp_path / "straight" / MANIFEST).read_bytes()
