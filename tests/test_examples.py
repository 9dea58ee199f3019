"""The examples do what they say, as processes of their own, on a real Redis and the demo vendors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from registry.bootstrap import assemble
from registry.facade import ConnectorRegistry
from registry.settings import Settings
from tests.fixtures_redis import RedisServer
from tests.fixtures_vendors import demo_config
from worker.demo.vendors import DemoVendors

ROOT = Path(__file__).parent.parent
TENANT = "acme-01"


@pytest.fixture
def environment(settings: Settings, redis_server: RedisServer, tmp_path: Path) -> Mapping[str, str]:
    given = {
        "REDIS_URL": settings.redis_url,
        "BROKER_URL": f"redis+socket://{redis_server.socket}?virtual_host=0",
        "SQLITE_PATH": str(settings.sqlite_path),
        "SECRETS_DIR": str(settings.secrets_dir),
        "ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "READ_TIMEOUT": "2",
        "SHARDS": str(settings.shards),
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **given}


@pytest.fixture
async def reg(settings: Settings, script: DemoVendors) -> AsyncIterator[ConnectorRegistry]:
    """A registry with the demo tenant's Slack and Linear, checked."""
    async with ConnectorRegistry(assemble(settings)) as made:
        await made._parts.reconciler.run()
        for name in ("slack", "linear"):
            await made.set_config(name, demo_config(name, script), tenant_id=TENANT, actor="test")
            assert (await made.health_check(name, tenant_id=TENANT, max_age=0)).healthy
        yield made


async def example(name: str, *arguments: str, environment: Mapping[str, str], typed: str = "") -> tuple[int, str]:
    """Run an example to its end; its exit code and what it printed."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        input=typed,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(environment["SQLITE_PATH"]).parent,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


async def test_get_a_connector(reg: ConnectorRegistry, script: DemoVendors, environment: Mapping[str, str]) -> None:
    code, said = await example("get_connector", TENANT, "slack", environment=environment)
    assert (code, said.strip()) == (0, f"{TENANT} may use Slack (connector slack {reg.get_version('slack')})")
    script.script.set(TENANT, "slack", "revoked")
    await reg.health_check("slack", tenant_id=TENANT, max_age=0)
    code, said = await example("get_connector", TENANT, "slack", environment=environment)
    assert (code, said.split(".")[0]) == (1, "not now: credential_rejected, fault: tenant")
    code, said = await example("get_connector", TENANT, "github", environment=environment)
    assert (code, "no configuration" in said) == (1, True)


async def test_list_connectors(reg: ConnectorRegistry, environment: Mapping[str, str]) -> None:
    _, said = await example("list_connectors", environment=environment)
    assert [line.split()[0] for line in said.splitlines() if not line.startswith(" ")] == reg.list()


async def test_configure_a_connector(
    reg: ConnectorRegistry, script: DemoVendors, environment: Mapping[str, str]
) -> None:
    config = demo_config("linear", script, tenant=2)
    auth, url = config["auth"], str(config["base_url"])
    assert isinstance(auth, dict)
    arguments = ("acme-02", "linear", url)
    code, said = await example("configure_connector", *arguments, environment=environment, typed="wrong\n")
    assert (code, said.startswith("not saved: credential_rejected")) == (1, True)
    token = next(str(value) for name, value in auth.items() if name != "type")
    code, said = await example("configure_connector", *arguments, environment=environment, typed=token)
    assert (code, said.strip()) == (0, "saved as revision 1, healthy: ok")
    assert await reg.get_healthy(tenant_id="acme-02") == ["linear"]


async def test_the_health_dashboard_shows_changes(
    reg: ConnectorRegistry, script: DemoVendors, environment: Mapping[str, str]
) -> None:
    file = str(ROOT / "examples" / "health_dashboard.py")
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-u", file, TENANT, "1", stdout=PIPE, stderr=STDOUT, env={**environment, "COLUMNS": "160"}
    )
    assert running.stdout is not None
    said = [await running.stdout.readline()]
    while "slack" not in said[-1].decode():
        said.append(await running.stdout.readline())
    script.script.set(TENANT, "slack", "revoked")
    await reg.health_check("slack", tenant_id=TENANT, max_age=0)
    rest, _ = await running.communicate()
    before, after = b"".join(said).decode(), rest.decode()
    assert "healthy" in before
    assert "slack is now unhealthy: credential_rejected" in after
    assert "credential_rejected (tenant)" in after


@asynccontextmanager
async def orchestrator(environment: Mapping[str, str]) -> AsyncIterator[None]:
    """A Celery worker that runs the example's task."""
    command = [sys.executable, "-m", "celery", "--app", "examples.orchestrator_task", "worker", "--pool", "solo"]
    worker = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT, env=environment, cwd=ROOT)
    try:
        yield
    finally:
        worker.terminate()
        await worker.communicate()


async def test_a_task_goes_where_it_works(
    reg: ConnectorRegistry, script: DemoVendors, environment: Mapping[str, str]
) -> None:
    code = f"from examples.orchestrator_task import notify; print(notify.delay({TENANT!r}, 'deployed').get(timeout=60))"

    async def sent() -> str:
        command = [sys.executable, "-c", code]
        sender = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment, cwd=ROOT)
        return (await sender.communicate())[0].decode().strip()

    async with orchestrator(environment):
        assert await sent() == "slack: deployed"
        script.script.set(TENANT, "slack", "revoked")
        await reg.health_check("slack", tenant_id=TENANT, max_age=0)
        assert await sent() == "linear: deployed"
