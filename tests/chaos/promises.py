"""What those who are told by webhooks may rely on, judged from outside: by the streams and by what has arrived.

Not promised, as ``docs/events.md`` has it: that a changed configuration is not checked yet; a failure that was over
before what it waited for (its confirmation, an incident); each turn of a pair that flaps; anything in maintenance,
which the rig has none of; what a message says was lost, or is not remembered because Redis lost its data; and what
happened before the first look for something to tell, which then comes anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registry.ids import Pair
from tests.chaos.invariants import Event, Look, Outcome
from tests.chaos.messages import Address, Message

WELL: Outcome = ("healthy", "ok")
"""What an address takes a pair for that it was never told of."""

UNSURE = ("lost", "begun")
"""Messages after which an address has to read for itself what every pair is."""

SILENT = ("not_checked", "not_configured")
"""Reasons that are told to nobody, or only to those who knew of the pair."""

_Known = tuple[str, Pair]
"""An address and a pair it may know of."""


@dataclass
class NoMessageIsAstray:
    """Nothing arrives at somebody else's address, names another tenant, or tells of a turn that never was.

    And an address is told of a pair's turns in the order of the stream. What arrives again (its `id` is known) may come
    at any time: messages are sent at least once.
    """

    addresses: Mapping[str, Address]
    pattern: re.Pattern[str] = re.compile(r"acme-\d+")
    _ids: set[tuple[str, str]] = field(default_factory=set)
    _turns: dict[Pair, list[tuple[int, Outcome]]] = field(default_factory=dict)
    _told: dict[_Known, int] = field(default_factory=dict)
    _lost: set[Pair] = field(default_factory=set)

    def judge(self, look: Look) -> Iterator[str]:
        for pair in look.lost:
            self._turns.pop(pair, None)
            self._lost.add(pair)
            for name in self.addresses:
                self._told.pop((name, pair), None)
        for event in look.events:
            self._turns.setdefault(event.pair, []).append((event.at_ms, event.after))
        for message in look.messages:
            address, told_of = message.address, message.pair or message.kind
            if message.kind not in UNSURE and not self.addresses[address].may_know(message.tenant, message.connector):
                yield f"{address} was told of {told_of}, which is none of its business"
            strangers = set(self.pattern.findall(message.text)) - {message.tenant}
            if strangers and message.tenant:
                yield f"{address}: a message about {told_of} names {', '.join(sorted(strangers))}"
            if (address, message.id) not in self._ids and told_of in look.statuses:
                yield from self._order(message)
            self._ids.add((address, message.id))

    def _order(self, message: Message) -> Iterator[str]:
        pair, after = message.pair, message.after
        if pair is None or after is None:
            return
        turns, turn, known = self._turns.get(pair, []), (message.at_ms, after), (message.address, pair)
        if turn in turns:
            number = len(turns) - turns[::-1].index(turn)
            if number < self._told.get(known, 0):
                yield f"{message.address}: that {pair} had turned to {'/'.join(after)} was told after what followed it"
            self._told[known] = max(number, self._told.get(known, 0))
        elif pair not in self._lost:
            yield f"{message.address} was told that {pair} had turned to {'/'.join(after)}, which it never did"


@dataclass
class EveryPromisedMessageArrives:
    """What is promised to an address arrives there within `within` seconds; what a fault delays counts from its end.

    A turn from one state that is told at once to another is told whatever follows. And what a pair is, it was told to
    be, however it came to that.
    """

    addresses: Mapping[str, Address]
    within: float
    _owed: dict[_Known, dict[tuple[int, Outcome], float]] = field(default_factory=dict)
    _told: dict[_Known, Outcome] = field(default_factory=dict)
    _unsure: set[str] = field(default_factory=set)
    _flapping: set[_Known] = field(default_factory=set)
    _is: dict[Pair, tuple[Outcome, float]] = field(default_factory=dict)
    _lost: dict[Pair, float] = field(default_factory=dict)
    _ids: set[tuple[str, str]] = field(default_factory=set)

    def judge(self, look: Look) -> Iterator[str]:
        for pair in look.lost:
            self._is.pop(pair, None)
            self._lost[pair] = look.at
        for event in look.events:
            if not event.pair.is_service:
                self._turn(event, look)
        for message in look.messages:
            if (message.address, message.id) not in self._ids:
                self._ids.add((message.address, message.id))
                self._take(message)
        if look.calm_since is not None:
            yield from self._late(look, look.calm_since)

    def _knowing(self, pair: Pair) -> list[_Known]:
        return [
            (name, pair) for name, address in self.addresses.items() if address.may_know(pair.tenant, pair.connector)
        ]

    def _turn(self, event: Event, look: Look) -> None:
        if event.after[1] in SILENT:
            self._is.pop(event.pair, None)
            return
        self._is[event.pair] = (event.after, look.at)
        if not self._begun_anew(event.pair, look) or not (_at_once(event.before) and _at_once(event.after)):
            return
        for known in self._knowing(event.pair):
            if known not in self._flapping:
                self._owed.setdefault(known, {})[event.at_ms, event.after] = look.at

    def _begun_anew(self, pair: Pair, look: Look) -> bool:
        """Has the first look for something to tell surely been since Redis lost what it had of the pair?"""
        if pair not in self._lost:
            return True
        calm = look.calm_since is not None and look.at - max(self._lost[pair], look.calm_since) > self.within
        if calm:
            del self._lost[pair]
        return calm

    def _take(self, message: Message) -> None:
        if message.kind in UNSURE:
            self._unsure.add(message.address)
            for of in (self._owed, self._told):
                for known in [known for known in of if known[0] == message.address]:
                    del of[known]
            self._flapping = {known for known in self._flapping if known[0] != message.address}
        if message.pair is None or message.after is None:
            return
        known = (message.address, message.pair)
        self._owed.get(known, {}).pop((message.at_ms, message.after), None)
        if message.kind == "flapping":
            self._owed.pop(known, None)
            self._flapping.add(known)
        else:
            self._flapping.discard(known)
            self._told[known] = message.after

    def _late(self, look: Look, calm_since: float) -> Iterator[str]:
        """Of the pairs that are looked at: what the others are is not known meanwhile."""
        at = look.at
        for known, owed in self._owed.items():
            for (_, after), since in owed.items():
                if known[1] in look.statuses and at - max(since, calm_since) > self.within:
                    yield f"{known[0]} was never told that {known[1]} had turned to {'/'.join(after)}"
        for pair, (outcome, since) in self._is.items():
            if pair not in look.statuses or at - max(since, calm_since) <= self.within:
                continue
            for known in self._knowing(pair):
                told = self._told.get(known, None if known[0] in self._unsure else WELL)
                if told not in (None, outcome) and known not in self._flapping:
                    yield f"{known[0]} was told last that {pair} is {'/'.join(told)}, but it is {'/'.join(outcome)}"


def _at_once(outcome: Outcome | None) -> bool:
    """Is this told without waiting for anything? Failures may wait for a second check, or for an incident."""
    return outcome is not None and outcome[0] != "unhealthy" and outcome[1] not in SILENT
