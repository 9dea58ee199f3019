"""Maintenance windows, and the form that announces one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from registry.errors import ConflictError, InvalidConfig, InvalidId
from registry.web.api import maintenance as api
from registry.web.dashboard.rendering import PageRoute, form, page, redirect
from registry.web.guard import Asked, Caller
from registry.web.problems import Problem
from registry.web.site import site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LENGTHS = (1, 2, 4, 8, 24, 72, 168)
"""Hours that the form offers for a window."""


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


async def _maintenance(
    request: Request, asked: Caller, fields: Mapping[str, str] | None = None, problem: str | None = None
) -> Response:
    site = site_of(request)
    windows = [window for window in await api.announced(site) if api.concerns(asked, window)]
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


def _window(fields: Mapping[str, str]) -> api.NewWindow:
    """The window that the form describes; its times are UTC. Raises `InvalidConfig`."""
    try:
        hours = int(fields.get("hours", ""))
        starts = dt.datetime.fromisoformat(fields["starts"]).replace(tzinfo=dt.UTC) if "starts" in fields else None
    except ValueError:
        raise InvalidConfig("starts: give a date and a time, such as 2026-11-28T22:00") from None
    if not 1 <= hours <= max(LENGTHS):
        raise InvalidConfig("it lasts at least an hour and at most a week here; the command line announces others")
    try:
        ends = (starts or dt.datetime.now(dt.UTC)) + dt.timedelta(hours=hours)
    except OverflowError:
        raise InvalidConfig("starts: give a year before 9999") from None
    wanted = {name: fields.get(name) for name in ("connector", "tenant")}
    try:
        return api.NewWindow(starts=starts, ends=ends, note=fields.get("note", ""), **wanted)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidConfig(f"{first['loc'][0]}: {first['msg']}") from None
