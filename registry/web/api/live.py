"""Transitions as they happen: server-sent events, or long-polls for who cannot hold a stream.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from registry.clock import steady
from registry.errors import NotConfigured
from registry.feed import News, as_dict
from registry.roles import Right
from registry.watch import Gap, Transition
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Caller, OfTenant, may, within
from registry.web.problems import too_many
from registry.web.site import Site, site_of

router = APIRouter(prefix="/v1", tags=["transitions"])

QUIET = 15.0
"""Seconds without news after which a comment keeps proxies from closing the stream, and the token is looked at anew."""

LOOK = 0.1
"""Seconds within which transitions come together in one answer of a long-poll."""

MOST = 1_000
"""Transitions of one such answer."""

Resume = Annotated[str | None, Header(max_length=64, description="Where to go on: the `id` of the last event.")]
After = Annotated[str | None, Query(max_length=64, description="Where to go on: an earlier answer's `after`.")]
Wait = Annotated[float, Query(ge=0, le=25, description="Seconds to wait for news, at most.")]


@router.get("/transitions/stream", response_class=EventSourceResponse, responses=failures(403))
async def everybody(
    request: Request, asked: Annotated[Caller, Depends(may(Right.READ))], last_event_id: Resume = None
) -> AsyncIterator[ServerSentEvent]:
    """Every tenant's transitions, and incidents: events `transition`, `incident`, and `gap` (read everything anew)."""
    async for event in _events(request, asked, None, last_event_id):
        yield event


@router.get("/tenants/{tenant}/transitions/stream", response_class=EventSourceResponse, responses=failures(403, 404))
async def one_tenant(
    request: Request, of: Annotated[OfTenant, Depends(within(Right.READ))], last_event_id: Resume = None
) -> AsyncIterator[ServerSentEvent]:
    """One tenant's transitions: events `transition`, and `gap` (read its verdicts anew)."""
    async for event in _events(request, of.caller, of.tenant, last_event_id):
        yield event


@router.get("/tenants/{tenant}/transitions", responses={200: {"model": schemas.TransitionPoll}, **failures(403, 404)})
async def poll(
    request: Request, of: Annotated[OfTenant, Depends(within(Right.READ))], after: After = None, wait: Wait = 0
) -> Response:
    """One tenant's transitions after `after`: at once if there are some, else when there are, or after `wait`."""
    site = site_of(request)
    if not await site.parts.cache.configured(of.tenant):
        raise NotConfigured("there is no such tenant, or it is not yours to see")
    items: list[dict[str, object]] = []
    ends = steady() + wait
    async with aclosing(site.feed.listen(of.tenant, after=after, quiet=LOOK)) as news:
        async for one in news:
            if isinstance(one, Gap):
                return answer({"items": [], "gap": True, "after": await site.feed.now(of.tenant)})
            if isinstance(one, Transition):
                items.append(as_dict(one))
                after = one.position
            if len(items) >= MOST or (one is None and (items or steady() >= ends)):
                break
    return answer({"items": items, "gap": False, "after": after})


async def _events(
    request: Request, asked: Caller, tenant: str | None, after: str | None
) -> AsyncIterator[ServerSentEvent]:
    site, looked = site_of(request), steady()
    with _held(site, asked):
        yield ServerSentEvent(comment="transitions follow", retry=2_000)
        async with aclosing(site.feed.listen(tenant, after=after, quiet=QUIET)) as news:
            async for one in news:
                if steady() - looked >= QUIET:
                    looked = steady()
                    if not await _still(site, asked):
                        return
                yield ServerSentEvent(comment="nothing new") if one is None else _event(one)


@contextmanager
def _held(site: Site, asked: Caller) -> Iterator[None]:
    """One token may hold half of the streams there can be. Raises `Problem` (429) beyond that."""
    if site.streams[asked.grant.id] >= site.parts.settings.api_connections // 2:
        raise too_many(QUIET)
    site.streams[asked.grant.id] += 1
    try:
        yield
    finally:
        site.streams[asked.grant.id] -= 1


async def _still(site: Site, asked: Caller) -> bool:
    """Is the token that a stream was opened with valid still?"""
    return await site.parts.access.by_id(asked.grant.id) == asked.grant


def _event(news: News) -> ServerSentEvent:
    if isinstance(news, Gap):
        return ServerSentEvent(event="gap", data={})
    kind = "transition" if isinstance(news, Transition) else "incident"
    return ServerSentEvent(event=kind, id=news.position, data=as_dict(news))
