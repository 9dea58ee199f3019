"""Looks at the running system from outside, several times a second, and shows every look to the invariants."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import uuid4

from registry import HealthView, keys
from registry.connection import AWAY, SyncRedis, connect_sync
from registry.health import HealthStatus, Reason
from registry.ids import SYSTEM, Pair
from registry.record import Record, decode
from tests.chaos.invariants import Event, Invariant, Look, NoVerdictIsFalse, judged
from tests.chaos.messages import Message

PERIOD = 0.25
"""Seconds between two looks."""

MARK = "chaos:watch"
"""Where the watch notes that it has seen these data, and no others."""

_Rows = list[tuple[bytes, dict[bytes, bytes]]]
Asked = Callable[[], Mapping[str, int] | None]


class Watch:
    """Watches `pairs`. `look` is one look; `start` looks on and on in a thread. `messages` grows as they arrive.

    Where this process itself was kept waiting (`PERIOD` took longer), its clock stands still: nobody was fast then.
    """

    def __init__(
        self,
        redis_url: str,
        pairs: Sequence[Pair],
        invariants: Sequence[Invariant],
        *,
        shards: int,
        asked: Asked = lambda: None,
        messages: Sequence[Message] = (),
    ) -> None:
        self._view = HealthView(redis_url, timeout=1.0, shards=shards)
        self._redis: SyncRedis = connect_sync(redis_url, 1.0)
        self._pairs, self._invariants, self._shards, self._asked = tuple(pairs), invariants, shards, asked
        self._messages, self._shown = messages, 0
        self._epochs: list[object] = []
        self._at = dict.fromkeys(range(shards), "-")
        self._lost: set[int] = set()
        self._read: list[tuple[int, Event]] = []  # events that no finished look has shown yet
        self._calm_since: float | None = None
        self._waited = 0.0
        self._renewed: dict[Pair, HealthStatus] = {}
        self._versions: dict[Pair, int] = {}
        self._ended, self._lock, self._looking = threading.Event(), threading.Lock(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.violations: list[str] = []
        self.seen: Counter[str] = Counter()

    def start(self) -> None:
        """Look on and on until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self._view.close()
        self._redis.close()

    def trouble(self) -> None:
        """A fault begins: what readers see is counted from here, and nobody is called overdue."""
        with self._lock:
            self._calm_since = None
            self.seen.clear()

    def calm(self) -> None:
        """The fault is over: everybody is owed a new verdict."""
        with self._lock:
            self._calm_since = self._now()
            self._renewed = {}

    def expect_new(self) -> None:
        """Everybody is to be checked anew from here on, fault or no fault; see `unhealed`."""
        with self._lock:
            self._renewed = {}

    def calm_for(self) -> float:
        """Seconds since the last fault ended."""
        return self._now() - (self._calm_since or 0.0)

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Redis goes back to an earlier state of its data meanwhile: what was seen of it counts no more."""
        with self._looking:
            yield
            for shard in range(self._shards):
                self._start_anew(shard)

    def reads(self, pair: Pair) -> Reason | None:
        """What the newest verdict of the pair says; None before its first."""
        with self._lock:
            status = self._renewed.get(pair)
            return status.reason if status else None

    @contextmanager
    def leaving_out(self, *pairs: Pair) -> Iterator[None]:
        """Nothing is expected of these pairs meanwhile; what was told of them is read anew after it."""
        with self._looking:
            watched, self._pairs = self._pairs, tuple(each for each in self._pairs if each not in pairs)
        yield
        with self._looking:
            self._pairs = watched
            for shard in {keys.shard_of(pair.tenant, self._shards) for pair in pairs}:
                self._start_anew(shard)

    def taken(self) -> list[str]:
        """The violations since the last call."""
        with self._lock:
            found, self.violations = self.violations, []
            return found

    def unhealed(self) -> dict[Pair, str]:
        """The pairs without a right verdict first seen after the last `calm` or `expect_new`, and what they show."""
        rule = next((each for each in self._invariants if isinstance(each, NoVerdictIsFalse)), NoVerdictIsFalse())
        with self._lock:
            healed = {pair for pair, status in self._renewed.items() if status.reason in rule.allowed(pair)}
            return {
                pair: self._renewed[pair].reason.value if pair in self._renewed else "nothing new"
                for pair in self._pairs
                if pair not in healed
            }

    def look(self) -> Look | None:
        """Look once and judge; None when Redis did not answer all of it."""
        with self._looking:
            try:
                found = self._look()
            except AWAY:
                self._count([self._view.status(self._pairs[0].connector, self._pairs[0].tenant)])
                return None
        if found is not None:
            with self._lock:
                self._note(found)
            self.violations += [told for told in judged(self._invariants, found) if told not in self.violations]
        return found

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception as error:
                self.violations.append(f"a look failed: {error!r}")
                raise
            slept = time.monotonic()
            self._ended.wait(PERIOD)
            self._waited += max(0.0, time.monotonic() - slept - PERIOD)

    def _now(self) -> float:
        return time.monotonic() - self._waited

    def _note(self, look: Look) -> None:
        for pair, status in look.statuses.items():
            if status.checked_ms is not None and not status.stale and status.version > self._versions.get(pair, 0):
                self._versions[pair] = status.version
                self._renewed[pair] = status

    def _look(self) -> Look | None:
        before, began_ms = self._epoch_list(), self._now_ms()
        statuses = self._statuses()
        self._count(statuses.values())
        if any(status.reason is Reason.MONITOR_ERROR and status.checked_ms is None for status in statuses.values()):
            return None
        now_ms = self._now_ms()
        records, due, at = self._records(), self._due(), self._now()
        arrived = len(self._messages)
        self._read_events()
        if self._epoch_list() != before:
            return None  # Redis lost its data while we looked
        return Look(
            at=at,
            now_ms=now_ms,
            statuses=statuses,
            records=records,
            due=due,
            events=self._unshown(),
            lost=self._forgotten(),
            calm_since=self._calm_since,
            asked=self._asked(),
            began_ms=began_ms,
            messages=self._delivered(arrived),
        )

    def _now_ms(self) -> int:
        seconds, microseconds = self._redis.time()
        return seconds * 1000 + microseconds // 1000

    def _count(self, statuses: Iterable[HealthStatus]) -> None:
        self.seen.update(f"{status.status.value}/{status.reason.value}" for status in statuses)

    def _epoch_list(self) -> list[object]:
        """What tells one life of Redis' data from the next: of each shard its epoch, and a mark that the watch leaves.

        Between a loss and the end of the comparison that makes good for it there is no epoch, and the data may be lost
        again. A shard with something else than before has lost its data: its stream is read anew.
        """
        *told, mark = cast("list[object]", self._redis.mget([*map(keys.epoch, range(self._shards)), MARK]))
        if mark is None:
            mark = uuid4().hex.encode()
            self._redis.set(MARK, mark)
        epochs: list[object] = [(epoch, mark) for epoch in told]
        for shard, (old, new) in enumerate(zip(self._epochs, epochs, strict=False)):
            if old != new:
                self._start_anew(shard)
        self._epochs = epochs
        return epochs

    def _start_anew(self, shard: int) -> None:
        self._lost.add(shard)
        self._at[shard] = "-"
        self._read = [(of, event) for of, event in self._read if of != shard]

    def _forgotten(self) -> frozenset[Pair]:
        lost, self._lost = self._lost, set()
        return frozenset(pair for pair in self._pairs if keys.shard_of(pair.tenant, self._shards) in lost)

    def _statuses(self) -> dict[Pair, HealthStatus]:
        found: dict[Pair, HealthStatus] = {}
        for tenant in dict.fromkeys(pair.tenant for pair in self._pairs):
            names = [pair.connector for pair in self._pairs if pair.tenant == tenant]
            page = self._view.statuses(None if tenant == SYSTEM else tenant, names)
            found |= {Pair(name, tenant): status for name, status in page.items()}
        return found

    def _records(self) -> dict[Pair, Record]:
        wires = self._each(lambda pair: ("GET", keys.verdict(keys.shard_of(pair.tenant, self._shards), pair)))
        return {pair: decode(wire) for pair, wire in zip(self._pairs, wires, strict=True) if wire}

    def _due(self) -> dict[Pair, int]:
        def command(pair: Pair) -> tuple[str, ...]:
            return "ZSCORE", keys.due(keys.shard_of(pair.tenant, self._shards), pair.connector), pair.tenant

        scores = self._each(command)
        return {pair: int(float(score)) for pair, score in zip(self._pairs, scores, strict=True) if score is not None}

    def _each(self, command: Callable[[Pair], tuple[str, ...]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipe:
            for pair in self._pairs:
                pipe.execute_command(*command(pair))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            return pipe.execute()

    def _read_events(self) -> None:
        for shard in range(self._shards):
            rows = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]", self._redis.xrange(keys.events(shard), self._at[shard])
            )
            self._read += [(shard, _event(fields[b"transition"])) for _, fields in rows]
            if rows:
                self._at[shard] = f"({rows[-1][0].decode()}"

    def _unshown(self) -> tuple[Event, ...]:
        read, self._read = self._read, []
        return tuple(event for _, event in read if event.pair in self._pairs)

    def _delivered(self, arrived: int) -> tuple[Message, ...]:
        shown, self._shown = self._shown, arrived
        return tuple(self._messages[shown:arrived])


def _event(wire: bytes) -> Event:
    told = json.loads(wire)
    before, (status, reason) = told["from"], told["to"]
    pair = Pair(told["connector"], told["tenant"])
    before = (before[0], before[1]) if before else None
    return Event(pair, told["version"], before, (status, reason), told["at_ms"])
