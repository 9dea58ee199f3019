"""How answers are made: JSON at once, without a detour through models, and conditional where there is a version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from fastapi import Request
from starlette.responses import Response

from registry.health import HealthStatus, Reason, Status
from registry.web.api.schemas import ProblemDetails

_encode = msgspec.json.Encoder().encode

Documented = dict[int | str, dict[str, object]]


def failures(*statuses: int) -> Documented:
    """The problem documents a route may answer, for OpenAPI; every route may answer 401, 422, 429 and 503."""
    schema = {"content": {"application/problem+json": {"schema": ProblemDetails.model_json_schema()}}}
    told = {400: "bad request", 401: "no valid token", 403: "not allowed", 404: "not there, or not yours to see"}
    told |= {
        409: "somebody else changed it",
        412: "another revision is stored",
        413: "too large",
        422: "cannot be used",
    }
    told |= {428: "a precondition is required", 429: "allowance used up", 503: "a server of ours is away"}
    return {status: {"description": told[status], **schema} for status in (400, 401, 422, 429, 503, *statuses)}


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(_encode(body), status, headers, media_type="application/json")


def conditional(request: Request, body: object, tag: str, status: int = 200) -> Response:
    """JSON with its ETag, or 304 where the client has it already."""
    if matches(request.headers.get("if-none-match"), tag):
        return unchanged(tag)
    return answer(body, status, _tagged(tag))


def unchanged(tag: str) -> Response:
    """304: what `tag` names is still what there is."""
    return Response(status_code=304, headers=_tagged(tag))


def _tagged(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache"}


def matches(header: str | None, tag: str) -> bool:
    """Does an ``If-None-Match`` (or ``If-Match``) name `tag`? https://www.rfc-editor.org/rfc/rfc9110#section-13.1"""
    if header is None:
        return False
    named = {part.strip().removeprefix("W/") for part in header.split(",")}
    return "*" in named or tag.removeprefix("W/") in named


def tag_of(status: HealthStatus) -> str:
    """The ETag of a verdict: another one with every check, and when it becomes stale or its maintenance begins."""
    words = (status.version, status.status.value, status.reason.value, bool(status.maintenance_until_ms))
    return f'W/"{"-".join(str(word) for word in words)}"'


def counted(statuses: Iterable[HealthStatus]) -> dict[str, int]:
    """How many are in which state."""
    counts = dict.fromkeys((status.value for status in Status), 0)
    for status in statuses:
        if status.reason is not Reason.NOT_CONFIGURED:
            counts[status.status.value] += 1
    return counts
