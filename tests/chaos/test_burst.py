"""Thousands of pairs become due at once, beside those that the watch looks at."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterator

import pytest

from registry import keys
from registry.bootstrap import assemble
from registry.connector import ConnectorConfig
from registry.ids import Pair
from registry.record import Record, decode
from tests.chaos.rig import SHARDS, Rig
from tests.waiting import eventually

log = logging.getLogger(__name__)

WITHIN = 100.0
"""Seconds after which a burst does not end any more."""


class Burst:
    """`many` pairs whose own turn comes once an hour; their tenants' names begin with `prefix`."""

    prefix = "burst-"

    def __init__(self, rig: Rig, many: int) -> None:
        self._rig, self.many = rig, many
        self.pairs = [Pair("linear", f"{self.prefix}{number}") for number in range(many)]

    def configure(self) -> None:
        """Write them all into the store at once: `reconcile` makes them due."""

        def config(pair: Pair) -> ConnectorConfig:
            auth = {"type": "bearer", "token": f"lin_api_demo_{pair.tenant}"}
            rest = {"base_url": f"{self._rig.vendors_url}/linear", "interval": 3600}
            return ConnectorConfig.model_validate({"auth": auth, **rest})

        async def write() -> None:
            parts = assemble(self._rig.direct)
            await parts.configurations.set_many([(pair, config(pair)) for pair in self.pairs], actor="chaos")
            await parts.aclose()

        asyncio.run(write())

    def make_due(self) -> None:
        """Nobody's turn is later than the beginning of time."""
        with self._rig.redis.client() as client, client.pipeline() as pipe:
            for pair in self.pairs:
                pipe.zadd(keys.due(keys.shard_of(pair.tenant, SHARDS), pair.connector), {pair.tenant: 0})
            pipe.execute()

    def records(self) -> list[Record | None]:
        """What is kept of each."""
        with self._rig.redis.client() as client:
            wires = client.mget([keys.verdict(keys.shard_of(pair.tenant, SHARDS), pair) for pair in self.pairs])
        return [decode(wire) if wire else None for wire in wires]

    def checked(self, since: int) -> None:
        """Wait until each was checked by a claim after `since`."""
        eventually("each is checked", lambda: not self.unchecked(since), WITHIN)

    def unchecked(self, since: int) -> list[Pair]:
        """Those that no claim after `since` has checked yet."""
        done = [record and record.verdict and record.fence > since for record in self.records()]
        return [pair for pair, ended in zip(self.pairs, done, strict=True) if not ended]

    def newest(self) -> int:
        """The last claim that has checked any of them."""
        return max(record.fence for record in self.records() if record)

    def forget(self) -> None:
        """Take them out of the store; Redis forgets everything and is filled from it."""
        with sqlite3.connect(self._rig.direct.sqlite_path) as database:
            database.execute("DELETE FROM configs WHERE tenant LIKE 'burst-%'")
            database.execute("DELETE FROM revisions WHERE tenant LIKE 'burst-%'")
        database.close()
        with self._rig.broken(), self._rig.redis.client() as client:
            client.flushall()
        self._rig.heals()


@pytest.fixture(params=[2_000, pytest.param(10_000, marks=pytest.mark.long)])
def burst(rig: Rig, request: pytest.FixtureRequest) -> Iterator[Burst]:
    burst = Burst(rig, request.param)
    yield burst
    burst.forget()


def test_each_is_checked_once_and_nobody_else_waits(rig: Rig, burst: Burst) -> None:
    lost, since = rig.fact("batches_lost"), 0
    for times, come in enumerate((burst.configure, burst.make_due), 1):
        began = time.monotonic()
        come()
        burst.checked(since)
        log.info("burst %d of %d pairs: done in %.1f s", times, burst.many, time.monotonic() - began)
        rig.demand()
        since = burst.newest()
        assert max(record.consecutive for record in burst.records() if record) == times, "nobody was checked twice"
    assert rig.fact("batches_lost") == lost
