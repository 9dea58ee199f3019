"""The overview: what is wrong, every connector, and the map of all tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from registry.catalog import Catalog
from registry.errors import ConnectorError
from registry.health import HealthStatus, Status
from registry.maintenance import Window
from registry.status_pages import StatusReport, status_reports
from registry.survey import Survey
from registry.trend import Minute, trends
from registry.web.api.incidents import opened
from registry.web.api.maintenance import announced
from registry.web.dashboard.drawing import Drawing, sparkline
from registry.web.dashboard.heat import Asked as Wanted
from registry.web.dashboard.heat import heat
from registry.web.dashboard.rendering import PageRoute, is_fragment, page, redirect, told
from registry.web.dashboard.troubles import causes, summary
from registry.web.guard import Asked
from registry.web.site import Site, site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

OLD = 30.0
"""Seconds beyond which the numbers say that they are old."""

STREAM = "/v1/transitions/stream"

Word = Annotated[str, Query(max_length=128)]


@dataclass(frozen=True, slots=True)
class Overview:
    """One connector's row. `uptime` is that of the service check, percent of 24 hours."""

    name: str
    title: str
    service: HealthStatus
    counts: Mapping[Status, int]
    trend: Drawing
    uptime: float | None
    report: StatusReport | None
    window: Window | None


@router.get("/")
async def overview(
    request: Request,
    asked: Asked,
    prefix: Word = "",
    connector: Word = "",
    status: Word = "",
    trouble: Word = "",
    tenant: Word = "",
    page_: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Everything that an unscoped token may see at a glance; a tenant's token is led to its tenant."""
    if asked.grant.tenant is not None:
        return redirect("tenants", asked.grant.tenant)
    site = site_of(request)
    if tenant:
        there = tenant in (await site.surveyor.look()).rows
        return redirect("tenants", tenant) if there else redirect(prefix=tenant, anchor="tenants")

    async def made() -> Response:
        survey, incidents = await asyncio.gather(site.surveyor.look(), opened(site))
        wanted = Wanted(
            prefix.strip(),
            connector if connector in survey.connectors else "",
            Status(status) if status in _STATUSES else None,
            bool(trouble),
            page_,
        )
        return page(
            request,
            "overview.html",
            asked,
            stream=STREAM,
            survey=survey,
            age=(site.parts.clock.now_ms() - survey.at_ms) / 1000,
            old=OLD,
            incidents=incidents,
            rows=await _rows(site, survey),
            causes=causes(survey, site.parts.catalog),
            summary=summary(survey),
            wanted=wanted,
            heat=heat(survey, wanted),
        )

    if not is_fragment(request):
        return await made()
    # Its <main> is the same for everybody who may see it.
    return await site.kept.get(f"{request.url.query} {request.headers.get('accept-encoding', '')}", made)


async def _rows(site: Site, survey: Survey) -> list[Overview]:
    now = site.parts.clock.now_ms()
    services, histories, counted, reports, windows = await asyncio.gather(
        site.registry.health_check_all(),
        site.registry.history_all(),
        told(trends(site.parts.redis, now)),
        told(status_reports(site.parts.redis)),
        announced(site),
    )
    last = now // 60_000 * 60_000
    return [
        Overview(
            name=name,
            title=title_of(site.parts.catalog, name),
            service=service,
            counts=survey.counts.get(name, {}),
            trend=sparkline(counted.get(name, _NOTHING), last),
            uptime=histories[name].day.uptime,
            report=reports.get(name),
            window=current(windows, name, now),
        )
        for name, service in services.items()
    ]


_STATUSES = frozenset(status.value for status in Status)
_NOTHING: Sequence[Minute] = (Minute(),) * 60


def title_of(catalog: Catalog, name: str) -> str:
    """What people call a connector."""
    try:
        return catalog.load(name).manifest.title
    except ConnectorError:
        return name


def current(windows: Sequence[Window], connector: str, now_ms: int) -> Window | None:
    """The maintenance window of a connector, for every tenant, that is on now."""
    on = (w for w in windows if w.starts_ms <= now_ms < w.ends_ms and w.tenant is None)
    return next((w for w in on if w.connector in (None, connector)), None)
