"""Many tenants, a page at a time, from the indexes in Redis: who there is, and what their verdicts are.

Tenants come in the order of their ids, whatever shard they live in. A page costs what it shows, however many tenants
there are: a range of each shard's tenants, then the records of those that are shown. A long page is read in parts, so
that no answer is too long to come in time, and other readers of the process get their turn in between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from registry import keys
from registry.health import HealthStatus, Reason, Status
from registry.reading import Command

LIMIT = 1_000
"""Tenants that one page looks at, at most."""

PART = 50
"""Tenants whose records are asked for at once: with 20 connectors each they are 1,000 keys, some 5 ms of both sides."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which verdicts are asked for; None: whatever it is."""

    prefix: str = ""
    connectors: Collection[str] | None = None
    statuses: Collection[Status] | None = None
    reasons: Collection[Reason] | None = None

    def __contains__(self, status: HealthStatus) -> bool:
        return (
            (self.connectors is None or status.connector in self.connectors)
            and (self.statuses is None or status.status in self.statuses)
            and (self.reasons is None or status.reason in self.reasons)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """The verdicts of some tenants. `after` is where the next page begins; None: this was the last.

    A page on which few verdicts are of the wanted kind is short, or empty, and yet not the last.
    """

    statuses: tuple[HealthStatus, ...]
    after: str | None


def sizes(limit: int) -> list[int]:
    """The parts in which a page of up to `limit` tenants is read."""
    limit = min(limit, LIMIT)
    return [min(PART, limit - begun) for begun in range(0, limit, PART)]


def questions(shards: int, after: str, prefix: str, limit: int) -> list[Command]:
    """The questions for the next tenants, one a shard. Ids are ASCII, so their order is that of their bytes."""
    first = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
    last = f"[{prefix}\x7f" if prefix else "+"
    return [("ZRANGEBYLEX", keys.tenants(shard), first, last, "LIMIT", 0, limit + 1) for shard in range(shards)]


def chosen(answers: Sequence[Sequence[bytes]], limit: int) -> tuple[list[str], str | None]:
    """Of what the shards answered the first `limit` tenants, and where to go on."""
    tenants = sorted(tenant.decode() for answer in answers for tenant in answer)
    shown = tenants[:limit]
    return shown, shown[-1] if len(tenants) > limit else None
