"""Verdicts, from the cache alone."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from msgspec.structs import replace
from starlette.responses import Response

from registry.clock import steady
from registry.errors import CacheUnavailable, NotConfigured
from registry.health import REASONS, HealthStatus, Reason, Status
from registry.pages import Wanted
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, conditional, counted, failures, tag_of, unchanged
from registry.web.guard import LONG, Asked, Caller, ConnectorPath, OfTenant, holding, may, pair_of, seen, within
from registry.web.site import Site, site_of

router = APIRouter(tags=["health"])

LOOK = 0.5
"""Seconds between two looks while somebody waits for another version."""

TenantQuery = Annotated[str | None, Query(max_length=128, description="Without it, the service checks.")]
MaxAge = Annotated[
    float | None,
    Query(
        ge=0, le=1e9, description="Seconds; an older verdict is answered as `unknown`, `stale`. No GET makes a check."
    ),
]
After = Annotated[str, Query(max_length=128, description="The `after` of the page before.")]
Prefix = Annotated[str, Query(max_length=128, description="Tenants whose ids begin so.")]


@router.get("/connectors/health", responses={200: {"model": schemas.Overall}, **failures(404)})
async def every_connector(request: Request, asked: Asked, tenant_id: TenantQuery = None) -> Response:
    """Every connector's verdict in one scope. 200 whatever they are: one sick connector is not this service's end."""
    if tenant_id is not None:
        await seen(request, tenant_id, asked)
    site = site_of(request)
    found = await site.registry.health_check_all(tenant_id=tenant_id)
    statuses = [_told(status) for status in found.values() if status.reason is not Reason.NOT_CONFIGURED]
    if tenant_id is not None and not statuses:
        raise NotConfigured("there is no such tenant, or it is not yours to see")
    body = {
        "healthy": all(status.healthy for status in statuses),
        "tenant_id": tenant_id,
        "counts": counted(statuses),
        "connectors": {status.connector: status.as_dict() for status in statuses},
    }
    return answer(body)


@router.get(
    "/connectors/{name}/health",
    responses={200: {"model": schemas.Verdict}, **failures(404), 503: {"model": schemas.Verdict}},
)
async def one_connector(request: Request, name: ConnectorPath, asked: Asked, tenant_id: TenantQuery = None) -> Response:
    """One connector's verdict: 200 if it may be used, 503 if it is unhealthy or unknown, 404 if it is not there."""
    if tenant_id is not None:
        await seen(request, tenant_id, asked)
    status = await _status(site_of(request), name, tenant_id)
    return answer(status.as_dict(), 200 if status.healthy else 503)


@router.get("/v1/tenants/{tenant}/health", responses={200: {"model": schemas.Overall}, **failures(403, 404)})
async def of_tenant(request: Request, of: Annotated[OfTenant, Depends(within(Right.READ))]) -> Response:
    """All verdicts of one tenant, in one round trip."""
    return await every_connector(request, of.caller, of.tenant)


@router.get(
    "/v1/tenants/{tenant}/connectors/{connector}/health",
    responses={200: {"model": schemas.Verdict}, 304: {"description": "as you know it"}, **failures(403, 404)},
    dependencies=[Depends(holding)],
)
async def of_pair(
    request: Request,
    connector: ConnectorPath,
    of: Annotated[OfTenant, Depends(within(Right.READ))],
    max_age: MaxAge = None,
    version: Annotated[int | None, Query(ge=0, description="The version you know: waits for another one.")] = None,
    wait: Annotated[float, Query(ge=0, le=LONG, description="Seconds to wait for it, at most.")] = 0,
) -> Response:
    """One verdict. 200 whatever it is; 304 where `If-None-Match` names it, or `version` is still the newest."""
    site, pair = site_of(request), pair_of(of, connector)
    ends = steady() + wait
    status = await _status(site, pair.connector, pair.tenant)
    while version is not None and status.version == version and steady() < ends:
        await asyncio.sleep(min(LOOK, max(0.0, ends - steady())))
        status = await _status(site, pair.connector, pair.tenant)
    tag = tag_of(status)
    if version is not None and status.version == version:
        return unchanged(tag)
    if max_age is not None and status.age is not None and status.age > max_age and not status.stale:
        status = replace(
            status,
            status=Status.UNKNOWN,
            reason=Reason.STALE,
            fault=REASONS[Reason.STALE].fault,
            stale=True,
            last_known=status.status,
        )
        return answer(status.as_dict())
    return conditional(request, status.as_dict(), tag)


@router.get(
    "/v1/tenants/{tenant}/connectors/{connector}/history",
    responses={200: {"model": schemas.History}, **failures(403, 404)},
)
async def history(
    request: Request, connector: ConnectorPath, of: Annotated[OfTenant, Depends(within(Right.READ))]
) -> Response:
    """Uptime over 24 hours, 7 and 30 days, latency, and the last transitions."""
    site, pair = site_of(request), pair_of(of, connector)
    await _status(site, pair.connector, pair.tenant)
    return answer((await site.registry.history(pair.connector, tenant_id=pair.tenant)).as_dict())


@router.post(
    "/v1/tenants/{tenant}/connectors/{connector}/check",
    responses={200: {"model": schemas.Verdict}, **failures(403, 404)},
)
async def check(
    request: Request,
    connector: ConnectorPath,
    of: Annotated[OfTenant, Depends(within(Right.CHECK))],
    max_age: Annotated[float, Query(ge=0, le=1e9, description="Seconds; a younger verdict is answered instead.")] = 0,
) -> Response:
    """Check now: once, whoever else asks, within the budgets. `put_off_until` tells when a budget has room again."""
    site, pair = site_of(request), pair_of(of, connector)
    await _status(site, pair.connector, pair.tenant)
    status = await site.registry.health_check(pair.connector, tenant_id=pair.tenant, max_age=max_age)
    return answer(_told(status).as_dict())


@router.get("/v1/pairs", responses={200: {"model": schemas.VerdictPage}, **failures(403)})
async def pairs(
    request: Request,
    _: Annotated[Caller, Depends(may(Right.READ))],
    prefix: Prefix = "",
    connector: Annotated[list[str] | None, Query(max_length=50)] = None,
    status: Annotated[list[Status] | None, Query()] = None,
    reason: Annotated[list[Reason] | None, Query()] = None,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=200, description="Tenants to look at; a page may hold few verdicts.")] = 50,
) -> Response:
    """The verdicts of many tenants, a page at a time, of the wanted kinds."""
    wanted = Wanted(prefix, connector or None, status or None, reason or None)
    page = await site_of(request).registry.page(wanted, after=after, limit=limit)
    return answer({"items": [found.as_dict() for found in page.statuses], "after": page.after})


@router.get("/v1/tenants", responses={200: {"model": schemas.TenantPage}, **failures(403)})
async def tenants(
    request: Request,
    _: Annotated[Caller, Depends(may(Right.READ))],
    prefix: Prefix = "",
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Response:
    """The tenants, a page at a time, with how many of their connectors are in which state."""
    page = await site_of(request).registry.page(Wanted(prefix), after=after, limit=limit)
    rows: dict[str, list[HealthStatus]] = {}
    for status in page.statuses:
        rows.setdefault(str(status.tenant_id), []).append(status)
    items = [
        {"id": tenant, "counts": counted(found), "connectors": [status.connector for status in found]}
        for tenant, found in rows.items()
    ]
    return answer({"items": items, "after": page.after})


async def _status(site: Site, name: str, tenant: str | None) -> HealthStatus:
    """One verdict. Raises `NotConfigured` where there is no such pair, `CacheUnavailable` when nobody can tell."""
    status = _told(await site.registry.health_check(name, tenant_id=tenant))
    if status.reason is Reason.NOT_CONFIGURED:
        raise NotConfigured("there is no such connector of this tenant, or it is not yours to see")
    return status


def _told(status: HealthStatus) -> HealthStatus:
    """The status; an error where it only says that Redis is away."""
    if status.reason is Reason.MONITOR_ERROR and status.checked_ms is None and status.error:
        raise CacheUnavailable(status.error)
    return status
