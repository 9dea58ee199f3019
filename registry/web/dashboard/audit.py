"""The audit log, for who may read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from registry.roles import Right
from registry.web.api import audit as api
from registry.web.dashboard.rendering import PageRoute, page
from registry.web.guard import Asked, may, seen
from registry.web.site import site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

ROWS = 50
"""Of the log at a time."""


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
