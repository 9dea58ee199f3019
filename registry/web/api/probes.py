"""Whether this process lives and can work, and its metrics. A sick connector is none of their business."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from registry.clock import steady
from registry.connection import AWAY
from registry.errors import CacheUnavailable
from registry.roles import Right
from registry.web.api import schemas
from registry.web.api.answers import answer, failures
from registry.web.guard import Caller, may
from registry.web.problems import Problem
from registry.web.site import site_of

router = APIRouter(tags=["probes"])


@router.get("/livez", responses={200: {"model": schemas.Alive}})
async def livez() -> Response:
    """The process answers. For liveness probes: it says nothing of Redis, and nothing of any connector."""
    return answer({"alive": True})


@router.get("/readyz", responses={200: {"model": schemas.Ready}, 503: {"model": schemas.Ready}})
async def readyz(request: Request) -> Response:
    """Redis answers, and it is known which tokens there are. For readiness probes and load balancers."""
    parts = site_of(request).parts
    try:
        asked = steady()
        parts.clock.calibrate(await parts.redis.time(), asked)
        redis = True
    except AWAY:
        redis = False
    tokens = await parts.access.known()
    return answer({"ready": redis and tokens, "redis": redis, "tokens": tokens}, 200 if redis and tokens else 503)


@router.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **failures(403, 404)},
    response_class=Response,
)
async def metrics(request: Request, _: Annotated[Caller, Depends(may(Right.READ))]) -> Response:
    """What the publisher pushes, for direct scraping, with a token. See docs/metrics.md."""
    try:
        text = await site_of(request).exposed()
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__}): old gauges are never served") from error
    if text is None:
        raise Problem(404, "no_metrics", "this process serves no metrics: `connectors metrics` does")
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
