import asyncio
from collections.abc import AsyncIterator

import pytest

import registry
from registry.bootstrap import Parts
from registry.errors import (
    ConflictError,
    ConnectorUnhealthy,
    DuplicateConnector,
    InvalidConfig,
    InvalidId,
    NotConfigured,
    UnknownConnector,
)
from registry.facade import ConnectorRegistry
from registry.health import Fault, Reason, Status
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Replaced connectors are closed at once unless they are in a counted use."""
    return settings.model_copy(update={"instance_grace": 0.0})


@pytest.fixture
async def reg(parts: Parts) -> AsyncIterator[ConnectorRegistry]:
    Plugin.made.clear()
    made = ConnectorRegistry(parts)
    made.register("plugin", Plugin)
    yield made
    await made._instances.aclose()


async def configured(reg: ConnectorRegistry, tenant: str = "acme", **settings: str | bool) -> None:
    await reg.set_config("plugin", plugin_config(**settings), tenant_id=tenant, actor="test")


async def test_the_five_connectors_are_there(reg: ConnectorRegistry) -> None:
    assert reg.list() == ["github", "gitlab", "linear", "plugin", "slack", "vertex"]
    assert reg.has("slack")
    assert not reg.has("jira")


async def test_a_duplicate_name_is_refused(reg: ConnectorRegistry) -> None:
    with pytest.raises(DuplicateConnector, match="plugin"):
        reg.register("plugin", Plugin)


async def test_a_name_outside_the_alphabet_is_refused(reg: ConnectorRegistry) -> None:
    with pytest.raises(InvalidId):
        reg.register("Plugin:1", Plugin)


async def test_metadata_and_version_come_from_the_manifest(reg: ConnectorRegistry) -> None:
    assert reg.get_version("plugin") == "1.2.0"
    assert (await reg.get_metadata("plugin")).title == "Plugin"
    assert Plugin.made == []


async def test_compatibility_is_a_range_of_framework_versions(reg: ConnectorRegistry) -> None:
    assert await reg.is_compatible("plugin")
    reg.register("future", Plugin, manifest=Plugin.manifest.model_copy(update={"framework": ">=99"}))
    assert not await reg.is_compatible("future")


async def test_an_unknown_connector_is_told_with_what_there_is(reg: ConnectorRegistry) -> None:
    with pytest.raises(UnknownConnector, match="github, gitlab"):
        await reg.health_check("jira", tenant_id="acme")


async def test_a_pair_is_checked_on_demand_and_then_read_from_the_cache(reg: ConnectorRegistry) -> None:
    await configured(reg)
    assert (await reg.health_check("plugin", tenant_id="acme")).reason is Reason.NOT_CHECKED
    status = await reg.health_check("plugin", tenant_id="acme", max_age=60)
    assert (status.status, [step.name for step in status.checks]) == (Status.HEALTHY, ["auth"])
    again = await reg.health_check("plugin", tenant_id="acme", max_age=60)
    assert again.version == status.version
    assert len(Plugin.made) == 1


async def test_max_age_zero_always_checks(reg: ConnectorRegistry) -> None:
    await configured(reg)
    versions = [(await reg.health_check("plugin", tenant_id="acme", max_age=0)).version for _ in range(3)]
    assert versions == sorted(set(versions))


async def test_concurrent_demands_are_one_check(reg: ConnectorRegistry) -> None:
    await configured(reg)
    demands = [reg.health_check("plugin", tenant_id="acme", max_age=60) for _ in range(20)]
    statuses = await asyncio.gather(*demands)
    assert {status.status for status in statuses} == {Status.HEALTHY}
    assert len(Plugin.made) == 1


async def test_a_connectors_bug_is_our_fault_and_says_no_detail(reg: ConnectorRegistry) -> None:
    await configured(reg, bug="secret-detail")
    status = await reg.health_check("plugin", tenant_id="acme", max_age=0)
    assert (status.status, status.reason, status.fault) == (Status.UNKNOWN, Reason.MONITOR_ERROR, Fault.PLATFORM)
    assert "ZeroDivisionError" in str(status.error)
    assert "secret-detail" not in str(status.as_dict())


async def test_all_connectors_of_a_tenant_come_at_once(reg: ConnectorRegistry) -> None:
    await reg._parts.reconciler.run()
    await configured(reg)
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    page = await reg.health_check_all(tenant_id="acme")
    assert page["plugin"].healthy
    assert page["slack"].reason is Reason.NOT_CONFIGURED
    assert await reg.get_healthy(tenant_id="acme") == ["plugin"]


async def test_the_service_check_needs_no_tenant(reg: ConnectorRegistry) -> None:
    await reg._parts.reconciler.run()
    status = await reg.health_check("plugin", max_age=0)
    assert (status.tenant_id, status.healthy, status.metadata["base_url"]) == (None, True, "https://plugin.example.com")


async def test_no_tenant_never_means_a_tenant(reg: ConnectorRegistry) -> None:
    await configured(reg)
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    assert not (await reg.health_check("plugin")).healthy


async def test_get_hands_out_one_instance_a_tenant(reg: ConnectorRegistry) -> None:
    await configured(reg, "acme")
    await configured(reg, "globex")
    first, again, other = [await reg.get("plugin", tenant_id=t) for t in ("acme", "acme", "globex")]
    assert first is again
    assert first is not other


async def test_two_concurrent_gets_build_once(reg: ConnectorRegistry) -> None:
    await configured(reg)
    instances = await asyncio.gather(*[reg.get("plugin", tenant_id="acme") for _ in range(10)])
    assert len(set(map(id, instances))) == 1
    assert len(Plugin.made) == 1


async def test_get_resolves_the_secret_that_was_sealed(reg: ConnectorRegistry) -> None:
    await configured(reg)
    stored = await reg.get_config("plugin", tenant_id="acme")
    assert dict(stored.config.secrets())["token"].startswith("enc://")  # type: ignore[union-attr]  # a reference
    instance = await reg.get("plugin", tenant_id="acme")
    assert isinstance(instance, Plugin)
    token = dict(instance.config.secrets())["token"]
    assert token.get_secret_value() == "plugin-token-1"  # type: ignore[union-attr]  # resolved


async def test_get_refuses_what_is_unhealthy_and_says_what_to_do(reg: ConnectorRegistry) -> None:
    await configured(reg, reason="credential_rejected")
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    with pytest.raises(ConnectorUnhealthy, match="Ask the tenant") as caught:
        await reg.get("plugin", tenant_id="acme")
    assert caught.value.status.reason is Reason.CREDENTIAL_REJECTED
    assert isinstance(await reg.get("plugin", tenant_id="acme", skip_health_check=True), Plugin)


async def test_an_override_is_merged_deeply_and_shared_with_nobody(reg: ConnectorRegistry) -> None:
    await configured(reg, reason="ok")
    special = await reg.get("plugin", tenant_id="acme", config={"settings": {"mode": "fast"}})
    usual = await reg.get("plugin", tenant_id="acme")
    assert isinstance(special, Plugin)
    assert isinstance(usual, Plugin)
    assert special.config.settings == {"reason": "ok", "mode": "fast"}
    assert special.config.auth == usual.config.auth
    assert usual.config.settings == {"reason": "ok"}


async def test_an_override_cannot_change_the_tenant(reg: ConnectorRegistry) -> None:
    await configured(reg)
    with pytest.raises(InvalidConfig, match="cannot change the tenant"):
        await reg.get("plugin", tenant_id="acme", config={"tenant_id": "globex"})


async def test_a_changed_configuration_gives_a_new_instance_and_closes_the_old(reg: ConnectorRegistry) -> None:
    await configured(reg)
    old = await reg.get("plugin", tenant_id="acme")
    await configured(reg, mode="new")
    new = await reg.get("plugin", tenant_id="acme")
    assert isinstance(old, Plugin)
    assert isinstance(new, Plugin)
    assert old.closed
    assert new.config.settings == {"mode": "new"}


async def test_unregister_closes_every_tenants_instance(reg: ConnectorRegistry) -> None:
    for tenant in ("acme", "globex"):
        await configured(reg, tenant)
        await reg.get("plugin", tenant_id=tenant)
    await reg.unregister("plugin")
    assert all(instance.closed for instance in Plugin.made)
    with pytest.raises(UnknownConnector):
        await reg.get("plugin", tenant_id="acme")


async def test_a_tenant_without_configuration_is_told_so(reg: ConnectorRegistry) -> None:
    with pytest.raises(NotConfigured):
        await reg.get("plugin", tenant_id="acme")


async def test_a_configuration_is_not_overwritten_blindly(reg: ConnectorRegistry) -> None:
    await configured(reg)
    with pytest.raises(ConflictError):
        await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="test", expected=0)


async def test_a_wrong_configuration_names_tenant_connector_and_field(reg: ConnectorRegistry) -> None:
    with pytest.raises(InvalidConfig, match=r"tenant acme, connector plugin: auth\.bearer\.token"):
        await reg.set_config("plugin", {"auth": {"type": "bearer"}}, tenant_id="acme", actor="test")


async def test_a_wrong_configuration_does_not_show_the_secret(reg: ConnectorRegistry) -> None:
    with pytest.raises(InvalidConfig) as caught:
        await reg.set_config(
            "plugin",
            {"auth": {"type": "bearer", "token": "t0p-secret", "more": "t0p-secret"}},
            tenant_id="acme",
            actor="t",
        )
    assert "t0p-secret" not in str(caught.value)


async def test_a_deleted_configuration_is_gone_at_once(reg: ConnectorRegistry) -> None:
    await configured(reg)
    await reg.health_check("plugin", tenant_id="acme", max_age=0)
    await reg.delete_config("plugin", tenant_id="acme", actor="test")
    assert (await reg.health_check("plugin", tenant_id="acme")).reason is Reason.NOT_CONFIGURED
    with pytest.raises(NotConfigured):
        await reg.get("plugin", tenant_id="acme", skip_health_check=True)


async def test_route_takes_the_first_usable_and_explains_the_others(reg: ConnectorRegistry) -> None:
    reg.register("backup", Plugin)
    reg.register("third", Plugin)
    for name, reason in (("plugin", "credential_rejected"), ("backup", "quota_low"), ("third", "ok")):
        await reg.set_config(name, plugin_config(reason=reason), tenant_id="acme", actor="test")
        await reg.health_check(name, tenant_id="acme", max_age=0)
    route = await reg.route(["plugin", "backup", "third"], tenant_id="acme")
    assert route.connector == "third"
    assert "credential_rejected" in route.refused["plugin"]
    assert "quota_low" in route.refused["backup"]
    assert not await reg.route(["plugin"], tenant_id="acme")


async def test_the_default_registry_is_lazy_and_one() -> None:
    assert registry.default is registry.default
    assert {"ConnectorRegistry", "HealthView", "create_registry"} <= set(dir(registry))
    with pytest.raises(AttributeError):
        registry.nothing  # noqa: B018 - the look-up is what is tested
