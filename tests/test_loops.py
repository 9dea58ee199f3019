"""A registry belongs to one event loop and one process: used elsewhere it says so at once, and never hangs."""

import asyncio
import multiprocessing

import pytest

import registry
from registry.bootstrap import _default_of, assemble
from registry.errors import WrongLoop
from registry.facade import ConnectorRegistry
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config

THREADS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
CALLS = {
    "get": lambda reg: reg.get("plugin", tenant_id="acme"),
    "health_check": lambda reg: reg.health_check("plugin", tenant_id="acme"),
    "health_check_all": lambda reg: reg.health_check_all(tenant_id="acme"),
    "get_healthy": lambda reg: reg.get_healthy(tenant_id="acme"),
    "get_config": lambda reg: reg.get_config("plugin", tenant_id="acme"),
    "set_config": lambda reg: reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="test"),
    "delete_config": lambda reg: reg.delete_config("plugin", tenant_id="acme", actor="test"),
    "rotate": lambda reg: reg.rotate("plugin", tenant_id="acme"),
    "dry_run": lambda reg: reg.dry_run("plugin", plugin_config(), tenant_id="acme"),
    "route": lambda reg: reg.route(["plugin"], tenant_id="acme"),
    "wait_healthy": lambda reg: reg.wait_healthy("plugin", tenant_id="acme", timeout=1),
    "unregister": lambda reg: reg.unregister("plugin"),
    "aclose": lambda reg: reg.aclose(),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"check_timeout": 5.0})


async def used(reg: ConnectorRegistry) -> None:
    reg.register("plugin", Plugin)
    await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="test")
    await reg.get("plugin", tenant_id="acme")


@pytest.mark.parametrize("name", CALLS)
async def test_a_use_from_another_loop_is_a_clear_error(name: str, settings: Settings) -> None:
    async with ConnectorRegistry(assemble(settings)) as reg:
        await used(reg)
        with pytest.raises(WrongLoop, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(CALLS[name](reg)))
        assert isinstance(await reg.get("plugin", tenant_id="acme"), Plugin), "and it goes on where it belongs"


def _in_child(reg: ConnectorRegistry, answers: "multiprocessing.SimpleQueue[str]") -> None:
    try:
        asyncio.run(reg.health_check("plugin", tenant_id="acme"))
    except WrongLoop as error:
        answers.put(str(error))


@THREADS
async def test_a_use_after_a_fork_is_a_clear_error(settings: Settings) -> None:
    async with ConnectorRegistry(assemble(settings)) as reg:
        await used(reg)
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        child = fork.Process(target=_in_child, args=(reg, answers))
        child.start()
        await asyncio.to_thread(child.join, 20)
        assert child.exitcode == 0
        assert "another process" in answers.get()


def test_every_loop_may_have_a_registry_of_its_own(settings: Settings) -> None:
    async def work() -> list[str]:
        async with registry.create_registry(settings) as reg:
            reg.register("plugin", Plugin)
            await reg.set_config("plugin", plugin_config(), tenant_id="acme", actor="test")
            await reg.health_check("plugin", tenant_id="acme", max_age=0)
            return await reg.get_healthy(tenant_id="acme")

    assert [asyncio.run(work()) for _ in range(2)] == [["plugin"], ["plugin"]]


@THREADS
def test_the_default_registry_is_one_a_process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    assert registry.default() is registry.default()
    fork = multiprocessing.get_context("fork")
    mine, answers = id(registry.default()), fork.SimpleQueue()
    child = fork.Process(target=lambda: answers.put(id(registry.default()) == mine))
    child.start()
    child.join(20)
    _default_of.cache_clear()
    assert answers.get() is False
