"""Who has lost a lease writes nothing any more, however it lost it: real processes, stopped and continued."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.health import Reason
from registry.ids import Pair
from registry.incidents import open_incidents
from registry.lease import Lease
from registry.settings import Settings
from tests.fixtures_prometheus import fetched
from tests.test_incidents import GITHUB, recorded
from tests.test_publish import samples
from tests.test_schedule import enter, record
from tests.waiting import eventually
from worker.gateway import SPOILT
from worker.housekeeping import publish, reconcile
from worker.incidents import detect

PUBLISHER = """
import asyncio
from registry.bootstrap import assemble
from registry.settings import load_settings
from worker.housekeeping import publish, reconcile

async def main():
    parts = assemble(load_settings())
    await publish(parts, "first")
    await parts.aclose()

asyncio.run(main())
"""


class Gate:
    """In front of a Pushgateway: the first request gets no further than its head until `open` is set.

    It takes in small segments and little at a time, so that the sender cannot be done with what the gate has not read.
    """

    def __init__(self, gateway: str) -> None:
        self.halfway, self.open, self.done = threading.Event(), threading.Event(), threading.Event()
        self.passed = b""
        self._gateway = urlsplit(gateway)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as client:
            while b"\r\n\r\n" not in self.passed:
                self.passed += client.recv(1024)
            self.halfway.set()
            self.open.wait()
            with socket.create_connection((str(self._gateway.hostname), self._gateway.port)) as server:
                server.sendall(self.passed)
                while piece := client.recv(65_536):
                    server.sendall(piece)
                    self.passed += piece
                server.shutdown(socket.SHUT_WR)
                while server.recv(65_536):
                    pass
        self.done.set()

    def close(self) -> None:
        self.open.set()
        self._thread.join(5)

    @property
    def complete(self) -> bool:
        head, _, body = self.passed.partition(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return len(body) == int(length.split(b":")[1])


@pytest.fixture
def gate(pushgateway: str) -> Iterator[Gate]:
    made = Gate(pushgateway)
    yield made
    made.close()


async def test_a_publisher_stopped_beyond_its_lease_pushes_nothing_older_when_it_goes_on(
    settings: Settings, pushgateway: str, gate: Gate, tmp_path: Path
) -> None:
    changed = {"pushgateway_url": pushgateway, "pushgateway_job": "fencing", "publish_every": 1.0, "shards": 1}
    parts, pair = assemble(settings.model_copy(update=changed)), Pair("github", "fenced")
    for tenant in ("fenced", *(f"{'t' * 100}-{n}" for n in range(500))):
        await enter(parts, Pair("github", tenant))
    with stopped_publisher(parts.settings, gate, tmp_path) as first:
        task = await parts.schedule.task(pair)
        assert task is not None
        await record(parts, task, Reason.OK)
        while not await publish(parts, "second"):
            pass  # until the lease of the first one has ended
        assert gauge(pushgateway) == 1.0
        first.send_signal(signal.SIGCONT)
        gate.open.set()
        assert first.wait(30) == 0
        assert gate.done.wait(30)
    assert not gate.complete, "its group was never finished"
    assert gauge(pushgateway) == 1.0, "the newer gauge stands"
    await parts.aclose()


@contextmanager
def stopped_publisher(settings: Settings, gate: Gate, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A publisher in another process, stopped in the middle of its first group."""
    names = ("redis_url", "publish_every", "shards", "pushgateway_job")
    values = {name.upper(): str(getattr(settings, name)) for name in names}
    values |= {"PUSHGATEWAY_URL": gate.url, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER], cwd=directory, env=os.environ | values)
    try:
        assert gate.halfway.wait(30)
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def gauge(pushgateway: str) -> float | None:
    return samples(fetched(f"{pushgateway}/metrics"), "registry_connector_health").get("fenced")


def test_a_spoilt_body_is_refused_wherever_it_ends(pushgateway: str) -> None:
    body = b'# HELP one One.\n# TYPE one gauge\none{tenant_id="acme"} 1.0\n# TYPE two counter\ntwo_total 2.0\n'
    for end in range(len(body)):
        request = Request(f"{pushgateway}/metrics/job/spoilt", data=body[:end] + SPOILT, method="PUT")  # noqa: S310
        with pytest.raises(HTTPError) as refused:
            urlopen(request, timeout=5)  # noqa: S310 - the tests' own loopback server
        with refused.value:
            assert refused.value.code == 400, body[:end]


async def test_a_publisher_that_goes_on_in_time_finishes_its_group(
    settings: Settings, pushgateway: str, gate: Gate, tmp_path: Path
) -> None:
    changed = {"pushgateway_url": pushgateway, "pushgateway_job": "fencing", "publish_every": 600.0, "shards": 1}
    parts = assemble(settings.model_copy(update=changed))
    for n in range(500):
        await enter(parts, Pair("github", f"{'t' * 100}-{n}"))
    with stopped_publisher(parts.settings, gate, tmp_path) as first:
        first.send_signal(signal.SIGCONT)
        gate.open.set()
        eventually("the group arrives", lambda: gate.complete)
    await parts.aclose()


async def test_a_turn_is_done_once_and_the_next_one_is_anybodys(settings: Settings, pushgateway: str) -> None:
    changed = {"pushgateway_url": pushgateway, "pushgateway_job": "turns", "publish_every": 0.5}
    parts, now = assemble(settings.model_copy(update=changed)), "first"
    assert await publish(parts, now)
    assert not await publish(parts, "second"), "a tick of another beat"
    while not await publish(parts, "second"):
        pass  # the next turn comes long before a lost lease would end
    await parts.aclose()


async def test_the_next_round_of_the_reconciler_is_anybodys_too(parts: Parts) -> None:
    assert await reconcile(parts, "first")
    until = int(await parts.redis.hget(keys.lease("reconciler"), "until") or 0)
    assert until - parts.clock.now_ms() < parts.settings.reconcile_every * 1000


async def test_whoever_was_first_in_a_redis_that_lost_its_data_writes_nothing_into_the_next(parts: Parts) -> None:
    """Both have the first fence of their Redis."""
    one, two = Lease(parts.redis, "detector", "one"), Lease(parts.redis, "detector", "two")
    fence = await one.hold(60)
    await parts.redis.flushdb()
    assert await two.hold(60) > fence
    async with parts.redis.pipeline() as pipe:
        with pytest.raises(WatchError):
            await one.fenced(pipe, fence)


async def test_a_detector_that_was_overtaken_writes_nothing(parts: Parts) -> None:
    await recorded(parts, GITHUB, Reason.VENDOR_ERROR, 8)
    one, two = Lease(parts.redis, "detector", "one"), Lease(parts.redis, "detector", "two")
    fence = await one.hold(0)

    async def overtaken_meanwhile(pipe: Pipeline) -> None:
        await one.fenced(pipe, fence)
        await two.hold(60)

    for fenced in (overtaken_meanwhile, lambda pipe: one.fenced(pipe, fence)):
        with pytest.raises(WatchError):
            await detect(parts, fenced)
        assert await open_incidents(parts.redis) == []
        assert await parts.redis.xlen(keys.INCIDENT_LOG) == 0
    newer = await two.hold(60)
    assert len(await detect(parts, lambda pipe: two.fenced(pipe, newer))) == 1
