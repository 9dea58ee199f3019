"""Where messages are kept, and what is known of their delivery: in one hash slot, for one transaction to change.

The outbox is a stream that every webhook reads at its own pace. It is trimmed behind the slowest of them, and at
`CAP`, which is counted as a loss.
"""

from __future__ import annotations

from registry.keys import PREFIX

OUTBOX = f"{PREFIX}:{{out}}:box"
"""Stream of messages."""

PAIRS = f"{PREFIX}:{{out}}:pairs"
"""Hash: pair → what was told of it, see `worker.events.telling`. Only pairs of which there is something to remember."""

OPEN = f"{PREFIX}:{{out}}:open"
"""Sorted set: pair → when to look at it again though it has not turned (Unix ms)."""

GATHERED = f"{PREFIX}:{{out}}:gathered"
"""Hash: stream → the last entry that is in the outbox."""

MARK = f"{PREFIX}:{{out}}:mark"
"""What tells one life of what is remembered from the next."""

SENT = f"{PREFIX}:{{out}}:sent"
"""Hash: webhook → the last message it is done with."""

COUNTS = f"{PREFIX}:{{out}}:counts"
"""Hash of counters: ``delivered|webhook``, ``failed|webhook``, ``dead|webhook``, ``lost``."""

BEGINNING = "0"
"""The position before the oldest message, whichever that is."""

CAP = 100_000
"""Messages kept for webhooks that do not take them."""

DEAD_CAP = 10_000
"""Undeliverable messages kept for each webhook."""


def attempts(webhook: str) -> str:
    """Hash: the attempts at the message that is next, and when to try again (Unix ms)."""
    return f"{PREFIX}:{{out}}:try:{webhook}"


def dead(webhook: str) -> str:
    """Stream of messages that could not be delivered."""
    return f"{PREFIX}:{{out}}:dead:{webhook}"
