"""A connector of the tests' own: what it finds is said by its configuration, so no vendor is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from registry.check import CheckSession
from registry.connector import ConnectorConfig, ConnectorMetadata
from registry.errors import CheckFailed, InvalidConfig
from registry.health import Reason


class Plugin:
    """Checks out as ``settings.reason`` says, after ``settings.seconds``; ``settings.hang`` makes it wait for ever."""

    manifest: ClassVar[ConnectorMetadata] = ConnectorMetadata(
        name="plugin",
        version="1.2.0",
        title="Plugin",
        default_base_url="https://plugin.example.com",
        auth_methods=("bearer",),
        steps=("auth",),
        documentation="https://plugin.example.com/docs",
    )
    actions: ClassVar[Mapping[Reason, str]] = {Reason.QUOTA_LOW: "Ask the plugin's tenant for more."}
    made: ClassVar[list[Plugin]] = []
    asked: ClassVar[int] = 0
    """How many checks were begun."""
    started: ClassVar[asyncio.Event] = asyncio.Event()

    def __init__(self, config: ConnectorConfig) -> None:
        self.config, self.ended = config, asyncio.Event()
        Plugin.made.append(self)

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    @classmethod
    def validate(cls, config: ConnectorConfig) -> None:
        if config.auth.type != "bearer":
            raise InvalidConfig(f"auth.type: {config.auth.type} is not supported, use bearer")

    async def check(self, session: CheckSession) -> None:
        Plugin.started.set()
        Plugin.asked += 1
        with session.step("auth"):
            if self.config.settings.get("hang"):
                await asyncio.Event().wait()
            await asyncio.sleep(float(str(self.config.settings.get("seconds", 0))))
            if self.config.settings.get("bug"):
                raise ZeroDivisionError(str(self.config.settings["bug"]))
            reason = Reason(str(self.config.settings.get("reason", "ok")))
            if reason is not Reason.OK:
                raise CheckFailed(reason, f"the plugin says {reason.value}")

    @classmethod
    async def check_service(cls, session: CheckSession, base_url: str) -> None:
        with session.step("api"):
            session.note(base_url=base_url)

    async def aclose(self) -> None:
        assert not self.closed, "closed twice"
        self.ended.set()


def plugin_config(**settings: str | bool) -> dict[str, object]:
    """A configuration of `Plugin` with a clear token, as a caller would give it."""
    return {"auth": {"type": "bearer", "token": "plugin-token-1"}, "settings": settings}
