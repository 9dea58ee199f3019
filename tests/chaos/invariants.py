"""What must hold whatever breaks, judged from outside: by what readers, event streams and the schedule show.

Each invariant is a small class that is shown one `Look` after the other and says what is wrong with it. Times are those
of this process's steady clock, so that no clock of the system is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from registry.health import HealthStatus, Reason, Status
from registry.ids import Pair
from registry.record import Record
from tests.chaos.messages import Message

CLOCKS_DIFFER_MS = 100
"""A reader carries Redis' time forward by its own clock for half a minute: so much the two may have drifted apart."""

Outcome = tuple[str, str]
"""Status and reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """One transition as the stream tells it, at `at_ms` (Unix ms); `before` is None for a first verdict."""

    pair: Pair
    version: int
    before: Outcome | None
    after: Outcome
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What was to be seen at one moment: `at` seconds on the steady clock, `now_ms` on Redis'.

    `began_ms` is a moment of Redis' clock before the first of `statuses` was asked for.
    `due` and `records` lack the pairs that Redis has not. `events` are new since the last look and were read after
    `statuses`. `lost` are pairs of shards whose epoch is another than at the last look: Redis lost its data.
    `calm_since` is when the last fault ended, None during one. `asked` is what the vendors counted. `messages` are new
    since the last look, and had arrived before `events` were read.
    """

    at: float
    now_ms: int
    statuses: Mapping[Pair, HealthStatus]
    records: Mapping[Pair, Record]
    due: Mapping[Pair, int]
    events: tuple[Event, ...] = ()
    lost: frozenset[Pair] = frozenset()
    calm_since: float | None = 0.0
    asked: Mapping[str, int] | None = None
    began_ms: int = 0
    messages: tuple[Message, ...] = ()


class Invariant(Protocol):
    """Says what a look violates."""

    def judge(self, look: Look) -> Iterator[str]: ...


@dataclass
class NeverHealthyPastItsTime:
    """No verdict is read as healthy beyond its own `fresh_until_ms`, by Redis' clock.

    Nor for longer than `life` seconds after it was first seen: a verdict must not allow itself more than that.
    """

    life: float
    _first: dict[tuple[Pair, int], float] = field(default_factory=dict)

    def judge(self, look: Look) -> Iterator[str]:
        for pair, status in look.statuses.items():
            first = self._first.setdefault((pair, status.version), look.at)
            if status.healthy and look.at - first > self.life:
                yield f"{pair} is {status.status.value} by a verdict that is older than {self.life:g} s"
            if status.healthy and (status.fresh_until_ms or 0) < look.began_ms - CLOCKS_DIFFER_MS:
                late = look.began_ms - (status.fresh_until_ms or 0)
                yield f"{pair} is {status.status.value} by a verdict that was over {late} ms before it was asked for"


@dataclass
class NeverOlderOverNewer:
    """Revision and fence of a pair's record only grow, and one version is one check for ever."""

    _newest: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    _checks: dict[Pair, tuple[int, int]] = field(default_factory=dict)

    def judge(self, look: Look) -> Iterator[str]:
        for pair in look.lost:
            self._newest.pop(pair, None)
            self._checks.pop(pair, None)
        for pair, record in look.records.items():
            stamp = (record.revision, record.fence)
            newest = self._newest.setdefault(pair, stamp)
            if stamp < newest:
                yield f"{pair}: record {stamp} replaced the newer {newest}"
            self._newest[pair] = max(stamp, newest)
        for pair, status in look.statuses.items():
            yield from self._same(pair, status)

    def _same(self, pair: Pair, status: HealthStatus) -> Iterator[str]:
        if status.checked_ms is None:
            return
        version, checked_ms = self._checks.get(pair, (0, 0))
        if status.version < version:
            yield f"{pair}: readers see version {status.version} after {version}"
        elif status.version == version and status.checked_ms != checked_ms:
            yield f"{pair}: version {version} is two checks, of {checked_ms} and {status.checked_ms}"
        self._checks[pair] = (status.version, status.checked_ms)


@dataclass
class NeverOverdue:
    """Nobody waits for longer than `bound` seconds for a check that is due; what a fault delays counts from its end.

    A pair is owed a check when it is due, when it was claimed, and when it is missing; a new version settles it.
    """

    bound: float
    _owed: dict[Pair, float] = field(default_factory=dict)
    _version: dict[Pair, int] = field(default_factory=dict)
    _due: dict[Pair, int] = field(default_factory=dict)

    def judge(self, look: Look) -> Iterator[str]:
        for pair, status in look.statuses.items():
            due, before = look.due.get(pair), self._due.get(pair)
            if status.checked_ms is not None and status.version != self._version.get(pair):
                self._version[pair] = status.version
                self._owed.pop(pair, None)
            elif due is None or due <= look.now_ms or (before is not None and due > before):
                self._owed.setdefault(pair, look.at)
            if due is None:
                self._due.pop(pair, None)
            else:
                self._due[pair] = due
            yield from self._late(pair, look)

    def _late(self, pair: Pair, look: Look) -> Iterator[str]:
        if look.calm_since is None or pair not in self._owed:
            return
        late = look.at - max(self._owed[pair], look.calm_since)
        if late > self.bound:
            yield f"{pair} is owed a check for more than {self.bound:g} s"


@dataclass
class EveryTransitionIsTold:
    """What readers see is what the last event up to it told, and each event goes on from the one before."""

    _told: dict[Pair, list[Event]] = field(default_factory=dict)

    def judge(self, look: Look) -> Iterator[str]:
        for pair in look.lost:
            self._told.pop(pair, None)
        for event in look.events:
            told = self._told.setdefault(event.pair, [])
            if told and event.before is not None and event.before != told[-1].after:
                yield f"{event.pair}: an event goes on from {event.before}, the last one told {told[-1].after}"
            told.append(event)
        for pair, status in look.statuses.items():
            if status.checked_ms is None or status.stale:
                continue
            outcome = (status.status.value, status.reason.value)
            told = [event for event in self._told.get(pair, []) if event.version <= status.version]
            if not told or told[-1].after != outcome:
                yield f"{pair} reads {outcome}, no event told so (the last: {told[-1].after if told else None})"


@dataclass
class NoVerdictIsFalse:
    """Whatever breaks on our side, a pair is what its vendor plays, or unknown. `expected` holds the exceptions.

    Who plays nothing is ``ok``, or ``slow``: on a machine that is short of time it truly takes long.
    """

    expected: dict[Pair, frozenset[Reason]] = field(default_factory=dict)

    def judge(self, look: Look) -> Iterator[str]:
        for pair, status in look.statuses.items():
            if status.reason is Reason.NOT_CONFIGURED:
                yield f"{pair} is told to be not configured"
            elif status.status is not Status.UNKNOWN and status.reason not in self.allowed(pair):
                yield f"{pair} is told to be {status.status.value}/{status.reason.value}: {status.error}"

    def allowed(self, pair: Pair) -> frozenset[Reason]:
        """The reasons that are true of the pair."""
        return self.expected.get(pair, frozenset({Reason.OK, Reason.SLOW}))


@dataclass
class NobodySeesAnother:
    """A verdict names no other tenant: every answer of the demo vendors carries the name of the one who asked."""

    pattern: re.Pattern[str] = re.compile(r"acme-\d+")

    def judge(self, look: Look) -> Iterator[str]:
        for pair, status in look.statuses.items():
            evidence = [str(status.as_dict()), *[str(step) for step in status.checks]]
            strangers = {name for text in evidence for name in self.pattern.findall(text)} - {pair.tenant}
            if strangers:
                yield f"{pair} shows evidence of {', '.join(sorted(strangers))}"


@dataclass
class EveryVerdictWasAsked:
    """No more good verdicts appear than the vendors, by their own count, were asked."""

    _seen: set[tuple[Pair, int]] = field(default_factory=set)
    _count: dict[str, int] = field(default_factory=dict)
    _before: Mapping[str, int] | None = None

    def judge(self, look: Look) -> Iterator[str]:
        fresh = [
            (pair, status.version)
            for pair, status in look.statuses.items()
            if status.reason is Reason.OK and (pair, status.version) not in self._seen
        ]
        self._seen.update(fresh)
        if look.asked is None or self._before is None:  # what was answered before the first look is not ours to count
            self._before = look.asked if self._before is None else self._before
            return
        for pair, _ in fresh:
            self._count[pair.connector] = self._count.get(pair.connector, 0) + 1
        for connector, count in self._count.items():
            asked = look.asked.get(connector, 0) - self._before.get(connector, 0)
            if count > asked + len(look.statuses):  # answers counted before the first look, recorded after it
                yield f"{connector}: {count} good verdicts, but the vendor was asked {asked} times"


def judged(invariants: Iterable[Invariant], look: Look) -> list[str]:
    """Everything that is wrong with a look."""
    return [told for invariant in invariants for told in invariant.judge(look)]
