"""What is happening to many at once, and what is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from registry.roles import Right
from registry.web.api import incidents as api
from registry.web.dashboard.overview import STREAM
from registry.web.dashboard.rendering import PageRoute, page
from registry.web.guard import Caller, may
from registry.web.site import site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

ROWS = 50
"""Of the log at a time."""


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
