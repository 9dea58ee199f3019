"""Several replicas of the registry on one Redis and one store, as in several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from registry.bootstrap import Parts, assemble
from registry.connector import Connector
from registry.facade import ConnectorRegistry
from registry.settings import Settings
from tests.plugin import Plugin

Replicas = Callable[..., Awaitable[ConnectorRegistry]]

SOON = 10.0
"""Seconds a test waits for what should happen at once, before it says that it does not."""


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Replicas]:
    """Makes one more replica that knows `Plugin`; `changed` are settings of its own."""
    Plugin.made.clear()
    async with AsyncExitStack() as stack:

        async def start(**changed: object) -> ConnectorRegistry:
            made = ConnectorRegistry(assemble(settings.model_copy(update={"instance_grace": 0.0, **changed})))
            stack.push_async_callback(made.aclose)
            made.register("plugin", Plugin)
            return made

        yield start


async def ended(connector: Connector) -> bool:
    """Wait until a plugin's instance is closed; False when it stays open."""
    assert isinstance(connector, Plugin)
    return await _happens(connector.ended)


async def forgotten(parts: Parts, act: Awaitable[object]) -> bool:
    """Do `act`, and wait until these parts have heard of it; False when they do not."""
    heard = asyncio.Event()
    await parts.announcements.start()
    parts.announcements.hear(lambda _: heard.set())
    await act
    return await _happens(heard)


async def _happens(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(SOON):
            return await event.wait()
    except TimeoutError:
        return False
