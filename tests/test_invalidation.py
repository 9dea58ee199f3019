"""What changes in one replica is so in every other: two registries on parts of their own, as in two processes."""

import asyncio
from pathlib import Path

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.check import CheckSession
from registry.errors import CacheUnavailable, NotConfigured, StoreUnavailable, UnknownConnector
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.ids import Pair
from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.fixtures_replicas import Replicas, ended, forgotten
from tests.plugin import Plugin, plugin_config

ACME = Pair("plugin", "acme")
FILE = {"auth": {"type": "bearer", "token": "file://token"}}


async def configure(reg: ConnectorRegistry, **settings: str) -> None:
    await reg.set_config("plugin", plugin_config(**settings), tenant_id="acme", actor="test")


async def got(reg: ConnectorRegistry) -> Plugin:
    connector = await reg.get("plugin", tenant_id="acme", skip_health_check=True)
    assert isinstance(connector, Plugin)
    return connector


def token(connector: Plugin) -> str:
    return dict(connector.config.secrets())["token"].get_secret_value()  # type: ignore[union-attr]  # resolved


def write(settings: Settings, secret: str) -> None:
    folder = settings.secrets_dir / "acme"
    folder.mkdir(parents=True, exist_ok=True)
    Path(folder / "token").write_text(secret)


async def test_a_changed_configuration_closes_the_instance_of_every_replica(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configure(here)
    old = await got(there)
    await configure(here, mode="new")
    assert await ended(old), "without any call there"
    assert (await got(there)).config.settings == {"mode": "new"}


async def test_a_get_right_after_the_change_is_new_even_before_the_announcement_is_heard(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configure(here)
    await got(there)
    for n in range(20):
        await configure(here, mode=str(n))
        assert (await got(there)).config.settings == {"mode": str(n)}


async def test_a_deleted_configuration_ends_in_every_replica(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configure(here)
    old = await got(there)
    await here.delete_config("plugin", tenant_id="acme", actor="test")
    assert await ended(old)
    with pytest.raises(NotConfigured):
        await got(there)


async def test_an_unregistered_connector_ends_in_every_replica_and_only_that(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    for reg in (here, there):
        reg.register("other", Plugin)
    await configure(here)
    await here.set_config("other", plugin_config(), tenant_id="acme", actor="test")
    old, other = await got(there), await there.get("other", tenant_id="acme")
    await here.unregister("plugin")
    assert await ended(old)
    with pytest.raises(UnknownConnector):
        await got(there)
    assert await there.get("other", tenant_id="acme") is other


async def test_who_registers_again_is_not_reached_by_its_own_announcement(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configure(here)
    await got(here)
    await forgotten(there._parts, here.unregister("plugin"))
    here.register("plugin", Plugin)
    again = await got(here)
    await forgotten(here._parts, there.set_config("slack", _slack(), tenant_id="acme", actor="test"))
    assert await got(here) is again


async def test_a_connector_that_is_registered_anew_is_checked_by_its_new_code(replica: Replicas) -> None:
    class Better(Plugin):
        async def check(self, session: CheckSession) -> None:
            session.warn(Reason.QUOTA_LOW, "the new code looks closer")

    here = await replica()
    await configure(here)
    assert (await here.health_check("plugin", tenant_id="acme", max_age=0)).reason is Reason.OK
    await here.unregister("plugin")
    here.register("plugin", Better)
    assert (await here.health_check("plugin", tenant_id="acme", max_age=0)).reason is Reason.QUOTA_LOW


async def test_a_rotated_secret_is_read_again_in_every_replica(replica: Replicas, settings: Settings) -> None:
    here, there = await replica(), await replica()
    write(settings, "old")
    await here.set_config("plugin", FILE, tenant_id="acme", actor="test")
    old = await got(there)
    write(settings, "new")
    await here.rotate("plugin", tenant_id="acme")
    assert await ended(old)
    assert [token(await got(reg)) for reg in (here, there)] == ["new", "new"]


async def test_a_rotated_secret_is_read_again_by_the_workers(
    replica: Replicas, settings: Settings, parts: Parts
) -> None:
    here = await replica()
    write(settings, "old")
    stored = await here.set_config("plugin", FILE, tenant_id="acme", actor="test")

    async def resolved() -> str:
        secrets = (await parts.secrets.resolve(ACME, stored.config)).secrets()
        return dict(secrets)["token"].get_secret_value()  # type: ignore[union-attr]  # resolved

    assert await resolved() == "old"
    write(settings, "new")
    assert await resolved() == "old", "kept"
    assert await forgotten(parts, here.rotate("plugin", tenant_id="acme"))
    assert await resolved() == "new"


async def test_a_rotated_secret_voids_the_verdict_and_is_checked_at_once(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configure(here)
    await here.health_check("plugin", tenant_id="acme", max_age=0)
    late = await there._parts.schedule.task(ACME)
    await here.rotate("plugin", tenant_id="acme")
    assert (await there.health_check("plugin", tenant_id="acme")).reason is Reason.NOT_CHECKED
    claims = await there._parts.schedule.claim({"plugin": 10})
    assert [claim.tenants for claim in claims] == [("acme",)]
    assert late is not None
    assert late.previous is not None
    assert claims[0].fence > late.fence, "a result that was under way with the old secret comes too late"


async def test_a_secret_that_was_refused_is_read_again_by_the_next_who_asks(
    replica: Replicas, settings: Settings
) -> None:
    here = await replica()
    write(settings, "old")
    await here.set_config("plugin", FILE, tenant_id="acme", actor="test")
    assert token(await got(here)) == "old"
    write(settings, "new")
    await configure_reason(here, "credential_rejected")
    assert token(await got(here)) == "new"


async def configure_reason(reg: ConnectorRegistry, reason: str) -> None:
    await reg.set_config("plugin", {**FILE, "settings": {"reason": reason}}, tenant_id="acme", actor="test")
    await reg.health_check("plugin", tenant_id="acme", max_age=0)


async def test_a_changed_credential_stops_routing_at_once_and_a_changed_label_does_not(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await here._parts.reconciler.run()
    await configure(here)
    await here.health_check("plugin", tenant_id="acme", max_age=0)
    assert await there.get_healthy(tenant_id="acme") == ["plugin"]

    stored = await here.get_config("plugin", tenant_id="acme")
    labelled = stored.config.model_copy(update={"label": "main"})
    await here.set_config("plugin", labelled, tenant_id="acme", actor="test")
    assert await there.get_healthy(tenant_id="acme") == ["plugin"]
    assert (await there.route(["plugin"], tenant_id="acme")).connector == "plugin"

    await configure(here)
    assert (await there.health_check("plugin", tenant_id="acme")).reason is Reason.NOT_CHECKED
    assert await there.get_healthy(tenant_id="acme") == []
    assert not await there.route(["plugin"], tenant_id="acme")


async def test_what_may_have_been_missed_is_forgotten(replica: Replicas, redis_server: RedisServer) -> None:
    here = await replica(redis_timeout=0.2)
    await configure(here)
    old = await got(here)
    with redis_server.client() as client:
        client.flushall()
    assert await ended(old)


async def test_replicas_hear_again_after_redis_was_away(replica: Replicas, redis_server: RedisServer) -> None:
    here, there = await replica(redis_timeout=0.2), await replica(redis_timeout=0.2)
    await configure(here)
    old = await got(there)
    redis_server.kill()
    redis_server.start()
    assert await ended(old), "its data is lost, and with it perhaps a change"
    current = await got(there)
    await configure(here, mode="new")
    assert await ended(current)


async def test_a_change_that_redis_never_heard_of_holds_where_it_was_made(
    replica: Replicas, redis_server: RedisServer
) -> None:
    here = await replica(redis_timeout=0.2, read_timeout=0.2)
    await configure(here)
    await got(here)
    redis_server.kill()
    await configure(here, mode="new")
    assert (await got(here)).config.settings == {"mode": "new"}
    with pytest.raises(CacheUnavailable):
        await here.rotate("plugin", tenant_id="acme")
    redis_server.start()
    assert (await got(here)).config.settings == {"mode": "new"}


async def test_while_the_store_is_away_connectors_are_handed_out_as_scheduled(
    replica: Replicas, settings: Settings
) -> None:
    link = settings.sqlite_path.with_name("here.db")
    link.symlink_to(settings.sqlite_path)
    here, there = await replica(sqlite_path=link), await replica()
    await configure(there)
    current = await got(here)
    link.unlink()
    link.write_text("this is no database, " * 100)
    with pytest.raises(StoreUnavailable):
        await here.get_config("plugin", tenant_id="acme")
    assert await got(here) is current
    await configure(there, mode="new")
    assert (await got(here)).config.settings == {"mode": "new"}
    with pytest.raises(StoreUnavailable):
        await here.get("plugin", tenant_id="globex", skip_health_check=True)


async def test_the_announcements_of_a_shard_are_bounded(replica: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "CHANGES_CAP", 10)
    here, there = await replica(), await replica()
    await configure(here)
    old = await got(there)
    config = (await here.get_config("plugin", tenant_id="acme")).config
    for n in range(300):
        await here._parts.schedule.put(ACME, n + 10, config, reset=False)
    stream = keys.changes(here._parts.schedule.shard(ACME))
    assert await here._parts.redis.xlen(stream) < 250
    assert await ended(old)


async def test_reading_health_follows_nothing(replica: Replicas) -> None:
    here = await replica()
    await here.health_check_all(tenant_id="acme")
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "announcements"]


def _slack() -> dict[str, object]:
    return {"auth": {"type": "bearer", "token": "env://TOKEN"}}
