"""What of a pair's transitions is worth telling: a pure state machine.

What was told last is remembered, and only what differs from it is told. A tenant's own definitive failure waits for
its confirming check; a vendor's failure waits for the incident that may explain it; a pair that turns again and again
is told of once, and again when it has settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Self

import msgspec

from registry.health import REASONS, Fault, HealthStatus, Reason, Status
from registry.ids import Pair
from registry.record import CLOCK_SLACK_MS
from registry.settings import Settings
from worker.events.message import MessageType


@dataclass(frozen=True, slots=True)
class Rules:
    """When a pair flaps, and how long things are waited for; milliseconds.

    A pair that turned `flaps` times within `window_ms` flaps; it has settled when it was still for `quiet_ms`.
    """

    flaps: int = 6
    window_ms: int = 600_000
    quiet_ms: int = 300_000
    vendor_ms: int = 10_000

    @property
    def longest_ms(self) -> int:
        """After so long every pair that is remembered is looked at again."""
        return max(self.window_ms, self.quiet_ms, POLL_MS, MUTED_MS)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules of `settings` (seconds there). A vendor's failure waits for two looks for incidents."""
        return cls(
            settings.flap_turns,
            int(settings.flap_window * 1000),
            int(settings.flap_quiet * 1000),
            int(settings.incidents_every * 2000),
        )


class Turn(msgspec.Struct, frozen=True):
    """One transition, as the stream of events has it. `event` is where it stands there."""

    event: str
    connector: str
    tenant: str
    status: Status
    reason: Reason
    fault: Fault
    at_ms: int

    @property
    def pair(self) -> Pair:
        """Whose turn it is."""
        return Pair(self.connector, self.tenant)

    @property
    def ends(self) -> bool:
        """Is the pair gone?"""
        return self.reason is Reason.NOT_CONFIGURED

    @property
    def waits_for_check(self) -> bool:
        """Nobody tells a tenant that its credential is dead before a second check says so."""
        own = self.fault is Fault.TENANT and self.status is Status.UNHEALTHY
        return own and REASONS[self.reason].definitive

    @property
    def waits_for_incident(self) -> bool:
        """Many pairs may be about to fail for this cause."""
        return self.fault is Fault.VENDOR and self.status is Status.UNHEALTHY


class Telling(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of one pair. `told` is None while the last word was that all is well."""

    told: tuple[Status, Reason] | None = None
    waiting: Turn | None = None
    turned_ms: tuple[int, ...] = ()
    flapping: bool = False

    @property
    def idle(self) -> bool:
        """Is there nothing to remember?"""
        return self == IDLE

    def look_ms(self, now_ms: int, rules: Rules, muted_until: int = 0) -> int | None:
        """When to look at the pair again though it does not turn (Unix ms); None for never.

        It is later in any case, so that others have their turn first. `muted_until`: the end of its maintenance, which
        may yet be brought forward; 0: it is in none.
        """
        soonest = max(now_ms + POLL_MS, min(muted_until, now_ms + MUTED_MS))
        if self.flapping:
            return max(soonest, max(self.turned_ms, default=0) + rules.quiet_ms)
        if self.waiting is not None:
            return soonest
        return max(soonest, max(self.turned_ms) + rules.window_ms) if self.turned_ms else None


POLL_MS = 1_000
"""How often a pair is looked at whose turn waits for something; milliseconds."""

MUTED_MS = 60_000
"""How often a pair in maintenance is looked at, of which nothing is told before that ends; milliseconds."""

IDLE = Telling()
WELL = (Status.HEALTHY, Reason.OK)

Told = tuple[MessageType, Turn, tuple[Status, Reason] | None]
"""What to tell: the turn, and what was told before it."""


def turned(state: Telling, turn: Turn, rules: Rules, *, muted: bool = False) -> tuple[Telling, list[Told]]:
    """A pair has turned. While it is `muted`, in maintenance, nothing is told, and nothing counts as flapping."""
    if turn.reason is Reason.NOT_CHECKED:
        return state, []  # a changed configuration's first check is about to tell more
    if turn.ends:
        return IDLE, [(MessageType.TRANSITION, turn, state.told)] if state.told else []
    if muted:
        return msgspec.structs.replace(state, waiting=turn), []
    recent = (*_recent(state, turn.at_ms, rules), turn.at_ms)
    state = msgspec.structs.replace(state, turned_ms=recent, waiting=turn)
    if state.flapping:
        return state, []
    if len(recent) >= rules.flaps:
        return msgspec.structs.replace(state, flapping=True), [(MessageType.FLAPPING, turn, state.told)]
    if turn.waits_for_check or turn.waits_for_incident:
        return state, []
    return _tell(state, turn)


def settled(
    state: Telling, current: HealthStatus | None, now_ms: int, rules: Rules, *, muted: bool = False
) -> tuple[Telling, list[Told]]:
    """Time has passed for a pair that is remembered; `current` is its verdict, None while that cannot be read."""
    waiting = state.waiting
    if muted and (state.flapping or waiting is not None):
        return state, []
    if state.flapping:
        if _ago(max(state.turned_ms, default=0), now_ms) < rules.quiet_ms or waiting is None:
            return state, []
        calm = Telling(told=_worth((waiting.status, waiting.reason)))
        return calm, [(MessageType.SETTLED, waiting, state.told)]
    if waiting is not None and current is not None:
        same = (current.status, current.reason) == (waiting.status, waiting.reason)
        checked = waiting.waits_for_incident or current.consecutive > 1 or current.fault is not Fault.TENANT
        if (
            same
            and checked
            and _ago(waiting.at_ms, now_ms) >= (rules.vendor_ms if current.fault is Fault.VENDOR else 0)
        ):
            return _tell(state, msgspec.structs.replace(waiting, fault=current.fault))
    return msgspec.structs.replace(state, turned_ms=_recent(state, now_ms, rules)), []


def _tell(state: Telling, turn: Turn) -> tuple[Telling, list[Told]]:
    news = _worth((turn.status, turn.reason))
    after = msgspec.structs.replace(state, told=news, waiting=None)
    return after, [] if news == state.told else [(MessageType.TRANSITION, turn, state.told)]


def _worth(seen: tuple[Status, Reason]) -> tuple[Status, Reason] | None:
    return None if seen == WELL else seen


def _recent(state: Telling, now_ms: int, rules: Rules) -> tuple[int, ...]:
    return tuple([moment for moment in state.turned_ms if _ago(moment, now_ms) < rules.window_ms])


def _ago(moment_ms: int, now_ms: int) -> float:
    """Milliseconds since then; endless where it lies ahead, for the clock was set back since."""
    return now_ms - moment_ms if moment_ms <= now_ms + CLOCK_SLACK_MS else inf


def public(turn: Turn, before: tuple[Status, Reason] | None, now: HealthStatus | None) -> dict[str, Any]:
    """What programs are told of a turn; `now` adds what its verdict says, if that is still the same."""
    was = before or WELL
    same = now is not None and (now.status, now.reason) == (turn.status, turn.reason)
    action = now.action if now is not None and same else REASONS[turn.reason].action
    return {
        "connector": turn.connector,
        "tenant": turn.tenant,
        "from": {"status": was[0].value, "reason": was[1].value},
        "to": {"status": turn.status.value, "reason": turn.reason.value},
        "fault": turn.fault.value,
        "healthy": turn.status in (Status.HEALTHY, Status.DEGRADED),
        "action": action,
        "error": now.error if now is not None and same else None,
    }
