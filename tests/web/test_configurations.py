"""Configurations by HTTP: written over a revision that is known, tried out before, their secrets never shown."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from registry.audit import Action
from registry.ids import Pair
from registry.roles import Role
from tests.plugin import Plugin
from tests.web.world import FOREIGN, NOBODY, OWN, Told, World, sealed

CONFIG = f"/v1/tenants/{OWN}/connectors/github/config"
KEPT = "enc://kept"
ANY = {"If-Match": "*"}
NEW = {"If-None-Match": "*"}


async def put(world: World, document: object, headers: dict[str, str] | None = None, path: str = CONFIG) -> Told:
    return await world.ask("PUT", path, Role.ADMIN, OWN, json=document, headers=ANY if headers is None else headers)


def kept(world: World, **changed: object) -> dict[str, Any]:
    return world.config() | {"auth": {"type": "bearer", "token": KEPT}} | changed


async def test_a_sealed_secret_is_shown_as_kept_and_nothing_else(world: World) -> None:
    found = await world.ask("GET", CONFIG, Role.OPERATOR, OWN)
    assert found.body["config"]["auth"] == {"type": "bearer", "token": KEPT}
    assert (found.body["revision"], found.headers["ETag"]) == (1, '"r1"')
    stored = await world.api.parts.store.get_config(Pair("github", OWN))
    assert sealed(stored).startswith("enc://")
    assert sealed(stored) not in found.text
    assert "demo" not in json.dumps(found.body["config"]["auth"])
    assert (await world.ask("GET", CONFIG, headers={"If-None-Match": '"r1"'})).status == 304
    assert (await world.ask("GET", CONFIG, Role.READER, OWN)).status == 403


async def test_a_reference_is_shown_as_it_is(world: World) -> None:
    written = await put(world, {"auth": {"type": "bearer", "token": "env://GITHUB"}})
    assert written.body["config"]["auth"]["token"] == "env://GITHUB"


async def test_a_write_names_what_it_replaces(world: World) -> None:
    assert (await put(world, kept(world), {})).status == 428
    assert (await put(world, kept(world), {"If-Match": '"r7"'})).status == 412
    assert (await put(world, kept(world), {"If-Match": 'W/"r1"'})).status == 412
    assert (await put(world, kept(world), NEW)).status == 412
    assert (await put(world, kept(world), {"If-None-Match": '"r9"'})).status == 412
    written = await put(world, kept(world, label="main"), {"If-Match": '"r0", "r1"'})
    assert (written.status, written.headers["ETag"], written.body["config"]["label"]) == (200, '"r2"', "main")
    assert (await put(world, kept(world), {"If-Match": '"r1"'})).status == 412


async def test_a_new_configuration_is_made_once(world: World) -> None:
    path = f"/v1/tenants/{OWN}/connectors/linear/config"
    assert (await put(world, world.config("linear"), ANY, path)).status == 412
    made = await put(world, world.config("linear"), NEW, path)
    assert (made.status, made.body["actor"].partition(":")[0]) == (201, "token")
    assert (await put(world, world.config("linear"), NEW, path)).status == 412


async def test_a_kept_secret_is_the_one_that_was_stored(world: World) -> None:
    before = await world.api.parts.store.get_config(Pair("github", OWN))
    assert (await put(world, kept(world, label="other"))).status == 200
    after = await world.api.parts.store.get_config(Pair("github", OWN))
    assert (sealed(after), after.config.label) == (sealed(before), "other")


async def test_what_is_not_there_cannot_be_kept(world: World) -> None:
    path = f"/v1/tenants/{OWN}/connectors/linear/config"
    for document, headers, where in (
        ({"auth": {"type": "bearer", "token": KEPT}}, NEW, path),
        ({"auth": {"type": "github_app", "app_id": "1", "installation_id": 1, "private_key": KEPT}}, ANY, CONFIG),
        ({"auth": {"type": "oauth2", "access_token": KEPT}}, ANY, CONFIG),
        ({"auth": {"type": KEPT, "token": KEPT}}, ANY, CONFIG),
        ({"auth": {"type": "bearer", "token": "x", "app_id": KEPT}}, ANY, CONFIG),
        ({"auth": KEPT}, ANY, CONFIG),
    ):
        refused = await put(world, document, headers, where)
        assert (refused.status, refused.body["code"]) == (422, "invalid_config"), document


async def test_a_kept_secret_goes_nowhere_else(world: World) -> None:
    elsewhere = kept(world, base_url=f"{world.vendors.url}/evil")
    for path, method in ((CONFIG, "PUT"), (f"{CONFIG}/test", "POST")):
        refused = await world.ask(method, path, Role.ADMIN, OWN, json=elsewhere, headers=ANY)
        assert (refused.status, refused.body["code"]) == (422, "invalid_config")
    assert world.vendors.requests.total() == 0


async def test_a_trial_says_what_a_check_would_and_stores_nothing(world: World) -> None:
    parts, pair = world.api.parts, Pair("github", OWN)
    before = (await parts.store.history(pair), await parts.cache.status(pair), await parts.redis.dbsize())
    good = await world.ask("POST", f"{CONFIG}/test", Role.ADMIN, OWN, json=kept(world))
    assert (good.status, good.body["status"], good.body["tenant_id"]) == (200, "healthy", OWN)
    world.vendors.script.set(OWN, "github", "revoked")
    bad = await world.ask("POST", f"{CONFIG}/test", Role.ADMIN, OWN, json=world.config())
    assert (bad.status, bad.body["reason"]) == (200, "credential_rejected")
    assert world.vendors.requests["github"] == 2
    after = (await parts.store.history(pair), await parts.cache.status(pair))
    assert (after[0], after[1].reason, after[1].version) == (before[0], before[1].reason, before[1].version)
    fresh = f"/v1/tenants/{NOBODY}/connectors/github/config"
    tried = await world.ask("POST", f"{fresh}/test", json=world.config())
    assert tried.status == 200
    assert (await world.ask("GET", fresh)).status == 404


async def test_a_deleted_configuration_is_gone(world: World) -> None:
    await world.ask("POST", CONFIG.replace("/config", "/check"))
    assert (await world.ask("DELETE", CONFIG, Role.ADMIN, OWN)).status == 428
    assert (await world.ask("DELETE", CONFIG, Role.ADMIN, OWN, headers={"If-Match": '"r9"'})).status == 412
    gone = await world.ask("DELETE", CONFIG, Role.ADMIN, OWN, headers={"If-Match": '"r1"'})
    assert (gone.status, gone.text) == (204, "")
    assert (await world.ask("GET", CONFIG)).status == 404
    assert (await world.ask("DELETE", CONFIG, headers=ANY)).status == 404
    assert (await world.ask("GET", CONFIG.replace("/config", "/health"))).status == 404
    rows = await world.ask("GET", f"{CONFIG}/revisions", Role.OPERATOR, OWN)
    assert [(row["revision"], row["deleted"]) for row in rows.body["items"]] == [(2, True), (1, False)]
    again = await put(world, world.config(), NEW)
    assert (again.status, again.headers["ETag"]) == (201, '"r3"')


async def test_every_write_is_in_the_audit_log_under_its_token(world: World) -> None:
    admin = f"token:{(await world.token(Role.ADMIN, OWN)).split('_')[1]}"
    await put(world, kept(world))
    await world.ask("DELETE", CONFIG, Role.ADMIN, OWN, headers=ANY)
    written = [row for row in await world.audited(Action.CONFIGURED) if row["actor"] == admin]
    deleted = await world.audited(Action.DELETED)
    assert [(row["tenant"], row["connector"], row["after"]) for row in written + deleted] == [
        (OWN, "github", 2),
        (OWN, "github", 3),
    ]
    assert deleted[0]["actor"] == admin


CANARY = "hunter2-8Jq4-canary"

SPOILT: list[object] = [
    {"auth": {"type": "bearer", "tokn": CANARY}},
    {"auth": {"type": "bearer", CANARY: "x"}},
    {CANARY: 1},
    {"auth": CANARY},
    {"auth": {"type": CANARY}},
    {"auth": {"type": "bearer", "token": [CANARY]}},
    {"auth": {"type": "bearer", "token": "env://X"}, "base_url": f"https://u:{CANARY}@example.com"},
    {"auth": {"type": "bearer", "token": "env://X"}, "base_url": CANARY},
    {"auth": {"type": "bearer", "token": "env://X"}, "interval": CANARY},
    {"auth": {"type": "bearer", "token": "env://X"}, "settings": {"required_scopes": CANARY}},
    {"auth": {"type": "bearer", "token": "env://X"}, "settings": {CANARY: {CANARY: CANARY}}},
    {"auth": {"type": "bearer", "token": "env://X"}, "settings": CANARY},
    {"auth": {"type": "service_account", "key": CANARY}},
    {"auth": {"type": "oauth2", "access_token": CANARY, "expires_at": CANARY}},
    [CANARY],
    CANARY,
]


@pytest.mark.parametrize("document", SPOILT, ids=range(len(SPOILT)))
async def test_a_refusal_does_not_repeat_what_it_refuses(
    world: World, document: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    refused = await put(world, document)
    assert refused.status == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert CANARY not in refused.text + caplog.text
    assert CANARY not in str([row.text for row in await world.api.parts.audit.sink.records()])


@pytest.mark.parametrize("body", [f'{{"auth": "{CANARY}', f'{{"auth": {CANARY}}}', CANARY, f"\xff{CANARY}", ""])
async def test_what_is_no_json_is_not_repeated_either(
    world: World, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = ANY | {"Content-Type": "application/json"}
    refused = await world.ask("PUT", CONFIG, Role.ADMIN, OWN, data=body.encode("latin-1"), headers=headers)
    assert refused.status in (400, 422)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert CANARY not in refused.text + caplog.text


@pytest.mark.parametrize(
    "path", [f"/v1/connectors/{CANARY}!", f"/connectors/{CANARY}/health", f"/v1/maintenance/{CANARY}", f"/{CANARY}"]
)
async def test_a_name_is_not_repeated(world: World, path: str) -> None:
    for method in ("GET", "DELETE", "PUT"):
        assert CANARY not in (await world.ask(method, path)).text


async def test_what_another_tenant_sealed_opens_for_nobody_else(world: World) -> None:
    for pair in (Pair("github", FOREIGN), Pair("slack", OWN)):
        stolen = sealed(await world.api.parts.store.get_config(pair))
        refused = await put(world, world.config() | {"auth": {"type": "bearer", "token": stolen}})
        assert (refused.status, refused.body["code"]) == (422, "secret_not_found")
        assert stolen not in refused.text
        document = world.config() | {"auth": {"type": "bearer", "token": stolen}}
        tried = await world.ask("POST", f"{CONFIG}/test", Role.ADMIN, OWN, json=document)
        assert (tried.status, tried.body["reason"]) == (200, "misconfigured")
    assert world.vendors.requests.total() == 0, "nothing was opened, so nothing was sent"


@pytest.mark.parametrize(
    "reference", ["file://../{}/bot", "file:///etc/passwd", "env://../X", "env://{}__X", "file://."]
)
async def test_references_stay_within_the_tenant(world: World, reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = world.api.parts.settings.secrets_dir / FOREIGN
    directory.mkdir(parents=True)
    (directory / "bot").write_text("ghp_demo_foreign")
    monkeypatch.setenv("CONNECTOR_SECRET_acme_2d02__X", "ghp_demo_foreign")
    document = world.config() | {"auth": {"type": "bearer", "token": reference.format(FOREIGN)}}
    tried = await world.ask("POST", f"{CONFIG}/test", Role.ADMIN, OWN, json=document)
    assert (tried.status, tried.body["status"]) == (200, "unhealthy")
    assert tried.body["reason"] == "misconfigured"
    assert world.vendors.requests.total() == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"a": 1e999}}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"a": NaN}}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"a": [-Infinity]}}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "interval": 1e999}', 422),
        ('{"auth": {"type": "bearer", "token": "\\ud800"}}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "label": "\\ud800"}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"\\ud800": "\\udfff"}}', 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "budget": ' + "9" * 4000 + "}", 422),
        ('{"auth": {"type": "bearer", "token": "x"}, "budget": ' + "9" * 5000 + "}", 400),
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"a": ' + "9" * 400 + "}}", 422),
        ('{"auth": {"type": "oauth2", "access_token": "x", "expires_at": ' + "9" * 30 + "}}", 422),
        ("[" * 30_000, 400),
        ('{"auth":' * 8_000, 400),
        ('{"auth": {"type": "bearer", "token": "x"}, "settings": {"a": ' + "[" * 500 + "]" * 500 + "}}", 422),
        ('{"auth": 1, "auth": {"type": "bearer", "token": "env://A", "token": "env://B"}}', 200),
    ],
    ids=range(15),
)
async def test_odd_json_is_refused_before_it_is_stored(world: World, body: str, status: int) -> None:
    headers = ANY | {"Content-Type": "application/json"}
    for method, path in (("POST", f"{CONFIG}/test"), ("PUT", CONFIG)):
        found = await world.ask(method, path, Role.ADMIN, OWN, data=body.encode(), headers=headers)
        assert found.status == status, found.text
    shown = await world.ask("GET", CONFIG, Role.ADMIN, OWN)
    assert (shown.status, shown.body["revision"]) == (200, 2 if status == 200 else 1)
    assert (await world.api.parts.schedule.task(Pair("github", OWN))) is not None


async def test_a_body_of_another_type_is_not_read(world: World) -> None:
    text = json.dumps(kept(world)).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused = await world.ask("PUT", CONFIG, data=text, headers=ANY | {"Content-Type": kind})
        assert refused.status == 422, kind


@pytest.mark.parametrize("value", ["1e999", "NaN", '"\\ud800"', '{"\\ud800": 1}', "[[-1e999]]"])
async def test_settings_that_nobody_looks_at_are_json_all_the_same(world: World, value: str) -> None:
    world.api.parts.catalog.register("plugin", Plugin)
    path = f"/v1/tenants/{OWN}/connectors/plugin/config"
    body = f'{{"auth": {{"type": "bearer", "token": "x"}}, "settings": {{"a": {value}}}}}'
    refused = await world.ask("PUT", path, data=body, headers=NEW | {"Content-Type": "application/json"})
    assert (refused.status, refused.body["code"]) == (422, "invalid_config")
