"""Ways to break a running system, as context managers: broken inside, whole again after.

A fault lasts until what it does is to be seen from outside.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisAway

from registry.connection import connect_sync
from tests.chaos.proxy import Line
from tests.chaos.rig import DURABLE, Rig
from tests.waiting import eventually

Fault: TypeAlias = Callable[[Rig], AbstractContextManager[None]]

STALE, AWAY, UNCHECKED = "unknown/stale", "unknown/monitor_error", "unknown/not_checked"


def until_read(rig: Rig, reading: str) -> None:
    """Wait until readers are told `reading` of somebody."""
    eventually(f"readers are told {reading}", lambda: rig.watch.seen[reading])


@contextmanager
def check_process_killed(rig: Rig) -> Iterator[None]:
    """Its parent starts another one."""
    victim = rig.children("checks-a")[0]
    victim.kill()
    yield
    eventually("another check process", lambda: any(child != victim for child in rig.children("checks-a")))


@contextmanager
def check_process_frozen(rig: Rig) -> Iterator[None]:
    """For longer than a lease: everybody is checked twice by the other machine meanwhile."""
    victim = rig.children("checks-a")[0]
    victim.suspend()
    for _ in range(2):
        rig.watch.expect_new()
        eventually("the others make up for it", lambda: not rig.watch.unhealed())
    yield
    victim.resume()


@contextmanager
def parent_killed(rig: Rig) -> Iterator[None]:
    """Only the parent of the check processes; they end without it, or they would be counted as room for ever."""
    orphans = rig.children("checks-a")
    rig.roles["checks-a"].kill()
    rig.roles["checks-a"].wait()
    yield
    eventually("the orphans end", lambda: not any(orphan.is_running() for orphan in orphans))


def machine_killed(role: str) -> Fault:
    """`kill -9` of a role with all its processes. Nobody restarts it before the next test."""

    @contextmanager
    def fault(rig: Rig) -> Iterator[None]:
        rig.kill(role)
        yield

    return fault


def restarted(role: str) -> Fault:
    """`kill -9` of a role with all its processes, which are started again at once."""

    @contextmanager
    def fault(rig: Rig) -> Iterator[None]:
        rig.kill(role)
        yield
        rig.run(role)
        eventually(f"{role} is ready", lambda: rig.is_ready(role))

    return fault


def frozen(*roles: str, until: str | None = STALE) -> Fault:
    """SIGSTOP of roles, until readers notice; or until everybody was checked without them."""

    @contextmanager
    def fault(rig: Rig) -> Iterator[None]:
        for role in roles:
            rig.freeze(role)
        if until:
            until_read(rig, until)
        else:
            rig.watch.expect_new()
            eventually("everybody is checked without it", lambda: not rig.watch.unhealed())
        yield
        for role in roles:
            rig.thaw(role)

    return fault


@contextmanager
def redis_killed(rig: Rig) -> Iterator[None]:
    """With its append-only file: nothing is lost."""
    rig.redis.kill()
    until_read(rig, AWAY)
    yield
    rig.redis.start(*DURABLE)


@contextmanager
def redis_replaced_by_an_empty_one(rig: Rig) -> Iterator[None]:
    """Schedule, verdicts, events and the broker's queues are gone."""
    rig.redis.kill()
    shutil.rmtree(rig.redis.directory / "appendonlydir")
    rig.redis.start(*DURABLE)
    yield
    until_read(rig, UNCHECKED)


@contextmanager
def redis_flushed(rig: Rig) -> Iterator[None]:
    """As after an operator's mistake: the connections stay."""
    with rig.redis.client() as client:
        client.flushall()
    yield


@contextmanager
def redis_set_back(rig: Rig) -> Iterator[None]:
    """Restored from a copy of its data that is some checks old."""
    copy, data = rig.directory / "copy", rig.redis.directory / "appendonlydir"
    shutil.copytree(data, copy)
    rig.watch.expect_new()
    eventually("everybody is checked after the copy", lambda: not rig.watch.unhealed())
    rig.redis.kill()
    shutil.rmtree(data)
    copy.rename(data)
    with rig.watch.looking_away():
        rig.redis.start(*DURABLE)
    yield


@contextmanager
def redis_frozen(rig: Rig) -> Iterator[None]:
    """SIGSTOP: connections stay open and nobody answers."""
    process = rig.redis.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    until_read(rig, AWAY)
    yield
    process.send_signal(signal.SIGCONT)


@contextmanager
def redis_read_only(rig: Rig) -> Iterator[None]:
    """A replica after a failover that nobody told the workers of: every write is answered -READONLY."""
    with rig.redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        until_read(rig, STALE)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


def redis_set(name: str, value: int) -> Fault:
    """A setting of Redis that refuses every write."""

    @contextmanager
    def fault(rig: Rig) -> Iterator[None]:
        with rig.redis.client() as client:
            client.config_set(name, value)
            until_read(rig, STALE)
            yield
            client.config_set(name, 0)

    return fault


@contextmanager
def redis_loading(rig: Rig) -> Iterator[None]:
    """Restarted with so much data that it answers -LOADING for seconds."""
    with connect_sync(rig.redis.url(), 2.0, retries=0) as client:
        client.bgrewriteaof()
        eventually("a snapshot", lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
        rig.redis.kill()
        rig.redis.launch(*DURABLE, "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
        answers: list[str] = []

        def loaded() -> bool:
            try:
                client.get("anything")
            except (BusyLoadingError, RedisAway) as error:
                answers.append(type(error).__name__)
                return False
            return True

        eventually("Redis has loaded", loaded)
        assert "BusyLoadingError" in answers
        client.config_set("key-load-delay", 0)
    yield


@contextmanager
def line_cut(rig: Rig) -> Iterator[None]:
    """Every connection to Redis is reset, and every new one too."""
    with _line(rig, Line.CUT):
        yield


@contextmanager
def line_half_open(rig: Rig) -> Iterator[None]:
    """Nothing arrives any more and nobody is told; the connections of before never come back."""
    with _line(rig, Line.FROZEN):
        yield


@contextmanager
def _line(rig: Rig, line: Line) -> Iterator[None]:
    rig.proxy.set(line)
    try:
        until_read(rig, STALE)
        yield
    finally:
        rig.proxy.set(Line.UP)


@contextmanager
def line_flickering(rig: Rig) -> Iterator[None]:
    """Reset again and again, as soon as somebody is connected."""
    for _ in range(20):
        rig.proxy.set(Line.CUT)
        rig.proxy.set(Line.UP)
        rig.proxy.carried = 0
        eventually("somebody is connected again", lambda: rig.proxy.carried)
    yield


@contextmanager
def line_slow(rig: Rig) -> Iterator[None]:
    """Every answer of Redis comes 200 ms late: everybody is checked nevertheless."""
    rig.proxy.delay(0.2)
    try:
        rig.watch.expect_new()
        eventually("everybody is checked, slowly", lambda: not rig.watch.unhealed())
        yield
    finally:
        rig.proxy.delay(0)
