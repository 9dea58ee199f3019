"""Our own canary: an address of the operator's that works whenever our network does.

A check that cannot reach its vendor asks it; when the canary is out of reach too, the vendor is not to blame.
"""

from __future__ import annotations

import asyncio

import aiohttp

from registry.clock import steady

KEEP = 3.0
"""Seconds one answer stands for; short, because a verdict waits for it only when something fails."""


class Canary:
    """Is our own network working? One question at a time, whoever asks.

    Args:
        url: any HTTP answer below 500 from here counts as alive; None: there is no canary, and it never fails.
        timeout: seconds.
    """

    def __init__(self, url: str | None, *, timeout: float = 3.0) -> None:
        self._url, self.timeout = url, timeout
        self._asking: asyncio.Task[bool] | None = None
        self._alive, self._asked = True, float("-inf")

    async def alive(self) -> bool:
        """Does the canary answer? Asked at most once in `KEEP` seconds."""
        if self._url is None:
            return True
        if steady() - self._asked < KEEP:
            return self._alive
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(self._url))
        return await asyncio.shield(self._asking)

    async def _ask(self, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        try:
            # A session of its own: a kept connection would hide that new ones cannot be made.
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                self._alive = answer.status < 500
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):  # ValueError: no such name can be
            self._alive = False
        finally:
            self._asked, self._asking = steady(), None
        return self._alive
