"""Waiting for a condition: the one place where tests pass the time between two looks."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable

WAIT = 60.0
"""Seconds after which something does not come any more."""

EVERY = 0.05
"""Seconds between two looks."""


def eventually(what: str, done: Callable[[], object], within: float = WAIT) -> None:
    """Return as soon as `done`; fail when it stays undone."""
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(EVERY)


async def reached(what: str, done: Callable[[], object], within: float = WAIT) -> None:
    """As `eventually`, while the event loop goes on; what `done` returns may have to be awaited."""
    deadline = time.monotonic() + within
    while not (await found if inspect.isawaitable(found := done()) else found):
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(EVERY)
