"""Offboarding a tenant: nothing of it stays but the audit log and bare tombstones; its neighbours notice nothing."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.errors import NotConfigured
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.ids import Pair
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from worker.auditing import audit_transitions
from worker.publish import exposition

GONE, NEIGHBOUR = "acme", "acme.eu"


@pytest.fixture(params=["memory", "sqlite", "firestore"])
async def parts(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> AsyncIterator[Parts]:
    if request.param == "firestore":
        request.getfixturevalue("firestore_host")
    changes = {
        "config_store": request.param,
        "firestore_project": f"test-{uuid.uuid4().hex[:12]}",
        "audit_path": tmp_path / "audit.jsonl",
    }
    made = assemble(settings.model_copy(update=changes))
    made.catalog.register("plugin", Plugin)
    made.catalog.register("second", Plugin)
    registry = ConnectorRegistry(made)
    for tenant in (GONE, NEIGHBOUR):
        for name in ("plugin", "second"):
            await made.configurations.set(Pair(name, tenant), plugin_config(), actor="ann")
            await registry.health_check(name, tenant_id=tenant, max_age=0)
    yield made
    await made.aclose()


async def metrics(parts: Parts) -> str:
    return generate_latest(await exposition(parts)).decode()


async def test_configurations_history_schedule_verdicts_and_metrics_are_gone(parts: Parts) -> None:
    assert f'tenant_id="{GONE}"' in await metrics(parts)
    assert await parts.configurations.offboard(GONE, actor="bob") == 2
    assert await parts.store.list_connectors(GONE) == []
    assert await parts.store.history(Pair("plugin", GONE)) == []
    statuses = await parts.cache.statuses(GONE, ["plugin", "second"])
    assert {status.reason for status in statuses.values()} == {Reason.NOT_CONFIGURED}
    assert await parts.schedule.get([Pair("plugin", GONE)]) == [None]
    assert f'tenant_id="{GONE}"' not in await metrics(parts)


async def test_what_redis_keeps_of_it_says_nothing_and_ends_by_itself(parts: Parts) -> None:
    await parts.configurations.offboard(GONE, actor="bob")
    found = {str(key) for key in await parts.redis.keys("*") if str(key).endswith(f":{GONE}'")}
    tombstones = [keys.verdict(parts.schedule.shard(pair), pair) for pair in (PLUGIN, SECOND)]
    assert found == {str(key.encode()) for key in tombstones}
    for key in tombstones:
        assert '"k":"g"' in str(await parts.redis.get(key))
        assert await parts.redis.pttl(key) > 0


PLUGIN, SECOND = Pair("plugin", GONE), Pair("second", GONE)


async def test_a_neighbour_with_a_similar_name_keeps_everything(parts: Parts) -> None:
    await parts.configurations.offboard(GONE, actor="bob")
    assert await parts.store.list_connectors(NEIGHBOUR) == ["plugin", "second"]
    stored = await parts.store.get_config(Pair("plugin", NEIGHBOUR))
    assert dict((await parts.secrets.resolve(stored.pair, stored.config)).secrets())
    assert (await parts.cache.status(Pair("plugin", NEIGHBOUR))).reason is Reason.OK
    assert f'tenant_id="{NEIGHBOUR}"' in await metrics(parts)


async def test_it_is_audited_and_the_log_still_tells_what_was(parts: Parts) -> None:
    await audit_transitions(parts)
    await parts.configurations.offboard(GONE, actor="bob")
    records = [record.as_dict() for record in await parts.audit.sink.latest(tenant=GONE)]
    assert {record["action"] for record in records} == {
        "configured",
        "secret_resolved",
        "transition",
        "offboarded",
    }
    assert (records[-1]["action"], records[-1]["actor"], records[-1]["detail"]) == (
        "offboarded",
        "bob",
        {"configurations": 2},
    )


async def test_it_can_be_repeated_but_a_stranger_is_told_of(parts: Parts) -> None:
    await parts.configurations.offboard(GONE, actor="bob")
    assert await parts.configurations.offboard(GONE, actor="bob") == 0
    with pytest.raises(NotConfigured, match="stranger"):
        await parts.configurations.offboard("stranger", actor="bob")


async def test_a_tenant_that_comes_back_is_checked_again(parts: Parts) -> None:
    await parts.configurations.offboard(GONE, actor="bob")
    await parts.configurations.set(PLUGIN, plugin_config(), actor="ann")
    status = await ConnectorRegistry(parts).health_check("plugin", tenant_id=GONE, max_age=0)
    assert status.reason is Reason.OK


async def test_the_embedded_stores_file_no_longer_holds_its_sealed_secrets(settings: Settings) -> None:
    parts = assemble(settings)
    parts.catalog.register("plugin", Plugin)
    stored = [await parts.configurations.set(PLUGIN, plugin_config(), actor="ann") for _ in range(3)]
    sealed = [str(value).encode()[-24:] for row in stored for _, value in row.config.secrets()]
    assert all(reference in file_bytes(settings) for reference in sealed)
    await parts.configurations.offboard(GONE, actor="bob")
    assert not any(reference in file_bytes(settings) for reference in sealed)
    await parts.aclose()


def file_bytes(settings: Settings) -> bytes:
    """The database and its write-ahead log."""
    path = settings.sqlite_path
    return b"".join(part.read_bytes() for part in path.parent.glob(f"{path.name}*"))
