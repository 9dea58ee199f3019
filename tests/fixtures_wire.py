"""A wire to the tests' Redis on which questions can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures_redis import RedisServer


class Wire:
    """Stands between a client and Redis, and counts how often the client speaks after Redis has answered."""

    def __init__(self, server: RedisServer) -> None:
        self._server, self.turns = server, 0
        self.connections: set[asyncio.Task[None]] = set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_unix_connection(str(self._server.socket))
        answered = True

        async def ask() -> None:
            nonlocal answered
            while data := await reader.read(1 << 16):
                self.turns, answered = self.turns + answered, False
                questions.write(data)
            questions.close()

        async def answer() -> None:
            nonlocal answered
            while data := await answers.read(1 << 16):
                answered = True
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer())
        await asyncio.gather(writer.wait_closed(), questions.wait_closed())


@pytest.fixture
async def wire(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Wire]:
    made = Wire(redis_server)
    async with await asyncio.start_unix_server(made.connect, tmp_path / "wire.sock"):
        yield made
    await asyncio.gather(*made.connections)
