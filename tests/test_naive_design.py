"""The faults of the naive design (a dict of factories, a dict of instances keyed ``name:tenant``, a dict as cache).

Each test is named after the fault that must not be here. Two faults are of a web API and are tested with it: one sick
connector that turns the whole endpoint to 503, and a GET of health that calls vendors without authentication.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.bootstrap import Parts
from registry.connector import ConnectorConfig, ConnectorMetadata, SecretRef
from registry.errors import (
    ConflictError,
    IncompatibleConnector,
    InvalidConfig,
    InvalidId,
    NotConfigured,
    SecretNotFound,
    StoreUnavailable,
    UnknownConnector,
)
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.ids import Pair, encoded
from registry.settings import Settings
from registry.stores.firestore import FirestoreStore
from tests.fixtures_redis import RedisServer
from tests.fixtures_replicas import Replicas, ended
from tests.plugin import Plugin, plugin_config
from worker.metrics import shard_families
from worker.snapshot import whole_snapshot

ROOT = Path(__file__).parent.parent


@pytest.fixture
async def reg(replica: Replicas) -> ConnectorRegistry:
    return await replica()


async def configured(reg: ConnectorRegistry, tenant: str = "acme", **settings: str | bool) -> None:
    await reg.set_config("plugin", plugin_config(**settings), tenant_id=tenant, actor="test")


async def got(reg: ConnectorRegistry, tenant: str = "acme", **overrides: object) -> Plugin:
    connector = await reg.get("plugin", tenant_id=tenant, config=overrides or None, skip_health_check=True)
    assert isinstance(connector, Plugin)
    return connector


async def test_unregister_leaves_no_tenant_instances_behind(reg: ConnectorRegistry) -> None:
    for tenant in ("acme", "globex"):
        await configured(reg, tenant)
    instances = [await got(reg, tenant) for tenant in ("acme", "globex")]
    await reg.unregister("plugin")
    assert [await ended(instance) for instance in instances] == [True, True]
    reg.register("plugin", Plugin)
    assert await got(reg) is not instances[0]


async def test_a_b_and_c_do_not_collide_with_a_and_b_c(reg: ConnectorRegistry) -> None:
    with pytest.raises(InvalidId):
        reg.register("plugin:acme", Plugin)
    await configured(reg, "acme:eu", mode="eu")
    await configured(reg, "acme", mode="main")
    assert [(await got(reg, tenant)).config.settings["mode"] for tenant in ("acme:eu", "acme")] == ["eu", "main"]


async def test_an_override_config_is_not_cached_for_everybody(reg: ConnectorRegistry) -> None:
    await configured(reg)
    special = await got(reg, settings={"mode": "special"})
    assert special.config.settings == {"mode": "special"}
    assert (await got(reg)).config.settings == {}
    await special.aclose()


async def test_an_override_cannot_change_tenant_id(reg: ConnectorRegistry) -> None:
    await configured(reg)
    await configured(reg, "globex")
    with pytest.raises(InvalidConfig, match="cannot change the tenant"):
        await got(reg, tenant_id="globex")


async def test_what_is_handed_out_cannot_be_given_another_credential(reg: ConnectorRegistry) -> None:
    await configured(reg)
    connector = await got(reg)
    for target, name in ((connector.config, "auth"), (connector.config.auth, "token")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, "another")
    connector.config.settings["mode"] = "mine"
    await configured(reg, "globex")
    assert (await got(reg, "globex")).config.settings == {}, "and nothing of it is shared"


async def test_a_merge_does_not_drop_half_of_auth(reg: ConnectorRegistry) -> None:
    oauth = {"auth": {"type": "oauth2", "access_token": "env://TOKEN", "expires_at": 5}}
    reg.register("oauth", _make, manifest=_manifest(auth_methods=("oauth2",)))
    await reg.set_config("oauth", oauth, tenant_id="acme", actor="test")
    special = await reg.get("oauth", tenant_id="acme", config={"auth": {"access_token": "another"}})
    assert isinstance(special, Plugin)
    assert special.config.auth.type == "oauth2"
    assert special.config.auth.expires_at == 5
    await special.aclose()


async def test_a_changed_configuration_invalidates_here_and_on_another_replica(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configured(here)
    instances = [await got(here), await got(there)]
    await configured(here, mode="new")
    assert [await ended(instance) for instance in instances] == [True, True]
    assert [(await got(reg)).config.settings for reg in (here, there)] == [{"mode": "new"}] * 2


async def test_two_concurrent_gets_do_not_build_twice(reg: ConnectorRegistry) -> None:
    await configured(reg)
    instances = await asyncio.gather(*[got(reg) for _ in range(20)])
    assert len(set(map(id, instances))) == len(Plugin.made) == 1


class Gated(Plugin):
    """A plugin whose construction waits until it is let through."""

    building, gate = asyncio.Event(), asyncio.Event()

    @classmethod
    async def make(cls, config: ConnectorConfig) -> Plugin:
        cls.building.set()
        await cls.gate.wait()
        return cls(config)


@pytest.fixture
async def gated(reg: ConnectorRegistry) -> AsyncIterator[ConnectorRegistry]:
    Gated.building, Gated.gate = asyncio.Event(), asyncio.Event()
    await reg.unregister("plugin")
    reg.register("plugin", Gated.make, manifest=Plugin.manifest)
    await configured(reg, mode="old")
    yield reg
    Gated.gate.set()


async def test_a_get_that_races_unregister_does_not_resurrect_the_old_instance(gated: ConnectorRegistry) -> None:
    racing = asyncio.create_task(got(gated))
    await Gated.building.wait()
    await gated.unregister("plugin")
    Gated.gate.set()
    with pytest.raises(UnknownConnector):
        await racing
    assert await ended(Plugin.made[-1])


async def test_a_get_that_races_set_config_does_not_resurrect_the_old_instance(gated: ConnectorRegistry) -> None:
    racing = asyncio.create_task(got(gated))
    await Gated.building.wait()
    await configured(gated, mode="new")
    Gated.gate.set()
    assert (await racing).config.settings == {"mode": "new"}
    assert await got(gated) is await racing
    assert [plugin.config.settings["mode"] for plugin in Plugin.made if not plugin.closed] == ["new"]


async def test_there_is_an_lru_an_idle_limit_and_an_aclose(replica: Replicas) -> None:
    few, short, whole = await replica(instance_capacity=1), await replica(instance_idle=0.05), await replica()
    for tenant in ("acme", "globex"):
        await configured(few, tenant)
    least_recent = await got(few, "acme")
    await got(few, "globex")
    idle, kept = await got(short), await got(whole)
    assert await ended(least_recent)
    assert await ended(idle)
    await whole._instances.aclose()
    assert kept.closed


async def test_metadata_needs_no_instance_and_no_tenant(reg: ConnectorRegistry) -> None:
    metadata = await reg.get_metadata("plugin")
    assert (metadata.title, Plugin.made) == ("Plugin", [])


async def test_get_version_does_not_depend_on_load_order(reg: ConnectorRegistry) -> None:
    before = {name: reg.get_version(name) for name in reg.list()}
    await configured(reg)
    await got(reg)
    assert {name: reg.get_version(name) for name in reversed(reg.list())} == before


@pytest.mark.parametrize(
    ("framework", "fits"), [(">=0.1,<1", True), (">=v0.1", True), ("~=0.1", True), (">=99", False), ("one", False)]
)
async def test_versions_are_compared_as_versions(reg: ConnectorRegistry, framework: str, *, fits: bool) -> None:
    reg.register("other", Plugin, manifest=_manifest(framework=framework))
    assert await reg.is_compatible("other") is fits
    if not fits:
        with pytest.raises(IncompatibleConnector):
            await reg.get("other", tenant_id="acme")


def test_importing_the_module_builds_no_firestore_client() -> None:
    code = "import sys, registry; registry.create_registry; print('google.cloud.firestore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_replicas_do_not_disagree(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configured(here, reason="quota_low")
    told = await here.health_check("plugin", tenant_id="acme", max_age=0)
    heard = await there.health_check("plugin", tenant_id="acme")
    assert (heard.reason, heard.version) == (Reason.QUOTA_LOW, told.version)


async def test_failures_are_cached_so_that_an_outage_is_no_stampede(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configured(here, reason="vendor_error")
    Plugin.asked = 0
    for _ in range(3):
        asked = [reg.health_check("plugin", tenant_id="acme", max_age=60) for reg in (here, there) * 10]
        assert {status.reason for status in await asyncio.gather(*asked)} == {Reason.VENDOR_ERROR}
    assert Plugin.asked == 1


async def test_health_check_all_is_one_read_however_many_connectors_hang(
    reg: ConnectorRegistry, redis_server: RedisServer
) -> None:
    await configured(reg, hang=True)
    await reg.health_check_all(tenant_id="acme")
    with redis_server.client() as client:
        before = client.info("commandstats")
        page = await reg.health_check_all(tenant_id="acme")
        after = client.info("commandstats")
    assert set(page) == set(reg.list())
    assert _calls(after, "mget") - _calls(before, "mget") == 1
    assert _calls(after, "get") == _calls(before, "get")


async def test_no_tenant_does_not_mean_an_empty_configuration(reg: ConnectorRegistry) -> None:
    await configured(reg)
    with pytest.raises(InvalidId):
        await reg.get("plugin", tenant_id=None)  # type: ignore[arg-type]  # what an untyped caller may do
    with pytest.raises(InvalidId):
        await reg.get("plugin", tenant_id="")
    assert not (await reg.health_check("plugin", tenant_id=None)).healthy


async def test_not_configured_and_the_store_is_down_are_two_errors(replica: Replicas, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("this is no database, " * 100)
    up, down = await replica(), await replica(sqlite_path=notes)
    with pytest.raises(NotConfigured):
        await got(up)
    with pytest.raises(StoreUnavailable):
        await got(down)


async def test_configurations_are_not_overwritten_blindly(reg: ConnectorRegistry) -> None:
    first = await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="ann", expected=0)
    second = await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="bob", expected=first.revision)
    assert (second.revision, second.actor) == (2, "bob")
    with pytest.raises(ConflictError):
        await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="eve", expected=first.revision)


async def test_no_token_is_in_clear_text_in_the_store(reg: ConnectorRegistry, settings: Settings) -> None:
    await configured(reg)
    await reg._parts.store.aclose()
    assert b"plugin-token-1" not in settings.sqlite_path.read_bytes()
    with sqlite3.connect(settings.sqlite_path) as connection:
        documents = connection.execute("SELECT document FROM configs UNION SELECT document FROM revisions").fetchall()
    connection.close()
    assert documents
    assert all("enc://" in document for (document,) in documents)


async def test_no_raw_ids_are_in_document_paths(firestore_host: str) -> None:
    store = FirestoreStore(project="naive-paths")
    tenants = ["a.b", "a:b", "a_b", "a@b"]
    try:
        for tenant in tenants:
            await store.set_config(Pair("git.hub", tenant), _bearer(tenant), actor="test")
        stored = [await store.get_config(Pair("git.hub", tenant)) for tenant in tenants]
        assert [str(dict(found.config.secrets())["token"]) for found in stored] == [
            f"env://{encoded(tenant)}" for tenant in tenants
        ]
    finally:
        await store.aclose()


async def test_tenants_can_be_enumerated_although_no_parent_was_written(firestore_host: str) -> None:
    store = FirestoreStore(project="naive-parents")
    try:
        for tenant in ("acme", "globex"):
            await store.set_config(Pair("github", tenant), _bearer(tenant), actor="test")
        assert (await store.list_tenants()).items == ("acme", "globex")
    finally:
        await store.aclose()


async def test_listing_connectors_downloads_no_secret(parts: Parts) -> None:
    await parts.store.set_config(Pair("github", "acme"), _bearer("unset"), actor="test")
    with pytest.raises(SecretNotFound):
        await parts.secrets.resolve(Pair("github", "acme"), _bearer("unset"))
    assert await parts.store.list_connectors("acme") == ["github"]


async def test_a_gauge_does_not_stay_1_when_the_check_raises_nor_live_on_after_removal(reg: ConnectorRegistry) -> None:
    async def gauge() -> list[float]:
        families = shard_families(await whole_snapshot(reg._parts))
        samples = [sample for family in families for sample in family.samples]
        return [
            sample.value
            for sample in samples
            if sample.name == "registry_connector_health" and sample.labels.get("tenant_id") == "acme"
        ]

    await configured(reg)
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    assert await gauge() == [1.0]
    await configured(reg, bug="raises")
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    assert await gauge() == [-1.0]
    await reg.delete_config("plugin", tenant_id="acme", actor="test")
    assert await gauge() == []


def _make(config: ConnectorConfig) -> Plugin:
    return Plugin(config)


def _manifest(**changed: object) -> ConnectorMetadata:
    return Plugin.manifest.model_copy(update=changed)


def _bearer(tenant: str) -> ConnectorConfig:
    return ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": SecretRef(f"env://{encoded(tenant)}")}})


def _calls(stats: dict[str, dict[str, int]], command: str) -> int:
    return stats.get(f"cmdstat_{command}", {}).get("calls", 0)
