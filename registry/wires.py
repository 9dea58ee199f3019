"""What readers ask Redis for, and how they read its answers: the same for `HealthCache` and for `HealthView`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

from registry import keys
from registry.errors import CacheUnavailable
from registry.health import HealthStatus, Reason
from registry.history import History, read
from registry.ids import SYSTEM, Pair
from registry.pages import Wanted
from registry.reading import Command
from registry.record import absent, decode, glimpsed, seen

Wires: TypeAlias = "list[bytes | None]"
"""What Redis has of one tenant: the shard's epoch, the tenant's index, then a record for each connector asked for."""

_PAGE = files("registry").joinpath("lua", "page.lua").read_text()
TIME: Command = ("TIME",)

INDEXES = 10_000
"""Tenants whose connectors a reader remembers; beyond them it forgets all, and learns again."""


@lru_cache(maxsize=2_000)
def named_command(shard: int, tenant: str, connectors: tuple[str, ...]) -> Command:
    """The question for `Wires` when it is known which connectors are meant; spelling so many keys is worth keeping."""
    records = [keys.verdict(shard, Pair(name, tenant)) for name in connectors]
    return ("MGET", keys.epoch(shard), keys.index(shard, tenant), *records)


def whole_command(tenant: str, shards: int) -> Command:
    """The question for `Wires` when only the index tells which connectors there are."""
    shard = keys.shard_of(tenant, shards)
    return ("EVAL", _PAGE, 3, keys.epoch(shard), keys.index(shard, tenant), keys.verdict(shard, Pair("", tenant)))


def selected(wanted: Wanted, tenants: Sequence[str], wires: Sequence[Wires], now_ms: int) -> tuple[HealthStatus, ...]:
    """Of all connectors of these tenants, the verdicts that are wanted; `now_ms` is the shared clock's."""
    pages = (verdicts(tenant, names_in(row[1]), row, now_ms) for tenant, row in zip(tenants, wires, strict=True))
    return tuple(status for page in pages for status in page.values() if status in wanted)


def learn(indexes: dict[str, bytes], tenant: str, wires: Wires) -> None:
    """Remember which connectors the tenant has."""
    if len(indexes) >= INDEXES:
        indexes.clear()
    indexes[tenant] = wires[1] or b""


@lru_cache(maxsize=2_000)
def names_in(index: bytes | None) -> tuple[str, ...]:
    """The connectors of a tenant, of its index."""
    return tuple(index.decode().split()) if index else ()


def verdicts(tenant: str, connectors: Sequence[str], wires: Wires, now_ms: int) -> dict[str, HealthStatus]:
    """What `wires` say of `connectors`, in their order; `now_ms` is the shared clock's."""
    page: dict[str, HealthStatus] = {}
    scope = None if tenant.startswith(SYSTEM) else tenant
    for at, name in enumerate(connectors, 2):
        wire = wires[at]
        if wire is None:
            page[name] = _missing(Pair(name, tenant), wires, now_ms)
        else:
            page[name] = glimpsed(name, scope, wire, now_ms) or seen(Pair(name, tenant), decode(wire), now_ms)
    return page


def histories_command(shard: int, tenant: str, connectors: Iterable[str]) -> Command:
    """A history with the record that tells what has been in force since its last check, for each connector."""
    pairs = [Pair(name, tenant) for name in connectors]
    # The epoch is only there because an `MGET` of no keys is refused.
    wanted = [key for pair in pairs for key in (keys.verdict(shard, pair), keys.history(shard, pair))]
    return ("MGET", keys.epoch(shard), *wanted)


def pasts(tenant: str, connectors: Iterable[str], wires: Wires, now_ms: int) -> dict[str, History]:
    """The histories that the answer to `histories_command` holds."""
    rows = zip(connectors, wires[1::2], wires[2::2], strict=True)
    return {
        name: read(Pair(name, tenant), wire, decode(record) if record else None, now_ms) for name, record, wire in rows
    }


def _missing(pair: Pair, wires: Wires, now_ms: int) -> HealthStatus:
    """No record: not configured if the index of pairs says so, else not checked.

    Without an epoch the index itself is not to be believed: Redis lost it, or nothing ever ran.
    """
    configured = wires[0] is None or pair.connector in names_in(wires[1])
    return absent(pair, Reason.NOT_CHECKED if configured else Reason.NOT_CONFIGURED, now_ms)


def unanswered(
    tenant: str, connectors: Iterable[str], now_ms: int, error: BaseException, *, strict: bool
) -> dict[str, HealthStatus]:
    """Where Redis did not answer: ``unknown/monitor_error``, or for `strict` callers `CacheUnavailable`."""
    if strict:
        raise CacheUnavailable(sentence(error)) from error
    said = sentence(error)
    return {name: absent(Pair(name, tenant), Reason.MONITOR_ERROR, now_ms, error=said) for name in connectors}


def sentence(error: BaseException) -> str:
    """Why there is no answer, for a person."""
    return f"the health cache did not answer ({type(error).__name__}): see whether Redis is up and reachable"
