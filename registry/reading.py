"""Asking Redis within a strict time: what every read of the health cache goes through.

redis-py's connections are used directly, without its client and pool: these cost more than the question itself. A
connection is made aside, so that a reader waits for the name look-up, the handshakes and Sentinel no longer than for
an answer; a connection that comes too late serves the next reader. Nothing is tried again, except that a connection
which broke while it was idle is replaced.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, Protocol, TypeAlias

from registry.circuit import Circuit
from registry.clock import steady
from registry.connection import SILENT, RedisConnectionError, RedisTimeoutError, connect, connect_sync

Command: TypeAlias = "tuple[str | int | bytes, ...]"

CONNECT_TIMEOUT = 5.0
"""Seconds until a connection that is made aside is given up."""

PLACES = 64
"""Questions one event loop asks at a time; others wait for a place, within their time."""


class _Line(Protocol):
    """What is used of `redis.asyncio.connection.AbstractConnection`."""

    async def connect(self) -> None: ...
    async def disconnect(self, *, nowait: bool) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    async def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...
    async def read_response(self) -> Any: ...


class _SyncLine(Protocol):
    """What is used of `redis.connection.AbstractConnection`."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def read_response(self, *, timeout: float, disconnect_on_error: bool) -> Any: ...


class Reading:
    """Asks from coroutines; belongs to the event loop that first uses it.

    Args:
        timeout: seconds one `ask` takes at most, whatever has to be done for it.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._client = connect(url, CONNECT_TIMEOUT)
        pool = self._client.connection_pool
        self._make, self._kwargs = pool.connection_class, {**pool.connection_kwargs, "socket_timeout": None}
        self._timeout, self._circuit, self._places = timeout, Circuit(), asyncio.Semaphore(PLACES)
        self._idle: list[_Line] = []
        self._aside: set[asyncio.Future[_Line]] = set()
        self._left: list[asyncio.Future[_Line]] = []

    async def ask(self, *commands: Command, since: float | None = None) -> list[Any]:
        """The bare answers to `commands`, in one round trip.

        Args:
            since: when the read began (`steady`), if this is not its first question.

        Raises:
            CircuitOpen: Redis is not asked at present.
            RedisError, OSError, TimeoutError: as redis-py raises them.
        """
        began = self._circuit.admit()
        try:
            async with asyncio.timeout(self._timeout - (0 if since is None else began - since)), self._places:
                answers = await self._answers(commands)
        except SILENT:
            self._circuit.failed(began)
            raise
        self._circuit.answered()
        return answers

    async def _answers(self, commands: Sequence[Command]) -> list[Any]:
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), commands)
            except RedisConnectionError:
                continue
        return await self._exchange(await self._connection(), commands)

    async def _exchange(self, connection: _Line, commands: Sequence[Command]) -> list[Any]:
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = [await connection.read_response() for _ in commands]
        except BaseException:  # whatever is still to come belongs to nobody
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return answers

    async def _connection(self) -> _Line:
        """A new one, for one under way may hang; beyond `PLACES` of them the newest whose reader has left."""
        made = self._left.pop() if self._left and len(self._aside) >= PLACES else self._begun()
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            self._left.append(made)
            made.add_done_callback(self._keep)
            raise

    def _begun(self) -> asyncio.Future[_Line]:
        made = asyncio.ensure_future(self._connect())
        self._aside.add(made)
        made.add_done_callback(self._aside.discard)
        return made

    async def _connect(self) -> _Line:
        connection: _Line = self._make(**self._kwargs)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _keep(self, made: asyncio.Future[_Line]) -> None:
        if made in self._left:
            self._left.remove(made)
            if not made.cancelled() and made.exception() is None:
                self._idle.append(made.result())

    async def aclose(self) -> None:
        """Close every connection."""
        for made in list(self._aside):
            made.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
        await self._client.aclose()


class SyncReading:
    """The synchronous twin of `Reading`, for any number of threads; a forked process begins anew."""

    def __init__(self, url: str, timeout: float) -> None:
        self._client = connect_sync(url, CONNECT_TIMEOUT)
        pool = self._client.connection_pool
        self._make, self._kwargs = pool.connection_class, {**pool.connection_kwargs, "socket_timeout": timeout}
        self._timeout, self._closed = timeout, False
        self._begin()

    def _begin(self) -> None:
        """A forked process begins anew: connections are its parent's, and the circuit's lock may be held for ever."""
        self._idle: list[_SyncLine] = []
        self._circuit = Circuit()
        self._process = os.getpid()

    def ask(self, *commands: Command, since: float | None = None) -> list[Any]:
        """See `Reading.ask`."""
        if self._process != os.getpid():
            self._begin()
        began = self._circuit.admit()
        try:
            answers = self._answers(commands, (began if since is None else since) + self._timeout)
        except SILENT:
            self._circuit.failed(began)
            raise
        self._circuit.answered()
        return answers

    def _answers(self, commands: Sequence[Command], ends: float) -> list[Any]:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._exchange(self._connection(ends), commands, ends)
            try:
                return self._exchange(connection, commands, ends)
            except RedisConnectionError:
                continue

    def _exchange(self, connection: _SyncLine, commands: Sequence[Command], ends: float) -> list[Any]:
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers = [self._answer(connection, ends) for _ in commands]
        except BaseException:  # whatever is still to come belongs to nobody
            connection.disconnect()
            raise
        self._idle.append(connection)
        return answers

    def _answer(self, connection: _SyncLine, ends: float) -> Any:
        """One answer, in however many pieces it comes: redis-py's own timeout is for each piece."""
        while connection.can_read(max(0.001, ends - steady())):
            try:
                return connection.read_response(timeout=0, disconnect_on_error=False)
            except RedisTimeoutError:
                if steady() > ends:
                    raise
        raise RedisTimeoutError("no whole answer in time")

    def _connection(self, ends: float) -> _SyncLine:
        made: Future[_SyncLine] = Future()
        Thread(target=self._connect, args=(made,), name="redis-connect", daemon=True).start()
        try:
            return made.result(max(0.0, ends - steady()))
        except BaseException:
            made.add_done_callback(self._keep)
            raise

    def _connect(self, made: Future[_SyncLine]) -> None:
        connection: _SyncLine = self._make(**self._kwargs)
        try:
            connection.connect()
        except Exception as error:  # noqa: BLE001 - it is the reader's, in its own thread
            connection.disconnect()
            made.set_exception(error)
        else:
            made.set_result(connection)

    def _keep(self, made: Future[_SyncLine]) -> None:
        if made.exception() is None:
            made.result().disconnect() if self._closed else self._idle.append(made.result())

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        while self._idle:
            self._idle.pop().disconnect()
        self._client.close()
