"""The audit log, for who may read it: of everybody, or of one's own tenant."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from registry.audit import AuditRecord
from registry.health import rfc3339
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Asked, may, seen
from registry.web.site import site_of

router = APIRouter(prefix="/v1", tags=["audit"])

MOST = 200
"""Records of one answer."""


@router.get("/audit", responses={200: {"model": schemas.AuditPage}, **failures(403, 404)})
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
