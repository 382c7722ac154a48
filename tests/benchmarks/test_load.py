"""The load: requests follow one another as a client of today sends them."""

import asyncio

import pytest

from benchmarks.load import send


@pytest.mark.parametrize(
    ("said", "done", "connections"),
    [("keep-alive", "keep-alive", 2), ("close", "close", 8), ("keep-alive", "close", 6)],
)
async def test_a_connection_is_kept_while_the_server_keeps_it(
    said: str, done: str, connections: int
):
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while await reader.read(1 << 16):
            head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {said}\r\n\r\n"
            writer.write(head.encode() + b"{}")
            if done == "close":
                break
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = await send("127.0.0.1", port, "/", [b"{}"], clients=2, asked=[0] * 6)
    assert (load.statuses, load.answers) == ([200] * 6, [b"{}"] * 6)
    assert opened == connections
