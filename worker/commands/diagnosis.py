"""What the doctor looks at: each look is a function that yields findings, and one that breaks is a finding too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from registry import keys
from registry.clock import steady
from registry.connection import Redis, connect
from registry.errors import ConnectorError, RegistryError, SecretError
from registry.pace import Pace
from registry.settings import load_settings
from registry.stores import Broken
from worker.commands.session import assembled
from worker.commands.table import duration
from worker.gateway import Gateway, PushFailed
from worker.lags import LOOP, STAGES, quantile
from worker.snapshot import PlatformSnapshot, platform_snapshot

if TYPE_CHECKING:
    from registry.bootstrap import Parts

OLDEST_REDIS = (6, 2)
PATIENCE = 5.0
"""Seconds one look may take."""

LONG_QUEUE = 10.0
"""Seconds that 19 of 20 claimed checks should wait at most for a worker and a place at their vendor's host."""

LATE_LOOP = 1.0
"""Seconds that event loops may turn late in one of 20 looks."""

MANY_DROPPED = 10
"""Batches lost or expired in the last minutes that are more than a restart explains."""

SAMPLE = 500
"""Stored configurations whose secret references are tried."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `found` in a few words, and if it is not `ok`, what to `do`."""

    ok: bool
    what: str
    found: str
    do: str = ""

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return asdict(self)


Look = Callable[["Parts"], AsyncIterator[Finding]]


async def diagnose() -> list[Finding]:
    """Everything that was found, in the order of what depends on what."""
    try:
        parts = assembled(load_settings())
    except RegistryError as error:
        return [Finding(ok=False, what="settings", found=str(error), do="Correct the variable and run this again.")]
    try:
        found = [await _looked(look, parts) for look in LOOKS]
    finally:
        await parts.aclose()
    return [Finding(ok=True, what="settings", found="usable"), *[row for rows in found for row in rows]]


async def _looked(look: Look, parts: Parts) -> list[Finding]:
    what, found = (look.__doc__ or "").rstrip("."), list[Finding]()
    try:
        async with asyncio.timeout(PATIENCE):
            async for finding in look(parts):
                found.append(finding)
    except (RedisError, RegistryError, OSError, TimeoutError) as error:
        told = str(error) if isinstance(error, RegistryError) else f"did not answer ({type(error).__name__})"
        found.append(Finding(ok=False, what=what, found=told, do="Start it, or correct its address in the settings."))
    return found


async def _cache(parts: Parts) -> AsyncIterator[Finding]:
    """Redis."""
    yield await _server(parts.redis, "Redis", "REDIS_URL")


async def _broker(parts: Parts) -> AsyncIterator[Finding]:
    """broker."""
    broker = connect(parts.settings.broker_redis_url, PATIENCE)
    try:
        yield await _server(broker, "broker", "BROKER_URL")
        policy = dict(await broker.config_get("maxmemory-policy")).get("maxmemory-policy", "noeviction")
        good = policy == "noeviction"
        yield Finding(good, "broker memory", str(policy), "" if good else "Set maxmemory-policy noeviction there.")
        for queue in ("dispatch", "checks", "publish"):
            length = int(await broker.llen(queue))
            full = length > 1_000
            do = f"Start more workers for it: the queue {queue} is not being emptied." if full else ""
            yield Finding(not full, f"queue {queue}", f"{length} waiting", do)
    finally:
        await broker.aclose()


async def _server(redis: Redis, what: str, setting: str) -> Finding:
    info = await redis.info("server")
    version = str(info.get("redis_version", "0"))
    old = tuple(int(part) for part in islice((p for p in version.split(".") if p.isdecimal()), 2)) < OLDEST_REDIS
    return Finding(not old, what, f"version {version}", f"{setting}: use Redis 6.2 or later, or Valkey." if old else "")


async def _store(parts: Parts) -> AsyncIterator[Finding]:
    """configuration store."""
    await parts.store.ping()
    yield Finding(ok=True, what="configuration store", found=parts.settings.config_store)


async def _lost(parts: Parts) -> AsyncIterator[Finding]:
    """what the store has lost."""
    if lost := int(await parts.redis.hget(keys.CURSOR, "lost") or 0):
        found = f"{lost} that nobody deleted are gone from the store; they are checked on"
        do = "Restore the store, or configure them anew; if they are to go, empty the database of REDIS_URL."
        yield Finding(ok=False, what="configurations", found=found, do=do)


async def _pushgateway(parts: Parts) -> AsyncIterator[Finding]:
    """Pushgateway."""
    address = parts.settings.pushgateway_address
    if not address:
        yield Finding(ok=True, what="Pushgateway", found="none set (PUSHGATEWAY_URL): gauges at /metrics only")
        return
    found, good = f"{address} is ready", True
    try:
        gateway = Gateway(parts.settings.model_copy(update={"pushgateway_timeout": PATIENCE}))
        await asyncio.to_thread(gateway.ready)
    except PushFailed as error:
        found, good = f"{address}: {error}", False
    yield Finding(good, "Pushgateway", found, "" if good else "Start it, or correct PUSHGATEWAY_URL.")


async def _workers(parts: Parts) -> AsyncIterator[Finding]:
    """workers."""
    asked = steady()
    parts.clock.calibrate(await parts.redis.time(), asked)
    snapshot = await platform_snapshot(parts)
    alive = snapshot.children > 0
    do = "" if alive else "Start the checks worker (`connectors up`, or the Procfile's line `checks`)."
    yield Finding(alive, "check processes", f"{snapshot.children} alive", do)
    for finding in (*_last_successes(parts, snapshot), *_in_time(snapshot)):
        yield finding


def _in_time(snapshot: PlatformSnapshot) -> Iterator[Finding]:
    """How late everything is, and what was dropped, in the last minutes."""
    lags = {what: quantile(snapshot.recent, what, 0.95) for what in (*STAGES, LOOP)}
    stages = ", ".join(f"{stage} {seconds:g} s" for stage in STAGES if (seconds := lags[stage]) is not None)
    slow = (lags["queue"] or 0.0) > LONG_QUEUE
    do = "Claimed checks wait for a worker: start more check processes, or see which vendor hangs." if slow else ""
    yield Finding(not slow, "check lag", f"95 % within {stages}" if stages else "no checks of late", do)
    late = (lags[LOOP] or 0.0) > LATE_LOOP
    do = "Give the workers more CPU, or find the connector that blocks its event loop." if late else ""
    yield Finding(not late, "event loops", "idle" if lags[LOOP] is None else f"95 % turn within {lags[LOOP]:g} s", do)
    work, waiting = sum(snapshot.work.values()), sum(due for _, due in snapshot.depth.values())
    full = waiting > 0 and work >= snapshot.work_limit
    flying = f"{sum(snapshot.in_flight.values())} batches, {snapshot.running} checks"
    found = f"{flying}: {work:.1f} of {snapshot.work_limit:.0f} s of work; {waiting} pairs wait"
    do = "The workers have all they can do: start more check processes." if full else ""
    yield Finding(not full, "in flight", found, do)
    lost, expired, coalesced, released, put_off = (
        snapshot.recent.get(name, 0) for name in ("batches_lost", "batches_expired", "coalesced", "released", "put_off")
    )
    many = lost + expired > MANY_DROPPED
    do = "Check processes die or are too few: read the log of worker-checks, start more." if many else ""
    found = (
        f"{lost} batches lost, {expired} expired; {coalesced} checks coalesced, {released} released, {put_off} put off"
    )
    yield Finding(not many, "dropped", found, do)


def _last_successes(parts: Parts, snapshot: PlatformSnapshot) -> list[Finding]:
    settings = parts.settings
    paces = {"dispatch": settings.dispatch_every, "reconcile": settings.reconcile_every}
    if settings.pushgateway_url:
        paces["publish"] = settings.publish_every
    findings = []
    for task, every in paces.items():
        last = snapshot.facts.get(f"{task}_ms")
        age = None if last is None else max(0.0, (snapshot.now_ms - last) / 1000)
        good = age is not None and age < 3 * every + 10
        queue = "dispatch" if task == "dispatch" else "publish"
        do = f"See that beat and the {queue} worker run, and read their logs." if not good else ""
        found = "never" if age is None else f"last success {duration(age)} ago"
        findings.append(Finding(good, task, found, do))
    return findings


async def _overdue(parts: Parts) -> AsyncIterator[Finding]:
    """schedule."""
    settings = parts.settings
    pace, now, lease_ms = Pace.of(settings), parts.clock.now_ms(), int(settings.claim_lease * 1000)
    late_ms = {name: max(pace.usual(name), lease_ms) + 5_000 for name in parts.catalog.list()}
    async with parts.redis.pipeline(transaction=False) as pipe:
        for name, late in late_ms.items():
            for shard in range(settings.shards):
                pipe.zcount(keys.due(shard, name), "-inf", now - late)
        overdue = sum(await pipe.execute())
    depth = await parts.schedule.depth(parts.catalog.list())
    total = sum(pairs for pairs, _ in depth.values())
    late_s = min(late_ms.values(), default=0) // 1000
    do = f"Checks are late by more than {late_s} s: start more check processes." if overdue else ""
    yield Finding(overdue == 0, "schedule", f"{total} pairs, {overdue} overdue", do)


async def _budgets(parts: Parts) -> AsyncIterator[Finding]:
    """budgets."""
    pace, limits = Pace.of(parts.settings), parts.settings.vendor_budgets
    for name, (pairs, _) in (await parts.schedule.depth(sorted(limits))).items():
        every = max(pace.usual(name), parts.budgets.vendor_share(name, pairs)) / 1000
        found = f"{limits[name]} checks for {pairs} pairs: each is checked every {duration(every)}"
        yield Finding(ok=True, what=f"budget {name}", found=found)
    for name in sorted({*limits, *pace.intervals} - set(parts.catalog.list())):
        do = "Correct VENDOR_BUDGETS or CHECK_INTERVALS: they name connectors."
        yield Finding(ok=False, what=f"connector {name}", found="is set a pace, but there is none of that name", do=do)


async def _connectors(parts: Parts) -> AsyncIterator[Finding]:
    """connectors."""
    names = parts.catalog.list()
    for name in names:
        try:
            parts.catalog.load(name)
        except ConnectorError as error:
            yield Finding(ok=False, what=f"connector {name}", found=str(error), do="Repair or remove the connector.")
    for refused in parts.catalog.found.refused:
        what = f"connector {refused.name} of {refused.distribution}"
        yield Finding(ok=False, what=what, found=refused.reason, do="See `connectors list`.")
    yield Finding(ok=True, what="connectors", found=f"{len(names)} registered")


async def _secrets(parts: Parts) -> AsyncIterator[Finding]:
    """secrets."""
    settings = parts.settings
    where = "Secret Manager" if settings.secret_manager_project else "encrypted (enc://)"
    sealed = bool(settings.encryption_keys or settings.secret_manager_project)
    do = "" if sealed else "Set ENCRYPTION_KEYS to the output of `openssl rand -base64 32`."
    found = f"clear secrets are kept {where}" if sealed else "clear secrets cannot be accepted: there is no key"
    yield Finding(sealed, "secrets", found, do)
    page = await parts.store.list_pairs(limit=SAMPLE)
    for row in page.items:
        where = f"tenant {row.pair.tenant}, connector {row.pair.connector}"
        if isinstance(row, Broken):
            yield Finding(ok=False, what=where, found=row.error, do="Save the configuration again.")
            continue
        try:
            await parts.secrets.resolve(row.pair, row.config)
        except SecretError as error:
            yield Finding(ok=False, what=where, found=str(error), do="Provide the secret, or save it again.")


LOOKS: tuple[Look, ...] = (
    _cache,
    _broker,
    _store,
    _lost,
    _pushgateway,
    _workers,
    _overdue,
    _budgets,
    _connectors,
    _secrets,
)
"""Everything that is looked at."""
