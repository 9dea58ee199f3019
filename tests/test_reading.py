"""Readers and a real Redis that is stopped, slow, restarted or gone: unknown in time, and healed by itself.

That a read is over in time is asserted by a bound far above its timeout: what would hang, hangs for ever.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from registry import HealthView
from registry.cache import HealthCache
from registry.circuit import CircuitOpen
from registry.clock import SharedClock
from registry.connection import AWAY, RedisTimeoutError
from registry.health import Reason
from registry.ids import Pair
from registry.reading import PLACES, Reading, SyncReading
from tests.fixtures_redis import RedisServer, redis_binary
from tests.waiting import reached

TIMEOUT = 0.2
PING = ("PING",)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="cr-reading-") as directory:
        made = RedisServer(redis_binary(), Path(directory))
        made.start()
        yield made
        made.kill()


@pytest.fixture
def sync(server: RedisServer) -> Iterator[SyncReading]:
    made = SyncReading(server.url(), TIMEOUT)
    yield made
    made.close()


@pytest.fixture
async def reading(server: RedisServer) -> AsyncIterator[Reading]:
    made = Reading(server.url(), TIMEOUT)
    yield made
    await made.aclose()


def stop(server: RedisServer) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)


def go_on(server: RedisServer) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)


def commands(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("stats")["total_commands_processed"])


def turned_away(sync: SyncReading) -> None:
    """Ask until the circuit is open."""
    for _ in range(10):
        try:
            sync.ask(PING)
        except CircuitOpen:
            return
        except AWAY:
            continue
    pytest.fail("the circuit never opened")


async def turned_away_async(reading: Reading) -> None:
    for _ in range(10):
        try:
            await reading.ask(PING)
        except CircuitOpen:
            return
        except AWAY:
            continue
    pytest.fail("the circuit never opened")


def test_a_stopped_redis_opens_the_circuit_and_its_return_closes_it(server: RedisServer, sync: SyncReading) -> None:
    assert sync.ask(PING) == [b"PONG"]
    stop(server)
    turned_away(sync)
    go_on(server)
    while True:
        try:
            assert sync.ask(PING) == [b"PONG"]
        except AWAY:
            continue
        break


async def answered(reading: Reading) -> bool:
    with suppress(*AWAY):
        return await reading.ask(PING) == [b"PONG"]
    return False


async def test_so_it_is_for_coroutines(server: RedisServer, reading: Reading) -> None:
    assert await reading.ask(PING) == [b"PONG"]
    stop(server)
    await turned_away_async(reading)
    go_on(server)
    await reached("an answer", lambda: answered(reading))


def test_no_answer_is_taken_for_that_of_a_later_question(server: RedisServer, sync: SyncReading) -> None:
    stop(server)
    with pytest.raises(AWAY):
        sync.ask(("ECHO", "first"))
    go_on(server)
    for word in (b"second", b"third"):
        assert sync.ask(("ECHO", word)) == [word]


async def test_a_cancelled_question_leaves_nothing_behind(server: RedisServer, reading: Reading) -> None:
    await reading.ask(PING)
    stop(server)
    asked = asyncio.create_task(reading.ask(("ECHO", "first")))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    go_on(server)
    assert await reading.ask(("ECHO", "second")) == [b"second"]


def test_a_connection_that_broke_while_idle_is_replaced(server: RedisServer, sync: SyncReading) -> None:
    assert sync.ask(PING) == [b"PONG"]
    server.kill()
    server.start()
    assert sync.ask(PING) == [b"PONG"]


async def test_so_it_is_for_coroutines_too(server: RedisServer, reading: Reading) -> None:
    await asyncio.gather(*(reading.ask(PING) for _ in range(5)))
    server.kill()
    server.start()
    assert await reading.ask(PING) == [b"PONG"]


async def test_thousands_of_coroutines_ask_over_a_bounded_number_of_connections(
    server: RedisServer, reading: Reading
) -> None:
    patient = Reading(server.url(), 30.0)
    assert await asyncio.gather(*(patient.ask(PING) for _ in range(2_000))) == [[b"PONG"]] * 2_000
    with server.client() as client:
        assert client.info("clients")["connected_clients"] <= PLACES + 2
    await patient.aclose()


def test_threads_share_a_view_and_never_an_answer(sync: SyncReading) -> None:
    def echoes(thread: int) -> bool:
        words = [f"{thread}-{n}".encode() for n in range(200)]
        return all(sync.ask(("ECHO", word)) == [word] for word in words)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(echoes, range(8)))


def test_a_forked_process_has_connections_of_its_own(server: RedisServer, sync: SyncReading) -> None:
    sync.ask(PING)
    child = os.fork()
    if child == 0:
        os._exit(0 if sync.ask(("ECHO", "child")) == [b"child"] else 1)
    assert sync.ask(("ECHO", "parent")) == [b"parent"]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_while_a_thread_counts_a_failure_leaves_the_child_free_to_read(
    server: RedisServer, sync: SyncReading
) -> None:
    held = sync._circuit._lock  # nothing public holds it for longer than a moment
    stop(server)
    turned_away(sync)
    go_on(server)
    held.acquire()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if sync.ask(("ECHO", "child")) == [b"child"] else 1)
    held.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@asynccontextmanager
async def dribbling(every: float) -> AsyncIterator[str]:
    """A TCP address of something like a Redis whose answer to PING comes byte by byte, without an end."""

    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while asked := await reader.read(65_536):
                if b"PING" not in asked:
                    writer.write(b"+OK\r\n" * asked.count(b"*"))
                    continue
                writer.write(b"+")
                while not writer.is_closing():
                    writer.write(b"P")
                    await asyncio.sleep(every)
        finally:
            writer.close()

    listening = await asyncio.start_server(
        lambda reader, writer: serving.append(asyncio.create_task(serve(reader, writer))), "127.0.0.1", 0
    )
    yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0?protocol=2"
    listening.close()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    await listening.wait_closed()


async def test_an_answer_that_comes_byte_by_byte_costs_no_more_than_the_timeout() -> None:
    """It has no end; the bound of this test is far above the timeout."""
    async with dribbling(TIMEOUT / 4) as url, asyncio.timeout(20):

        def read() -> None:
            sync = SyncReading(url, TIMEOUT)
            with pytest.raises(RedisTimeoutError):
                sync.ask(PING)
            sync.close()

        await asyncio.to_thread(read)
        reading = Reading(url, TIMEOUT)
        with pytest.raises(TimeoutError):
            await reading.ask(PING)
        await reading.aclose()


@asynccontextmanager
async def slow_proxy(server: RedisServer, delay: float) -> AsyncIterator[str]:
    """A TCP address that leads to the server; every answer comes `delay` seconds late."""
    ended: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        while data := await reader.read(65_536):
            await asyncio.sleep(late)
            writer.write(data)
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(server.socket))
        ended.extend((writer, there_writer))
        await asyncio.gather(pump(reader, there_writer, 0), pump(there_reader, writer, delay), return_exceptions=True)

    listening = await asyncio.start_server(lead, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}/1"
    finally:
        listening.close()
        for writer in ended:
            writer.close()
        await listening.wait_closed()
        await asyncio.sleep(0)


async def test_a_slow_redis_costs_a_reader_its_timeout_and_then_nothing(server: RedisServer) -> None:
    async with slow_proxy(server, delay=30.0) as url, asyncio.timeout(20):
        reading = Reading(url, TIMEOUT)
        cache, pair = HealthCache(reading, SharedClock(), shards=4), Pair("github", "acme")
        for _ in range(200):  # at 30 s an answer, only a circuit gets through these in time
            assert (await cache.status(pair)).reason is Reason.MONITOR_ERROR
        await reading.aclose()


async def test_so_it_is_for_plain_code(server: RedisServer) -> None:
    async with slow_proxy(server, delay=30.0) as url, asyncio.timeout(20):

        def read() -> set[Reason]:
            with HealthView(url, timeout=TIMEOUT, shards=4) as view:
                return {view.status("github", "acme").reason for _ in range(200)}

        assert await asyncio.to_thread(read) == {Reason.MONITOR_ERROR}


async def test_a_connection_that_comes_too_late_serves_the_next_reader(server: RedisServer) -> None:
    """Making one takes several answers, each in time, but all together too long for one reader."""
    async with slow_proxy(server, delay=0.15) as url, asyncio.timeout(30):
        reading = Reading(url, TIMEOUT)
        await reached("an answer", lambda: answered(reading))
        await reading.aclose()


async def test_callers_who_give_up_early_leave_a_bounded_number_of_connections(server: RedisServer) -> None:
    """Nothing tells the circuit of them, and each connection takes seconds to fail."""
    stop(server)
    reading = Reading(server.url(), 10.0)
    for _ in range(3 * PLACES):
        asked = asyncio.create_task(reading.ask(PING))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    go_on(server)
    assert await reading.ask(PING) == [b"PONG"]
    with server.client() as client:
        assert client.info("clients")["connected_clients"] <= PLACES + 2
    await reading.aclose()


def test_no_thread_is_left_when_a_view_is_closed(server: RedisServer) -> None:
    before = threading.active_count()
    with HealthView(server.url(), timeout=2.0, shards=4) as view:
        view.status("github", "acme")
    assert threading.active_count() == before
