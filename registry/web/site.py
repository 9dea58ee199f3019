"""What every request finds at hand: the parts of this process, and the little it remembers between requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from fastapi import Request

from registry.connection import AWAY
from registry.errors import StoreUnavailable
from registry.facade import ConnectorRegistry
from registry.feed import Feed
from registry.survey import Surveyor
from registry.throttle import Allowance, Bucket
from registry.web.kept import Kept

if TYPE_CHECKING:
    from registry.bootstrap import Parts

log = structlog.get_logger(__name__)

DENIALS = Allowance(most=200, rate=1)
"""Refusals that one process writes down: who has many addresses or tokens fills no log either."""

Exposition = Callable[[], Awaitable[bytes]]
"""The text of ``/metrics``."""


@dataclass(slots=True)
class Site:
    """One per process. `exposition` makes ``/metrics``, which belongs to the workers' side; None: there is none."""

    parts: Parts
    exposition: Exposition | None = None
    registry: ConnectorRegistry = field(init=False)
    feed: Feed = field(init=False)
    surveyor: Surveyor = field(init=False)
    _exposing: asyncio.Future[bytes] | None = field(default=None, init=False)
    allowance: Allowance = field(init=False)
    held: Counter[str] = field(default_factory=Counter)
    """Streams and long-polls by token."""
    strangers: Bucket = field(default_factory=lambda: Bucket(DENIALS))
    known: Bucket = field(default_factory=lambda: Bucket(DENIALS))
    """How many more refusals, of nobody known and of tokens, are written down whether Redis answers or not."""
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        settings = self.parts.settings
        self.registry, self.feed, self.surveyor = ConnectorRegistry(self.parts), Feed(self.parts), Surveyor(self.parts)
        self.allowance = Allowance(settings.api_burst, settings.api_rate)

    async def open(self) -> None:
        """Bring the tokens into Redis, should it have lost them; without Redis or the store it begins all the same."""
        try:
            await self.parts.access.copy()
        except (*AWAY, StoreUnavailable) as error:
            log.warning("tokens_not_copied", error=type(error).__name__)

    async def exposed(self) -> bytes | None:
        """The text of ``/metrics``, made once for all who ask at a time; None: there is none. Raises `AWAY`."""
        if self.exposition is None:
            return None
        if self._exposing is None or self._exposing.done():
            self._exposing = asyncio.ensure_future(self.exposition())
        return await asyncio.shield(self._exposing)

    async def close(self) -> None:
        """End what runs in the background, and close every connection."""
        await self.feed.aclose()
        await self.surveyor.aclose()
        with suppress(*AWAY):
            await self.registry.aclose()


def site_of(request: Request) -> Site:
    """The site that serves a request."""
    site: Site = request.app.state.site
    return site
