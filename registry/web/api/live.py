"""Transitions as they happen: server-sent events, or long-polls for who cannot hold a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import lru_cache
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response

from registry.clock import steady
from registry.errors import NotConfigured
from registry.feed import IncidentChange, as_dict
from registry.roles import Right
from registry.watch import Gap, Transition
from registry.web.api import schemas
from registry.web.api.answers import Documented, answer, failures
from registry.web.guard import LONG, Caller, OfTenant, holding, may, within
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1", tags=["transitions"])

QUIET = 15.0
"""Seconds without news after which a comment keeps proxies from closing the stream, and the token is looked at anew."""

LOOK = 0.1
"""Seconds within which transitions come together in one answer of a long-poll."""

MOST = 1_000
"""Transitions of one such answer."""

NOTHING = format_sse_event(comment="nothing new")
GAP = format_sse_event(event="gap", data_str="{}")

SENT_ON = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""A proxy is to pass each event on at once."""

STREAM: Documented = {
    200: {
        "description": "events, until the client goes",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
HELD = [Depends(holding)]

Resume = Annotated[str | None, Header(max_length=128, description="Where to go on: the `id` of the last event.")]
After = Annotated[str | None, Query(max_length=128, description="Where to go on: an earlier answer's `after`.")]
Wait = Annotated[float, Query(ge=0, le=LONG, description="Seconds to wait for news, at most.")]


@router.get("/transitions/stream", responses=STREAM | failures(403), dependencies=HELD)
async def everybody(
    request: Request, asked: Annotated[Caller, Depends(may(Right.READ))], last_event_id: Resume = None
) -> EventSourceResponse:
    """Every tenant's transitions, and incidents: events `transition`, `incident`, and `gap` (read everything anew)."""
    return EventSourceResponse(_events(site_of(request), asked, None, last_event_id), headers=SENT_ON)


@router.get("/tenants/{tenant}/transitions/stream", responses=STREAM | failures(403, 404), dependencies=HELD)
async def one_tenant(
    request: Request, of: Annotated[OfTenant, Depends(within(Right.READ))], last_event_id: Resume = None
) -> EventSourceResponse:
    """One tenant's transitions: events `transition`, and `gap` (read its verdicts anew)."""
    return EventSourceResponse(_events(site_of(request), of.caller, of.tenant, last_event_id), headers=SENT_ON)


@router.get(
    "/tenants/{tenant}/transitions",
    responses={200: {"model": schemas.TransitionPoll}, **failures(403, 404)},
    dependencies=HELD,
)
async def poll(
    request: Request, of: Annotated[OfTenant, Depends(within(Right.READ))], after: After = None, wait: Wait = 0
) -> Response:
    """One tenant's transitions after `after`: at once if there are some, else when there are, or after `wait`."""
    site = site_of(request)
    if not await site.parts.cache.configured(of.tenant):
        raise NotConfigured("there is no such tenant, or it is not yours to see")
    items: list[dict[str, object]] = []
    ends, bookmarks = steady() + wait, site.feed.bookmarks
    await bookmarks.refresh()
    position = bookmarks.open(of.tenant, after) if after else None
    async with aclosing(site.feed.listen(of.tenant, after=position, quiet=LOOK)) as news:
        async for one in news:
            if isinstance(one, Gap):
                position = await site.feed.now(of.tenant)
                return answer({"items": [], "gap": True, "after": bookmarks.seal(of.tenant, position)})
            if isinstance(one, Transition):
                items.append(as_dict(one))
                position = one.position
            if len(items) >= MOST or (one is None and (items or steady() >= ends)):
                break
    return answer({"items": items, "gap": False, "after": position and bookmarks.seal(of.tenant, position)})


async def _events(site: Site, asked: Caller, tenant: str | None, after: str | None) -> AsyncIterator[bytes]:
    bookmarks, looked = site.feed.bookmarks, steady()
    if tenant is not None:
        await bookmarks.refresh()
        after = bookmarks.open(tenant, after) if after else None
    yield format_sse_event(comment="transitions follow", retry=2_000)
    async with aclosing(site.feed.listen(tenant, after=after, quiet=QUIET)) as news:
        async for one in news:
            if steady() - looked >= QUIET:
                looked = steady()
                if not await _still(site, asked):
                    return
            if one is None or isinstance(one, Gap):
                yield NOTHING if one is None else GAP
            else:
                yield _event(one, one.position if tenant is None else bookmarks.seal(tenant, one.position))


async def _still(site: Site, asked: Caller) -> bool:
    """Is the token that a stream was opened with valid still?"""
    return await site.parts.access.by_id(asked.grant.id) == asked.grant


def _event(news: Transition | IncidentChange, id_: str) -> bytes:
    kind = "transition" if isinstance(news, Transition) else "incident"
    spelled = _spelled(news) if isinstance(news, Transition) else _encoded(news)
    return format_sse_event(event=kind, id=id_, data_str=spelled)


@lru_cache(maxsize=1_000)
def _spelled(news: Transition) -> str:
    """A transition as JSON: once for all who hear of it."""
    return _encoded(news)


def _encoded(news: Transition | IncidentChange) -> str:
    return msgspec.json.encode(as_dict(news)).decode()
