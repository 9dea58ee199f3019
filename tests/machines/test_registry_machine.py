"""Two replicas of the registry against a simple model: what is registered, what is configured, what is in use."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry.announcing import Announcement
from registry.bootstrap import assemble
from registry.connector import ConnectorConfig
from registry.errors import DuplicateConnector, NotConfigured, UnknownConnector
from registry.facade import ConnectorRegistry
from registry.ids import Pair
from registry.instances import Instance
from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.fixtures_replicas import SOON
from tests.plugin import Plugin

T = TypeVar("T")
NAMES, TENANTS = ("plugin", "other"), ("acme", "globex")


class Slow(Plugin):
    """A plugin whose construction waits at the gate."""

    gate = asyncio.Event()

    @classmethod
    async def make(cls, config: ConnectorConfig) -> Plugin:
        await cls.gate.wait()
        return cls(config)


@dataclass
class Replica:
    """One registry, and what it has heard of the others."""

    registry: ConnectorRegistry
    registered: set[str] = field(default_factory=set)
    heard: asyncio.Queue[Announcement | None] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True)
class Use:
    """A use that has not ended."""

    replica: int
    instance: Instance


class RegistryMachine(RuleBasedStateMachine):
    """What is configured is told by the plugins' settings: which pair, and a number that grows with every change."""

    uses = Bundle("uses")
    replicas = st.integers(0, 1)
    names = st.sampled_from(NAMES)
    tenants = st.sampled_from(TENANTS)

    def __init__(self, server: RedisServer, configured: Settings) -> None:
        super().__init__()
        with server.client() as client:
            client.flushall()
        Plugin.made.clear()
        self.folder = Path(tempfile.mkdtemp(prefix="cr-machine-"))
        self.settings = configured.model_copy(
            update={
                "sqlite_path": self.folder / "registry.db",
                "secrets_dir": self.folder / "secrets",
                "instance_grace": 0.0,
                "instance_capacity": 3,
            }
        )
        self.loop = asyncio.new_event_loop()
        self.configs: dict[Pair, int] = {}
        self.tokens = dict.fromkeys(TENANTS, 0)
        self.changes, self.held = 0, list[Use]()
        for tenant in TENANTS:
            self.write_token(tenant)
        self.replica = [self.run(self.started()) for _ in range(2)]
        Slow.gate = asyncio.Event()  # of this story's loop
        Slow.gate.set()
        for name in NAMES:
            for tenant in TENANTS:
                self.run(self.configure(self.replica[0], Pair(name, tenant)))

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def started(self) -> Replica:
        parts = assemble(self.settings)
        made = Replica(ConnectorRegistry(parts))
        await parts.announcements.start()
        parts.announcements.hear(made.heard.put_nowait)
        for name in NAMES:
            self.enter(made, name)
        return made

    def enter(self, replica: Replica, name: str) -> None:
        replica.registry.register(name, Slow.make, manifest=Plugin.manifest)
        replica.registered.add(name)

    def teardown(self) -> None:
        for replica in self.replica:
            self.run(replica.registry.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)
        assert all(plugin.closed for plugin in Plugin.made)

    # Connectors come and go

    @rule(replica=replicas, name=names)
    def register(self, replica: int, name: str) -> None:
        here = self.replica[replica]
        if name in here.registered:
            with pytest.raises(DuplicateConnector):
                here.registry.register(name, Plugin)
        else:
            self.enter(here, name)

    @precondition(lambda self: self.changes % 3 == 0)
    @rule(replica=replicas, name=names)
    def unregister(self, replica: int, name: str) -> None:
        here = self.replica[replica]
        if name not in here.registered:
            with pytest.raises(UnknownConnector):
                self.run(here.registry.unregister(name))
            return
        self.heard_by_all(replica, here.registry.unregister(name), Announcement(name))
        for one in self.replica:
            one.registered.discard(name)

    # Configurations change

    @rule(replica=replicas, name=names, tenant=tenants)
    def set_config(self, replica: int, name: str, tenant: str) -> None:
        here, pair = self.replica[replica], Pair(name, tenant)
        if name not in here.registered:
            with pytest.raises(UnknownConnector):
                self.run(self.configure(here, pair))
            return

        async def change() -> None:
            await self.configure(here, pair)
            await self.checked(self.replica[1 - replica], pair)  # before it has heard of it, or after

        self.heard_by_all(replica, change(), Announcement(*pair))

    async def configure(self, here: Replica, pair: Pair) -> None:
        number = self.changes + 1
        config = {
            "auth": {"type": "bearer", "token": "file://token"},
            "settings": {"pair": str(pair), "number": number},
        }
        await here.registry.set_config(pair.connector, config, tenant_id=pair.tenant, actor="test")
        self.changes = self.configs[pair] = number

    @rule(replica=replicas, name=names, tenant=tenants)
    def delete_config(self, replica: int, name: str, tenant: str) -> None:
        here, pair = self.replica[replica], Pair(name, tenant)
        if pair not in self.configs:
            with pytest.raises(NotConfigured):
                self.run(here.registry.delete_config(name, tenant_id=tenant, actor="test"))
            return
        del self.configs[pair]
        deleted = here.registry.delete_config(name, tenant_id=tenant, actor="test")
        self.heard_by_all(replica, deleted, Announcement(*pair))

    @rule(replica=replicas, name=names, tenant=tenants)
    def rotate(self, replica: int, name: str, tenant: str) -> None:
        self.tokens[tenant] += 1
        self.write_token(tenant)
        for each in NAMES:
            rotated = self.replica[replica].registry.rotate(each, tenant_id=tenant)
            self.heard_by_all(replica, rotated, Announcement(each, tenant))

    def write_token(self, tenant: str) -> None:
        folder = self.settings.secrets_dir / tenant
        folder.mkdir(parents=True, exist_ok=True)
        Path(folder / "token").write_text(f"token-{tenant}-{self.tokens[tenant]}")

    # Connectors are used

    @rule(replica=replicas, name=names, tenant=tenants)
    def get(self, replica: int, name: str, tenant: str) -> None:
        self.run(self.checked(self.replica[replica], Pair(name, tenant)))

    async def checked(self, here: Replica, pair: Pair) -> None:
        got = here.registry.get(pair.connector, tenant_id=pair.tenant, skip_health_check=True)
        if pair.connector not in here.registered:
            with pytest.raises(UnknownConnector):
                await got
        elif pair not in self.configs:
            with pytest.raises(NotConfigured):
                await got
        else:
            self.is_current(await got, pair)

    def is_current(self, connector: object, pair: Pair) -> None:
        assert isinstance(connector, Plugin)
        assert connector.config.settings == {"pair": str(pair), "number": self.configs[pair]}
        token = dict(connector.config.secrets())["token"].get_secret_value()  # type: ignore[union-attr]  # resolved
        assert token == f"token-{pair.tenant}-{self.tokens[pair.tenant]}"

    @rule(replica=replicas, name=names, tenant=tenants, callers=st.integers(1, 3), gone=st.booleans())
    def get_while_it_changes(self, replica: int, name: str, tenant: str, callers: int, *, gone: bool) -> None:
        """Whoever races a change gets what was or what is; whoever comes after it, what is."""
        here, pair = self.replica[replica], Pair(name, tenant)
        if name not in here.registered or pair not in self.configs:
            return

        async def race() -> None:
            before = self.configs[pair]
            Slow.gate.clear()
            gets = [
                asyncio.create_task(here.registry.get(name, tenant_id=tenant, skip_health_check=True))
                for _ in range(callers)
            ]
            await asyncio.wait(gets, timeout=0.01)  # those who need a construction are at the gate
            if gone:
                await here.registry.unregister(name)
            else:
                await self.configure(here, pair)
            Slow.gate.set()
            for got in await asyncio.gather(*gets, return_exceptions=True):
                if isinstance(got, Plugin):
                    assert got.config.settings["number"] in {before, self.configs[pair]}
                else:
                    assert gone
                    assert isinstance(got, UnknownConnector)

        self.heard_by_all(replica, race(), Announcement(name) if gone else Announcement(*pair))
        if gone:
            for one in self.replica:
                one.registered.discard(name)
        self.get(replica, name, tenant)

    @rule(target=uses, replica=replicas, name=names, tenant=tenants)
    def begin_use(self, replica: int, name: str, tenant: str) -> Use | None:
        here, pair = self.replica[replica], Pair(name, tenant)
        if name not in here.registered or pair not in self.configs:
            return None
        use = Use(replica, self.run(here.registry._held(pair)))
        self.is_current(use.instance.connector, pair)
        self.held.append(use)
        return use

    @rule(use=consumes(uses))
    def end_use(self, use: Use | None) -> None:
        if use is not None:
            self.held.remove(use)
            instances = self.replica[use.replica].registry._instances
            self.run(_ended(instances.give_back, use.instance))

    # What always holds

    @invariant()
    def what_is_in_use_is_open_and_what_is_open_is_current_or_in_use(self) -> None:
        for replica in self.replica:
            self.run(replica.registry._instances.settle())
        in_use = {id(use.instance.connector) for use in self.held}
        for plugin in Plugin.made:
            if id(plugin) in in_use:
                assert not plugin.closed
            elif not plugin.closed:
                pair = Pair.parse(str(plugin.config.settings["pair"]))
                assert any(pair.connector in replica.registered for replica in self.replica)
                self.is_current(plugin, pair)

    @invariant()
    def there_are_no_more_than_fit(self) -> None:
        in_use = {id(use.instance.connector) for use in self.held}
        spare = [plugin for plugin in Plugin.made if not plugin.closed and id(plugin) not in in_use]
        assert len(spare) <= 2 * self.settings.instance_capacity

    def heard_by_all(self, replica: int, work: Coroutine[object, object, object], what: Announcement) -> None:
        """Do `work` in one replica; the other hears of it soon."""
        for each in self.replica:
            while not each.heard.empty():
                each.heard.get_nowait()
        self.run(self._heard(self.replica[1 - replica], work, what))

    async def _heard(self, other: Replica, work: Coroutine[object, object, object], what: Announcement) -> None:
        async with asyncio.timeout(SOON):
            await work
            while (
                (told := await other.heard.get()) is None or told.pair != what.pair or told.connector != what.connector
            ):
                pass


async def _ended(give_back: object, instance: Instance) -> None:
    assert callable(give_back)
    give_back(instance)


@pytest.mark.timeout(600)  # passes in seconds; when it fails, the story is first made short
def test_two_replicas_are_what_the_model_says(redis_server: RedisServer, settings: Settings) -> None:
    class Here(RegistryMachine):
        def __init__(self) -> None:
            super().__init__(redis_server, settings)

    run_state_machine_as_test(Here, settings=CHECKED)


CHECKED = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
