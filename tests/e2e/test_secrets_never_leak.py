"""The whole system runs on marked secrets, its vendors repeat them in every error, and then everything it wrote, said
or kept is searched for them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import yaml
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import generate_latest
from redis.client import Monitor

from registry import HealthView, keys
from registry.bootstrap import Parts, assemble
from registry.errors import RegistryError
from registry.facade import ConnectorRegistry
from registry.ids import Pair
from registry.packing import unpacked
from registry.roles import Role
from registry.settings import load_settings
from tests.e2e.served import served
from tests.fixtures_firestore import free_port
from tests.fixtures_redis import RedisServer, redis_binary
from tests.waiting import eventually
from worker.cli import main
from worker.demo.answers import VENDORS, Call
from worker.demo.tenants import service_account_key
from worker.publish import exposition

ROOT = Path(__file__).parent.parent.parent
WAIT = 60.0
"""Seconds after which something does not come any more."""

PROJECT = f"test-{secrets.token_hex(6)}"
ECHO, WELL, APP, REFS = "echo", "well", "app", "refs"


@dataclass
class Marks:
    """The secrets of one run: name → text. None looks like a credential of any known vendor."""

    texts: dict[str, str] = field(default_factory=dict)

    def new(self, name: str) -> str:
        self.texts[name] = secrets.token_hex(24)
        return self.texts[name]

    def key(self, name: str, pem: str) -> str:
        """A private key, known by its third line."""
        self.texts[name] = pem.splitlines()[2]
        return pem

    def found_in(self, content: bytes) -> list[str]:
        """The names of the secrets that `content` holds: whole, their beginning or end, or in base64."""
        return [name for name, text in self.texts.items() if any(form in content for form in _forms(text))]


def _forms(text: str) -> list[bytes]:
    return [text[:16].encode(), text[-16:].encode(), base64.b64encode(text.encode())[:24]]


class Vendors:
    """All vendors at once, at ``/TENANT/VENDOR/…``. To the tenant `ECHO` they repeat whatever they are sent."""

    def __init__(self, marks: Marks) -> None:
        self.heard: list[str] = []
        self.url, self._marks = "", marks
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        tenant, vendor, path = [*request.path[1:].split("/", 2), "", ""][:3]
        values = sorted(request.headers.values(), key=len, reverse=True)  # credentials first, since errors are cut
        said = f"{' '.join(values)} {request.path_qs} {body.decode(errors='replace')}"
        self.heard.append(said)
        if tenant == ECHO and vendor != "google":
            status = (401, 403, 500, 400)[len(self.heard) % 4]
            error = {"message": said, "code": said, "extensions": {"code": said, "userPresentableMessage": said}}
            told = {"ok": False, "error": said, "error_description": said, "message": said, "errors": [error]}
            return web.json_response(
                told, status=status, headers={"X-Request-Id": request.headers.get("Authorization", "-")}
            )
        reply = VENDORS[vendor](Call(f"/{path}", tenant, "healthy", request.headers, body, time.time()))
        answer = reply.body
        for name in ("access_token", "token"):  # a token that a vendor issues is a secret too
            if isinstance(answer, dict) and isinstance(answer.get(name), str):
                answer = answer | {name: self._marks.new(f"{vendor} issued to {tenant}")}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(status=reply.status, text=text, content_type="application/json", headers=reply.headers)


def tenants(marks: Marks, url: str) -> dict[str, dict[str, dict[str, object]]]:
    """Every kind of credential, in clear text as an import may have it, and two by reference."""

    def config(tenant: str, vendor: str, auth: Mapping[str, object], **settings: object) -> dict[str, object]:
        return {"auth": auth, "base_url": f"{url}/{tenant}/{vendor}", "settings": settings}

    def bearer(name: str) -> dict[str, object]:
        return {"type": "bearer", "token": marks.new(name)}

    found: dict[str, dict[str, dict[str, object]]] = {}
    for tenant in (ECHO, WELL):
        oauth = {"type": "oauth2", "access_token": marks.new(f"{tenant} slack")}
        key = service_account_key(tenant, f"{url}/{tenant}")
        marks.key(f"{tenant} vertex", json.loads(key)["private_key"])
        found[tenant] = {
            **{name: config(tenant, name, bearer(f"{tenant} {name}")) for name in ("github", "gitlab", "linear")},
            "slack": config(tenant, "slack", oauth),
            "vertex": config(
                tenant, "vertex", {"type": "service_account", "key": key}, project=f"demo-{tenant}", location="global"
            ),
        }
    pem = marks.key(APP, _rsa())
    app = {"type": "github_app", "app_id": "7", "installation_id": 7, "private_key": pem}
    found[APP] = {"github": config(APP, "github", app)}
    found[REFS] = {
        "github": config(REFS, "github", {"type": "bearer", "token": "env://GH"}),
        "slack": config(REFS, "slack", {"type": "bearer", "token": "file://bot"}),
    }
    return found


def _rsa() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


@dataclass
class Run:
    """What one run left behind: name of the place → everything that stands there."""

    marks: Marks
    vendors: Vendors
    directory: Path
    places: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(params=["sqlite", "firestore"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A Redis with a password, and an environment for every process; both end with the test."""
    marks = Marks()
    server, port, password = RedisServer(redis_binary(), tmp_path), free_port(), marks.new("redis password")
    server.start("--port", str(port), "--bind", "127.0.0.1", "--rdbcompression", "no")
    with server.client() as client:
        client.config_set("requirepass", password)
    vendors = Vendors(marks)
    raw = marks.new("encryption key")[:32]
    marks.texts["encryption key"] = base64.b64encode(raw.encode()).decode()
    bot = tmp_path / "secrets" / REFS / "bot"
    bot.parent.mkdir(parents=True)
    bot.write_text(marks.new("file://bot"))
    bot.parent.parent.rename(tmp_path.parent / f"{tmp_path.name}-secrets")  # the operator's, not written by us
    if request.param == "firestore":
        request.getfixturevalue("firestore_host")
    environment = {
        "CONFIG_STORE": request.param,
        "FIRESTORE_PROJECT": PROJECT,
        "REDIS_URL": f"redis://:{password}@127.0.0.1:{port}/1",
        "BROKER_URL": f"redis://:{password}@127.0.0.1:{port}/0",
        "SQLITE_PATH": str(tmp_path / "registry.db"),
        "SECRETS_DIR": str(tmp_path.parent / f"{tmp_path.name}-secrets"),
        "ENCRYPTION_KEYS": marks.texts["encryption key"],
        f"CONNECTOR_SECRET_{REFS}__GH": marks.new("env://GH"),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "CHECK_INTERVAL": "2",
        "CONFIRM_DELAY": "0.5",
        "BACKOFF_MAX": "2",
        "RECONCILE_EVERY": "1",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "READ_TIMEOUT": "2",
        "PYTHONPATH": str(ROOT),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield Run(marks, vendors, tmp_path)
    vendors.close()
    server.kill()


def command(run: Run, capfd: pytest.CaptureFixture[str], *arguments: str) -> None:
    """A command of `connectors`; what it says is a place to search."""
    with pytest.raises(SystemExit):
        main(arguments)
    told = capfd.readouterr()
    run.places[f"connectors {' '.join(arguments)}"] = f"{told.out}\n{told.err}".encode()


@contextmanager
def heard(url: str) -> Iterator[list[bytes]]:
    """Everything that any client sends to Redis in here, broker messages included; what fails in here ends it too."""
    commands: list[bytes] = []
    ready = threading.Event()
    listener = threading.Thread(target=_listen, args=(url, commands, ready))
    listener.start()
    ready.wait()
    try:
        yield commands
    finally:
        with redis.Redis.from_url(url) as client:
            client.execute_command("ECHO", "end")
        listener.join()


def _listen(url: str, commands: list[bytes], ready: threading.Event) -> None:
    client = redis.Redis.from_url(url)
    with cast("Monitor", client.monitor()) as monitor:  # type: ignore[no-untyped-call]  # redis-py has none here
        ready.set()
        for told in monitor.listen():
            commands.append(str(told["command"]).encode())
            if commands[-1] == b"ECHO end":
                break
    client.close()


def test_no_marked_secret_is_found_anywhere(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    configured = tenants(run.marks, run.vendors.url)
    Path("tenants.yaml").write_text(yaml.safe_dump({"tenants": configured}))
    settings = load_settings()
    with heard(settings.redis_url) as commands:
        command(run, capfd, "tenants", "import", "tenants.yaml")
        Path("tenants.yaml").unlink()  # the operator's own
        _work(configured)
        for arguments in COMMANDS:
            command(run, capfd, *arguments)
        for number, document in enumerate(_spoilt(run.marks)):
            Path("spoilt.yaml").write_text(document)
            command(run, capfd, "config", "set", "github", "spoilt.yaml", "--tenant", f"spoilt-{number}")
            Path("spoilt.yaml").unlink()
        asyncio.run(_inside(run, configured))
        token = asyncio.run(_admitted(run))
        run.places["API"] = served(eventually, token, configured, map(json.dumps, _spoilt_for_programs(run.marks)))
        with redis.Redis.from_url(settings.redis_url) as client:
            run.places["configurations in Redis"] = b"\n".join(_configurations(client))
            client.save()
    run.places["commands to Redis"] = b"\n".join(commands)
    for path in (path for path in run.directory.rglob("*") if path.is_file()):
        run.places[path.name] = path.read_bytes()

    if settings.config_store == "firestore":
        run.places["Firestore"] = _firestore(os.environ["FIRESTORE_EMULATOR_HOST"])
    leaks = {place: found for place, content in run.places.items() if (found := run.marks.found_in(content))}
    assert leaks == {}
    _require_the_search_would_find(run, configured)


COMMANDS = (
    ("health", "--json"),
    ("health",),
    ("check", "github", "--tenant", ECHO),
    ("check", "vertex", "--tenant", ECHO, "--json"),
    ("tenants", "list"),
    ("tenants", "show", WELL),
    ("tenants", "show", REFS, "--json"),
    ("tenants", "export"),
    ("config", "get", "slack", "--tenant", ECHO),
    ("doctor", "--json"),
    ("audit", "list", "--json", "--limit", "1000"),
    ("audit", "verify"),
    ("list", "--json"),
)


def _work(configured: Mapping[str, Mapping[str, object]]) -> None:
    """Real processes check every pair at least twice, with everything logged."""
    log = Path("worker.log").open("wb")  # noqa: SIM115 - closed below, after the process
    arguments = ("--app", "worker.app", "worker", "--beat", "--queues", "dispatch,checks,publish", "--concurrency", "2")
    process = subprocess.Popen([sys.executable, "-m", "celery", *arguments], stdout=log, stderr=log)
    try:
        with HealthView(os.environ["REDIS_URL"], timeout=2.0) as view:
            pairs = [(name, tenant) for tenant, names in configured.items() for name in names]

            def checked(after: int) -> bool:
                return all((view.status(*pair).checked_ms or 0) > after for pair in pairs)

            eventually("every pair was checked", lambda: checked(0))
            once = max(view.status(*pair).checked_ms or 0 for pair in pairs)
            eventually("every pair was checked again", lambda: checked(once))
    finally:
        process.terminate()
        process.wait()
        log.close()


def _configurations(client: redis.Redis) -> Iterator[bytes]:
    """What the schedule keeps of every pair; deflated, a secret would not be found in it."""
    found = list(client.scan_iter(match=keys.configs(0, "*").replace("{s0}", "*")))
    assert found
    for key in found:
        for tenant, wire in cast("Mapping[bytes, bytes]", client.hgetall(key)).items():
            pair = Pair(key.decode().rpartition(":")[2], tenant.decode())
            yield unpacked(wire.partition(b"\n")[2], pair)


def _firestore(host: str) -> bytes:
    """Every document, as the server has it."""
    url = f"http://{host}/v1/projects/{PROJECT}/databases/(default)/documents:runQuery"
    query = json.dumps({"structuredQuery": {"from": [{"allDescendants": True}]}}).encode()
    request = urllib.request.Request(url, query, {"Authorization": "Bearer owner", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own emulator
        return cast("bytes", answer.read())


def _spoilt(marks: Marks) -> Iterator[str]:
    """Configurations with a secret where none belongs; every message must do without it."""
    yield f"auth: {{type: bearer, tokn: {marks.new('in a misspelt field')}}}"
    yield f"auth: {marks.new('in place of auth')}"
    yield f"auth: {{type: {marks.new('in place of the type')}}}"
    yield f"auth: {{type: bearer, token: [{marks.new('in a list')}]}}"
    yield f"{{auth: {{type: bearer, token: x}}, base_url: 'https://u:{marks.new('in the address')}@example.com'}}"
    yield f"{{auth: {{type: bearer, token: x}}, interval: {marks.new('in place of a number')}}}"
    yield f"{{auth: {{type: bearer, token: x}}, settings: {{required_scopes: {marks.new('in settings')}}}}}"
    yield f"auth: {{type: bearer, token: !!int x{marks.new('in a wrong YAML type')}}}"
    yield f"auth: {{type: bearer, token: {marks.new('in broken YAML')}"


def _spoilt_for_programs(marks: Marks) -> Iterator[object]:
    """The same for those who write JSON."""
    for document in _spoilt(marks):
        with suppress(yaml.YAMLError, ValueError):
            yield yaml.safe_load(document)
            continue
        yield document
    yield {marks.new("in place of a field"): 1}


async def _admitted(run: Run) -> str:
    """A token of the API, which is a secret too."""
    parts = assemble()
    grant, token = await parts.access.create(Role.ADMIN, actor="test")
    await parts.aclose()
    run.marks.texts["API token"] = token.get_secret_value().removeprefix(f"crt_{grant.id}_")
    return token.get_secret_value()


async def _inside(run: Run, configured: Mapping[str, Mapping[str, Mapping[str, object]]]) -> None:
    """What a program of somebody's own sees: metrics, statuses, exceptions, reprs."""
    parts = assemble()
    told: list[str] = [generate_latest(await exposition(parts)).decode()]
    async with ConnectorRegistry(parts) as registry:
        for tenant, names in configured.items():
            for name in names:
                told += await _handled(parts, registry, Pair(name, tenant))
        told += [repr(parts), repr(parts.settings), str(parts.settings), repr(registry), str(vars(registry))]
    run.places["inside"] = "\n".join(told).encode()


async def _handled(parts: Parts, registry: ConnectorRegistry, pair: Pair) -> list[str]:
    status = await registry.health_check(pair.connector, tenant_id=pair.tenant, max_age=0)
    stored = await parts.store.get_config(pair)
    resolved = await parts.secrets.resolve(pair, stored.config)
    told = [repr(status), str(status), json.dumps(status.as_dict()), repr(resolved), str(resolved)]
    try:
        made = await registry.get(pair.connector, tenant_id=pair.tenant)
        told += [repr(made), str(vars(made))]
        await registry.get(pair.connector, tenant_id=pair.tenant, config={"nonsense": resolved.auth})
    except RegistryError as error:
        told += [str(error), repr(error), "".join(traceback.format_exception(error))]
    return told


def _require_the_search_would_find(run: Run, configured: Mapping[str, Mapping[str, object]]) -> None:
    """Without this, a run that did nothing would pass."""
    heard = "\n".join(run.vendors.heard).encode()
    sent = {name for name in run.marks.texts if name.split()[0] in (ECHO, WELL) and "vertex" not in name}
    assert sent - set(run.marks.found_in(heard)) == set(), "every token was sent to its vendor"
    assert {"env://GH", "file://bot"} <= set(run.marks.found_in(heard))
    assert any(name.startswith(("google issued", "github issued")) for name in run.marks.texts)
    assert b'"event": "batch"' in run.places["worker.log"], "everything was logged"
    stored = "registry.db" if "registry.db" in run.places else "Firestore"
    for place in ("dump.rdb", stored, "commands to Redis", "connectors health --json", "inside", "API"):
        for tenant in configured:
            assert tenant.encode() in run.places[place], place
    statuses = cast("list[dict[str, Any]]", json.loads(run.places["connectors health --json"]))
    broken = [row for row in statuses if row["tenant_id"] == ECHO]
    assert len(broken) == 5
    masked = {row["connector"] for row in broken if "masked" in str(row["error"])}
    assert masked == {"github", "gitlab", "linear", "slack", "vertex"}, "the vendors did repeat what they were sent"
