"""What the parts of one process tell the audit log.

A change of a configuration is written before its caller goes on. What merely happened (a connector was loaded, a
secret was read) waits up to a second and is written together, so that checks never wait for the log. A sink that is
away holds up nothing: records wait for it, up to a bound, and what is dropped beyond that is counted in the log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import OrderedDict, deque

import structlog

from registry.audit import Action, AuditSink, Entry
from registry.errors import StoreUnavailable
from registry.health import Scalar
from registry.ids import Pair

log = structlog.get_logger(__name__)

AT_MOST = 10_000
"""Records that wait for a sink that is away."""

REMEMBERED = 200_000
"""Pairs whose first secret was recorded; beyond that the oldest are forgotten, and recorded again."""

SOON = 1.0
"""Seconds that what merely happened may wait."""


def process_name() -> str:
    """Who acts when nobody else is named: this process."""
    return f"process:{socket.gethostname()}:{os.getpid()}"


class Trail:
    """Writes to a sink. Belongs to one event loop, as everything it is told about does.

    Args:
        sink: where records are kept.
        reads: record loads of connectors and first uses of secrets too.
    """

    def __init__(self, sink: AuditSink, *, reads: bool = True) -> None:
        self.sink, self.actor = sink, process_name()
        self._reads = reads
        self._waiting: deque[Entry] = deque()
        self._lost = 0
        self._resolved: OrderedDict[int, None] = OrderedDict()
        self._soon: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._unfinished: set[asyncio.Task[None]] = set()  # a loop alone does not keep its tasks alive

    async def record(
        self,
        action: Action,
        *,
        actor: str | None = None,
        tenant: str | None = None,
        connector: str | None = None,
        before: int | None = None,
        after: int | None = None,
        **detail: Scalar,
    ) -> None:
        """Write one record now, behind those that wait; if the sink is away it waits too, and nothing is raised."""
        now = time.time_ns() // 1_000_000
        self._enter(Entry(action, actor or self.actor, now, tenant, connector, before, after, detail))
        await self.flush()

    def note(self, action: Action, *, connector: str, tenant: str | None = None, **detail: Scalar) -> None:
        """Write one record soon."""
        if not self._reads:
            return
        now = time.time_ns() // 1_000_000
        self._enter(Entry(action, self.actor, now, tenant, connector, detail=detail))
        self._flush_soon()

    def secret_read(self, pair: Pair) -> None:
        """Note the first time that this process reads a secret of `pair`."""
        key = hash(pair)
        if key in self._resolved:
            return
        self._resolved[key] = None
        if len(self._resolved) > REMEMBERED:
            self._resolved.popitem(last=False)
        self.note(Action.SECRET_RESOLVED, connector=pair.connector, tenant=pair.tenant)

    async def extend(self, entries: list[Entry]) -> None:
        """Write these and nothing else, or raise `StoreUnavailable`: for who can come again with the same."""
        if entries:
            async with self._writing:
                await self.sink.append(entries)

    async def flush(self) -> None:
        """Write what waits. If the caller is cancelled the writing goes on, for a sink's thread does so anyway."""
        writing = asyncio.get_running_loop().create_task(self._flush())
        self._unfinished.add(writing)
        writing.add_done_callback(self._unfinished.discard)
        await asyncio.shield(writing)

    async def _flush(self) -> None:
        async with self._writing:
            entries, lost = list(self._waiting), self._lost
            if not entries:
                return
            self._waiting.clear()
            self._lost = 0
            gap = [Entry(Action.RECORDS_LOST, self.actor, entries[0].at_ms, detail={"lost": lost})] if lost else []
            try:
                await self.sink.append(gap + entries)
            except Exception as error:
                self._lost += lost
                self._waiting.extendleft(reversed(entries))
                self._bound()
                if not isinstance(error, StoreUnavailable):
                    raise
                log.warning("audit_behind", waiting=len(self._waiting), error=str(error))

    async def aclose(self) -> None:
        """Write what waits and close the sink."""
        if self._soon is not None:
            self._soon.cancel()
        await self.flush()
        await self.sink.aclose()

    def _enter(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > AT_MOST:
            self._waiting.popleft()
            self._lost += 1

    def _flush_soon(self) -> None:
        if self._soon is not None and not self._soon.done():
            return
        try:
            self._soon = asyncio.get_running_loop().create_task(self._flush_later())
        except RuntimeError:  # no loop runs yet: the next flush takes it along
            return

    async def _flush_later(self) -> None:
        await asyncio.sleep(SOON)
        await self.flush()
