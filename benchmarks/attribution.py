"""Is the right party blamed? 1,000 tenants of 5 vendors over six simulated hours, with every kind of trouble.

The checks are simulated; everything after them is the product's own code: attribution, thresholds, pace, tallies and
the incident detector. Run with ``python benchmarks/attribution.py``; it takes a few minutes of CPU.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from registry.health import REASONS, Fault, HealthCheck, Reason, Status, StepStatus, Verdict
from registry.ids import Pair
from registry.incidents import NETWORK, Incident, attribute, ours
from registry.pace import Pace, fresh_until, in_phase, next_due
from registry.record import Record, seen
from registry.tally import BUCKET_MS, Tally, ending
from registry.thresholds import Thresholds, advance
from worker.incidents import Rules, Services, judge

MINUTE = 60_000
START = 1_763_900_000_000 // MINUTE * MINUTE
HOURS = 6
VENDORS = ("github", "gitlab", "linear", "slack", "vertex")
DETECT_EVERY = 5_000
SAMPLE_EVERY = 15_000
AUTHENTICATED = (HealthCheck("auth", StepStatus.PASS, 1.0),)

REVOKED = "credential revoked"


@dataclass(frozen=True)
class Trouble:
    """One cause: from when to when (minutes), whom it hits, what a check then sees, and who is really at fault."""

    name: str
    begin: int
    end: int
    hits: Callable[[Pair], bool]
    sees: Callable[[random.Random], Reason | None]
    fault: Fault
    cuts_us_off: bool = False

    def at(self, minute: float) -> bool:
        return self.begin <= minute < self.end


def troubles(tenants: int, rng: random.Random) -> list[Trouble]:
    pairs = [Pair(vendor, f"t{n}") for n in range(tenants) for vendor in VENDORS]
    bad = {pair: 120 + rng.randrange(40) for pair in rng.sample(pairs, tenants // 20)}
    heavy = set(rng.sample([pair for pair in pairs if pair.connector == "gitlab"], tenants // 25))
    found = [
        Trouble("vendor outage (503)", 30, 60, _of("github"), _always(Reason.VENDOR_ERROR), Fault.VENDOR),
        Trouble("vendor outage, 30 % of tenants", 80, 110, _part("slack", 0.3), _always(Reason.TIMEOUT), Fault.VENDOR),
        Trouble("tenants rate limited", 180, 200, heavy.__contains__, _always(Reason.RATE_LIMITED), Fault.TENANT),
        Trouble(
            "our network is lost", 220, 235, _everyone, _always(Reason.UNREACHABLE), Fault.PLATFORM, cuts_us_off=True
        ),
        Trouble("our secret store is away", 260, 280, _everyone, _always(Reason.SECRET_UNAVAILABLE), Fault.PLATFORM),
        Trouble(
            "vendor turns good credentials down",
            300,
            312,
            _part("vertex", 0.6),
            _always(Reason.CREDENTIAL_REJECTED),
            Fault.VENDOR,
        ),
        Trouble("vendor hangs", 330, 345, _of("linear"), _always(Reason.TIMEOUT), Fault.VENDOR),
    ]
    for pair, begin in bad.items():
        found.append(
            Trouble(
                "credential revoked", begin, begin + 60, pair.__eq__, _always(Reason.CREDENTIAL_REJECTED), Fault.TENANT
            )
        )
    return found


def _of(vendor: str) -> Callable[[Pair], bool]:
    return lambda pair: pair.connector == vendor


def _part(vendor: str, share: float) -> Callable[[Pair], bool]:
    return lambda pair: pair.connector == vendor and int(pair.tenant[1:]) % 100 < share * 100


def _everyone(_: Pair) -> bool:
    return True


def _always(reason: Reason) -> Callable[[random.Random], Reason | None]:
    return lambda _: reason


@dataclass
class Score:
    """Pair-minutes of one trouble, by what was said, and when it was first said."""

    said: Counter[str] = field(default_factory=Counter)
    right: int = 0
    total: int = 0
    tenants_blamed: set[str] = field(default_factory=set)
    incidents: list[Incident] = field(default_factory=list)
    notified: int = 0


class Simulation:
    """Runs the checks in simulated time; see the module's first lines."""

    def __init__(self, tenants: int, *, canary: bool, seed: int = 7) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.pairs = [Pair(vendor, f"t{n}") for n in range(tenants) for vendor in VENDORS]
        self.troubles = troubles(tenants, self.rng)
        self.hitting = self._index()
        self.canary, self.pace, self.thresholds, self.rules = canary, Pace(), Thresholds(), Rules()
        self.records: dict[Pair, Record] = {}
        self.tallies: dict[int, dict[str, Tally]] = defaultdict(dict)
        self.open: list[Incident] = []
        self.scores: dict[str, Score] = defaultdict(Score)
        self.opened: list[Incident] = []
        self.revoked: set[Pair] = set()
        self.said: Counter[tuple[Fault, Fault]] = Counter()

    def _index(self) -> dict[Pair, list[Trouble]]:
        return {pair: [trouble for trouble in self.troubles if trouble.hits(pair)] for pair in self.pairs}

    def run(self) -> None:
        events = [
            (in_phase(pair, self.pace.interval, START) - self.pace.interval, n) for n, pair in enumerate(self.pairs)
        ]
        events = [(max(START, at), n) for at, n in events]
        heapq.heapify(events)
        detect_at, sample_at, end = START, START + 5 * MINUTE, START + HOURS * 60 * MINUTE
        while events[0][0] < end:
            now = min(events[0][0], detect_at, sample_at)
            if now == detect_at:
                self._detect(now)
                detect_at += DETECT_EVERY
            elif now == sample_at:
                self._sample(now)
                sample_at += SAMPLE_EVERY
            else:
                at, number = heapq.heappop(events)
                heapq.heappush(events, (self._check(self.pairs[number], at), number))

    def _now(self, pair: Pair, now: int) -> Trouble | None:
        minute = (now - START) / MINUTE
        return next((trouble for trouble in self.hitting[pair] if trouble.at(minute)), None)

    def _check(self, pair: Pair, now: int) -> int:
        trouble, previous = self._now(pair, now), self.records.get(pair)
        if trouble is None and previous and previous.reason is Reason.CREDENTIAL_REJECTED and pair in self.revoked:
            self.revoked.discard(pair)  # the tenant saved a new credential: a new configuration, without a past
            previous = None
        elif trouble and trouble.name == REVOKED:
            self.revoked.add(pair)
        reason = (trouble.sees(self.rng) if trouble else None) or Reason.OK
        raw = Verdict(reason, REASONS[reason].fault, now, steps=AUTHENTICATED if reason is Reason.OK else ())
        endpoint = f"{pair.connector}|{pair.connector}.example.com"
        if self.canary and trouble and trouble.cuts_us_off and reason in NETWORK:
            raw = ours(raw, "the canary cannot be reached either")
        raw = attribute(raw, endpoint, self.open)
        ended = ending(raw, previous)
        if ended is not None:
            self.tallies[now // BUCKET_MS].setdefault(endpoint, Tally()).add(ended, pair.tenant)
        record = advance(previous, raw, self.thresholds, revision=1, fence=now)
        due = next_due(pair, record, self.pace, now, self.pace.interval)
        if trouble and trouble.name == REVOKED:  # it ends by a saved configuration, which is checked at once
            due = min(due, START + trouble.end * MINUTE)
        self.records[pair] = replace(record, fresh_until_ms=fresh_until(record, due, self.pace, self.pace.interval))
        self._notify(trouble, record)
        return due

    def _notify(self, trouble: Trouble | None, record: Record) -> None:
        """A tenant is told once, when a definitive reason of its own is confirmed by a second check."""
        told = record.fault is Fault.TENANT and record.status is Status.UNHEALTHY and record.consecutive == 2
        if told:
            self.scores[trouble.name if trouble else "nothing wrong"].notified += 1

    def _detect(self, now: int) -> None:
        first = (now - self.rules.window_ms) // BUCKET_MS
        for bucket in [bucket for bucket in self.tallies if bucket < first]:
            del self.tallies[bucket]
        before = {incident.id for incident in self.open}
        self.open = judge(self.tallies, Services(), self.open, self.rules, now)
        self.opened += [incident for incident in self.open if incident.id not in before]

    def _sample(self, now: int) -> None:
        for pair in self.pairs:
            trouble, status = self._now(pair, now), seen(pair, self.records[pair], now)
            score = self.scores[trouble.name if trouble else "nothing wrong"]
            truth = trouble.fault if trouble else Fault.NONE
            score.total += 1
            score.said[status.fault.value] += 1
            self.said[truth, status.fault] += 1
            # While it is our own failure, a verdict that is still fresh stands: nobody is blamed.
            score.right += status.fault is truth or (truth is Fault.PLATFORM and status.fault is Fault.NONE)
            if status.fault is Fault.TENANT and truth is not Fault.TENANT and not self._own(pair, now):
                score.tenants_blamed.add(str(pair))

    def _own(self, pair: Pair, now: int) -> bool:
        """Had the tenant a trouble of its own just before, whose end is seen at the next check?"""
        ended = (START + t.end * MINUTE for t in self.hitting[pair] if t.fault is Fault.TENANT)
        return any(0 <= now - end <= 2 * MINUTE for end in ended)


def rows(simulation: Simulation) -> Iterator[tuple[str, ...]]:
    """One row a trouble."""
    for name, score in simulation.scores.items():
        trouble = next((t for t in simulation.troubles if t.name == name), None)
        begin, end = (START + t * MINUTE for t in (trouble.begin, trouble.end)) if trouble else (0, 0)
        during = [i for i in simulation.opened if begin <= i.started_ms < end] if name != REVOKED else []
        yield (
            name,
            trouble.fault.value if trouble else "none",
            f"{score.total * SAMPLE_EVERY / MINUTE:,.0f}",
            f"{score.right / score.total:.2%}",
            str(len(score.tenants_blamed)),
            str(len(during)),
            f"{(min(i.started_ms for i in during) - begin) / 1000:.0f} s" if during else "-",
            str(score.notified),
        )


def faults(simulation: Simulation) -> Iterator[tuple[str, ...]]:
    """Precision and recall of every fault, over all pair-minutes."""
    for fault in Fault:
        true = simulation.said[fault, fault]
        said = sum(count for (_, other), count in simulation.said.items() if other is fault)
        was = sum(count for (truth, _), count in simulation.said.items() if truth is fault)
        yield fault.value, f"{true / said:.2%}", f"{true / was:.2%}"


HEAD = (
    "trouble",
    "truth",
    "pair-minutes",
    "attributed right",
    "tenants wrongly blamed",
    "incidents",
    "found after",
    "tenants told",
)


def show(*table: tuple[str, ...]) -> None:
    for row in (table[0], tuple("---" for _ in table[0]), *table[1:]):
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--no-canary", action="store_true", help="as if CANARY_URL were not set")
    arguments = parser.parse_args()
    simulation = Simulation(arguments.tenants, canary=not arguments.no_canary)
    simulation.run()
    show(HEAD, *rows(simulation))
    show(("fault", "precision", "recall"), *faults(simulation))
    right = sum(score.right for score in simulation.scores.values())
    total = sum(score.total for score in simulation.scores.values())
    minutes = total * SAMPLE_EVERY / MINUTE
    print(f"all: {right / total:.3%} of {minutes:,.0f} pair-minutes attributed right")


if __name__ == "__main__":
    main()
