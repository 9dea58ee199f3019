from registry import keys
from registry.bootstrap import Parts, assemble
from registry.connector import ConnectorConfig
from registry.endpoints import Endpoint
from registry.ids import SYSTEM, Pair
from registry.recording import Outcome
from registry.schedule import Scheduled
from registry.settings import Settings
from worker.incidents import detect
from worker.snapshot import whole_snapshot

GITLAB = Pair("gitlab", "acme")
OWN = "https://gitlab.acme.example"


def config(base_url: str | None = None, **settings: str) -> ConnectorConfig:
    return ConnectorConfig.model_validate(
        {"auth": {"type": "bearer", "token": "env://T"}, "base_url": base_url, "settings": settings}
    )


async def services(parts: Parts) -> set[Endpoint]:
    return set((await parts.endpoints.service_checks()).values())


async def test_every_connector_has_a_service_check_of_its_own_address(parts: Parts) -> None:
    await parts.reconciler.run()
    assert await services(parts) == {
        Endpoint(name, parts.catalog.load(name).manifest.default_base_url) for name in parts.catalog.list()
    }


async def test_an_address_that_tenants_brought_is_checked_once_for_all_of_them(parts: Parts) -> None:
    pairs = [Pair("gitlab", tenant) for tenant in ("acme", "globex", "initech")]
    await parts.store.set_many([(pair, config(OWN)) for pair in pairs], actor="test")
    await parts.reconciler.run()
    assert Endpoint("gitlab", OWN) in await services(parts)
    tasks = await parts.schedule.read(await parts.schedule.claim({"gitlab": 100}))
    asked = [task.scheduled.base_url for task in tasks if task.pair.is_service]
    assert sorted(map(str, asked)) == ["https://gitlab.acme.example", "https://gitlab.com"]


async def test_an_address_nobody_uses_any_more_is_not_checked_any_more(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"reconcile_full_every": 0.000001}))
    await parts.store.set_config(GITLAB, config(OWN), actor="test")
    await parts.reconciler.run()
    await parts.store.set_config(GITLAB, config(), actor="test")
    await parts.reconciler.run()
    assert Endpoint("gitlab", OWN) not in await services(parts)
    tasks = await parts.schedule.read(await parts.schedule.claim({"gitlab": 100}))
    assert OWN not in {task.scheduled.base_url for task in tasks}
    await parts.aclose()


async def test_the_operators_replacement_is_the_connectors_own_address(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"vendor_urls": {"gitlab": OWN}}))
    await parts.store.set_config(GITLAB, config(OWN), actor="test")
    await parts.reconciler.run()
    assert [place for place in await services(parts) if place.connector == "gitlab"] == [Endpoint("gitlab", OWN)]
    assert await parts.redis.exists(keys.ENDPOINTS) == 0
    await parts.aclose()


async def test_each_location_of_vertex_is_a_place_of_its_own(parts: Parts) -> None:
    auth = {"type": "service_account", "key": "env://KEY"}
    settings = {"project": "acme-prod", "location": "europe-west4"}
    vertex = ConnectorConfig.model_validate({"auth": auth, "settings": settings})
    place = parts.endpoints.of(Scheduled(Pair("vertex", "acme"), 1, vertex))
    assert place.name == "vertex|europe-west4-aiplatform.googleapis.com"


async def test_a_place_that_fails_by_itself_is_an_incident_of_that_place_only(settings: Settings) -> None:
    parts = assemble(settings)
    gone = "http://127.0.0.1:9"
    await parts.store.set_config(GITLAB, config(gone), actor="test")
    await parts.reconciler.run()
    pair = next(pair for pair, place in (await parts.endpoints.service_checks()).items() if place.base_url == gone)
    for _ in range(2):
        task = await parts.schedule.task(pair)
        assert task is not None
        verdict = await parts.checker.check(task.scheduled)
        await parts.recorder.record([Outcome(task, verdict, parts.checker.endpoint(task.scheduled))])
    assert [incident.endpoint for incident in await detect(parts)] == ["gitlab|127.0.0.1:9"]
    shown = {(s.connector, s.tenant_id) for s in (await whole_snapshot(parts)).statuses}
    assert ("gitlab", None) in shown
    assert pair.tenant != SYSTEM
    await parts.aclose()


def test_a_server_has_one_name_however_its_address_is_spelled() -> None:
    urls = ("https://GitLab.com", "https://gitlab.com:443/", "https://gitlab.com/group")
    assert {Endpoint("gitlab", url).name for url in urls} == {"gitlab|gitlab.com"}
    assert Endpoint("gitlab", "https://gitlab.com:8443").name == "gitlab|gitlab.com:8443"
