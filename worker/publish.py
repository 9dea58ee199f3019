"""Pushes snapshots to the Pushgateway: one group a shard, replaced as a whole, and one for the system itself.

A push makes the Pushgateway check everything it holds, so one group with many series is far cheaper than many groups.

The Pushgateway knows no fences, so the publisher keeps its own: a body is sent in pieces, and none once the lease may
have ended. A publisher that was stopped in the middle of a group spoils its body instead, so that the Pushgateway
refuses it, and never puts an older group over its successor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import cast
from urllib.error import URLError

import structlog
from prometheus_client import CollectorRegistry, push_to_gateway
from prometheus_client.exposition import default_handler

from registry.bootstrap import Parts
from registry.clock import steady
from worker.metrics import fresh_registry, platform_families, shard_families
from worker.snapshot import platform_snapshot, shard_snapshot, whole_snapshot

log = structlog.get_logger(__name__)

PLATFORM_SHARD = "platform"
"""The grouping value under which the system's own families are pushed."""

PIECE = 65_536
"""Bytes of a body between two looks at the lease."""

SPOILT = b"!"
"""What fits nowhere in a body: ending one early is not enough, the Pushgateway takes what ends with a line as whole."""


async def push(parts: Parts, ours_until: Callable[[], Awaitable[float]]) -> bool:
    """Replace every group; False when the lease was lost on the way or a push failed.

    `ours_until` is asked before each group: until when (`steady` seconds) the lease is certainly ours, 0 if it is not.
    """
    settings = parts.settings
    for shard in range(settings.shards):
        families = shard_families(await shard_snapshot(parts, shard), tenants=settings.metrics_tenants)
        if not await _put(parts, str(shard), fresh_registry(families), await ours_until()):
            return False
    families = platform_families(await platform_snapshot(parts))
    return await _put(parts, PLATFORM_SHARD, fresh_registry(families), await ours_until())


async def exposition(parts: Parts) -> CollectorRegistry:
    """The same content in one registry, for ``/metrics``."""
    families = list(shard_families(await whole_snapshot(parts), tenants=parts.settings.metrics_tenants))
    return fresh_registry([*families, *platform_families(await platform_snapshot(parts))])


async def _put(parts: Parts, shard: str, registry: CollectorRegistry, until: float) -> bool:
    settings = parts.settings
    assert settings.pushgateway_url is not None  # noqa: S101 - push() is not called without
    try:
        await asyncio.to_thread(
            push_to_gateway,
            settings.pushgateway_url,
            settings.pushgateway_job,
            registry,
            grouping_key={"shard": shard},
            timeout=settings.pushgateway_timeout,
            handler=partial(_handler, until),
        )
    except (URLError, OSError) as error:
        log.warning("push_failed", shard=shard, error=f"{type(error).__name__}: {error}")
        return False
    return True


def _handler(
    until: float, url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
) -> Callable[[], None]:
    """prometheus_client's own handler, which sends `data` only until `until`."""
    data = data or b"\n"  # of nothing at all the end could not be held back
    pieces = cast("bytes", _pieces(data, until))  # what urllib takes is wider than what prometheus_client promises
    return default_handler(url, method, timeout, [*headers, ("Content-Length", str(len(data)))], pieces)


def _pieces(data: bytes, until: float) -> Iterator[bytes]:
    """`data` piece by piece. Between a look at the clock and the sending of its piece lie microseconds only."""
    for start in range(0, len(data), PIECE):
        if steady() >= until:
            yield SPOILT
            raise TimeoutError("the publisher's lease has ended")
        yield data[start : start + PIECE]
