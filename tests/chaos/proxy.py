"""A TCP proxy in front of a Unix socket that can cut, freeze and delay what goes through it."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from pathlib import Path


class Line(Enum):
    """The state of the network."""

    UP = "up"
    CUT = "cut"
    """Every connection is reset, and every new one too."""
    FROZEN = "frozen"
    """Nothing arrives and nobody is told: half-open connections, which stay dead when the line is up again."""


class Proxy:
    """Runs on a loop and thread of its own; `port` is where it listens on loopback."""

    def __init__(self, target: Path) -> None:
        self._target, self._line, self._delay = target, Line.UP, 0.0
        self.carried = 0
        """How many connections were let through."""
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, line: Line) -> None:
        """Change the line, for connections that are open too."""
        asyncio.run_coroutine_threadsafe(self._set(line), self._loop).result(10)

    def delay(self, seconds: float) -> None:
        """How late each answer arrives."""
        self._delay = seconds

    def close(self) -> None:
        """End the listener and every connection."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _set(self, line: Line) -> None:
        self._line = line
        if line is Line.CUT:
            await self._drop()

    async def _end(self) -> None:
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also of one that was cut before it began

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            if self._line is Line.CUT:
                return
            await self._pass_or_hang()
            self.carried += 1
            answers, far = await asyncio.open_unix_connection(str(self._target))
            pumps = [
                asyncio.create_task(self._pump(reader, far, late=False)),
                asyncio.create_task(self._pump(answers, writer, late=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is away: so is this connection
        finally:
            if far is not None:
                far.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        while data := await source.read(1 << 16):
            await self._pass_or_hang()
            if late and self._delay:
                await asyncio.sleep(self._delay)
            sink.write(data)
            await sink.drain()

    async def _pass_or_hang(self) -> None:
        if self._line is Line.FROZEN:
            await asyncio.Event().wait()
