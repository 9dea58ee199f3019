"""How checks end, counted by endpoint over the last minute: what incidents are found from.

Counting costs what is checked, not what exists: each batch adds a few numbers, and the detector reads as many
numbers as there are endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from zlib import crc32

from registry import keys
from registry.connection import Redis
from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.incidents import NETWORK
from registry.record import Record

BUCKET_MS = 10_000
"""Length of one stretch of time."""

KEPT_MS = 300_000
"""How long a stretch is kept."""

SLOTS = 256
"""Tenants are told apart by so many slots: enough to know few from many, in bounded memory."""


class Ending(StrEnum):
    """How a check ended, as far as incidents are concerned."""

    GOOD = "good"
    FAILED = "failed"
    CUT_OFF = "cut_off"
    REJECTED = "rejected"
    LIMITED = "limited"
    OURS = "ours"


@dataclass(slots=True)
class Tally:
    """The endings at one endpoint: how many, and the slots of the tenants that saw each."""

    counts: dict[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))
    slots: dict[Ending, set[str]] = field(default_factory=lambda: {ending: set() for ending in Ending})

    def share(self, *endings: Ending) -> float:
        """Which part of all checks ended like this."""
        total = sum(self.counts.values())
        return sum(self.counts[ending] for ending in endings) / total if total else 0.0

    def tenants(self, *endings: Ending) -> int:
        """About how many tenants saw it, at most."""
        return len(set().union(*(self.slots[ending] for ending in endings)))

    def add(self, ending: Ending, tenant: str) -> None:
        """Count one check."""
        self.counts[ending] += 1
        self.slots[ending].add(slot(tenant))


Buckets = Mapping[int, Mapping[str, Tally]]
"""Stretch of time (Unix ms // `BUCKET_MS`) → endpoint → tally."""


def merged(tallies: Iterable[Tally]) -> Tally:
    """Several tallies as one."""
    whole = Tally()
    for tally in tallies:
        for ended in Ending:
            whole.counts[ended] += tally.counts[ended]
            whole.slots[ended] |= tally.slots[ended]
    return whole


def slot(tenant: str) -> str:
    """The tenant's slot."""
    return str(crc32(tenant.encode()) % SLOTS)


def ending(verdict: Verdict, previous: Record | None) -> Ending | None:
    """The class of a check's end; None for what says nothing about anybody else.

    A credential that was refused before is no news (unless the vendor is suspected for it), and neither are a
    tenant's own mistakes.
    """
    if verdict.status is Status.UNKNOWN:
        return Ending.CUT_OFF if verdict.revises else Ending.OURS
    if verdict.reason is Reason.RATE_LIMITED:
        return Ending.LIMITED
    if verdict.status is not Status.UNHEALTHY:
        return Ending.GOOD
    if verdict.reason in NETWORK:
        return Ending.CUT_OFF
    if not REASONS[verdict.reason].definitive:
        return Ending.FAILED
    newest = previous.newest if previous else None
    news = newest is not None and (newest.status is not Status.UNHEALTHY or newest.fault is Fault.VENDOR)
    return Ending.REJECTED if news and verdict.reason is not Reason.MISCONFIGURED else None


async def read_tallies(redis: Redis, shards: Iterable[int], now_ms: int, window_ms: int) -> Buckets:
    """The tallies of the last `window_ms`, by stretch of time."""
    stretches = [
        (shard, bucket)
        for bucket in range((now_ms - window_ms) // BUCKET_MS, now_ms // BUCKET_MS + 1)
        for shard in shards
    ]
    async with redis.pipeline(transaction=False) as pipe:
        for shard, bucket in stretches:
            pipe.hgetall(keys.tally(shard, bucket))
            pipe.smembers(keys.witnesses(shard, bucket))
        rows = await pipe.execute()
    buckets: dict[int, dict[str, Tally]] = {}
    for (_, bucket), counts, members in zip(stretches, rows[::2], rows[1::2], strict=True):
        tallies = buckets.setdefault(bucket, {})
        for name, count in counts.items():
            endpoint, _, ended = name.decode().rpartition("|")
            tallies.setdefault(endpoint, Tally()).counts[Ending(ended)] += int(count)
        for member in members:
            endpoint, ended, seen_by = member.decode().rsplit("|", 2)
            tallies.setdefault(endpoint, Tally()).slots[Ending(ended)].add(seen_by)
    return buckets


def since(buckets: Buckets, from_ms: int) -> dict[str, Tally]:
    """The tallies by endpoint of all stretches that end after `from_ms`."""
    recent = [tallies for bucket, tallies in buckets.items() if (bucket + 1) * BUCKET_MS > from_ms]
    endpoints = {endpoint for tallies in recent for endpoint in tallies}
    return {name: merged(tallies[name] for tallies in recent if name in tallies) for name in endpoints}
