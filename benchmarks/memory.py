"""Redis' bytes for each pair, and whether a worker child's memory stays flat.

The bytes are Redis' own ``used_memory`` at 100,000 pairs of five connectors, all checked: verdict, schedule,
configuration and index. History (by what a Redis with it holds more) and the stream of transitions are counted apart.

A child's memory is that of a process that makes 1,000,000 checks of 100,000 pairs with the real `Monitor`, after a turn
of them and at its end. So many are more than a process keeps configurations and exchanged tokens of (20,000 each), and
those whose secret is in a file are more than it keeps such secrets of (10,000): every cache is full after a turn. Some
of what it holds is the benchmark's own: 100,000 pairs, and their secrets in its environment.

All this is measured once: bytes are counted, not timed, and a million checks are one run of a thousand stretches.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

import structlog
from pydantic import SecretStr

from benchmarks import synthetic
from benchmarks.figures import Figure, run
from benchmarks.settings import Settings
from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.connector import ConnectorConfig, ConnectorMetadata
from registry.ids import Pair, encoded
from registry.schedule import Entry
from registry.tokens import Token
from worker.monitor import Monitor

GOAL_BYTES = 700
GOAL_HISTORY = 1_024
FLAT = 0.03
"""A child may have grown by so much and still be flat: allocators keep some of what was once needed."""

PAGE = 200
TURNS = 10
"""How often each pair is checked."""

IN_FILE = 9
"""One in so many pairs has its secret in a file, the others in the environment."""


def figures(*, short: bool) -> list[Figure]:
    """Bytes of Redis a pair, and the growth of a child."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return [*asyncio.run(_redis(10_000 if short else 100_000)), _child(20_000 if short else 1_000_000)]


async def _redis(many: int) -> list[Figure]:
    pair, transition = await _filled(many, history=False)
    whole, _ = await _filled(many, history=True)
    history = whole - pair
    told = f"verdict, schedule, configuration and index, {many:,} pairs"
    return [
        Figure("memory", told, pair, "bytes a pair", goal=f"≤ {GOAL_BYTES}", reached=pair <= GOAL_BYTES),
        Figure("memory", "history", history, "bytes a pair", goal=f"≤ {GOAL_HISTORY}", reached=history <= GOAL_HISTORY),
        Figure("memory", "a transition in the stream of events", transition, "bytes"),
    ]


async def _filled(many: int, *, history: bool) -> tuple[float, float]:
    """Bytes for each of `many` checked pairs, and for each one's transition."""
    with synthetic.redis_server() as (url, _):
        settings = {"redis_url": url, "config_store": "memory", "audit": "memory", "history": history}
        parts = assemble(Settings.model_validate(settings))
        empty = await _used(parts)
        await synthetic.enter(parts, many)
        await synthetic.check(parts, many)
        whole = await _used(parts)
        await _delete(parts, "cr1:*:events")
        pairs = await _used(parts)
        await parts.aclose()
    return (pairs - empty) / many, (whole - pairs) / many


async def _used(parts: Parts) -> int:
    return int((await parts.redis.info("memory"))["used_memory"])


async def _delete(parts: Parts, *patterns: str) -> None:
    for pattern in patterns:
        found = [key async for key in parts.redis.scan_iter(match=pattern, count=1_000)]
        for start in range(0, len(found), 1_000):
            await parts.redis.delete(*found[start : start + 1_000])


class Loopback(synthetic.Plain):
    """A connector that asks its address once."""

    manifest: ClassVar[ConnectorMetadata] = ConnectorMetadata(
        name="loopback",
        version="1.0.0",
        title="Loopback",
        default_base_url="https://loopback.example.com",
        auth_methods=("bearer",),
        steps=("api",),
        documentation="https://loopback.example.com/docs",
    )

    async def check(self, session: CheckSession) -> None:
        """One GET, with a token that was exchanged before, if it is still kept."""
        with session.step("api"):
            await session.tokens.get(session.pair, "key", _exchanged, now_ms=session.now_ms)
            await session.request("GET", f"{self.config.base_url}/user")


async def _exchanged() -> Token:
    return Token(SecretStr("ya29." + "t" * 200), 2**53)


class _Answer(asyncio.Protocol):
    """Answers every request with the same few bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        self._transport.write(answer * data.count(b"\r\n\r\n"))


def _child(checks: int) -> Figure:
    said = asyncio.run(_observed(checks))
    first, last = said[0], said[-1]
    grown = last / first - 1
    return Figure(
        "rss",
        f"a worker child after {checks:,} checks, of {checks // TURNS:,} pairs by turns",
        last / 2**20,
        "MiB",
        first / 2**20,
        f"after {checks // TURNS:,}",
        last / first,
        f"≤ {1 + FLAT} ×",
        grown <= FLAT,
    )


async def _observed(checks: int) -> list[int]:
    """The child's memory after each turn, in a process of its own against a server in this one."""
    server = await asyncio.get_running_loop().create_server(_Answer, "127.0.0.1", 0)
    with synthetic.redis_server() as (url, _):
        told = [str(checks), url, str(server.sockets[0].getsockname()[1])]
        code = "import sys; from benchmarks.memory import child; child(int(sys.argv[1]), *sys.argv[2:])"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *told, cwd=Path(__file__).parent.parent, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
    server.close()
    return [int(line) for line in said.split()]


def child(checks: int, redis_url: str, port: str) -> None:
    """What the child process does; prints its resident bytes ten times."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="cr-secrets-") as secrets:
        asyncio.run(_check_on(checks, redis_url, port, secrets))


async def _check_on(checks: int, redis_url: str, port: str, secrets: str) -> None:
    settings = {"redis_url": redis_url, "config_store": "memory", "audit": "memory", "egress_allow": "127.0.0.0/8"}
    parts = assemble(Settings.model_validate({**settings, "audit_reads": False, "secrets_dir": secrets}))
    parts.catalog.register("loopback", Loopback)
    pairs = [Pair("loopback", f"acme-customer-{n:06}") for n in range(checks // TURNS)]
    await _enter(parts, pairs, f"http://127.0.0.1:{port}")
    monitor = Monitor(parts)
    for _ in range(TURNS):
        for start in range(0, len(pairs), PAGE):
            await monitor.check_batch(await synthetic.batch(parts, pairs[start : start + PAGE]))
        assert (await parts.cache.status(pairs[-1])).healthy
        print(synthetic.resident_bytes(), flush=True)
    await monitor.drain()
    await parts.aclose()


async def _enter(parts: Parts, pairs: Sequence[Pair], url: str) -> None:
    """Configure the pairs, and make their secrets."""
    entries = []
    for number, pair in enumerate(pairs):
        in_file = number % IN_FILE == 0
        token = "file://loopback" if in_file else "env://LOOPBACK"
        config = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": token}, "base_url": url})
        entries.append(Entry(pair, 1, config, reset=False))
        if in_file:
            folder = parts.settings.secrets_dir / encoded(pair.tenant)
            folder.mkdir()
            (folder / "loopback").write_text("good")
        else:
            os.environ[f"CONNECTOR_SECRET_{encoded(pair.tenant)}__LOOPBACK"] = "good"
    for start in range(0, len(entries), 1_000):
        await parts.schedule.put_many(entries[start : start + 1_000])


if __name__ == "__main__":
    run(figures)
