"""A server that reads requests and looks at none of them: what is left is what clients can send.

python -m benchmarks.servers.trivial --port 8000
"""

import asyncio
from typing import Any

import httptools

from benchmarks.servers import HOST
from lanistr.command import CommandParser, run_command

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n"
_BODY = b'"' + 598 * b" " + b'"'
"""As long as a prediction."""


class Trivial(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        """Begin to read."""
        self._transport = transport
        self._parser: Any = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer; called by the parser."""
        self._transport.write(_ANSWER + _BODY)


def main() -> None:
    """Serve until told to stop."""
    parser = CommandParser(
        prog="python -m benchmarks.servers.trivial", description="Answer everything alike."
    )
    parser.add_argument("--port", type=int, required=True, help="to listen on")
    asyncio.run(_serve(parser.parse_args().port))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    run_command(main)
