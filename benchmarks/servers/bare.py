"""As little as a server can be: an ASGI application of one function, and a thread a core.

Bodies are taken raw and read by orjson, graphs have one thread each, first in is first out. It has
no limits and no cache, and whatever goes wrong is a 500.

    python -m benchmarks.servers.bare --bundle BUNDLE --precision fp32 --port 8000
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import uvicorn

from benchmarks.servers.model import CORES, Model, server_parser
from lanistr.command import run_command


class Bare:
    """The application; answers every POST, whatever the path."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._threads = ThreadPoolExecutor(CORES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        answer = b"{}"
        if body:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._predict, body)
        await send({"type": "http.response.start", "status": 200, "headers": _headers(answer)})
        await send({"type": "http.response.body", "body": answer})

    def _predict(self, body: bytes) -> bytes:
        return orjson.dumps(self._model.alone(self._model.read(orjson.loads(body))))


def _headers(answer: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]


def main() -> None:
    """Serve until told to stop."""
    parser = server_parser("bare", "Serve a bundle with next to no server around it.")
    arguments = parser.parse_args()
    app = Bare(Model(arguments.bundle, arguments.precision, threads=1))
    uvicorn.run(app, port=arguments.port, log_level="warning", lifespan="off", access_log=False)


if __name__ == "__main__":
    run_command(main)
