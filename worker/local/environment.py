"""What a local run sets for itself: everything the user's own environment leaves open, written to `.run/env`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from dotenv import dotenv_values

from registry.addresses import broker_address
from registry.extras import lacking
from registry.sentinel import is_sentinel
from registry.settings import Settings, environment, load_settings
from worker.commands.exits import BadInput
from worker.local import servers
from worker.local.directory import RunDirectory, write_private
from worker.local.processes import APPLICATION, Process

DEMO_PACE = {
    "CHECK_INTERVAL": "10",
    "CONFIRM_DELAY": "2",
    "BACKOFF_MAX": "10",
    "CLAIM_LEASE": "20",
    "FRESH_GRACE": "10",
    "PUBLISH_EVERY": "1",
    "RECONCILE_EVERY": "5",
    "STATUS_PAGES_EVERY": "10",
}
"""The demo shows in seconds what takes minutes in production."""

SECRET = frozenset({"encryption_keys"})
"""Settings of the user's environment that are never written down."""


@dataclass(frozen=True, slots=True)
class Local:
    """A local run: its settings, its processes, and where the demo vendors are (None without a demo)."""

    settings: Settings
    servers: tuple[Process, ...]
    vendors_url: str | None
    overrides: Mapping[str, str]
    """Variables that its processes get whatever the user's environment says."""

    @property
    def application(self) -> tuple[Process, ...]:
        """The processes of the system itself; the API needs an extra that may not be installed."""
        without = {"api"} if lacking("uvicorn", "web") else set()
        return tuple(process for process in APPLICATION if process.name not in without)

    @property
    def api_url(self) -> str | None:
        """Where API and dashboard are served; None: they are not."""
        if not any(process.name == "api" for process in self.application):
            return None
        return self.settings.api_url


def prepare(directory: RunDirectory, *, demo_tenants: int | None, interval: float | None = None) -> Local:
    """Choose servers, ports and keys; what `.run/env` is to say is written beside it, see `RunDirectory.adopt_env`.

    Args:
        demo_tenants: None means no demo.
        interval: seconds between checks, if not as the environment says.

    Raises:
        BadInput: a port is in use, or no Redis server is installed.
        InvalidConfig: a setting of the environment cannot be used.
    """
    given = load_settings(env_file=None)
    choice = _Choice(directory, given)
    if interval is not None:
        choice.override("CHECK_INTERVAL", f"{interval:g}")
    choice.keys()
    choice.redis(demo=demo_tenants is not None)
    choice.pushgateway(demo=demo_tenants is not None)
    choice.port("METRICS", given.metrics_host, given.metrics_port)
    choice.port("API", given.api_host, given.api_port)
    choice.default("API_HOST", given.api_host)  # so that whoever sources `env` knows the whole address
    url = choice.demo(demo_tenants) if demo_tenants is not None else None
    lines = [f"{name}={_quoted(value)}\n" for name, value in choice.values.items()]
    write_private(directory.next_env, "".join(lines))
    return Local(choice.settings(), tuple(choice.servers), url, choice.overrides)


@dataclass(slots=True)
class _Choice:
    """What is chosen so far. What the user's environment says (`given`) always stands."""

    directory: RunDirectory
    given: Settings
    before: Mapping[str, str] = field(init=False)
    values: dict[str, str] = field(init=False)
    overrides: dict[str, str] = field(default_factory=dict)
    servers: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = self.directory.env
        self.before = {name: text for name, text in dotenv_values(path).items() if text} if path.is_file() else {}
        asked = self.given.model_fields_set - SECRET
        said = {name.upper(): text for name, text in environment().items() if name.lower() in asked}
        self.values = {name: text for name, text in said.items() if not _holds_password(text)}

    def is_given(self, name: str) -> bool:
        """Does the user's environment set it?"""
        return name.lower() in self.given.model_fields_set

    def default(self, name: str, value: str) -> None:
        """Set what nobody has set; what holds a password reaches the processes, but no file."""
        if not self.is_given(name):
            (self.overrides if _holds_password(value) else self.values).setdefault(name, value)

    def override(self, name: str, value: str) -> None:
        """Set what wins over the user's environment."""
        self.values[name] = self.overrides[name] = value

    def settings(self) -> Settings:
        """The settings that all processes will have."""
        written = load_settings(env_file=self.directory.next_env)
        changed = {name.lower(): value for name, value in self.overrides.items()}
        return Settings.model_validate({**dict(written), **changed})

    def keys(self) -> None:
        """A key of this machine's own, unless secrets are sealed elsewhere."""
        if not self.given.encryption_keys and not self.given.secret_manager_project:
            self.values["ENCRYPTION_KEYS"] = self.directory.encryption_key()

    def redis(self, *, demo: bool) -> None:
        """A Redis of our own, unless one is given."""
        if self.is_given("REDIS_URL"):
            self.default("BROKER_URL", other_database(self.given.redis_url))
            return
        self.servers.append(servers.redis(self.directory, self.directory.data(demo=demo)))
        self.default("REDIS_URL", f"unix://{self.directory.socket}?db=1")
        self.default("BROKER_URL", other_database(self.values["REDIS_URL"]))

    def pushgateway(self, *, demo: bool) -> None:
        """A Pushgateway of our own, unless one is given or none is installed."""
        if self.is_given("PUSHGATEWAY_URL"):
            return
        port = servers.free_port([self._port_before("PUSHGATEWAY_URL")])
        process = servers.pushgateway(self.directory, port, demo=demo)
        if process is not None:
            self.servers.append(process)
            self.values["PUSHGATEWAY_URL"] = f"http://{servers.LOOPBACK}:{port}"

    def port(self, what: str, host: str, port: int) -> None:
        """A port for ``METRICS`` or ``API``: the one that is asked for or none, else the last one, else any.

        The usual port is not tried: two checkouts that start together would both find it free.
        """
        name = f"{what}_PORT"
        if not self.is_given(name):
            before = self.before.get(name, "")
            taken = {self.values.get(other) for other in ("METRICS_PORT", "API_PORT") if other != name}
            last = int(before) if before.isdecimal() and before not in taken else 0
            self.values[name] = str(servers.free_port([last], host))
        elif not port:
            self.override(name, str(servers.free_port([], host)))
        elif not servers.is_free(port, host):
            raise BadInput(f"{name}: port {port} is in use on {host}: choose another, or 0 for any")

    def demo(self, tenants: int) -> str:
        """The demo vendors, which connectors may reach though they are on loopback; returns their URL."""
        from worker.demo.tenants import CONNECTORS

        port = servers.free_port([self._port_before("VENDOR_URLS")])
        url = f"http://{servers.LOOPBACK}:{port}"
        self.servers.append(servers.vendors(port, tenants))
        self.default("VENDOR_URLS", json.dumps({name: f"{url}/{name}" for name in CONNECTORS}))
        self.default("STATUS_PAGE_URLS", json.dumps({name: f"{url}/status/{name}" for name in CONNECTORS}))
        self.default("EGRESS_ALLOW", f"{servers.LOOPBACK}/32")
        self.default("SQLITE_PATH", str(self.directory.data(demo=True) / "registry.db"))
        for name, value in DEMO_PACE.items():
            self.default(name, value)
        return url

    def _port_before(self, name: str) -> int:
        found = re.search(rf"{re.escape(servers.LOOPBACK)}:(\d{{1,5}})", self.before.get(name, ""))
        return int(found[1]) if found else 0


def other_database(url: str) -> str:
    """The broker on the server of the cache at `url`, in Celery's spelling: database 0, or 1 if that is taken.

    Raises:
        BadInput: Celery has Sentinel's addresses and the service's name in two places, which only the operator can set.
    """
    parts = urlsplit(url)
    if is_sentinel(url):
        raise BadInput("BROKER_URL: beside a Sentinel REDIS_URL, set it (sentinel://…) and BROKER_MASTER too")
    query = dict(parse_qsl(parts.query))
    taken = query.pop("db", None) or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
    database = 1 if taken == "0" else 0
    if parts.scheme == "unix":
        return broker_address(f"unix://{parts.path}?{urlencode({'db': database, **query})}")
    return parts._replace(path=f"/{database}", query=urlencode(query)).geturl()


def _holds_password(text: str) -> bool:
    return "://" in text and bool(urlsplit(text).password)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
