"""A finished check becomes the cached verdict, the next due time and perhaps a transition, in one atomic step.

The new record is computed here, from the record that was read; the script writes it only if that record is still
there. Whoever loses such a race reads again, and an older result then finds a newer record and is dropped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import structlog
from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio.client import Pipeline

from registry import history, keys
from registry.clock import SharedClock
from registry.connection import Redis, execute, script
from registry.counting import Counting
from registry.health import Fault, Reason, Verdict
from registry.ids import Pair
from registry.maintenance import MaintenanceBoard, Window, until
from registry.pace import Pace, fresh_until, hard_ttl, next_due
from registry.record import Kind, Record, decode, encode, shortened
from registry.schedule import Task
from registry.settings import Settings
from registry.tally import BUCKET_MS, KEPT_MS, ending
from registry.thresholds import Thresholds, advance

log = structlog.get_logger(__name__)

MAX_RACES = 5
"""A pair whose record changes this often while one result is written is left to its next check."""


class Outcome(Struct, frozen=True, gc=False):
    """A finished check: what was to be done, the raw verdict, and the endpoint (``connector|host``) it is about."""

    task: Task
    verdict: Verdict
    endpoint: str


class _Write(Struct, frozen=True, gc=False):
    outcome: Outcome
    record: Record
    wire: bytes
    ttl_ms: int
    due_ms: int
    transition: str
    entry: bytes


class Recorder:
    """Writes outcomes. Safe to call twice with the same outcome: the second time changes nothing."""

    def __init__(self, redis: Redis, clock: SharedClock, settings: Settings) -> None:
        self._board, self._windows = MaintenanceBoard(redis), tuple[Window, ...]()
        self._redis, self._clock, self._shards = redis, clock, settings.shards
        self._pace = Pace.of(settings)
        self._rules = Thresholds(settings.unhealthy_threshold, settings.healthy_threshold, self._pace.interval)
        self._script, self._history = script(redis, "history", "record"), settings.history

    async def record(self, outcomes: Sequence[Outcome], *, along: Pipeline | None = None) -> dict[Pair, Record]:
        """Write `outcomes` in one round trip; returns the records that were written (what was outdated is missing).

        Args:
            along: commands that are sent together with them.
        """
        written: dict[Pair, Record] = {}
        self._windows = await self._board.current()
        async with self._redis.pipeline(transaction=False) as own:
            pipe = own if along is None else along
            for _ in range(MAX_RACES):
                writes = [write for outcome in outcomes if (write := self._advance(outcome))]
                lost = await self._write(pipe, writes, written)
                if not lost:
                    break
                pipe, outcomes = own, await self._reread(lost)
        return written

    def _advance(self, outcome: Outcome) -> _Write | None:
        """What to write. A verdict that cannot be kept (a connector's bug) is that pair's ``monitor_error``."""
        try:
            return self._computed(outcome)
        except Exception as error:  # isolation: the other pairs of the batch must not be lost
            log.exception("verdict_not_kept", pair=str(outcome.task.pair))
            told = f"the verdict cannot be kept: {type(error).__name__}"
            ours = Verdict(Reason.MONITOR_ERROR, Fault.PLATFORM, outcome.verdict.checked_ms, error=told)
            return self._computed(replace(outcome, verdict=ours))

    def _computed(self, outcome: Outcome) -> _Write | None:
        task, previous, verdict = outcome.task, outcome.task.previous, outcome.verdict
        revision = task.scheduled.revision
        if previous is not None and not previous.precedes(revision, task.fence):
            return None
        now, config = self._clock.now_ms(), task.scheduled.config
        every = self._pace.every(task.pair, config)
        usual = max(every, task.share)
        rules = self._rules if usual == self._rules.interval_ms else dataclasses.replace(self._rules, interval_ms=usual)
        record = advance(previous, verdict, rules, revision=revision, fence=task.fence)
        due = next_due(task.pair, record, self._pace, now, every, task.share)
        fresh_until_ms = fresh_until(record, due, self._pace, every, task.share)
        maintenance_ms = until(task.pair, self._windows, now) if self._windows else 0
        record = shortened(replace(record, fresh_until_ms=fresh_until_ms, maintenance_ms=maintenance_ms))
        ttl = hard_ttl(task.pair, record.fresh_until_ms, now, usual)
        turned = _transition(task.pair, previous, record)
        entry = history.entry(previous, record, verdict, turned=bool(turned)) if self._history else b""
        return _Write(outcome, record, encode(record), ttl, due, turned, entry)

    async def _write(self, pipe: Pipeline, writes: list[_Write], written: dict[Pair, Record]) -> list[Outcome]:
        groups: dict[tuple[int, str], list[_Write]] = {}
        for write in writes:
            pair = write.outcome.task.pair
            groups.setdefault((keys.shard_of(pair.tenant, self._shards), pair.connector), []).append(write)
        before = len(pipe)
        bucket = self._clock.now_ms() // BUCKET_MS
        for (shard, connector), group in groups.items():
            script_keys = [keys.due(shard, connector), keys.events(shard), keys.counters(shard)]
            script_keys += [keys.tally(shard, bucket), keys.witnesses(shard, bucket)]
            script_keys += [keys.verdict(shard, write.outcome.task.pair) for write in group]
            script_keys += [keys.history(shard, write.outcome.task.pair) for write in group]
            await self._script(keys=script_keys, args=self._args(connector, group), client=pipe)
        answers = (await execute(pipe))[before:]
        lost: list[Outcome] = []
        for group, flags in zip(groups.values(), answers, strict=True):
            for write, flag in zip(group, flags, strict=True):
                if flag > 0:
                    written[write.outcome.task.pair] = write.record
                elif flag == 0:
                    lost.append(write.outcome)
        return lost

    def _args(self, connector: str, group: list[_Write]) -> list[str | int | bytes]:
        counting, rows = Counting(connector), list[str | int | bytes]()
        for write in group:
            outcome, task = write.outcome, write.outcome.task
            head = task.previous.head if task.previous else ""
            rows += [task.pair.tenant, head, write.wire, write.ttl_ms, task.turn_ms, write.due_ms]
            ended = None if task.scheduled.config is None else ending(outcome.verdict, task.previous)
            turned = write.record.status if write.transition else None
            marks = counting.marks(task.pair, outcome.verdict, turned, outcome.endpoint, ended)
            rows += [write.transition, write.entry, marks]
        names = [*counting.counters, *counting.tallies]
        return [keys.EVENTS_CAP, len(group), len(counting.counters), len(counting.tallies), KEPT_MS, *names, *rows]

    async def _reread(self, outcomes: list[Outcome]) -> list[Outcome]:
        pairs = [outcome.task.pair for outcome in outcomes]
        async with self._redis.pipeline(transaction=False) as pipe:
            for pair in pairs:
                pipe.get(keys.verdict(keys.shard_of(pair.tenant, self._shards), pair))
            wires = await pipe.execute()
        return [
            replace(outcome, task=replace(outcome.task, previous=decode(wire) if wire else None))
            for outcome, wire in zip(outcomes, wires, strict=True)
        ]


def _transition(pair: Pair, previous: Record | None, record: Record) -> str:
    """The event of a change of effective status or reason, as JSON; empty when nothing turned."""
    before = previous if previous and previous.kind is Kind.CHECKED else None
    if before and (before.status, before.reason) == (record.status, record.reason):
        return ""
    event = {
        "connector": pair.connector,
        "tenant": pair.tenant,
        "from": [before.status, before.reason] if before else None,
        "to": [record.status, record.reason],
        "fault": record.fault,
        "at_ms": record.since_ms,
        "version": record.fence,
    }
    return json.dumps(event, separators=(",", ":"))
