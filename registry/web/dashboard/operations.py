"""Incidents, maintenance windows and the audit log, for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from registry.errors import ConflictError, InvalidConfig, InvalidId
from registry.maintenance import Window
from registry.roles import Right
from registry.web.api import operations as api
from registry.web.dashboard.overview import STREAM
from registry.web.dashboard.rendering import PageRoute, form, page, redirect
from registry.web.guard import Asked, Caller, may, seen
from registry.web.problems import Problem
from registry.web.site import site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

ROWS = 50
"""Of a log at a time."""

LENGTHS = (1, 2, 4, 8, 24, 72, 168)
"""Hours that the form offers for a window."""


@dataclass(frozen=True, slots=True)
class Episode:
    """An incident that is over; times are Unix milliseconds."""

    connector: str
    kind: str
    endpoint: str
    fault: str
    explanation: str
    tenants: int
    started_ms: int
    ended_ms: int


def episodes(entries: Iterable[Mapping[str, object]]) -> list[Episode]:
    """What the entries of the incidents' log say of those that are over, in their order."""
    over = []
    for entry in entries:
        if entry["change"] == "closed":
            told = cast("Mapping[str, Any]", entry["incident"])
            ended = int(str(entry["position"]).partition("-")[0])
            names = ("connector", "kind", "endpoint", "fault", "explanation", "tenants", "started_ms")
            over.append(Episode(**{name: told[name] for name in names}, ended_ms=ended))
    return over


@router.get("/incidents")
async def incidents(
    request: Request, asked: Annotated[Caller, Depends(may(Right.READ))], before: api.Before = None
) -> Response:
    """The open incidents, and those that are over."""
    site = site_of(request)
    entries = await api.logged(site, before, ROWS)
    return page(
        request,
        "incidents.html",
        asked,
        stream=STREAM,
        open=await api.opened(site) if before is None else [],
        over=episodes(entries),
        before=before,
        older=entries[-1]["position"] if len(entries) == ROWS else None,
    )


@router.get("/maintenance")
async def maintenance(request: Request, asked: Asked) -> Response:
    """The windows that are not over, and the form that announces one."""
    return await _maintenance(request, asked)


@router.post("/maintenance")
async def announce(request: Request, asked: Asked) -> Response:
    """Announce a window. What cannot be announced is said above the form, which keeps what was entered."""
    fields = await form(request)
    try:
        await api.announce(request, asked, _window(fields))
    except Problem as error:
        if error.status not in (404, 422):
            raise
        told = "the tenant is not there, or not yours to see" if error.status == 404 else error.detail
        return await _maintenance(request, asked, fields, told)
    except (InvalidConfig, InvalidId, ConflictError) as error:
        return await _maintenance(request, asked, fields, str(error))
    return redirect("maintenance")


@router.post("/maintenance/{window}/end")
async def end(request: Request, window: str, asked: Asked) -> Response:
    """End a window now."""
    await api.end(request, window, asked)
    return redirect("maintenance")


@router.get("/audit")
async def audit(
    request: Request,
    asked: Asked,
    tenant: Annotated[str, Query(max_length=128)] = "",
    limit: Annotated[int, Query(ge=1, le=api.MOST)] = ROWS,
) -> Response:
    """The last records, the newest first, all or one tenant's."""
    scope = tenant.strip() or asked.grant.tenant
    if scope is not None:
        await seen(request, scope, asked, Right.AUDIT)
    else:
        await may(Right.AUDIT)(request, asked)
    records = await site_of(request).parts.audit.sink.latest(limit, tenant=scope)
    rows = [api.told(record, whole=asked.grant.tenant is None) for record in reversed(records)]
    return page(
        request,
        "audit.html",
        asked,
        rows=[_audited(row) for row in rows],
        tenant=tenant.strip(),
        limit=limit,
        most=api.MOST,
    )


_SHOWN = frozenset({"number", "previous", "hash", "at", "at_ms", "actor", "action", "tenant", "connector"})


def _audited(row: Mapping[str, Any]) -> dict[str, object]:
    """A record's columns; what has none of its own is said as ``name value``."""
    more = {name: value for name, value in row.items() if name not in _SHOWN and name != "detail"}
    more |= row.get("detail") or {}
    return {
        **{name: row.get(name) for name in ("number", "at_ms", "actor", "action", "tenant", "connector")},
        "more": ", ".join(f"{name} {value}" for name, value in more.items()),
    }


async def _maintenance(
    request: Request, asked: Caller, fields: Mapping[str, str] | None = None, problem: str | None = None
) -> Response:
    site = site_of(request)
    windows = [window for window in await api.announced(site) if _concerns(asked, window)]
    return page(
        request,
        "maintenance.html",
        asked,
        status=422 if problem else 200,
        windows=windows,
        connectors=site.registry.list(),
        lengths=LENGTHS,
        fields=fields or {},
        problem=problem,
    )


def _concerns(asked: Caller, window: Window) -> bool:
    return asked.grant.tenant is None or window.tenant in (None, asked.grant.tenant)


def _window(fields: Mapping[str, str]) -> api.NewWindow:
    """The window that the form describes; its times are UTC. Raises `InvalidConfig`."""
    try:
        hours = int(fields.get("hours", ""))
        starts = dt.datetime.fromisoformat(fields["starts"]).replace(tzinfo=dt.UTC) if "starts" in fields else None
    except ValueError:
        raise InvalidConfig("starts: give a date and a time, such as 2026-11-28T22:00") from None
    if not 1 <= hours <= max(LENGTHS):
        raise InvalidConfig("it lasts at least an hour and at most a week here; the command line announces others")
    ends = (starts or dt.datetime.now(dt.UTC)) + dt.timedelta(hours=hours)
    wanted = {name: fields.get(name) for name in ("connector", "tenant")}
    try:
        return api.NewWindow(starts=starts, ends=ends, note=fields.get("note", ""), **wanted)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidConfig(f"{first['loc'][0]}: {first['msg']}") from None
