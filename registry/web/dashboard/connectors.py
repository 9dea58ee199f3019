"""One connector's page: what it is, how its vendor is, and whom its troubles concern."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fastapi import APIRouter, Request
from starlette.responses import Response

from registry import keys
from registry.connector import ConnectorMetadata
from registry.counting import LATENCY_BUCKETS_MS
from registry.errors import ConnectorUnusable, IncompatibleConnector
from registry.health import Reason
from registry.ids import connector_id
from registry.status_pages import status_reports
from registry.trend import trends
from registry.web.api.incidents import logged, opened
from registry.web.api.maintenance import announced
from registry.web.dashboard.drawing import sparkline, strip
from registry.web.dashboard.incidents import episodes
from registry.web.dashboard.overview import OLD, STREAM, current
from registry.web.dashboard.rendering import PageRoute, page, told
from registry.web.dashboard.troubles import causes
from registry.web.guard import Asked, ConnectorPath
from registry.web.site import Site, site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_KNOWN = frozenset(reason.value for reason in Reason)

LOG = 200
"""Entries of the incidents' log that are looked through."""


@dataclass(frozen=True, slots=True)
class Counted:
    """All checks of a connector since counting began: how many ended in which reason, and how long they took.

    Percentiles are milliseconds, None without checks; `slower` says that one is beyond the last bound.
    """

    reasons: Mapping[Reason, int]
    p50: float | None
    p95: float | None
    p99: float | None

    @property
    def total(self) -> int:
        """How many checks."""
        return sum(self.reasons.values())


@router.get("/connectors/{name}")
async def connector_page(request: Request, name: ConnectorPath, asked: Asked) -> Response:
    """A tenant's token sees the connector and its vendor, and nothing that tells of other tenants."""
    site, name = site_of(request), connector_id(name)
    manifest, unusable = _manifest(site, name)
    now = site.parts.clock.now_ms()
    service, past, reports, windows = await asyncio.gather(
        site.registry.health_check(name),
        site.registry.history(name),
        told(status_reports(site.parts.redis)),
        announced(site),
    )
    everything = await _everything(site, name, now) if asked.grant.tenant is None else {}
    return page(
        request,
        "connector.html",
        asked,
        stream=STREAM if everything else None,
        name=name,
        manifest=manifest,
        unusable=unusable,
        service=service,
        past=past,
        hours=strip(past.hours(), now),
        report=reports.get(name),
        window=current(windows, name, now),
        everything=everything,
    )


def _manifest(site: Site, name: str) -> tuple[ConnectorMetadata | None, str]:
    """The manifest, or why there is none. Raises `UnknownConnector`."""
    try:
        return site.parts.catalog.load(name).manifest, ""
    except (ConnectorUnusable, IncompatibleConnector) as error:
        return None, str(error)


async def _everything(site: Site, name: str, now: int) -> dict[str, object]:
    """What is known of all tenants together."""
    survey, counted, minutes, open_, entries = await asyncio.gather(
        site.surveyor.look(),
        told(_counted(site, name)),
        told(trends(site.parts.redis, now)),
        opened(site),
        logged(site, None, LOG),
    )
    return {
        "counts": survey.counts.get(name, {}),
        "age": (now - survey.at_ms) / 1000,
        "at_ms": survey.at_ms,
        "old": OLD,
        "causes": causes(survey, site.parts.catalog, (name,)),
        "counted": counted,
        "trend": sparkline(minutes.get(name, ()), now // 60_000 * 60_000) if name in minutes else None,
        "open": [incident for incident in open_ if incident.endpoint.partition("|")[0] in (name, "*")],
        "log": [one for one in episodes(entries) if one.connector in (name, "*")],
    }


async def _counted(site: Site, name: str) -> Counted:
    """Sums over the shards' counters. Raises what redis-py raises."""
    async with site.parts.redis.pipeline(transaction=False) as pipe:
        for shard in range(site.parts.settings.shards):
            pipe.hgetall(keys.counters(shard))
        shards = await pipe.execute()
    reasons: dict[Reason, int] = {}
    buckets = [0] * (len(LATENCY_BUCKETS_MS) + 1)
    places = {str(bound): place for place, bound in enumerate(LATENCY_BUCKETS_MS)} | {"inf": len(LATENCY_BUCKETS_MS)}
    for counters in shards:
        for wire, count in counters.items():
            kind, _, rest = wire.decode().partition("|")
            connector, _, last = rest.partition("|")
            if connector != name:
                continue
            if kind == "checks" and last in _KNOWN:
                reasons[Reason(last)] = reasons.get(Reason(last), 0) + int(count)
            elif kind == "bucket" and last in places:
                buckets[places[last]] += int(count)
    ordered = dict(sorted(reasons.items(), key=lambda row: -row[1]))
    return Counted(ordered, *(_percentile(buckets, part) for part in (0.50, 0.95, 0.99)))


def _percentile(buckets: Sequence[int], part: float) -> float | None:
    """Within its bucket as if the checks there were spread evenly; beyond the last bound, the bound."""
    sums = list(accumulate(buckets))
    if not sums[-1]:
        return None
    rank = part * sums[-1]
    place = next(at for at, so_far in enumerate(sums) if so_far >= rank)
    if place == len(LATENCY_BUCKETS_MS):
        return float(LATENCY_BUCKETS_MS[-1])
    low = LATENCY_BUCKETS_MS[place - 1] if place else 0
    before = sums[place - 1] if place else 0
    return low + (LATENCY_BUCKETS_MS[place] - low) * (rank - before) / buckets[place]
