"""What a configuration may be: refused with advice on write and on load, and shown as JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import SecretStr, ValidationError

from registry.bootstrap import Parts
from registry.catalog import Catalog
from registry.configuring import parse_config
from registry.connector import (
    BearerAuth,
    BreakingChange,
    ConnectorConfig,
    ConnectorMetadata,
    SecretRef,
    ServiceAccountAuth,
)
from registry.connectors import CONNECTORS
from registry.errors import InvalidConfig
from registry.facade import ConnectorRegistry
from registry.health import Reason
from registry.ids import Pair
from registry.schedule import Scheduled
from registry.validation import config_schema
from tests.plugin import Plugin, plugin_config
from worker.demo.tenants import demo_tenants

ACME = Pair("github", "acme")
BEARER = {"type": "bearer", "token": "env://TOKEN"}


@pytest.mark.parametrize(
    ("connector", "document", "told"),
    [
        ("gitlab", {"auth": BEARER, "base_ulr": "https://x"}, "base_ulr: no such field, did you mean base_url?"),
        ("github", {"auth": {**BEARER, "tokn": "x"}}, "auth.bearer.tokn: no such field, did you mean token?"),
        (
            "github",
            {"auth": BEARER, "settings": {"required_scope": ["repo"]}},
            "settings.required_scope: no such field, did you mean required_scopes?",
        ),
        ("github", {"auth": BEARER, "xyzzy": 1}, "xyzzy: no such field, there are: auth, base_url, budget, interval"),
        ("linear", {"auth": BEARER, "settings": {"team": "a"}}, "settings.team: no such field"),
        ("vertex", {"auth": BEARER}, "auth.type: Vertex AI takes service_account or oauth2, not bearer"),
        (
            "vertex",
            {"auth": {"type": "oauth2", "access_token": "env://T"}, "settings": {"project": "demo-1", "locaton": "x"}},
            "settings.location: Field required; settings.locaton: no such field, did you mean location?",
        ),
    ],
)
def test_what_is_wrong_is_told_by_field_with_what_was_probably_meant(
    parts: Parts, connector: str, document: dict[str, object], told: str
) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parts.configurations.validate(Pair(connector, "acme"), document)
    assert told in str(refused.value)
    assert f"tenant acme, connector {connector}: " in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"label": "\ud800"},
        {"settings": {"a": "\ud800"}},
        {"settings": {"a": float("inf")}},
        {"settings": {"a": 10**5000}},
        {"settings": {"a": json.loads("[" * 200 + "]" * 200)}},
    ],
    ids=range(5),
)
def test_what_would_not_be_read_back_is_refused_as_plain_data_and_as_an_object(changed: dict[str, Any]) -> None:
    made = ConnectorConfig(auth=BearerAuth(token=SecretRef("env://TOKEN"))).model_copy(update=changed)
    for document in (made, {"auth": BEARER, **changed}):
        with pytest.raises(InvalidConfig, match=f"connector github: {next(iter(changed))}"):
            parse_config(ACME, document)


async def test_a_stored_configuration_that_the_connector_cannot_use_is_misconfigured_not_healthy(parts: Parts) -> None:
    wrong = ConnectorConfig(auth=ServiceAccountAuth(key=SecretRef("env://KEY")))
    verdict = await parts.checker.check(Scheduled(ACME, 1, wrong))
    assert verdict.reason is Reason.MISCONFIGURED
    assert "auth.type: GitHub takes bearer or oauth2 or github_app" in (verdict.error or "")


async def test_a_stored_configuration_that_the_connector_cannot_use_is_not_handed_out(parts: Parts) -> None:
    await parts.store.set_config(
        ACME, ConnectorConfig(auth=ServiceAccountAuth(key=SecretRef("env://KEY"))), actor="another tool"
    )
    with pytest.raises(InvalidConfig, match=r"auth\.type"):
        await ConnectorRegistry(parts).get("github", tenant_id="acme", skip_health_check=True)


async def test_a_dry_run_checks_what_it_is_given_and_leaves_no_trace(parts: Parts) -> None:
    parts.catalog.register("plugin", Plugin)
    registry = ConnectorRegistry(parts)
    for reason in ("ok", "credential_rejected"):
        status = await registry.dry_run("plugin", plugin_config(reason=reason), tenant_id="acme")
        assert status.reason.value == reason
        assert [step.name for step in status.checks] == ["auth"]
    assert not status.stale
    assert await parts.store.list_connectors("acme") == []
    assert (await registry.health_check("plugin", tenant_id="acme")).checked_ms is None
    assert await parts.redis.keys() == []


async def test_a_dry_run_is_not_answered_by_what_is_stored(parts: Parts) -> None:
    parts.catalog.register("plugin", Plugin)
    registry = ConnectorRegistry(parts)
    await registry.set_config("plugin", plugin_config(), tenant_id="acme", actor="ann")
    await registry.health_check("plugin", tenant_id="acme", max_age=0)
    tried = await registry.dry_run("plugin", plugin_config(reason="not_found"), tenant_id="acme")
    assert tried.reason is Reason.NOT_FOUND
    assert (await registry.health_check("plugin", tenant_id="acme", max_age=0)).reason is Reason.OK


@pytest.mark.parametrize("name", sorted(CONNECTORS))
def test_the_schema_of_a_connector_admits_what_the_connector_admits(name: str) -> None:
    loaded = Catalog(CONNECTORS).load(name)
    schema = config_schema(loaded.manifest)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = demo_tenants(1, "https://vendors.example.com")["tenants"]["acme-01"][name]
    jsonschema.validate(good, schema)
    loaded.validate(ConnectorConfig.model_validate(good))
    spoilt: list[dict[str, Any]] = [
        {**good, "base_ulr": "https://x"},
        {**good, "auth": {"type": "bearer"}},
        {**good, "settings": {"nonsense": 1}},
        {**good, "interval": 0},
    ]
    for document in spoilt:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, schema)


def test_the_schema_names_the_accepted_auth_methods_only() -> None:
    for name in CONNECTORS:
        manifest = Catalog(CONNECTORS).load(name).manifest
        auth = config_schema(manifest)["properties"]["auth"]
        assert set(auth["discriminator"]["mapping"]) == set(manifest.auth_methods)
        assert len(auth["oneOf"]) == len(manifest.auth_methods)


def test_a_secret_of_a_refused_configuration_is_not_in_the_message() -> None:
    with pytest.raises(ValidationError) as refused:
        ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": SecretStr("t"), "s3cret-value": 1}, "x": 1})
    assert "SecretStr" not in str(refused.value)


def manifest(**changes: object) -> ConnectorMetadata:
    return ConnectorMetadata.model_validate(Plugin.manifest.model_dump() | changes)


def test_what_is_deprecated_says_from_when_and_what_to_use_instead() -> None:
    advice = {"date": "2027-01-01", "advice": "Use acme-tracker."}
    assert manifest(maturity="deprecated", deprecation=advice).deprecation
    for changes in ({"maturity": "deprecated"}, {"deprecation": advice}):
        with pytest.raises(ValidationError, match="belong together"):
            manifest(**changes)


def test_a_manifest_tells_its_breaking_changes_with_what_to_do() -> None:
    change = {"version": "2.0.0", "change": "project is a number", "migration": "Replace settings.project."}
    made = manifest(breaking_changes=[change])
    assert made.breaking_changes == (BreakingChange.model_validate(change),)
    assert made.model_dump(mode="json")["breaking_changes"] == [change]


def test_a_manifest_names_known_auth_methods_only() -> None:
    with pytest.raises(ValidationError, match="auth_methods"):
        manifest(auth_methods=["password"])
