"""Incidents: what is open now, and what was opened and closed."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from registry import keys
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.health import rfc3339
from registry.incidents import open_incidents
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Caller, may
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1", tags=["incidents"])

MOST = 200
"""Entries of one answer."""

Before = Annotated[str | None, Query(pattern=r"^[0-9]{1,16}-[0-9]{1,16}$", description="An earlier answer's `before`.")]
Reading = Annotated[Caller, Depends(may(Right.READ))]


@router.get("/incidents", responses={200: {"model": schemas.IncidentList}, **failures(403)})
async def incidents(request: Request, _: Reading) -> Response:
    """The incidents that are open now."""
    return answer({"items": [incident.as_dict() for incident in await opened(site_of(request))]})


@router.get("/incidents/log", responses={200: {"model": schemas.IncidentLog}, **failures(403)})
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
