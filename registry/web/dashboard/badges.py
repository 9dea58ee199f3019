"""Badges: one verdict as a small picture, for wikis and READMEs."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated
from xml.sax.saxutils import escape, quoteattr

from fastapi import APIRouter, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from registry.errors import NotConfigured
from registry.health import HealthStatus, Reason, Status
from registry.web.api.answers import matches
from registry.web.guard import ConnectorPath, caller, seen
from registry.web.site import site_of

router = APIRouter(include_in_schema=False)

_bearer = HTTPBearer(auto_error=False)

_COLOURS = {
    Status.HEALTHY: "#17694b",
    Status.DEGRADED: "#7a5200",
    Status.UNHEALTHY: "#a3211b",
    Status.UNKNOWN: "#4b4f86",
}
_SHAPES = {
    Status.HEALTHY: "M2 6l3 3 5-6",
    Status.DEGRADED: "M6 2l5 8H1zM6 5v2",
    Status.UNHEALTHY: "M2 2l8 8M10 2l-8 8",
    Status.UNKNOWN: "M4 4a2 2 0 1 1 3 2q-1 .5-1 2M6 10v.5",
}
_LETTER, _PAD = 6.6, 8


@router.get("/badge/{name}.svg")
async def badge(
    request: Request,
    name: ConnectorPath,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    tenant_id: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """A connector's service check, or a tenant's verdict. Only the former may be public."""
    site = site_of(request)
    public = tenant_id is None and site.parts.settings.api_public_badges
    if not public:
        asked = await caller(request, bearer, None)
        if tenant_id is not None:
            await seen(request, tenant_id, asked)
    status = await site.registry.health_check(name, tenant_id=tenant_id)
    if status.reason is Reason.NOT_CONFIGURED:
        raise NotConfigured("there is no such connector of this tenant, or it is not yours to see")
    picture = drawn(status)
    headers = {"ETag": f'"{sha256(picture.encode()).hexdigest()[:16]}"', "Cache-Control": "no-cache"}
    if public:
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(picture, headers=headers, media_type="image/svg+xml")


def drawn(status: HealthStatus) -> str:
    """The picture: the connector's name, and its status as shape and word."""
    word = status.status.value
    left = round(len(status.connector) * _LETTER + 2 * _PAD)
    right = round(len(word) * _LETTER + 2 * _PAD + 15)
    told = f"{status.connector}: {word}" + ("" if status.reason is Reason.OK else f", {status.reason.value}")
    colour = _COLOURS[status.status]
    text = 'y="14" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" fill="#fff"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f"aria-label={quoteattr(told)}><title>{escape(told)}</title>"
        f'<rect width="{left + right}" height="20" rx="4" fill="{colour}"/>'
        f'<path d="M4 0h{left - 4}v20H4a4 4 0 0 1-4-4V4a4 4 0 0 1 4-4z" fill="#3b4450"/>'
        f'<text x="{_PAD}" {text} textLength="{left - 2 * _PAD}">{escape(status.connector)}</text>'
        f'<path transform="translate({left + _PAD - 1} 4)" d="{_SHAPES[status.status]}" fill="none" stroke="#fff" '
        f'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>'
        f'<text x="{left + _PAD + 15}" {text} textLength="{right - 2 * _PAD - 15}">{word}</text></svg>'
    )
