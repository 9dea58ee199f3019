"""The API while a server of ours is away: it says so, lives on, and heals by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.audit import Action
from registry.health import Reason
from registry.roles import Role
from registry.settings import Settings
from registry.throttle import Allowance, Bucket
from tests.fixtures_redis import RedisServer, redis_binary
from tests.fixtures_web import StartApi
from tests.waiting import reached
from tests.web.test_matrix import TABLE
from tests.web.world import OWN, World, furnished
from worker.demo.vendors import DemoVendors

GITHUB = f"/v1/tenants/{OWN}/connectors/github"
CALM = {"api_burst": 1e6, "api_rate": 1e6, "redis_timeout": 2.0}


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed."""
    server = RedisServer(redis_binary(), tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def mortal(start_api: StartApi, settings: Settings, own_redis: RedisServer, script: DemoVendors) -> World:
    """The world on a Redis that can be killed."""
    return await furnished(await start_api(settings.model_copy(update={"redis_url": own_redis.url(), **CALM})), script)


async def test_redis_goes_and_comes_back(mortal: World, own_redis: RedisServer) -> None:
    tokens = [await mortal.token(role) for role in Role]
    assert (await mortal.ask("GET", "/v1/me")).status == 200
    await mortal.record(Reason.OK)
    own_redis.kill()

    assert (await mortal.ask("GET", "/livez")).status == 200
    ready = await mortal.ask("GET", "/readyz")
    assert (ready.status, ready.body) == (503, {"ready": False, "redis": False, "tokens": True})
    for token in tokens:
        assert (await mortal.api.ask("GET", "/v1/me", token)).status == 200, "known tokens are still told apart"
    assert (await mortal.api.ask("GET", "/v1/me", "crt_0123456789ab_" + "a" * 43)).status == 401
    assert (await mortal.ask("GET", "/v1/pairs", Role.ADMIN, headers={"Cookie": "session_1=x"})).status == 503
    assert (await mortal.ask("GET", f"{GITHUB}/config")).status == 200, "which is in the store"
    for operation in TABLE:
        method, _, path = operation.partition(" ")
        url = path.format(tenant=OWN, connector="github", name="github", window="x")
        if url in ("/livez", "/readyz", "/v1/me", "/v1/connectors/github") or "stream" in url or "config" in url:
            continue
        query = f"?tenant_id={OWN}" if url.startswith("/connectors") else ""
        body = {"tenant": OWN, "ends": "2020-01-01T00:00:00Z"} if method == "POST" else None
        found = await mortal.ask(method, url + query, json=body)
        if found.status in (200, 404, 422):
            assert url in ("/v1/audit", "/v1/maintenance/x", "/v1/maintenance", "/v1/connectors"), operation
        else:
            assert (found.status, found.body["code"]) == (503, "cache_unavailable"), operation
            assert found.headers["Retry-After"]

    own_redis.start()

    async def well(path: str) -> bool:
        return (await mortal.ask("GET", path)).status == 200

    await reached("it is ready again", lambda: well("/readyz"))
    await mortal.api.parts.reconciler.run()
    await mortal.record(Reason.OK)
    await reached("a verdict is told again", lambda: well(f"{GITHUB}/health"))


async def test_redis_dies_in_the_middle_of_a_check(mortal: World, own_redis: RedisServer) -> None:
    mortal.vendors.script.set(OWN, "github", "slow")
    token = await mortal.token()
    checking = asyncio.create_task(mortal.api.ask("POST", f"{GITHUB}/check", token))
    await reached("the vendor is asked", lambda: mortal.vendors.requests["github"])
    own_redis.kill()
    answer = await checking
    assert answer.status in (200, 503)
    if answer.status == 503:
        assert answer.content_type == "application/problem+json"
    own_redis.start()


async def test_a_write_while_redis_is_away_is_kept_and_followed_later(mortal: World, own_redis: RedisServer) -> None:
    await mortal.token()
    assert (await mortal.ask("GET", "/v1/me")).status == 200
    own_redis.kill()
    document = {"auth": {"type": "bearer", "token": "env://LATER"}}
    written = await mortal.ask("PUT", f"{GITHUB}/config", json=document, headers={"If-Match": '"r1"'})
    assert (written.status, written.body["revision"]) == (200, 2)
    own_redis.start()
    assert (await mortal.ask("GET", f"{GITHUB}/config")).body["revision"] == 2


async def test_denials_do_not_fill_the_log_while_redis_is_away(mortal: World, own_redis: RedisServer) -> None:
    token = await mortal.token(Role.OPERATOR)
    assert (await mortal.api.ask("GET", "/v1/me", token)).status == 200
    own_redis.kill()
    mortal.api.site.known, mortal.api.site.strangers = (Bucket(Allowance(most=5, rate=0.001)) for _ in range(2))
    for _ in range(10):
        assert (await mortal.api.ask("GET", "/v1/audit", token)).status == 403
        assert (await mortal.api.ask("GET", "/v1/me")).status == 401
    assert len(await mortal.audited(Action.ACCESS_DENIED)) == 2 * 5
    own_redis.start()


async def test_without_the_store_verdicts_stay(world: World, start_api: StartApi, tmp_path: Path) -> None:
    await world.record(Reason.OK)
    await world.token()
    (tmp_path / "file").touch()
    lost = world.api.parts.settings.model_copy(update={"sqlite_path": tmp_path / "file" / "registry.db"})
    storeless = World(await start_api(lost, reconciled=False), world.vendors, world.tokens)
    for url in (f"{GITHUB}/health", f"/v1/tenants/{OWN}/health", "/v1/pairs", "/v1/connectors", "/v1/maintenance"):
        assert (await storeless.ask("GET", url)).status == 200, url
    for method, url, body in (
        ("GET", f"{GITHUB}/config", None),
        ("PUT", f"{GITHUB}/config", world.config()),
        ("DELETE", f"{GITHUB}/config", None),
        ("POST", "/v1/maintenance", {"tenant": OWN, "ends": "2030-01-01T00:00:00Z"}),
        ("GET", "/v1/audit", None),
    ):
        found = await storeless.ask(method, url, json=body, headers={"If-Match": "*"})
        assert (found.status, found.body["code"]) == (503, "store_unavailable"), (method, url)
        assert str(tmp_path) not in found.text, "where things are is nobody's to know"
