"""Two tenants that share a shard, at demo vendors, behind one API: what its tests are about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse, ClientTimeout

from registry import keys
from registry.audit import Action
from registry.bootstrap import Parts
from registry.health import Reason
from registry.ids import Pair
from registry.recording import Outcome
from registry.roles import Role
from registry.stores import StoredConfig
from tests.fixtures_history import verdict
from tests.fixtures_vendors import demo_config
from tests.fixtures_web import Api
from worker.demo.tenants import tenant_name
from worker.demo.vendors import DemoVendors

OWN, NOBODY = "acme-01", "nobody-01"
SHARDS = 4
FOREIGN = next(
    name for name in map(tenant_name, range(2, 99)) if keys.shard_of(name, SHARDS) == keys.shard_of(OWN, SHARDS)
)
"""Another tenant of the same shard."""


@dataclass
class World:
    """An API, and what stands behind it. `OWN` and `FOREIGN` have GitHub and Slack configured."""

    api: Api
    vendors: DemoVendors
    tokens: dict[tuple[Role, str | None], str] = field(default_factory=dict)

    async def token(self, role: Role = Role.ADMIN, tenant: str | None = None) -> str:
        """A token of this role and scope; the same each time."""
        if (role, tenant) not in self.tokens:
            self.tokens[role, tenant] = await self.api.token(role, tenant)
        return self.tokens[role, tenant]

    async def ask(
        self, method: str, path: str, role: Role = Role.ADMIN, tenant: str | None = None, **more: Any
    ) -> Told:
        """One request with the token of a role and scope."""
        return await told(await self.api.ask(method, path, await self.token(role, tenant), **more))

    def config(self, connector: str = "github", tenant: str = OWN) -> dict[str, object]:
        """A configuration that works, with a clear token."""
        return demo_config(connector, self.vendors, int(tenant.rpartition("-")[2]))

    async def record(self, reason: Reason, connector: str = "github", tenant: str = OWN) -> None:
        """Let a check of a pair have ended so."""
        await record(self.api.parts, Pair(connector, tenant), reason)

    async def audited(self, action: Action) -> list[dict[str, Any]]:
        """What is in the audit log of this kind."""
        rows = [row.as_dict() for row in await self.api.parts.audit.sink.records()]
        return [row for row in rows if row["action"] == action.value]

    @asynccontextmanager
    async def stream(
        self, path: str, token: str, *, after: str | None = None, api: Api | None = None
    ) -> AsyncIterator[Stream]:
        """An open stream of events."""
        headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": after} if after else {})
        served = api or self.api
        async with served.http.get(served.url + path, headers=headers, timeout=ClientTimeout(sock_read=20)) as answer:
            yield Stream(answer)


@dataclass
class Told:
    """An answer that was read."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.text)


async def told(answer: ClientResponse) -> Told:
    """What an answer says."""
    return Told(answer.status, answer.headers, await answer.text())


@dataclass
class Event:
    """One server-sent event."""

    kind: str = ""
    id: str = ""
    data: str = ""

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.data)


@dataclass
class Stream:
    """Reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""

    answer: ClientResponse

    async def next(self) -> Event | None:
        """The next event that is no comment; None at the end."""
        event, said = Event(), False
        async for line in self.answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if not name and not value and said:
                return event
            match name:
                case "event":
                    event.kind, said = value, True
                case "id":
                    event.id = value
                case "data":
                    event.data, said = value, True
        return None

    async def begun(self) -> None:
        """Wait until it is told that all that follows is told; as the reader of Redis may begin anew, twice."""
        event = await self.next()
        assert event is not None
        assert event.kind == "gap"

    async def transition(self) -> Event:
        """The next transition."""
        while (event := await self.next()) is not None and event.kind == "gap":
            pass
        assert event is not None
        assert event.kind == "transition"
        return event


async def record(parts: Parts, pair: Pair, reason: Reason) -> None:
    """Record a check that ended so."""
    task = await parts.schedule.task(pair)
    assert task is not None
    found = verdict(reason, parts.clock.now_ms() / 1000)
    await parts.recorder.record([Outcome(task, found, parts.checker.endpoint(task.scheduled))])


async def furnished(api: Api, vendors: DemoVendors) -> World:
    """The world before anything happens in it."""
    assert api.parts.settings.shards == SHARDS
    world = World(api, vendors)
    for tenant in (OWN, FOREIGN):
        for connector in ("github", "slack"):
            pair = Pair(connector, tenant)
            await api.parts.configurations.set(pair, world.config(connector, tenant), actor="test")
    return world


async def soon(answer: asyncio.Future[Told] | asyncio.Task[Told]) -> Told:
    """An answer that is to come by itself."""
    async with asyncio.timeout(15):
        return await answer


def sealed(stored: StoredConfig) -> str:
    """The sealed token of a stored configuration."""
    ((_, reference),) = stored.config.secrets()
    return str(reference)
