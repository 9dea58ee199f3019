"""The story of ``connectors up``: choose, plan, start, import, show, end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from registry import keys
from registry.ids import Pair
from worker.commands.exits import BadInput, Exit, Failed
from worker.commands.plan import Plan, carry_out, make_plan
from worker.commands.printing import note
from worker.commands.session import actor, assembled
from worker.commands.tenants_file import TenantsFile, entries_of, read_tenants
from worker.events.webhooks import load_webhooks
from worker.housekeeping import reconcile
from worker.local import doorkey, environment, leftovers, supervision
from worker.local.directory import RunDirectory, RunLock, write_private
from worker.local.environment import Local
from worker.local.show import addresses, show

if TYPE_CHECKING:
    from registry.bootstrap import Parts

START_WAIT = 30.0
"""Seconds in which a process must come up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for."""

    demo_tenants: int | None
    tenants: Path | None
    interval: float | None
    detach: bool


async def run(directory: RunDirectory, lock: RunLock, asked: Asked) -> Exit:
    """Run the system until it is to end; detached: until it works."""
    stop = _stop_signals()
    files = [read_tenants(asked.tenants)] if asked.tenants else []
    local = environment.prepare(directory, demo_tenants=asked.demo_tenants, interval=asked.interval)
    if local.vendors_url and asked.demo_tenants:
        files.append(_demo(asked.demo_tenants, local.vendors_url))
    parts = assembled(local.settings)
    try:
        load_webhooks(local.settings.webhooks_file, parts.catalog.list())  # refused here, not at the first message
        await _require_given_redis(parts, local)
        prune = _is_of_demo if local.vendors_url else None  # an earlier demo may have had more tenants
        plans = [await make_plan(parts, file, prune=prune if len(files) == 1 else None) for file in files]
        directory.adopt_env()
        write_private(directory.targets, json.dumps(_scraped(local)))
        async with _supervised(directory, local, lock, keep=asked.detach) as supervisor:
            await _until_redis(directory, parts, supervisor, stop)
            if not stop.is_set():
                await _import(parts, plans)
                if local.api_url:
                    await doorkey.renew(parts, directory)
            if asked.detach:
                await _until_checking(directory, parts, supervisor, stop)
                if stop.is_set():
                    raise Failed("ended before it ran")
                lock.name(supervisor.pid)
                note("\n".join(addresses(directory, local)))
                return Exit.OK
            return await show(directory, local, parts, supervisor, stop)
    finally:
        await parts.aclose()


def _scraped(local: Local) -> list[dict[str, list[str]]]:
    """What Prometheus' file-based service discovery reads; without the name and password that an address may hold."""
    url = local.settings.pushgateway_url
    if url is None:
        return []
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return [{"targets": [parts.netloc.rpartition("@")[2]]}]


def _demo(count: int, vendors_url: str) -> TenantsFile:
    from worker.demo.tenants import demo_tenants

    return TenantsFile("the demo", entries_of(demo_tenants(count, vendors_url)["tenants"]))


def _is_of_demo(pair: Pair) -> bool:
    from worker.demo.tenants import is_demo

    return is_demo(pair.tenant)


@asynccontextmanager
async def _supervised(
    directory: RunDirectory, local: Local, lock: RunLock, *, keep: bool
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """supervisord and everything below it; ended at the end, unless `keep` and all went well."""
    supervisor = supervision.start(directory, local, inherit=lock.fd if keep else None)
    try:
        yield supervisor
    except BaseException:
        await asyncio.to_thread(_end, directory, supervisor)
        raise
    if not keep:
        await asyncio.to_thread(_end, directory, supervisor)


def _end(directory: RunDirectory, supervisor: subprocess.Popen[bytes]) -> None:
    note("ending every process …")
    supervision.stop(supervisor)
    leftovers.end(directory, patience=2)
    directory.clean()


def _stop_signals() -> asyncio.Event:
    """Set by Ctrl-C, SIGTERM, or the terminal's end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _require_given_redis(parts: Parts, local: Local) -> None:
    """A Redis of the user's own must be there before anything is started."""
    if any(process.name == "redis" for process in local.servers):
        return
    try:
        await parts.redis.ping()
    except RedisError as error:
        told = f"REDIS_URL: Redis does not answer there ({type(error).__name__}): start it, or unset REDIS_URL"
        raise BadInput(told) from None


async def _until_redis(
    directory: RunDirectory, parts: Parts, supervisor: subprocess.Popen[bytes], stop: asyncio.Event
) -> None:
    async def answers() -> bool:
        try:
            return bool(await parts.redis.ping())
        except RedisError:
            return False

    if not await _until(answers, supervisor, stop):
        raise Failed(f"Redis did not start: {supervision.last_words(directory, 'redis')}")


async def _until_checking(
    directory: RunDirectory, parts: Parts, supervisor: subprocess.Popen[bytes], stop: asyncio.Event
) -> None:
    started = parts.clock.now_ms()

    async def checking() -> bool:
        try:
            return bool(await parts.redis.zcount(keys.CHILDREN, started, "+inf"))
        except RedisError:
            return False

    if not await _until(checking, supervisor, stop):
        raise Failed(f"no check process came up: {supervision.last_words(directory, 'worker-checks')}")


async def _until(done: Callable[[], Awaitable[bool]], supervisor: subprocess.Popen[bytes], stop: asyncio.Event) -> bool:
    """Wait for `done`; True also when the run is to end meanwhile. False when it takes too long or supervisord died."""
    deadline = asyncio.get_running_loop().time() + START_WAIT
    while not stop.is_set() and not await done():
        if supervisor.poll() is not None or asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def _import(parts: Parts, plans: list[Plan]) -> None:
    for plan in plans:
        await carry_out(parts, plan, actor=actor())
        note(f"tenants: {plan.summary()}")
    await reconcile(parts, actor())  # at once, so that the service checks are there from the beginning
