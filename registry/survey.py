"""All pairs at a glance: how many are in which state, who is in trouble, and every tenant's row in one short string.

Reading a million verdicts for one page would be absurd, so a process that shows pages keeps a survey: made while
somebody looks, page by page, and never more often than its own cost allows.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.clock import steady
from registry.errors import CacheUnavailable
from registry.health import Fault, HealthStatus, Reason, Status
from registry.pages import Wanted

if TYPE_CHECKING:
    from registry.bootstrap import Parts

PAGE = 100
"""Tenants read at a time: the loop has to serve others in between."""

EVERY = 3.0
"""Seconds between two surveys, at least."""

DUTY = 10.0
"""A survey is made again after so many times as long as it took."""

LOOKED = 60.0
"""Seconds after the last look in which surveys go on."""

PATIENCE = 2.0
"""Seconds that a page waits for new numbers rather than to show old ones."""

MOST_AFFECTED = 500
"""Pairs in trouble that are listed by connector."""

CODES: Mapping[Status, str] = {
    Status.HEALTHY: "h",
    Status.DEGRADED: "d",
    Status.UNKNOWN: "u",
    Status.UNHEALTHY: "x",
}
"""What stands for a status in a row; ``-``: not configured."""

ABSENT = "-"
_EVERYTHING = Wanted()
_WORST = {code: rank for rank, code in enumerate((ABSENT, "h", "d", "u", "x"))}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A pair that is not healthy; `since_ms` is Unix milliseconds."""

    tenant: str
    connector: str
    status: Status
    reason: Reason
    fault: Fault
    since_ms: int | None


@dataclass(slots=True)
class Survey:
    """All pairs as they stood at `at_ms` (Unix ms). A tenant's row has a character (`CODES`) for each connector."""

    connectors: tuple[str, ...] = ()
    at_ms: int = 0
    seconds: float = 0.0
    tenants: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[Status]] = field(default_factory=dict)
    reasons: dict[str, Counter[tuple[Reason, Fault]]] = field(default_factory=dict)
    troubles: dict[str, list[Trouble]] = field(default_factory=dict)

    def add(self, statuses: Sequence[HealthStatus]) -> None:
        """Add whole tenants, in the order of their ids."""
        places = {name: at for at, name in enumerate(self.connectors)}
        found: dict[str, list[str]] = {}
        for status in statuses:
            tenant, name = status.tenant_id, status.connector
            if tenant is None or name not in places or status.reason is Reason.NOT_CONFIGURED:
                continue
            row = found.setdefault(tenant, [ABSENT] * len(places))
            row[places[name]] = CODES[status.status]
            self.counts.setdefault(name, Counter())[status.status] += 1
            self.reasons.setdefault(name, Counter())[status.reason, status.fault] += 1
            listed = self.troubles.setdefault(name, [])
            if status.status is not Status.HEALTHY and len(listed) < MOST_AFFECTED:
                listed.append(Trouble(tenant, name, status.status, status.reason, status.fault, status.since_ms))
        for tenant, row in found.items():
            self.tenants.append(tenant)
            self.rows[tenant] = "".join(row)

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(count.total() for count in self.counts.values())

    def under(self, prefix: str) -> Sequence[str]:
        """The tenants whose ids begin with `prefix`, in order."""
        if not prefix:
            return self.tenants
        return self.tenants[bisect_left(self.tenants, prefix) : bisect_left(self.tenants, f"{prefix}\x7f")]

    def groups(self, prefix: str, most: int, *, least: int = 1) -> Iterator[tuple[str, Sequence[str]]]:
        """The tenants under `prefix` in at most `most` groups (more where that cannot be), by how their ids go on.

        Groups of up to `least` tenants are not taken apart.
        """
        found: list[tuple[str, Sequence[str]]] = [(prefix, self.under(prefix))]
        while len(found) < most:
            widest = max(found, key=lambda group: len(group[1]))
            apart = list(self._apart(*widest))
            if len(widest[1]) <= least or len(apart) <= 1 or len(found) + len(apart) - 1 > most:
                break
            at = found.index(widest)
            found[at : at + 1] = apart
        yield from found

    def _apart(self, prefix: str, tenants: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
        """One group as several, told apart by the next character in which its ids differ."""
        if len(tenants) > 1:
            first, last = tenants[0], tenants[-1]
            while len(prefix) < len(first) and last.startswith(first[: len(prefix) + 1]):
                prefix = first[: len(prefix) + 1]
        begin = 0
        while begin < len(tenants):
            head = tenants[begin][: len(prefix) + 1]
            end = bisect_left(tenants, f"{head}\x7f", begin) if len(head) > len(prefix) else begin + 1
            yield head, tenants[begin:end]
            begin = end

    def worst(self, tenant: str) -> str:
        """The code of the tenant's worst status."""
        return max(self.rows.get(tenant, ABSENT), key=_WORST.__getitem__)

    def in_trouble(self, prefix: str = "") -> list[str]:
        """The tenants under `prefix` that have a pair which is not healthy, the worst first."""
        ranked = [(-_WORST[self.worst(tenant)], tenant) for tenant in self.under(prefix)]
        return [tenant for rank, tenant in sorted(ranked) if -rank > _WORST["h"]]


class Surveyor:
    """Keeps the newest survey while somebody looks. Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._newest: Survey | None = None
        self._task: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._made = asyncio.Event()
        self._error: CacheUnavailable | None = None

    async def look(self, *, fresh: bool = False) -> Survey:
        """The newest survey; waits for the first one, or for the next one if it is to be `fresh`.

        Who looks after a time when nobody did waits for the next one too, but for no longer than `PATIENCE`.

        Raises:
            CacheUnavailable: Redis is away, and there is no survey yet.
        """
        self._looked = steady()
        resting = self._task is None or self._task.done()
        if fresh or resting or self._newest is None:
            self._made.clear()
        if resting:
            self._task = asyncio.get_running_loop().create_task(self._go_on())
        if fresh or self._newest is None:
            await self._made.wait()
        elif resting:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._made.wait()
        if self._newest is None:
            raise self._error or CacheUnavailable("the health cache did not answer")
        return self._newest

    async def aclose(self) -> None:
        """Make no more surveys."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _go_on(self) -> None:
        while steady() - self._looked < LOOKED:
            began = steady()
            try:
                self._newest = await self._survey()
            except CacheUnavailable as error:
                self._error = error
            finally:
                self._made.set()
            await asyncio.sleep(max(EVERY, DUTY * (steady() - began)))

    async def _survey(self) -> Survey:
        began, after = steady(), ""
        survey = Survey(tuple(self._parts.catalog.list()))
        while True:
            page = await self._parts.cache.page(_EVERYTHING, after=after, limit=PAGE)
            survey.add(page.statuses)
            if page.after is None:
                break
            after = page.after
            await asyncio.sleep(0)
        survey.at_ms, survey.seconds = self._parts.clock.now_ms(), steady() - began
        return survey
