"""A real HTTP server for the clients: it keeps what it got and answers as it was told."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.forked import preload

preload("clients.__main__")


@dataclass
class Part:
    """One part of a multipart form, as the server read it."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes


@dataclass
class Received:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    sender: tuple[str, int] = ("", 0)

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    @property
    def parts(self) -> list[Part]:
        kind = self.headers["Content-Type"]
        assert kind.startswith("multipart/form-data")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + self.body)
        return [
            Part(
                name=part.get_param("name", header="Content-Disposition"),
                filename=part.get_filename(),
                content_type=part.get_content_type() if "Content-Type" in part else None,
                content=part.get_payload(decode=True),
            )
            for part in form.iter_parts()
        ]


@dataclass
class Service:
    """What the server answers next, and what it received.

    Attributes:
        answer: says what a request is answered: a status, JSON, and headers if there are any
            more; None: all are answered alike.
        pieces: of an answer's body, a quarter of a second apart.
        before: statuses and headers of refusals that come first.
        keeps: whether a connection serves for the next request too.
    """

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    pieces: int = 1
    raw: bytes | None = None
    answer: Callable[[Received], tuple[Any, ...]] | None = None
    before: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    keeps: bool = False
    received: list[Received] = field(default_factory=list)
    released: Event = field(default_factory=Event)

    def answers(self, value: Any, *, status: int = 200, **headers: str) -> None:
        """Answer JSON; a status of 400 and above answers it as a problem."""
        kind = "application/problem+json" if status >= 400 else "application/json"
        self.answers_bytes(json.dumps(value).encode(), kind, status=status, **headers)

    def answers_bytes(self, body: bytes, kind: str, *, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.status, self.body = status, body
        self.headers = {"Content-Type": kind, "Content-Length": str(len(body)), **named}

    def refuses(self, *statuses: int, **headers: str) -> None:
        """Answer so many requests with such problems before the rest."""
        self.before = [
            (each, {name.replace("_", "-"): value for name, value in headers.items()})
            for each in statuses
        ]

    @property
    def last(self) -> Received:
        return self.received[-1]


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        @property
        def protocol_version(self) -> str:
            return "HTTP/1.1" if service.keeps else "HTTP/1.0"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            address = urlsplit(self.path)
            received = Received(
                method=self.command,
                path=address.path,
                query=parse_qs(address.query),
                headers=self.headers,
                body=self.rfile.read(length),
                sender=self.client_address,
            )
            service.received.append(received)
            if service.silent:
                service.released.wait(20)
                return
            if service.raw is not None:
                self.wfile.write(service.raw)
                return
            status, headers, body = service.status, service.headers, service.body
            if service.answer is not None:
                status, value, *more = service.answer(received)
                body = json.dumps(value).encode()
                kind = "application/problem+json" if status >= 400 else "application/json"
                headers = {"Content-Type": kind, "Content-Length": str(len(body))}
                headers = headers | more[0] if more else headers
            if service.before:
                status, more = service.before.pop(0)
                body = json.dumps({"title": "No", "code": "no", "status": status}).encode()
                kind = {"Content-Type": "application/problem+json"}
                headers = {**kind, "Content-Length": str(len(body)), **more}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            step = max(1, len(body) // service.pieces)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                if service.pieces > 1:
                    time.sleep(0.25)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: Any) -> None:
            """Say nothing: the tests' own output is enough."""

    return Handler


@pytest.fixture
def service() -> Iterator[Service]:
    told = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(told))
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield told
    told.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def deserted_url() -> str:
    """An address at which nobody listens: a port that was just free."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def mortality() -> dict[str, Any]:
    return {
        "id": "stay-17",
        "task": "mortality",
        "model": {"name": "mortality-demo", "version": "0.1.0", "demo": True},
        "prediction": {
            "label": "survived",
            "probability": 0.31,
            "probabilities": {"survived": 0.69, "died": 0.31},
            "set": ["survived", "died"],
        },
        "modalities": {
            "used": ["text", "timeseries"],
            "missing": ["image", "tabular"],
            "contributions": {"text": 0.42, "timeseries": -0.11},
            "baseline": -1.5,
        },
        "issues": [
            {
                "code": "out_of_range",
                "field": "timeseries[3].heart_rate",
                "seen": 1200,
                "action": "dropped",
                "detail": "0 to 390 1/min",
            }
        ],
        "request_id": "r-1",
        "timing_ms": {"preprocess": 1.5, "queue": 0, "inference": 12.25},
    }


@pytest.fixture
def rating(mortality: dict[str, Any]) -> dict[str, Any]:
    stars = {"1": 0.05, "2": 0.05, "3": 0.1, "4": 0.25, "5": 0.55}
    return mortality | {
        "id": None,
        "task": "rating",
        "prediction": {
            "label": "5",
            "probabilities": stars,
            "set": ["4", "5"],
            "expected": 4.2,
        },
        "modalities": {"used": ["text"], "missing": ["image", "tabular"]},
        "issues": [],
    }


@pytest.fixture
def length_of_stay(mortality: dict[str, Any]) -> dict[str, Any]:
    return mortality | {
        "task": "length_of_stay",
        "prediction": {"value": 3, "interval": [1.5, 4]},
        "issues": [],
    }


@pytest.fixture
def problem() -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": "Not usable",
        "status": 422,
        "code": "wrong_type",
        "detail": "must be a number",
        "field": "tabular.age",
        "seen": "old",
        "accepted": "18 to 120 years",
        "request_id": "r-2",
        "issues": [
            {"code": "unknown_field", "field": "tabular.aeg", "seen": 3, "action": "dropped"}
        ],
    }
