"""Maintenance windows: seen by whom they concern, announced and ended within one's scope."""

from __future__ import annotations

import datetime as dt

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from registry.connection import AWAY
from registry.errors import CacheUnavailable, InvalidConfig
from registry.maintenance import MaintenanceBoard, Window
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Asked, Caller, may, seen
from registry.web.problems import not_found
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1", tags=["maintenance"])


class NewWindow(BaseModel):
    """A maintenance window; without `starts` it begins now. It names a connector, a tenant, or both."""

    model_config = ConfigDict(extra="forbid")

    connector: str | None = Field(default=None, max_length=64)
    tenant: str | None = Field(default=None, max_length=128)
    starts: AwareDatetime | None = None
    ends: AwareDatetime
    note: str = Field(default="", max_length=200)


@router.get("/maintenance", responses={200: {"model": schemas.MaintenanceList}, **failures()})
async def windows(request: Request, asked: Asked) -> Response:
    """The windows that are not over. A tenant's token sees its own, and those for everybody."""
    found = await announced(site_of(request))
    return answer({"items": [window.as_dict() for window in found if concerns(asked, window)]})


async def announced(site: Site) -> list[Window]:
    """The windows that are not over, by their beginning, from their copy in Redis. Raises `CacheUnavailable`."""
    try:
        found = await MaintenanceBoard(site.parts.redis).read()
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__})") from error
    now = site.parts.clock.now_ms()
    return sorted((window for window in found if window.ends_ms > now), key=lambda window: window.starts_ms)


@router.post(
    "/maintenance",
    status_code=201,
    responses={201: {"model": schemas.Maintenance}, **failures(403, 404, 409, 413)},
)
async def announce(request: Request, asked: Asked, new: NewWindow) -> Response:
    """Announce a window: nobody is alerted meanwhile, and the time counts in no uptime."""
    site = site_of(request)
    await _may_announce(request, asked, new.tenant)
    await _require_known(site, new)
    window = await site.parts.maintenance.add(
        actor=asked.name,
        starts_ms=_milliseconds(new.starts) if new.starts else site.parts.clock.now_ms(),
        ends_ms=_milliseconds(new.ends),
        connector=new.connector,
        tenant=new.tenant,
        note=new.note,
    )
    return answer(window.as_dict(), 201)


@router.delete(
    "/maintenance/{window}",
    status_code=204,
    responses={204: {"description": "ended"}, **failures(403, 404, 409)},
)
async def end(request: Request, window: str, asked: Asked) -> Response:
    """End a window now, or take back one that has not begun."""
    site = site_of(request)
    if asked.grant.tenant is None:
        await may(Right.MAINTAIN)(request, asked)
    found = next((w for w in await site.parts.maintenance.windows() if w.id == window), None)
    if found is None or not concerns(asked, found):
        raise not_found()
    await _may_announce(request, asked, found.tenant)
    await site.parts.maintenance.end(window, actor=asked.name)
    return Response(status_code=204)


def concerns(asked: Caller, window: Window) -> bool:
    """Is a window about what the caller may see?"""
    return asked.grant.tenant is None or window.tenant in (None, asked.grant.tenant)


async def _may_announce(request: Request, asked: Caller, tenant: str | None) -> None:
    if tenant is not None:
        await seen(request, tenant, asked, Right.MAINTAIN)
    else:
        await may(Right.MAINTAIN)(request, asked)


async def _require_known(site: Site, new: NewWindow) -> None:
    """A window for a misspelt name would be accepted, and everybody alerted all the same."""
    if new.connector is not None and not site.parts.catalog.has(new.connector):
        raise InvalidConfig(f"connector: there is none of that name; there are: {', '.join(site.registry.list())}")
    if new.tenant is not None:
        configured = await site.parts.store.list_connectors(new.tenant)
        if not configured:
            raise not_found()
        if new.connector is not None and new.connector not in configured:
            raise InvalidConfig(f"connector: the tenant has none of that name; it has: {', '.join(configured)}")


def _milliseconds(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)
