"""Many pairs, one cause: finds incidents in the tallies of the last minute.

`judge` is a pure function of the tallies, the service checks and what was open before; `detect` feeds it from Redis and
writes what it says. Our own failure is looked for first, because it looks like everybody else's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import structlog
from redis.typing import EncodableT

from registry import keys, trend
from registry.bootstrap import Parts
from registry.clock import steady
from registry.health import Fault, HealthStatus, Reason, Status
from registry.ids import SYSTEM, Pair
from registry.incidents import ANYWHERE, NETWORK, Incident, IncidentKind, dump, open_incidents
from registry.record import CLOCK_SLACK_MS
from registry.schedule import Scheduled
from registry.settings import Settings
from registry.status_pages import StatusReport, pages, status_reports
from registry.tally import Buckets, Ending, Tally, merged, read_tallies, since

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

log = structlog.get_logger(__name__)

Fenced = Callable[["Pipeline"], Awaitable[None]]
"""Begins a transaction that fails once somebody else has the lease, as `registry.lease.Lease.fenced` does."""

LOG_LENGTH = 10_000
"""Entries kept of incidents opened and closed."""

RECENT_MS = 20_000
"""What began just now shows in the last 20 seconds long before it shows in the whole window."""

PLATFORM_SHARE = 0.6
"""It is our network when this part of all connectors is out of reach at once, and more than one of them."""

OURS_SHARE = 0.5
"""It is our own stores or code when this part of all checks fails before it reaches anybody."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When an endpoint's checks make an incident; `window_ms` and `hold_ms` are milliseconds."""

    share: float = 0.2
    tenants: int = 5
    window_ms: int = 60_000
    hold_ms: int = 900_000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rules of `settings` (seconds there)."""
        window, hold = settings.incident_window, settings.incident_hold
        return cls(settings.incident_share, settings.incident_tenants, int(window * 1000), int(hold * 1000))


@dataclass(frozen=True, slots=True)
class Services:
    """What the service checks say: the endpoints that are `down`, and the connectors whose own address is `silent`.

    `checked` are the connectors whose own address was checked at all. Silent is what gives no answer whatsoever.
    """

    down: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset()


def judge(
    buckets: Buckets, services: Services, before: Sequence[Incident], rules: Rules, now_ms: int
) -> list[Incident]:
    """The incidents that are open now.

    Args:
        buckets: the tallies of the last `rules.window_ms`.
        services: what the service checks say, without any tenant's credential.
        before: what was open at the last look. An incident that is not seen any more closes after one window.
    """
    whole, recent = since(buckets, now_ms - rules.window_ms), since(buckets, now_ms - RECENT_MS)
    ours = [*_cut_off(services, now_ms), *_ours(whole, recent, rules, now_ms)]
    found = {incident.id: incident for incident in ours}
    if not any(incident.kind is IncidentKind.PLATFORM for incident in found.values()):
        theirs = [*_theirs(whole, services.down, rules, now_ms), *_theirs(recent, (), rules, now_ms)]
        found |= {incident.id: incident for incident in theirs}
    known = {incident.id: incident for incident in before}
    still = [_continued(known.get(id_), found.get(id_), rules, now_ms) for id_ in {**known, **found}]
    platform = any(incident.kind is IncidentKind.PLATFORM for incident in still)
    return sorted(
        (
            incident
            for incident in still
            if -CLOCK_SLACK_MS <= now_ms - incident.seen_ms <= rules.window_ms  # the future is of a clock set back
            and not (platform and incident.kind is IncidentKind.OUTAGE)  # one cause, one incident: it is us
        ),
        key=lambda incident: (incident.started_ms, incident.id),
    )


def _cut_off(services: Services, now_ms: int) -> Iterator[Incident]:
    """Our network fails when most vendors' own addresses are silent at once, however few tenants there are."""
    silent, checked = services.silent, services.checked
    if len(silent) > 1 and len(silent) >= PLATFORM_SHARE * len(checked):
        told = f"no answer from {len(silent)} of {len(checked)} unrelated vendors: {', '.join(sorted(silent))}"
        yield Incident(IncidentKind.PLATFORM, ANYWHERE, now_ms, now_ms, 0, told)


def _ours(whole: Mapping[str, Tally], recent: Mapping[str, Tally], rules: Rules, now_ms: int) -> Iterator[Incident]:
    """Our network fails when unrelated connectors get no answer at once; a lower share is enough than for one."""
    for tallies in (whole, recent):
        reached = [name for name, tally in tallies.items() if sum(tally.counts.values())]
        # By connector, not by endpoint: a few tenants with dead addresses of their own are not the network's end.
        connectors = {
            connector: merged(tallies[name] for name in reached if name.startswith(f"{connector}|"))
            for connector in {name.partition("|")[0] for name in reached}
        }
        lost = [name for name, tally in connectors.items() if tally.share(Ending.CUT_OFF) >= rules.share / 2]
        tenants = merged(connectors[name] for name in lost).tenants(Ending.CUT_OFF)
        if len(lost) > 1 and len(lost) >= PLATFORM_SHARE * len(connectors) and tenants >= rules.tenants:
            told = f"no answer from {len(lost)} of {len(connectors)} unrelated connectors: {', '.join(sorted(lost))}"
            yield Incident(IncidentKind.PLATFORM, ANYWHERE, now_ms, now_ms, tenants, told)
    everything = merged(recent.values())
    share, tenants = everything.share(Ending.OURS), everything.tenants(Ending.OURS)
    if share >= OURS_SHARE and tenants >= rules.tenants:
        told = f"{share:.0%} of all checks fail before they reach a vendor, for about {tenants} tenants"
        yield Incident(IncidentKind.INTERNAL, ANYWHERE, now_ms, now_ms, tenants, told)


def _theirs(tallies: Mapping[str, Tally], down: Collection[str], rules: Rules, now_ms: int) -> Iterator[Incident]:
    """One endpoint fails for many tenants, or by itself."""
    for endpoint in sorted({*tallies, *down}):
        tally = tallies.get(endpoint) or Tally()
        for kind, endings, told in _LOOKED_FOR:
            share, tenants = tally.share(*endings), tally.tenants(*endings)
            if share >= rules.share and tenants >= rules.tenants:
                sentence = f"{told} in {share:.0%} of the checks, for about {tenants} tenants"
                yield Incident(kind, endpoint, now_ms, now_ms, tenants, sentence)
            elif kind is IncidentKind.OUTAGE and endpoint in down:
                yield Incident(kind, endpoint, now_ms, now_ms, tenants, "the service check fails, without a credential")


_LOOKED_FOR: tuple[tuple[IncidentKind, tuple[Ending, ...], str], ...] = (
    (IncidentKind.OUTAGE, (Ending.FAILED, Ending.CUT_OFF), "no usable answer"),
    (IncidentKind.REJECTIONS, (Ending.REJECTED,), "credentials turned down that worked before"),
    (IncidentKind.LIMITS, (Ending.LIMITED,), "rate limits"),
)


def _continued(known: Incident | None, found: Incident | None, rules: Rules, now_ms: int) -> Incident:
    if known is None or found is None:
        either = known or found
        assert either is not None  # noqa: S101 - one of them named the incident
        return either
    held = known.kind is IncidentKind.REJECTIONS and now_ms - known.started_ms >= rules.hold_ms
    worst = known if known.tenants > found.tenants else found
    return replace(worst, started_ms=known.started_ms, seen_ms=now_ms, confirmed=known.confirmed or held)


async def detect(parts: Parts, fenced: Fenced | None = None) -> list[Incident]:
    """One look: read the tallies, judge, write what opened and closed. Returns the open incidents.

    `fenced` begins the transaction that writes, so that nothing is written when somebody else has looked meanwhile;
    what it raises then is raised here.
    """
    rules, asked = Rules.of(parts.settings), steady()
    parts.clock.calibrate(await parts.redis.time(), asked)
    now = parts.clock.now_ms()
    before = await open_incidents(parts.redis)
    reach = max(rules.window_ms, trend.REACH_MS)
    buckets = await read_tallies(parts.redis, range(parts.settings.shards), now, reach)
    after = judge(buckets, await _services(parts), before, rules, now)
    after = with_pages(after, await _said(parts, after))
    await _write(parts, before, after, fenced, lambda pipe: trend.note(pipe, buckets, now - reach, now))
    return after


def with_pages(incidents: Sequence[Incident], said: Mapping[str, StatusReport]) -> list[Incident]:
    """The incidents; an outage says what its vendor's own status page (`said`, by endpoint) tells of it, if it does."""
    told = []
    for incident in incidents:
        explanation, report = incident.explanation.partition(_PAGE)[0], said.get(incident.endpoint)
        if incident.kind is IncidentKind.OUTAGE and report is not None and report.ok is False:
            explanation += f"{_PAGE}{report.summary}"
        told.append(replace(incident, explanation=explanation))
    return told


_PAGE = "; the vendor's status page says: "


async def _said(parts: Parts, incidents: Sequence[Incident]) -> dict[str, StatusReport]:
    """What the status pages said last, by endpoint. They say nothing of what tenants run themselves."""
    reports, found = await status_reports(parts.redis), pages(parts.catalog, parts.settings)
    said: dict[str, StatusReport] = {}
    for endpoint in {incident.endpoint for incident in incidents}:
        connector, _, host = endpoint.partition("|")
        if connector in reports and connector in found:
            own = parts.endpoints.of(Scheduled(Pair(connector, SYSTEM), 0, None)).name
            if endpoint == own or host.endswith(found[connector].hosts):
                said[endpoint] = reports[connector]
    return said


async def _services(parts: Parts) -> Services:
    """What the service checks say now."""
    checks = await parts.endpoints.service_checks()
    read = await parts.cache.each(list(checks))
    own = {pair: status for pair, status in read.items() if pair.tenant == SYSTEM and status.checked_ms is not None}
    return Services(
        down=frozenset(
            checks[pair].name
            for pair, status in read.items()
            if status.status is Status.UNHEALTHY and status.fault is Fault.VENDOR
        ),
        silent=frozenset(pair.connector for pair, status in own.items() if _is_silent(status)),
        checked=frozenset(pair.connector for pair in own),
    )


def _is_silent(status: HealthStatus) -> bool:
    """Did the newest check get no answer? Also when that was found to be our own doing."""
    reason = status.raw.reason if status.raw else status.reason
    metadata = status.raw.metadata if status.raw else status.metadata
    return (reason if reason is not Reason.MONITOR_ERROR else metadata.get("seen")) in NETWORK


async def _write(
    parts: Parts,
    before: Sequence[Incident],
    after: Sequence[Incident],
    fenced: Fenced | None = None,
    leave: Callable[[Pipeline], None] = lambda _: None,
) -> None:
    was, now = {incident.id: incident for incident in before}, {incident.id: incident for incident in after}
    opened, closed = sorted(now.keys() - was.keys()), sorted(was.keys() - now.keys())
    news = [("opened", now[id_].as_dict()) for id_ in opened] + [("closed", was[id_].as_dict()) for id_ in closed]
    async with parts.redis.pipeline(transaction=True) as pipe:
        if fenced:
            await fenced(pipe)
        for id_ in closed:
            pipe.hdel(keys.INCIDENTS, id_)
        for id_, incident in now.items():
            pipe.hset(keys.INCIDENTS, id_, dump(incident))
        for event, public in news:
            entry: dict[EncodableT, EncodableT] = {"event": event, "incident": json.dumps(public)}
            pipe.xadd(keys.INCIDENT_LOG, entry, maxlen=LOG_LENGTH, approximate=True)
        leave(pipe)
        await pipe.execute()
    for event, public in news:
        log.warning("incident", change=event, **public)
