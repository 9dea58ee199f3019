"""Keeps the schedule equal to the configuration store: follows its changes, and now and then compares everything.

What `set_config` announced is here already; this brings in what was written while Redis was away, by other tools, or
before Redis lost its data.
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import cast

import structlog
from redis.typing import EncodableT

from registry import keys
from registry.catalog import Catalog
from registry.clock import SharedClock, steady
from registry.configuring import is_reset
from registry.connection import Redis
from registry.endpoints import Endpoints
from registry.errors import ConflictError, InvalidConfig, NotConfigured, StoreUnavailable
from registry.ids import Pair
from registry.loss import LOOK_AGAIN, is_gone, is_kept, is_lost
from registry.overtake import overtake
from registry.pace import Pace, spread
from registry.schedule import Entry, Schedule, Scheduled
from registry.settings import Settings
from registry.stores import Change, Changes, TenantConfigStore
from registry.walk import Walk, Walks

log = structlog.get_logger(__name__)

REMOVED_AT_ONCE = 20
"""Pairs that the store is asked for at a time before they are taken out."""

TURNS_AT_ONCE = 500
"""Pairs without a turn that get one together."""

ROUND = 15.0
"""Seconds of one round after which comparing everything waits for the next one: well within a task's time limit."""


class Reconciler:
    """Brings the store's configurations into the schedule."""

    def __init__(
        self,
        redis: Redis,
        schedule: Schedule,
        store: TenantConfigStore,
        catalog: Catalog,
        endpoints: Endpoints,
        clock: SharedClock,
        settings: Settings,
    ) -> None:
        self._redis, self._schedule, self._store = redis, schedule, store
        self._endpoints, self._clock, self._settings = endpoints, clock, settings
        self._pace, self._walks = Pace.of(settings), Walks(redis, catalog, shards=schedule.shards)

    async def run(self) -> Mapping[str, int]:
        """One round: what changed, and a part of comparing everything if that is due or Redis lost its data.

        Returns how many pairs were `changed`, and how many `removed` if a comparison was ended.

        Raises:
            StoreUnavailable: it is away, or has lost what it held: then everybody keeps what is scheduled.
        """
        now, refill = await self._calibrate()
        at = await self._progress()
        changed = await self._follow(at["cursor"], now) if "cursor" in at else 0
        walk = Walk.of(at)
        if refill and not (walk and walk.refill):
            walk = await self._walks.begin(now, refill=True)
        elif walk is None and now - int(at.get("full_ms", 0)) > self._full_every(at) * 1000:
            walk = await self._walks.begin(now, refill=False)
        done, lost = {"changed": changed}, int(at.get("lost", 0))
        if walk:
            compared = dict(await self._compare(walk, now, before=lost > 0))
            lost = compared.pop("lost", lost)
            done = {**compared, "changed": compared["changed"] + changed}
        await self._endpoints.schedule_checks()
        if lost:
            raise StoreUnavailable(
                f"the configuration store has lost pairs that nobody deleted ({lost}): they are checked on, restore it"
            )
        return done

    def _full_every(self, at: Mapping[str, str]) -> float:
        """Seconds between two full comparisons."""
        usual = self._settings.reconcile_full_every
        return min(usual, LOOK_AGAIN) if int(at.get("lost", 0)) else usual

    async def _calibrate(self) -> tuple[int, bool]:
        """The time, and whether any shard is without its epoch: new, or lost with Redis' data."""
        asked = steady()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.mget([keys.epoch(shard) for shard in range(self._schedule.shards)])
            now, epochs = await pipe.execute()
        self._clock.calibrate(now, asked)
        return self._clock.now_ms(), None in epochs

    async def _progress(self) -> dict[str, str]:
        """How far earlier rounds have come: `cursor` of the changes, `full_ms`, `lost`, and what `Walk.of` reads."""
        wire = cast("Mapping[bytes, bytes]", await self._redis.hgetall(keys.CURSOR))
        return {name.decode(): value.decode() for name, value in wire.items()}

    async def _compare(self, walk: Walk, now: int, *, before: bool) -> Mapping[str, int]:
        """Go on entering whatever the store has; at its end take out the rest, and say that the index is complete.

        `before`: the store had lost pairs at the last comparison.
        """
        started, changed, more = steady(), 0, True
        while more:
            page = await self._store.changes_since(walk.cursor)
            changed += await self._apply(page, now, spread_out=walk.refill)
            further = await self._walks.advance(walk, page)
            if further is None:
                return await self._in_vain(walk, changed)
            walk, more = further, page.more
            if more and steady() - started > ROUND:
                log.info("reconciling", changed=changed)
                return {"changed": changed}
        found = await self._walks.outcome(walk)
        if found.kept < walk.met or await is_kept(self._store, found.missed):
            await self._give_turns(found.missed, now, started)
            return await self._in_vain(walk, changed)
        strangers, removed = found.strangers, 0
        lost = len(strangers) if await is_lost(self._store, strangers, found.kept, before=before) else 0
        for at in range(0, 0 if lost or before else len(strangers), REMOVED_AT_ONCE):
            removed += sum(await gather(*map(self._remove_unknown, strangers[at : at + REMOVED_AT_ONCE])))
            if steady() - started > ROUND:
                log.info("reconciling", changed=changed, removed=removed)
                return {"changed": changed, "removed": removed}
        await self._endpoints.schedule_checks()  # they are in the index too: without them it is not complete
        if not await self._walks.complete(walk, now):
            return await self._in_vain(walk, changed)
        ended = {"full_ms": str(now), "cursor": str(walk.cursor), "lost": str(lost)}
        await self._redis.hset(keys.CURSOR, mapping=cast("dict[EncodableT, EncodableT]", ended))
        await self._walks.end(walk)
        if not lost:
            await self._endpoints.forget(walk.from_ms)
        log.info("reconciled", changed=changed, removed=removed, lost=lost)
        return {"changed": changed, "removed": removed, "lost": lost}

    async def _in_vain(self, walk: Walk, changed: int) -> Mapping[str, int]:
        """Redis lost data since this comparison began, or another one began: the next round begins anew."""
        await self._walks.end(walk)
        log.warning("comparison_in_vain", changed=changed)
        return {"changed": changed}

    async def _give_turns(self, missed: Sequence[Pair], now: int, started: float) -> None:
        """A turn to those that lost theirs and nothing else: to the next comparison they are no news."""
        for at in range(0, len(missed), TURNS_AT_ONCE):
            known = await self._schedule.get(missed[at : at + TURNS_AT_ONCE])
            await self._schedule.put_many([self._again(scheduled, now) for scheduled in known if scheduled])
            if steady() - started > ROUND:
                return  # it misses the rest again

    def _again(self, known: Scheduled, now: int) -> Entry:
        due_ms = now + int(spread(known.pair) * self._pace.at_most(known.pair, known.config))
        return Entry(known.pair, known.revision, known.config, reset=False, due_ms=due_ms, announce=False)

    async def _remove_unknown(self, pair: Pair) -> bool:
        """Take a pair out, unless it was configured while we were comparing."""
        revision = await self._revision(pair)
        return await is_gone(pair, self._store) and await self._schedule.remove(pair, revision)

    async def _follow(self, cursor: str | None, now: int) -> int:
        """Apply the changes after `cursor`, a page at a time; the cursor is kept after each applied page."""
        changed, more = 0, True
        while more:
            page = await self._store.changes_since(cursor)
            changed += await self._apply(page, now, spread_out=False)
            cursor, more = page.cursor, page.more
            await self._redis.hset(keys.CURSOR, "cursor", cursor)
        return changed

    async def _apply(self, page: Changes, now: int, *, spread_out: bool) -> int:
        """Bring one page of changes into the schedule; how many were news to it?"""
        changed, entries, behind, broken = 0, list[Entry](), list[Pair](), dict[Pair, str]()
        known = await self._schedule.get([change.pair for change in page.items])
        for change, scheduled in zip(page.items, known, strict=True):
            if scheduled is not None and scheduled.revision >= change.revision:
                behind += [change.pair] if _is_behind(change, scheduled) else []
                continue
            if change.deleted:
                changed += scheduled is not None and await self._schedule.remove(change.pair, change.revision)
            else:
                try:
                    entries.append(self._entry(change, scheduled, now, spread_out=spread_out))
                except InvalidConfig as error:
                    broken[change.pair] = str(error)
        for pair, told in broken.items():
            log.error("broken_configuration", pair=str(pair), error=told)
        for entry, put in zip(entries, await self._schedule.put_many(entries), strict=True):
            changed += put
            behind += [] if put else [entry.pair]
        for pair in behind:
            changed += await self._overtake(pair, now)
        await self._endpoints.tell([(c.pair, c.config) for c in page.items if c.config], now)
        return changed

    async def _overtake(self, pair: Pair, now: int) -> int:
        """Make good for a store that was set back, see `registry.overtake`."""
        try:
            stored = await overtake(pair, self._store, self._schedule)
        except NotConfigured:
            return await self._remove_unknown(pair)
        except (ConflictError, InvalidConfig):
            return 0
        if stored is None:
            return 0
        change = Change(pair, stored.revision, deleted=False, config=stored.config)
        return await self._apply(Changes((change,), "", more=False), now, spread_out=False)

    def _entry(self, change: Change, scheduled: Scheduled | None, now: int, *, spread_out: bool) -> Entry:
        if change.config is None:
            raise InvalidConfig(change.error or "it cannot be read")
        return Entry(
            change.pair,
            change.revision,
            change.config,
            reset=is_reset(scheduled.config if scheduled else None, change.config),
            over=scheduled.revision if scheduled else 0,
            due_ms=now + int(spread(change.pair) * self._pace.at_most(change.pair, change.config)) if spread_out else 0,
            announce=not spread_out,
        )

    async def _revision(self, pair: Pair) -> int:
        (scheduled,) = await self._schedule.get([pair])
        return scheduled.revision if scheduled else 0


def _is_behind(change: Change, scheduled: Scheduled) -> bool:
    """Is something scheduled that the store cannot have given to anybody since its present state?"""
    other = change.config is not None and change.config != scheduled.config
    return scheduled.revision > change.revision or change.deleted or other
