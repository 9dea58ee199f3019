"""Incidents: one cause seen on many pairs. Their words, and how the open ones reach every check.

They are found by ``worker.incidents``; here is what the checks need to know of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

import msgspec
from msgspec.structs import replace

from registry import keys
from registry.clock import steady
from registry.connection import AWAY, Redis
from registry.health import REASONS, Fault, Reason, Status, Verdict, rfc3339

ANYWHERE = "*"
"""The endpoint of an incident that is not one endpoint's: our own."""

NETWORK = frozenset({Reason.TIMEOUT, Reason.UNREACHABLE})
"""Reasons that our own network can cause as well as the vendor."""

KEEP = 2.0
"""Seconds a process believes what it last read of the open incidents."""


class IncidentKind(StrEnum):
    """What is happening; each has the fault it reveals."""

    OUTAGE = "outage"
    """An endpoint fails for many tenants, or its service check fails."""
    REJECTIONS = "rejections"
    """An endpoint turns many tenants' credentials down at once: suspected to be the vendor's doing."""
    LIMITS = "limits"
    """An endpoint limits many tenants at once: shared capacity."""
    PLATFORM = "platform"
    """Unrelated endpoints cannot be reached, or our canary cannot: our own network."""
    INTERNAL = "internal"
    """Checks fail before they reach anybody: our secret store, our code."""

    @property
    def fault(self) -> Fault:
        """Who must act."""
        return Fault.PLATFORM if self in (IncidentKind.PLATFORM, IncidentKind.INTERNAL) else Fault.VENDOR


@dataclass(frozen=True, slots=True)
class Incident:
    """One cause.

    `endpoint` is ``connector|host``; times are Unix milliseconds; `tenants` is about how many saw it at once.
    `confirmed` rejections have lasted so long that they are believed: nobody but the tenants can end them.
    """

    kind: IncidentKind
    endpoint: str
    started_ms: int
    seen_ms: int
    tenants: int
    explanation: str
    confirmed: bool = False

    @property
    def id(self) -> str:
        """One open incident an endpoint and kind."""
        return f"{self.kind.value}:{self.endpoint}"

    def concerns(self, endpoint: str) -> bool:
        """May it explain what is seen at `endpoint`? Only if it is there, or ours: another may be another tenant's."""
        return self.endpoint in (endpoint, ANYWHERE)

    def as_dict(self) -> dict[str, object]:
        """The public form, with RFC 3339 times."""
        times = {"started": rfc3339(self.started_ms), "seen": rfc3339(self.seen_ms)}
        connector = self.endpoint.partition("|")[0]
        return {**asdict(self), **times, "id": self.id, "connector": connector, "fault": self.kind.fault.value}


def dump(incident: Incident) -> str:
    """The stored form."""
    return json.dumps(asdict(incident))


def load(wire: bytes) -> Incident:
    """The inverse of `dump`. Raises `msgspec.DecodeError` for what only another version knows."""
    return msgspec.json.decode(wire, type=Incident)


async def open_incidents(redis: Redis) -> list[Incident]:
    """The incidents that are open now, the oldest first; but for those of kinds that only another version knows."""
    wires, found = cast("Mapping[bytes, bytes]", await redis.hgetall(keys.INCIDENTS)), list[Incident]()
    for wire in wires.values():
        with suppress(msgspec.DecodeError):
            found.append(load(wire))
    return sorted(found, key=lambda incident: incident.started_ms)


class IncidentBoard:
    """The open incidents as this process last read them, at most `KEEP` seconds ago."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._open: Sequence[Incident] = ()
        self._read = float("-inf")

    async def current(self) -> Sequence[Incident]:
        """The open incidents; what was last known while Redis is away."""
        if steady() - self._read > KEEP:
            self._read = steady()
            with suppress(*AWAY):  # a check does not wait for this; writing its verdict will tell that Redis is away
                self._open = await open_incidents(self._redis)
        return self._open


def attribute(verdict: Verdict, endpoint: str, incidents: Iterable[Incident]) -> Verdict:
    """Who is at fault, given what is happening elsewhere. Most verdicts are returned as they are."""
    for incident in incidents:
        if incident.kind is IncidentKind.PLATFORM:
            if verdict.reason in NETWORK:
                return ours(verdict, f"our own network or platform fails: {incident.explanation}")
        elif incident.endpoint == endpoint and not incident.confirmed and _explains(incident.kind, verdict):
            return _revised(verdict, incident)
    return verdict


def ours(verdict: Verdict, why: str) -> Verdict:
    """`verdict` as our own failure: it says nothing about vendor or tenant, and takes back what an earlier one said."""
    return Verdict(
        Reason.MONITOR_ERROR,
        Fault.PLATFORM,
        verdict.checked_ms,
        error=why,
        steps=verdict.steps,
        latency_ms=verdict.latency_ms,
        metadata={**verdict.metadata, "seen": verdict.reason.value},
        revises=True,
    )


def _explains(kind: IncidentKind, verdict: Verdict) -> bool:
    if verdict.fault is not Fault.TENANT:
        return False
    if kind is IncidentKind.LIMITS:
        return verdict.reason is Reason.RATE_LIMITED
    credential = verdict.status is Status.UNHEALTHY and REASONS[verdict.reason].definitive
    return credential and verdict.reason is not Reason.MISCONFIGURED


def _revised(verdict: Verdict, incident: Incident) -> Verdict:
    action = "Nothing for the tenant to do yet: many tenants of this vendor see the same, so it is suspected itself."
    return replace(
        verdict, fault=incident.kind.fault, action=action, metadata={**verdict.metadata, "incident": incident.id}
    )
