"""What operators announce and look up: maintenance windows, incidents, the audit log."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from registry import keys
from registry.audit import AuditRecord
from registry.connection import AWAY
from registry.errors import CacheUnavailable, InvalidConfig
from registry.health import rfc3339
from registry.incidents import open_incidents
from registry.maintenance import MaintenanceBoard, Window
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Asked, Caller, may, seen
from registry.web.problems import not_found
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1")

MOST = 200
"""Entries of one answer."""

Before = Annotated[str | None, Query(pattern=r"^[0-9]{1,16}-[0-9]{1,16}$", description="An earlier answer's `before`.")]
Reading = Annotated[Caller, Depends(may(Right.READ))]


class NewWindow(BaseModel):
    """A maintenance window; without `starts` it begins now. It names a connector, a tenant, or both."""

    model_config = ConfigDict(extra="forbid")

    connector: str | None = Field(default=None, max_length=64)
    tenant: str | None = Field(default=None, max_length=128)
    starts: AwareDatetime | None = None
    ends: AwareDatetime
    note: str = Field(default="", max_length=200)


@router.get("/incidents", tags=["incidents"], responses={200: {"model": schemas.IncidentList}, **failures(403)})
async def incidents(request: Request, _: Reading) -> Response:
    """The incidents that are open now."""
    return answer({"items": [incident.as_dict() for incident in await opened(site_of(request))]})


@router.get("/incidents/log", tags=["incidents"], responses={200: {"model": schemas.IncidentLog}, **failures(403)})
async def incident_log(
    request: Request,
    _: Reading,
    before: Before = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """What was opened and closed, the newest first."""
    rows = await logged(site_of(request), before, limit)
    return answer({"items": rows, "before": rows[-1]["position"] if len(rows) == limit else None})


async def opened(site: Site) -> list[Any]:
    """The open incidents. Raises `CacheUnavailable`."""
    try:
        return list(await open_incidents(site.parts.redis))
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__})") from error


async def logged(site: Site, before: str | None, limit: int) -> list[dict[str, object]]:
    """Entries of the incidents' log, the newest first, as the API shows them. Raises `CacheUnavailable`."""
    if before is not None and not before.strip("0-"):
        return []  # nothing is before the beginning, and Redis refuses to look
    try:
        last = f"({before}" if before else "+"
        found = await site.parts.redis.xrevrange(keys.INCIDENT_LOG, last, "-", count=limit)
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__})") from error
    return [
        {
            "position": at.decode(),
            "at": rfc3339(int(at.partition(b"-")[0])),
            "change": fields[b"event"].decode(),
            "incident": json.loads(fields[b"incident"]),
        }
        for at, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
    ]


@router.get("/maintenance", tags=["maintenance"], responses={200: {"model": schemas.MaintenanceList}, **failures()})
async def windows(request: Request, asked: Asked) -> Response:
    """The windows that are not over. A tenant's token sees its own, and those for everybody."""
    found = await announced(site_of(request))
    return answer({"items": [window.as_dict() for window in found if _concerns(asked, window)]})


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
    tags=["maintenance"],
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
    tags=["maintenance"],
    status_code=204,
    responses={204: {"description": "ended"}, **failures(403, 404, 409)},
)
async def end(request: Request, window: str, asked: Asked) -> Response:
    """End a window now, or take back one that has not begun."""
    site = site_of(request)
    if asked.grant.tenant is None:
        await may(Right.MAINTAIN)(request, asked)
    found = next((w for w in await site.parts.maintenance.windows() if w.id == window), None)
    if found is None or not _concerns(asked, found):
        raise not_found()
    await _may_announce(request, asked, found.tenant)
    await site.parts.maintenance.end(window, actor=asked.name)
    return Response(status_code=204)


@router.get("/audit", tags=["audit"], responses={200: {"model": schemas.AuditPage}, **failures(403, 404)})
async def audit(
    request: Request,
    asked: Asked,
    tenant: Annotated[str | None, Query(max_length=128, description="Only what concerns this tenant.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST, description="The last so many.")] = 50,
) -> Response:
    """The last records. A tenant's token sees its tenant's, without the chain, which tells of everybody."""
    scope = tenant if tenant is not None else asked.grant.tenant
    if scope is not None:
        await seen(request, scope, asked, Right.AUDIT)
    else:
        await may(Right.AUDIT)(request, asked)
    records = await site_of(request).parts.audit.sink.latest(limit, tenant=scope)
    return answer({"items": [told(record, whole=asked.grant.tenant is None) for record in records]})


def told(record: AuditRecord, *, whole: bool) -> dict[str, Any]:
    """An audit record as it may be shown; not `whole`: without its place in the chain."""
    try:
        row = record.as_dict()
    except ValueError:
        return {"number": record.number, "action": "unreadable: see `connectors audit verify`"}
    row["at"] = rfc3339(row.get("at_ms"))
    return row if whole else {name: value for name, value in row.items() if name not in ("number", "previous", "hash")}


def _concerns(asked: Caller, window: Window) -> bool:
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
