"""Histories made in the tests' own time: checks that are recorded when the test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from registry import keys
from registry.bootstrap import Parts
from registry.clock import SharedClock
from registry.connector import BearerAuth, ConnectorConfig, SecretRef
from registry.health import Fault, Reason, Verdict
from registry.history import History, read
from registry.ids import Pair
from registry.record import Record, decode
from registry.recording import Outcome, Recorder

PAIR = Pair("github", "acme")
CONFIG = ConnectorConfig(auth=BearerAuth(token=SecretRef("env://TOKEN")))
MINUTE, HOUR, DAY = 60, 3600, 86_400
START = 20_000 * DAY
"""Midnight of some day, Unix seconds."""


class Hands(SharedClock):
    """A clock that stands where the test has put its hands (Unix seconds)."""

    at: float = START

    def now_ms(self) -> int:
        return int(self.at * 1000)


@dataclass
class Past:
    """Checks that are recorded at times of the test's choosing."""

    parts: Parts
    clock: Hands = field(default_factory=Hands)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.parts.redis, self.clock, self.parts.settings)

    async def begin(self, pair: Pair = PAIR, revision: int = 1, *, reset: bool = True) -> None:
        await self.parts.schedule.put(pair, revision, CONFIG, reset=reset)

    async def check(
        self, at: float, reason: Reason = Reason.OK, *, latency_ms: float = 100.0, pair: Pair = PAIR
    ) -> tuple[Outcome, Record | None]:
        task = await self.parts.schedule.task(pair)
        assert task is not None
        outcome = Outcome(task, verdict(reason, at, latency_ms), "github|api.github.com")
        self.clock.at = at
        return outcome, (await self.recorder.record([outcome])).get(pair)

    async def every_minute(self, start: int, end: int, reason: Reason = Reason.OK) -> None:
        for at in range(start, end + 1, MINUTE):
            await self.check(at, reason)

    async def read(self, at: float | None = None, pair: Pair = PAIR) -> History:
        shard = self.parts.schedule.shard(pair)
        found = await self.parts.redis.mget([keys.verdict(shard, pair), keys.history(shard, pair)])
        record, wire = cast("list[bytes | None]", found)
        return read(pair, wire, decode(record) if record else None, int((at or self.clock.at) * 1000))


def verdict(reason: Reason, at: float, latency_ms: float = 100.0) -> Verdict:
    faults = {Reason.OK: Fault.NONE, Reason.MONITOR_ERROR: Fault.PLATFORM, Reason.CREDENTIAL_REJECTED: Fault.TENANT}
    return Verdict(reason, faults.get(reason, Fault.VENDOR), int(at * 1000), latency_ms=latency_ms)
