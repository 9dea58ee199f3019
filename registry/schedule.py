"""The due-queue: which pairs exist, with which configuration, and when each is checked next.

One sorted set a connector and shard holds every pair at its due time. A claim moves what is due one lease ahead and
draws a fence; finishing a check moves the pair to its next turn. So a worker that dies needs no clean-up (its pairs
become due again), and two dispatchers never hold the same pair. The due time tells who holds a pair: whoever finds
another than the one it was left with has lost it, and hands nothing back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, inf
from typing import NamedTuple, cast
from uuid import uuid4

import structlog
from msgspec import Struct
from pydantic import ValidationError

from registry import keys
from registry.clock import SharedClock, steady
from registry.connection import Redis, execute, script
from registry.connector import ConnectorConfig
from registry.errors import InvalidConfig
from registry.ids import Pair
from registry.packing import packed, unpacked
from registry.record import Record, decode

log = structlog.get_logger(__name__)

CLAIM_AT_MOST = 100
"""Pairs one call of the claim script takes: it keeps Redis busy for well under a millisecond."""

RESCUE_AT_MOST = 1_000
"""Pairs one call of the rescue script moves."""

TOMBSTONE_MS = 600_000
"""How long a deleted pair refuses late results: beyond any lease and time limit."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Pairs of one connector in one shard, taken under one fence. `late_ms` is how overdue each one was.

    Its lease ends at `ends_ms` (Unix milliseconds, by Redis' clock); 0: a lease after the moment its fence tells.
    """

    connector: str
    shard: int
    fence: int
    tenants: tuple[str, ...]
    late_ms: tuple[int, ...] = ()
    ends_ms: int = 0


class Held(NamedTuple):
    """A pair that somebody checks, with the due time it was left with: of a claimed pair, the end of its lease."""

    pair: Pair
    turn_ms: int


class Scheduled(Struct, frozen=True, gc=False):
    """A pair as the schedule keeps it. `config` is None for a service check, whose endpoint is `base_url`."""

    pair: Pair
    revision: int
    config: ConnectorConfig | None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What is put into the schedule: a pair with a revision of its configuration.

    `wire` is the configuration as the schedule keeps it, without what is not set. It is made at once: what cannot be
    written is an `InvalidConfig` where this pair is spoken of, and not where many are written together.

    Args:
        config: references only (a clear secret is refused); None for a service check of `base_url`.
        reset: credential, endpoint or permissions changed, so that the old verdict is void.
        over: the scheduled revision (0: none) that `reset` was judged against; over any other it is True.
        due_ms: when to check; 0 means at once.
        announce: False where nobody can have kept anything of this pair.
    """

    pair: Pair
    revision: int
    config: ConnectorConfig | None
    reset: bool
    base_url: str | None = None
    due_ms: int = 0
    announce: bool = True
    over: int | None = None
    wire: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "wire", packed(self._written(), self.pair))
        except ValueError as error:
            raise InvalidConfig(f"{self.pair}: the configuration cannot be written: {error}") from None

    def _written(self) -> str:
        if self.config is None:
            return json.dumps({"service": self.base_url})
        left_out = None if self.config.settings else {"settings"}
        return self.config.model_dump_json(exclude_none=True, exclude=left_out)


class Task(Struct, frozen=True, gc=False):
    """One pair to check: its configuration, the record to compute from, and the claim's fence.

    A budget (`registry.budget`) adds the pair's `share` of it (milliseconds between two checks that it leaves the
    pair), and until when the check may begin (`steady` seconds). `turn_ms` is the due time it is held by; 0: any.
    """

    scheduled: Scheduled
    previous: Record | None
    fence: int
    share: int = 0
    begin_until: float = inf
    turn_ms: int = 0

    @property
    def pair(self) -> Pair:
        """The pair to check."""
        return self.scheduled.pair

    @property
    def held(self) -> Held:
        """The pair as it is held."""
        return Held(self.scheduled.pair, self.turn_ms)


class Schedule:
    """The due-queue in Redis. Every method is one round trip and raises what redis-py raises."""

    def __init__(self, redis: Redis, clock: SharedClock, *, shards: int, lease: float) -> None:
        self.redis, self.clock, self.shards = redis, clock, shards
        self._lease_ms = int(lease * 1000)
        self._rescue, self._spread = script(redis, "rescue"), script(redis, "spread")
        self._claim, self._draw, self._reschedule = (script(redis, name) for name in ("claim", "draw", "reschedule"))
        self._put, self._remove, self._rotate = (script(redis, name) for name in ("put", "remove", "rotate"))
        self.origin = uuid4().hex
        """This process's name in what it announces."""

    def shard(self, pair: Pair) -> int:
        """The shard the pair lives in."""
        return keys.shard_of(pair.tenant, self.shards)

    async def put(
        self,
        pair: Pair,
        revision: int,
        config: ConnectorConfig | None,
        *,
        base_url: str | None = None,
        reset: bool,
        due_ms: int = 0,
        over: int | None = None,
    ) -> bool:
        """Enter or change a pair, and tell every replica; False when this revision, or a newer one, was there already.

        A pair that is there in this revision, and has lost its turn, gets another one: that is entering it too.

        The arguments are those of `Entry`.
        """
        entry = Entry(pair, revision, config, reset, base_url=base_url, due_ms=due_ms, over=over)
        return (await self.put_many([entry]))[0]

    async def put_many(self, entries: Sequence[Entry]) -> list[bool]:
        """Enter or change pairs, see `put`; False for each that was there already. Each pair is atomic by itself."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for entry in entries:
                pair, over = entry.pair, "" if entry.over is None else entry.over
                args: list[str | int | bytes] = [
                    pair.tenant,
                    pair.connector,
                    entry.revision,
                    entry.wire,
                    int(entry.reset),
                ]
                args += [entry.due_ms, TOMBSTONE_MS, self.origin if entry.announce else ""]
                args += [keys.CHANGES_CAP, keys.EVENTS_CAP, over]
                script_keys = [*self._keys(pair), keys.tenants(self.shard(pair))]
                await self._put(keys=script_keys, args=args, client=pipe)
            return [bool(put) for put in await execute(pipe)]

    async def remove(self, pair: Pair, revision: int) -> bool:
        """Take a pair out, and tell every replica; its verdict becomes a tombstone. False when a newer one is there."""
        args: list[str | int] = [pair.tenant, pair.connector, revision, TOMBSTONE_MS]
        args += [self.origin, keys.CHANGES_CAP, keys.EVENTS_CAP]
        script_keys = [*self._keys(pair), keys.history(self.shard(pair), pair), keys.tenants(self.shard(pair))]
        return bool(await self._remove(keys=script_keys, args=args))

    async def rotate(self, pair: Pair) -> bool:
        """The pair's secrets are others now: its verdict is void, it is due at once, and every replica is told.

        Returns False when the pair is not in the schedule; it is announced all the same.
        """
        verdict, due, configs, _, fence, changes, events = self._keys(pair)
        args: list[str | int] = [pair.tenant, pair.connector, TOMBSTONE_MS, self.origin]
        args += [keys.CHANGES_CAP, keys.EVENTS_CAP]
        return bool(await self._rotate(keys=[verdict, due, configs, fence, changes, events], args=args))

    async def due(self, connectors: Iterable[str]) -> dict[str, list[int]]:
        """For each connector how many pairs are due now, shard by shard."""
        now, names = self.clock.now_ms(), list(connectors)
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                for shard in range(self.shards):
                    pipe.zcount(keys.due(shard, name), "-inf", now)
            counts = await pipe.execute()
        return {name: counts[i * self.shards : (i + 1) * self.shards] for i, name in enumerate(names)}

    async def claim(self, room: Mapping[str, int], due: Mapping[str, Sequence[int]] | None = None) -> list[Claim]:
        """Take due pairs for one lease; nobody else gets them meanwhile.

        Args:
            room: for each connector about how many pairs to take (up to one more for each shard).
            due: what `due` has just said of these connectors; None: it is asked.
        """
        due = due or await self.due(room)
        calls = [
            (name, shard, min(CLAIM_AT_MOST, most - taken))
            for name, pairs in room.items()
            for shard, most in enumerate(_shares(pairs, due[name]))
            for taken in range(0, most, CLAIM_AT_MOST)
        ]
        async with self.redis.pipeline(transaction=False) as pipe:
            for name, shard, most in calls:
                await self._claim(
                    keys=[keys.due(shard, name), keys.fence(shard)], args=[most, self._lease_ms], client=pipe
                )
            answers = await execute(pipe)
        found = [(name, shard, rows) for (name, shard, _), rows in zip(calls, answers, strict=True) if rows]
        return [_claim(name, shard, rows, self._lease_ms) for name, shard, rows in found]

    async def fence(self, pair: Pair) -> int:
        """Draw a fence for a check made on demand."""
        return (await self._drawn(pair)).fence

    async def _drawn(self, pair: Pair) -> Claim:
        """What a check made on demand has instead of a claim: a fence, and the turn that the pair keeps meanwhile."""
        asked, shard = steady(), self.shard(pair)
        script_keys = [keys.fence(shard), keys.due(shard, pair.connector)]
        fence, now, due = await self._draw(keys=script_keys, args=[pair.tenant])
        self.clock.calibrate((int(now) // 1000, int(now) % 1000 * 1000), asked)
        return Claim(pair.connector, shard, int(fence), (pair.tenant,), ends_ms=int(float(due)))

    async def read(self, claims: Sequence[Claim]) -> list[Task]:
        """What a batch needs to know of its pairs, in one round trip; pairs removed meanwhile are left out."""
        asked = steady()
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            for claim in claims:
                pipe.hmget(keys.configs(claim.shard, claim.connector), claim.tenants)
                pipe.mget([keys.verdict(claim.shard, Pair(claim.connector, tenant)) for tenant in claim.tenants])
            now, *rows = await pipe.execute()
        self.clock.calibrate(now, asked)
        tasks: list[Task] = []
        for claim, configs, records in zip(claims, rows[::2], rows[1::2], strict=True):
            turn_ms = claim.ends_ms or claim.fence // 1000 + self._lease_ms
            for tenant, wire, record in zip(claim.tenants, configs, records, strict=True):
                scheduled = _scheduled(Pair(claim.connector, tenant), wire) if wire is not None else None
                if scheduled is not None:
                    previous = decode(record) if record else None
                    tasks.append(Task(scheduled, previous, claim.fence, turn_ms=turn_ms))
        return tasks

    async def task(self, pair: Pair) -> Task | None:
        """One pair to check on demand, with a fence of its own; None when it is not in the schedule."""
        tasks = await self.read([await self._drawn(pair)])
        return tasks[0] if tasks else None

    async def get(self, pairs: Sequence[Pair]) -> list[Scheduled | None]:
        """The pairs as they are scheduled now; None for each that is not."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for pair in pairs:
                pipe.hget(keys.configs(self.shard(pair), pair.connector), pair.tenant)
            wires = await pipe.execute()
        return [_scheduled(pair, wire) if wire else None for pair, wire in zip(pairs, wires, strict=True)]

    async def newest(self, pair: Pair) -> tuple[Scheduled | None, int]:
        """The pair as it is scheduled, and the highest revision in use: its own, its verdict's or its tombstone's."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hget(keys.configs(self.shard(pair), pair.connector), pair.tenant)
            pipe.get(keys.verdict(self.shard(pair), pair))
            wire, record = await pipe.execute()
        scheduled = _scheduled(pair, wire) if wire else None
        return scheduled, max(scheduled.revision if scheduled else 0, decode(record).revision if record else 0)

    async def release(self, held: Iterable[Held]) -> None:
        """Hand claimed pairs back: due again at once, if held still."""
        await self.reschedule(dict.fromkeys(held, self.clock.now_ms()))

    async def reschedule(self, turns: Mapping[Held, int]) -> None:
        """Give pairs another turn (Unix milliseconds), later or earlier, but none that is not held any more."""
        groups: dict[str, list[str | int]] = {}
        for (pair, turn_ms), due_ms in turns.items():
            due = keys.due(self.shard(pair), pair.connector)
            groups.setdefault(due, []).extend((pair.tenant, turn_ms, due_ms))
        async with self.redis.pipeline(transaction=False) as pipe:
            for due, args in groups.items():
                await self._reschedule(keys=[due], args=args, client=pipe)
            await execute(pipe)

    async def pairs(self, connector: str, shard: int, *, page: int = 1000) -> AsyncIterator[list[Pair]]:
        """Every scheduled pair of one connector in one shard, page by page (a pair may come twice)."""
        cursor = 0
        while True:
            cursor, rows = await self.redis.zscan(keys.due(shard, connector), cursor, count=page)
            if rows:
                yield [Pair(connector, cast("bytes", row[0]).decode()) for row in rows]
            if cursor == 0:
                return

    async def rescue(self, intervals: Mapping[str, int]) -> int:
        """After Redis' clock was set back: bring every turn into its connector's coming interval (ms). How many?"""
        moved = 0
        for name, interval in intervals.items():
            for shard in range(self.shards):
                args = [interval, RESCUE_AT_MOST]
                while many := int(await self._rescue(keys=[keys.due(shard, name)], args=args)):
                    moved += many
        return moved

    async def spread_out(self, over_ms: Mapping[str, int]) -> int:
        """Bring what is due of each connector into its coming milliseconds, evenly, instead of at once. How many?"""
        moved = 0
        for name, over in over_ms.items():
            for shard in range(self.shards):
                many = RESCUE_AT_MOST
                while many == RESCUE_AT_MOST:
                    many = int(await self._spread(keys=[keys.due(shard, name)], args=[over, RESCUE_AT_MOST]))
                    moved += many
        return moved

    async def depth(self, connectors: Sequence[str]) -> dict[str, tuple[int, int]]:
        """For each connector how many pairs are scheduled, and how many of them are due now."""
        now = self.clock.now_ms()
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in connectors:
                for shard in range(self.shards):
                    pipe.zcard(keys.due(shard, name))
                    pipe.zcount(keys.due(shard, name), "-inf", now)
            counts = await pipe.execute()
        width = 2 * self.shards
        rows = {name: counts[i * width : (i + 1) * width] for i, name in enumerate(connectors)}
        return {name: (sum(row[::2]), sum(row[1::2])) for name, row in rows.items()}

    def _keys(self, pair: Pair) -> list[str]:
        shard = self.shard(pair)
        return [
            keys.verdict(shard, pair),
            keys.due(shard, pair.connector),
            keys.configs(shard, pair.connector),
            keys.index(shard, pair.tenant),
            keys.fence(shard),
            keys.changes(shard),
            keys.events(shard),
        ]


def _shares(pairs: int, due: Sequence[int]) -> list[int]:
    """How many of `pairs` to take from each shard, by how many are due there."""
    part = min(1.0, pairs / (sum(due) or 1))
    return [ceil(count * part) for count in due]


def _claim(connector: str, shard: int, rows: list[bytes], lease_ms: int) -> Claim:
    fence, now = int(rows[0]), int(rows[1])
    late = tuple([max(0, now - int(float(due))) for due in rows[3::2]])
    return Claim(connector, shard, fence, tuple([tenant.decode() for tenant in rows[2::2]]), late, now + lease_ms)


def _scheduled(pair: Pair, wire: bytes) -> Scheduled | None:
    """None for a configuration that another version wrote and this one cannot read: it hurts nobody but its pair."""
    revision, _, kept = wire.partition(b"\n")
    try:
        if pair.is_service:
            return Scheduled(pair, int(revision), None, json.loads(unpacked(kept, pair))["service"])
        return Scheduled(pair, int(revision), _config(kept, pair))
    except ValidationError as error:
        log.warning("unreadable_configuration", pair=str(pair), fields=[row["loc"] for row in error.errors()])
    except (ValueError, LookupError, TypeError) as error:
        log.warning("unreadable_configuration", pair=str(pair), error=type(error).__name__)
    return None


@lru_cache(maxsize=20_000)
def _config(kept: bytes, pair: Pair) -> ConnectorConfig:
    """Parsing costs more than the rest of a read, and most configurations never change."""
    return ConnectorConfig.model_validate_json(unpacked(kept, pair))
