"""What a message says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from registry.health import Fault, HealthStatus
from registry.incidents import Incident
from worker.events.message import Message, MessageType
from worker.events.telling import Told, public


def news(told: Told, now: HealthStatus | None, incidents: Iterable[Incident], endpoint: str) -> Message:
    """What is told of a pair: `now` is its verdict, None where that cannot be read.

    Of the `incidents`, which are open now, one that concerns its `endpoint` explains it.
    """
    kind, turn, before = told
    data = public(turn, before, now)
    cause = next((i for i in incidents if i.kind.fault is turn.fault and i.concerns(endpoint)), None)
    if cause is not None:
        data["incident"] = cause.id
    text = f"{turn.tenant} {turn.connector}: {turn.status.value}, {turn.reason.value}. {data['action']}".rstrip()
    if kind is MessageType.FLAPPING:
        text = f"{turn.tenant} {turn.connector} turns again and again; nothing more is told until it settles."
    return Message(
        f"{turn.event}-{kind.name.lower()}",
        kind,
        turn.at_ms,
        text,
        data,
        turn.connector,
        turn.tenant,
        turn.fault,
        explained=cause is not None,
    )


def incident(entry: bytes, fields: Mapping[bytes, bytes]) -> Message:
    """That an incident opened or closed, as the entry of `registry.keys.INCIDENT_LOG` has it."""
    public_form: dict[str, Any] = json.loads(fields[b"incident"])
    opened = fields[b"event"] == b"opened"
    kind = MessageType.INCIDENT_OPENED if opened else MessageType.INCIDENT_CLOSED
    what = "Incident" if opened else "Over"
    where = public_form["endpoint"].replace("|", " at ")
    text = f"{what}: {public_form['kind']} of {where}: {public_form['explanation']}"
    connector = None if public_form["connector"] == "*" else public_form["connector"]
    moment = int(entry.partition(b"-")[0])
    return Message(
        f"incident-{entry.decode()}", kind, moment, text, public_form, connector, None, Fault(public_form["fault"])
    )


def lost(stream: str, after: str, now_ms: int) -> Message:
    """Some of what followed `after` in `stream` is not there any more."""
    text = "Transitions were lost before they could be told: read the statuses anew."
    return Message(f"lost-{stream.rpartition('{')[2]}-{after}", MessageType.LOST, now_ms, text, {"after": after})


def begun(now_ms: int) -> Message:
    """Redis remembers nothing of what was told: this is its first day, or it has lost its data."""
    text = "Telling begins here, and nothing is remembered of what was told before: read the statuses."
    return Message(f"begun-{now_ms}", MessageType.BEGUN, now_ms, text, {})


def set_back(now_ms: int) -> Message:
    """Redis has an older copy of its data."""
    text = "Redis was set back to older data, and transitions may be lost with the newer ones: read the statuses anew."
    return Message(f"lost-back-{now_ms}", MessageType.LOST, now_ms, text, {})
