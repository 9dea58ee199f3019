"""Names of everything in Redis, and the shard a tenant lives in.

All keys of a shard carry the hash tag ``{s<n>}``: a tenant's verdicts, its schedule, its configurations and its
events are on one node of a cluster, so one script can change them together. Ids need no escaping here: the
alphabets in `registry.ids` exclude braces, ``*`` and, for connectors, ``:``.
"""

from __future__ import annotations

from zlib import crc32

from registry.ids import Pair

PREFIX = "cr1"
"""Version of the layout: another layout is another prefix, so that two versions never misread each other."""

CHILDREN = f"{PREFIX}:children"
"""Sorted set of live check processes: id → Unix ms of the last sign of life."""

RUNNING = f"{PREFIX}:running"
"""Hash: id of a check process → checks it runs, at its last sign of life."""

PLATFORM = f"{PREFIX}:platform"
"""Hash of the system's own counters and last success times."""

ENDPOINTS = f"{PREFIX}:endpoints"
"""Hash of the addresses tenants brought along: ``connector url`` → Unix ms at which it was last told."""

INCIDENTS = f"{PREFIX}:incidents"
"""Hash of the open incidents: id → JSON."""

INCIDENT_LOG = f"{PREFIX}:incident-log"
"""Stream of incidents opened and closed."""

MAINTENANCE = f"{PREFIX}:maintenance"
"""String: the maintenance windows, as JSON."""

ACCESS = f"{PREFIX}:access"
"""String: which API tokens there are (hashes, never a token), as JSON."""

BOOKMARKS = f"{PREFIX}:bookmarks"
"""String: the key that seals tenants' positions in the streams of events."""

AUDITED = f"{PREFIX}:audited"
"""Hash: shard → the last transition that the audit log has."""

STATUS_PAGES = f"{PREFIX}:status-pages"
"""Hash with a TTL of what the vendors' status pages said last: connector → JSON."""

TICKS = f"{PREFIX}:ticks"
"""Hash: task of beat's → Unix ms at which its last tick began."""

BUDGETS_SINCE = f"{PREFIX}:{{budget}}:since"
"""Unix ms from which on what is taken from the budgets has been counted."""

PUSHED = f"{PREFIX}:pushed"
"""String: which groups were pushed last, as ``<number of groups> <job>``."""

CURSOR = f"{PREFIX}:cursor"
"""How far `reconcile` has followed the store's changes."""


CHANGES_CAP = 10_000
"""Announcements kept in one shard's stream of changes."""

EVENTS_CAP = 100_000
"""Transitions kept in one shard's stream of events."""

EVENTS_KEPT_MS = 3_600_000
"""Milliseconds a transition is kept at least, unless there are more than that."""


def shard_of(tenant: str, shards: int) -> int:
    """The shard of a tenant: the same everywhere and for ever, for a given number of shards."""
    return crc32(tenant.encode()) % shards


def verdict(shard: int, pair: Pair) -> str:
    """String with a TTL: the pair's record."""
    return f"{PREFIX}:{{s{shard}}}:v:{pair.connector}:{pair.tenant}"


def history(shard: int, pair: Pair) -> str:
    """String with a TTL: what the pair has been like."""
    return f"{PREFIX}:{{s{shard}}}:h:{pair.connector}:{pair.tenant}"


def due(shard: int, connector: str) -> str:
    """Sorted set: tenant → Unix ms at which its next check is due."""
    return f"{PREFIX}:{{s{shard}}}:due:{connector}"


def configs(shard: int, connector: str) -> str:
    """Hash: tenant → configuration and revision (references only, never a secret)."""
    return f"{PREFIX}:{{s{shard}}}:cfg:{connector}"


def index(shard: int, tenant: str) -> str:
    """String: the tenant's configured connectors, each followed by a space."""
    return f"{PREFIX}:{{s{shard}}}:idx:{tenant}"


def tenants(shard: int) -> str:
    """Sorted set, by name: the tenants that have a connector configured."""
    return f"{PREFIX}:{{s{shard}}}:tenants"


def fence(shard: int) -> str:
    """Counter: the last fence drawn in this shard (Unix microseconds, strictly growing)."""
    return f"{PREFIX}:{{s{shard}}}:fence"


def epoch(shard: int) -> str:
    """Present once the shard's schedule has been filled from the store; gone when Redis lost its data."""
    return f"{PREFIX}:{{s{shard}}}:epoch"


def walk(shard: int) -> str:
    """String: the mark of the comparison with the store that is going on; gone when Redis lost its data meanwhile."""
    return f"{PREFIX}:{{s{shard}}}:walk"


def seen(shard: int, connector: str, mark: str) -> str:
    """Set with a TTL: the tenants that a comparison with the store has met."""
    return f"{PREFIX}:{{s{shard}}}:seen:{connector}:{mark}"


def events(shard: int) -> str:
    """Stream of transitions."""
    return f"{PREFIX}:{{s{shard}}}:events"


def changes(shard: int) -> str:
    """Stream of announcements: which configurations, secrets and connectors are not what they were."""
    return f"{PREFIX}:{{s{shard}}}:changes"


def counters(shard: int) -> str:
    """Hash of counters: checks by connector and reason, duration buckets."""
    return f"{PREFIX}:{{s{shard}}}:counters"


def tally(shard: int, bucket: int) -> str:
    """Hash: how the checks of one stretch of time ended, by endpoint and class."""
    return f"{PREFIX}:{{s{shard}}}:tally:{bucket}"


def witnesses(shard: int, bucket: int) -> str:
    """Set: which tenants (hashed into few slots) saw an endpoint fail in one stretch of time."""
    return f"{PREFIX}:{{s{shard}}}:witness:{bucket}"


def budget(kind: str, name: str) -> str:
    """Hash with a TTL: what is left of the budget of a ``vendor``, a ``tenant`` or a ``pair``."""
    return f"{PREFIX}:{{budget}}:{kind}:{name}"


def batches(connector: str) -> str:
    """Sorted set of the connector's batches in flight: id → Unix ms at which it counts as lost."""
    return f"{PREFIX}:batches:{connector}"


def lags(minute: int) -> str:
    """Hash with a TTL: how late things were in one minute (Unix time), as buckets of histograms."""
    return f"{PREFIX}:lags:{minute}"


def work(stretch: int) -> str:
    """Hash: how long the batches of one stretch of time held their workers, by connector."""
    return f"{PREFIX}:work:{stretch}"


def lock(shard: int, pair: Pair) -> str:
    """Held while one process makes an on-demand check of the pair."""
    return f"{PREFIX}:{{s{shard}}}:lock:{pair.connector}:{pair.tenant}"


def throttle(who: str) -> str:
    """String with a TTL: how much of its allowance a token of the API has used up."""
    return f"{PREFIX}:throttle:{who}"


def session(digest: str) -> str:
    """String with a TTL: which token a browser has signed in with."""
    return f"{PREFIX}:session:{digest}"


def trend(minute: int) -> str:
    """Hash with a TTL: how the checks of one minute (Unix time) ended, by endpoint."""
    return f"{PREFIX}:trend:{minute}"


def lease(name: str) -> str:
    """Who is the one publisher, or the one reconciler."""
    return f"{PREFIX}:lease:{name}"
