"""A message to webhooks, and the two forms it is sent in."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from registry.health import Fault, rfc3339


class MessageType(StrEnum):
    """What a message tells; the ``type`` of a CloudEvent."""

    TRANSITION = "connectors.transition"
    """A pair's status or reason is another than was told last."""
    FLAPPING = "connectors.flapping"
    """A pair turns so often that nothing more is told until it settles."""
    SETTLED = "connectors.settled"
    """A pair that was flapping has been still for a while; this is how it ended."""
    INCIDENT_OPENED = "connectors.incident.opened"
    INCIDENT_CLOSED = "connectors.incident.closed"
    LOST = "connectors.lost"
    """Transitions were lost before they could be told: read the statuses anew."""
    BEGUN = "connectors.begun"
    """Nothing is remembered of what was told before: read the statuses."""
    TEST = "connectors.test"
    """Somebody tries whether messages arrive."""


class Message(msgspec.Struct, frozen=True):
    """One message. `id` is the same at every attempt, so that a receiver can tell a repetition.

    `text` is one sentence for people; `data` is what programs read. `explained` messages belong to an incident that
    is told by itself; `only` is the one webhook that a repeated message is for.
    """

    id: str
    type: MessageType
    at_ms: int
    text: str
    data: dict[str, Any]
    connector: str | None = None
    tenant: str | None = None
    fault: Fault = Fault.NONE
    explained: bool = False
    only: str | None = None


def cloudevent(message: Message, source: str) -> bytes:
    """The message in CloudEvents' structured JSON form.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    """
    subject = "/".join(part for part in (message.tenant, message.connector) if part)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.id,
        "source": source,
        "type": message.type.value,
        "time": rfc3339(message.at_ms),
        "datacontenttype": "application/json",
        "data": {**message.data, "text": message.text},
    }
    return msgspec.json.encode(event | ({"subject": subject} if subject else {}))


def slack(message: Message) -> bytes:
    """The message for a Slack-compatible incoming webhook, without anything Slack would take for markup.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    escaped = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    mark = _MARKS.get(str(_of(message.data, "to", "status")), _MARKS_BY_TYPE.get(message.type, ":information_source:"))
    return msgspec.json.encode({"text": f"{mark} {escaped}", "mrkdwn": False})


_MARKS = {
    "healthy": ":white_check_mark:",
    "degraded": ":warning:",
    "unhealthy": ":x:",
    "unknown": ":grey_question:",
}
_MARKS_BY_TYPE = {
    MessageType.INCIDENT_OPENED: ":rotating_light:",
    MessageType.INCIDENT_CLOSED: ":white_check_mark:",
    MessageType.LOST: ":warning:",
    MessageType.BEGUN: ":warning:",
}


def _of(data: Mapping[str, Any], *path: str) -> object:
    found: object = data
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
