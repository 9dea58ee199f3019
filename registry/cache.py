"""Reading the shared health cache: `HealthCache` for coroutines; `registry.view.HealthView` is the same for plain code.

Both read the same records by the same rule (`registry.record.seen`) and answer ``unknown`` rather than fail: a reader
is never worse off than without a monitor. Neither ever calls a vendor or the configuration store.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry import keys
from registry.clock import SharedClock, steady
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.health import HealthStatus, Reason
from registry.history import History
from registry.ids import Pair
from registry.pages import Page, Wanted, chosen, questions, sizes
from registry.reading import Command, Reading
from registry.record import absent
from registry.wires import (
    TIME,
    Wires,
    histories_command,
    learn,
    named_command,
    names_in,
    pasts,
    selected,
    sentence,
    unanswered,
    verdicts,
    whole_command,
)

PAIRS = 300
"""Pairs of any tenants that are asked for at once: three keys each, some 5 ms of both sides."""


class HealthCache:
    """Asynchronous reader. `strict` callers get `CacheUnavailable` instead of ``unknown/monitor_error``."""

    def __init__(self, reading: Reading, clock: SharedClock, *, shards: int) -> None:
        self._reading, self._clock, self._shards = reading, clock, shards
        self._indexes: dict[str, bytes] = {}

    async def status(self, pair: Pair, *, strict: bool = False) -> HealthStatus:
        """One pair's effective verdict; one round trip."""
        return (await self.statuses(pair.tenant, (pair.connector,), strict=strict))[pair.connector]

    async def statuses(
        self, tenant: str, connectors: Sequence[str], *, strict: bool = False
    ) -> dict[str, HealthStatus]:
        """The verdicts of one tenant (or `SYSTEM`) for `connectors`; one round trip."""
        shard = keys.shard_of(tenant, self._shards)
        try:
            wires = await self._ask(named_command(shard, tenant, tuple(connectors)))
        except AWAY as error:
            return unanswered(tenant, connectors, self._clock.now_ms(), error, strict=strict)
        return verdicts(tenant, connectors, wires, self._clock.now_ms())

    async def each(self, pairs: Sequence[Pair]) -> dict[Pair, HealthStatus]:
        """The verdicts of any pairs; one round trip for each `PAIRS` of them, which has the whole timeout."""
        found: dict[Pair, HealthStatus] = {}
        for first in range(0, len(pairs), PAIRS):
            part = pairs[first : first + PAIRS]
            asked = [named_command(keys.shard_of(tenant, self._shards), tenant, (name,)) for name, tenant in part]
            try:
                wires = await self._ask_all(asked)
            except AWAY as error:
                said, now_ms = sentence(error), self._clock.now_ms()
                found |= {pair: absent(pair, Reason.MONITOR_ERROR, now_ms, error=said) for pair in part}
                continue
            now_ms = self._clock.now_ms()
            for (name, tenant), row in zip(part, wires, strict=True):
                found[Pair(name, tenant)] = verdicts(tenant, (name,), row, now_ms)[name]
        return found

    async def configured(self, tenant: str) -> dict[str, HealthStatus]:
        """The verdicts of the connectors that a tenant has, in one round trip, or two when these have changed.

        Raises:
            CacheUnavailable: Redis is away, and it alone knows which connectors these are.
        """
        shard, known, began = keys.shard_of(tenant, self._shards), self._indexes.get(tenant), steady()
        try:
            wires = await self._ask(named_command(shard, tenant, names_in(known))) if known else None
            if wires is None or wires[1] != known:
                wires = await self._ask(whole_command(tenant, self._shards), since=began)
                learn(self._indexes, tenant, wires)
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return verdicts(tenant, names_in(wires[1]), wires, self._clock.now_ms())

    async def histories(self, tenant: str, connectors: Sequence[str]) -> dict[str, History]:
        """The histories of one tenant (or `SYSTEM`) for `connectors`; one round trip.

        Raises:
            CacheUnavailable: Redis is away.
        """
        try:
            wires = await self._ask(histories_command(keys.shard_of(tenant, self._shards), tenant, connectors))
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return pasts(tenant, connectors, wires, self._clock.now_ms())

    async def page(self, wanted: Wanted, *, after: str = "", limit: int = 100) -> Page:
        """The verdicts of up to `limit` tenants after the tenant `after`, in two round trips for each `PART` of them.

        Every round trip has the reader's whole timeout: how long a page takes depends on how much it shows.

        Raises:
            CacheUnavailable: Redis is away, and it alone knows which tenants there are.
        """
        found: list[HealthStatus] = []
        for size in sizes(limit):
            part = await self._part(wanted, after, size)
            found += part.statuses
            if part.after is None:
                return Page(tuple(found), None)
            after = part.after
        return Page(tuple(found), after)

    async def _part(self, wanted: Wanted, after: str, size: int) -> Page:
        try:
            rows = await self._reading.ask(*questions(self._shards, after, wanted.prefix, size))
            tenants, following = chosen(rows, size)
            wires = await self._ask_all([whole_command(tenant, self._shards) for tenant in tenants]) if tenants else []
        except AWAY as error:
            raise CacheUnavailable(sentence(error)) from error
        return Page(selected(wanted, tenants, wires, self._clock.now_ms()), following)

    async def _ask(self, command: Command, since: float | None = None) -> Wires:
        (wires,) = await self._ask_all([command], since)
        return wires

    async def _ask_all(self, commands: Sequence[Command], since: float | None = None) -> list[Wires]:
        if not self._clock.due:
            return await self._reading.ask(*commands, since=since)
        asked = steady()
        now, *answers = await self._reading.ask(TIME, *commands, since=since)
        self._clock.calibrate((int(now[0]), int(now[1])), asked)
        return answers
