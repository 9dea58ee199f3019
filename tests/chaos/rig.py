"""The whole system as processes of a test, which it breaks by name; nothing but the test restarts what dies.

Everything reaches Redis through the test's own proxy; only the watch has a line of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import psutil

from registry import create_registry, keys
from registry.health import Reason
from registry.ids import SYSTEM, Pair
from registry.settings import Settings
from tests.chaos.invariants import (
    EveryTransitionIsTold,
    EveryVerdictWasAsked,
    NeverHealthyPastItsTime,
    NeverOlderOverNewer,
    NeverOverdue,
    NobodySeesAnother,
    NoVerdictIsFalse,
)
from tests.chaos.promises import EveryPromisedMessageArrives, NoMessageIsAstray
from tests.chaos.proxy import Proxy
from tests.chaos.receiver import ADDRESSES, Receiver
from tests.chaos.watch import Watch
from tests.fixtures_firestore import free_port
from tests.fixtures_prometheus import binary, fetched
from tests.fixtures_redis import RedisServer
from tests.waiting import eventually
from worker.demo.tenants import CONNECTORS, demo_tenants
from worker.events import box
from worker.local.processes import APPLICATION, Process

INTERVAL, LEASE, GRACE, TIMEOUT = 3.0, 6.0, 5.0, 4.0
PACE: Mapping[str, float] = {
    "check_interval": INTERVAL,
    "check_timeout": TIMEOUT,
    "claim_lease": LEASE,
    "fresh_grace": GRACE,
    "confirm_delay": 1,
    "believe_delay": 1,
    "backoff_max": INTERVAL,
    "batch_patience": 1,
    "redis_timeout": 2,
    "dispatch_every": 1,
    "publish_every": 1,
    "reconcile_every": 1,
    "incidents_every": 1,
    "status_pages_every": 0,
    "webhooks_every": 1,
    "flap_window": 10,
    "flap_quiet": 5,
}
BOUND = max(INTERVAL, LEASE) + 5
"""Seconds a pair may be overdue once a fault is over: the promised figure."""

LIFE = INTERVAL + GRACE + 2
"""Seconds for which one check may be believed: until the next is due and its grace ends, and what a look takes."""

DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")
"""Options of a Redis that keeps its data, as `connectors up` starts it."""

TOLD = BOUND + 5
"""Seconds after which news have arrived: a second check may have to confirm them, a failed delivery to be repeated."""

SHARDS, TENANTS = 4, 6
WAIT = 30.0
"""Seconds after which something does not come any more."""


@dataclass
class Rig:
    """A running system. `kill`, `freeze` and `thaw` take the name of a role."""

    directory: Path
    redis: RedisServer
    environment: Mapping[str, str] = field(default_factory=dict)
    settings_changed: Mapping[str, object] = field(default_factory=dict)
    roles: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logged: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start everything, and wait until every pair is right."""
        self.redis.start(*DURABLE)
        self.proxy = Proxy(self.redis.socket)
        self._vendors, self._pushgateway = free_port(), free_port()
        self.receiver = Receiver()
        self.settings = self._settings(f"redis://127.0.0.1:{self.proxy.port}")
        self.direct = self._settings(f"unix://{self.redis.socket}")
        self.truth = NoVerdictIsFalse()
        tenants = demo_tenants(TENANTS, self.vendors_url)["tenants"]
        self.pairs = [Pair(name, tenant) for tenant in (*tenants, SYSTEM) for name in CONNECTORS]
        self.watch = Watch(
            self.redis.url(),
            self.pairs,
            [
                NeverHealthyPastItsTime(LIFE),
                NeverOlderOverNewer(),
                NeverOverdue(BOUND),
                EveryTransitionIsTold(),
                EveryVerdictWasAsked(),
                NobodySeesAnother(),
                NoMessageIsAstray(ADDRESSES),
                EveryPromisedMessageArrives(ADDRESSES, TOLD),
                self.truth,
            ],
            shards=SHARDS,
            asked=self.asked,
            messages=self.receiver.messages,
        )
        for role in self.commands():
            self.run(role)
        eventually("the vendors listen", lambda: self.asked() is not None)
        eventually("whatever happens from now on is told", self.tells)
        self.configure({Pair(name, tenant): config for tenant, of in tenants.items() for name, config in of.items()})
        self.watch.start()
        eventually("everybody is checked", lambda: not self.watch.unhealed())
        self.watch.calm()
        self.demand()

    def close(self) -> None:
        """End every process."""
        self.watch.close()
        for role in self.survivors():
            self.kill(role, wait=False)
        for process in self.roles.values():
            process.wait()
        self.receiver.close()
        self.proxy.close()
        self.redis.kill()

    def configure(self, configs: Mapping[Pair, Mapping[str, object]]) -> None:
        """Write configurations, as an operator would."""

        async def write() -> None:
            async with create_registry(self.direct) as registry:
                for (name, tenant), config in configs.items():
                    await registry.set_config(name, config, tenant_id=tenant, actor="chaos")

        asyncio.run(write())

    @property
    def vendors_url(self) -> str:
        return f"http://127.0.0.1:{self._vendors}"

    def commands(self) -> dict[str, str]:
        """What each role runs. There are two workers for checks, as on two machines."""
        gateway = [binary("prometheus-pushgateway", "prometheus-pushgateway")]
        gateway += [f"--web.listen-address=127.0.0.1:{self._pushgateway}"]
        gateway += [f"--persistence.file={self.directory / 'pushgateway.db'}"]
        application = {process.name: process.started_by() for process in APPLICATION}
        checks = application["worker-checks"].replace("--concurrency 2", "--concurrency 1")
        return {
            "vendors": Process("vendors", f"python -m worker.demo.vendors --port {self._vendors}").started_by() or "",
            "pushgateway": shlex.join(gateway),
            "beat": application["beat"],
            "dispatch": application["worker-dispatch"],
            "checks-a": checks.replace("checks@%h", "checks-a@%h"),
            "checks-b": checks.replace("checks@%h", "checks-b@%h"),
            "publish": application["worker-publish"],
        }

    def make_whole(self) -> None:
        """Start what a test before has left dead, and wait until everybody is right."""
        dead = self.roles.keys() - self.survivors()
        if dead:
            self.watch.trouble()
        for role in dead:
            self.run(role)
        for role in dead:
            eventually(f"{role} is ready", partial(self.is_ready, role))  # starting is not healing
        self.watch.calm()
        self.heals()

    def survivors(self) -> set[str]:
        """The roles that run."""
        return {role for role, process in self.roles.items() if process.poll() is None}

    def run(self, role: str, **environment: str) -> None:
        """Start a role; `environment` adds to its own."""
        with self.log(role).open("ab") as log:
            self._logged[role] = log.tell()
            self.roles[role] = subprocess.Popen(
                shlex.split(self.commands()[role]),
                cwd=self.directory,
                env={**self._environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def replace(self, role: str) -> None:
        """Start a new process of a role; the old one is asked to end when that one works."""
        old = self.roles[role]
        self.run(role)
        eventually(f"the new {role} is ready", lambda: self.is_ready(role))
        old.terminate()
        assert old.wait() == 0

    def is_ready(self, role: str) -> bool:
        """Does a worker take tasks since it was started last? True of what is no worker."""
        said = self.log(role).read_text(errors="replace")[self._logged[role] :]
        return "celery" not in self.commands()[role] or " ready." in said or "celery beat" in said

    def log(self, role: str) -> Path:
        return self.directory / f"{role}.log"

    def children(self, role: str) -> list[psutil.Process]:
        """The processes below a role."""
        return psutil.Process(self.roles[role].pid).children(recursive=True)

    def kill(self, role: str, *, wait: bool = True) -> None:
        """End a role at once with everything below it, as when its machine dies."""
        os.killpg(self.roles[role].pid, signal.SIGKILL)
        if wait:
            self.roles[role].wait()

    def freeze(self, role: str) -> None:
        """Stop a role and everything below it, without any of them noticing."""
        os.killpg(self.roles[role].pid, signal.SIGSTOP)

    def thaw(self, role: str) -> None:
        os.killpg(self.roles[role].pid, signal.SIGCONT)

    def fill_disk(self, role: str, *, full: bool) -> None:
        """Let no file of a role's processes grow, as when the disk is full; or let them again."""
        limit = 0 if full else resource.RLIM_INFINITY
        for pid in (self.roles[role].pid, *[child.pid for child in self.children(role)]):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def play(self, tenant: str, connector: str, fault: str) -> None:
        """Let a vendor play a fault for a tenant (``*``: for all)."""
        self._control("POST", f"/control/{tenant}/{connector}", {"fault": fault})

    def expect(self, pair: Pair, reason: Reason) -> None:
        """Something is to change: until the pair is `settled`, what was true before may still be told."""
        self.truth.expected[pair] = self.truth.allowed(pair) | {reason}

    def settled(self, pair: Pair, reason: Reason) -> None:
        """Wait until the pair is told to be `reason`; nothing else may be told of it any more."""
        eventually(f"{pair} is {reason.value}", lambda: self.watch.reads(pair) is reason)
        self.truth.expected[pair] = frozenset({reason})
        if reason is Reason.OK:
            del self.truth.expected[pair]

    def told(self, pair: Pair, reason: Reason) -> None:
        """Wait until the last word about the pair is `reason` at every address that may know of it."""
        reached = [name for name, address in ADDRESSES.items() if address.may_know(pair.tenant, pair.connector)]
        last_word = self.receiver.last_word

        def told() -> bool:
            return {last_word(name, pair) for name in reached} == {reason.value}

        eventually(f"{', '.join(reached)} are told that {pair} is {reason.value}", told)

    def tells(self) -> bool:
        """Has every webhook had its first tick, and been gathered for?"""
        with self.redis.client() as client:
            begun = cast("int", client.hlen(box.SENT))
        return begun == len(ADDRESSES) and self.fact("tell_ms") > 0

    def fact(self, name: str) -> int:
        """One of the system's own counters."""
        with self.redis.client() as client:
            return int(cast("bytes | None", client.hget(keys.PLATFORM, name)) or 0)

    def asked(self) -> Mapping[str, int] | None:
        """How often each vendor was asked, by its own count; None while it does not answer."""
        try:
            counted: Mapping[str, int] = self._control("GET", "/control", None)["requests"]
        except (OSError, HTTPException, ValueError):
            return None
        return counted

    def asked_for(self, prefix: str) -> dict[str, int]:
        """How often the vendors were asked with the credential of each tenant whose name begins so."""
        counted = cast("Mapping[str, Mapping[str, int]]", self._control("GET", "/control", None)["tenants"])
        return {tenant: sum(of.values()) for tenant, of in counted.items() if tenant.startswith(prefix)}

    @contextmanager
    def broken(self) -> Iterator[None]:
        """A fault: nobody is called overdue meanwhile."""
        self.watch.trouble()
        yield
        self.watch.calm()

    def heals(self) -> float:
        """Wait until every pair has a new and right verdict; seconds since the fault ended. Nothing may be violated."""
        try:
            eventually("everybody is right again", lambda: not self.watch.unhealed())
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.watch.unhealed()}\n{self.last_words()}") from None
        took = self.watch.calm_for()
        self.demand()
        return took

    def publishes(self) -> None:
        """Wait until the Pushgateway has every tenant's pairs, by a push after now."""
        pushed = self.fact("publish_ms")
        tenants = {(pair.tenant, pair.connector) for pair in self.pairs if not pair.is_service}
        eventually("a new push", lambda: self.fact("publish_ms") != pushed)
        eventually("everybody's gauge", lambda: tenants <= self.gauges().keys())

    def demand(self) -> None:
        """Nothing was violated since the last demand."""
        violations = self.watch.taken()
        assert violations == [], f"{violations}\n{self.last_words()}"

    def last_words(self) -> str:
        """The ends of the logs."""
        return "\n".join(f"--- {role}\n{self.log(role).read_text(errors='replace')[-800:]}" for role in self.roles)

    def gauges(self) -> dict[tuple[str, str], float]:
        """What the Pushgateway says of each (tenant, connector); nothing while it is away."""
        from prometheus_client.parser import text_string_to_metric_families

        try:
            page = fetched(f"http://127.0.0.1:{self._pushgateway}/metrics")
        except OSError:
            return {}
        return {
            (sample.labels["tenant_id"], sample.labels["connector"]): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "registry_connector_health"
        }

    def _control(self, method: str, path: str, body: object) -> dict[str, Mapping[str, int]]:
        address = urlsplit(self.vendors_url)
        connection = HTTPConnection(str(address.hostname), address.port, timeout=2)
        try:
            connection.request(method, path, json.dumps(body) if body else None)
            answer: dict[str, Mapping[str, int]] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def _settings(self, redis: str) -> Settings:
        databases = ("{}?db=1", "{}?db=0") if redis.startswith("unix") else ("{}/1", "{}/0")
        cache, broker = (form.format(redis) for form in databases)
        return Settings.model_validate(
            {
                **PACE,
                "redis_url": cache,
                "broker_url": broker,
                "shards": SHARDS,
                "sqlite_path": str(self.directory / "registry.db"),
                "secrets_dir": str(self.directory / "secrets"),
                "encryption_keys": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                "egress_allow": "127.0.0.0/8",
                "vendor_urls": {name: f"{self.vendors_url}/{name}" for name in CONNECTORS},
                "pushgateway_url": f"http://127.0.0.1:{self._pushgateway}",
                "pushgateway_timeout": 2,
                "read_timeout": 2.0,
                "webhooks_file": str(self.receiver.write(self.directory)),
                **self.settings_changed,
            }
        )

    def _environment(self) -> dict[str, str]:
        """This environment without what it says about the system; what `settings` say instead."""
        ours = {name.upper() for name in Settings.model_fields}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        said = self.settings.model_dump(include=self.settings.model_fields_set, mode="json")
        said |= {"encryption_keys": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "egress_allow": "127.0.0.0/8"}
        texts = {
            name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in said.items()
            if value is not None
        }
        return {**kept, **texts, **self.environment}
