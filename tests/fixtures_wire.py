"""A wire to the tests' Redis on which questions can be counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures_redis import RedisServer


class Wire:
    """Stands between a client and Redis, and counts how often the client speaks after Redis has answered.

    A question of more than `most` bytes is never answered, as if Redis took for ever to collect what it asks for.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server, self.turns, self.most = server, 0, 1 << 30
        self.connections: set[asyncio.Task[None]] = set()

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_unix_connection(str(self._server.socket))
        answered, asked = True, 0

        async def ask() -> None:
            nonlocal answered, asked
            while data := await reader.read(1 << 16):
                self.turns, asked, answered = self.turns + answered, (0 if answered else asked) + len(data), False
                if asked <= self.most:
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
