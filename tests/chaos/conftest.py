"""One running system for all tests, whole again at the beginning of each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig
from tests.fixtures_redis import RedisServer, redis_binary


@pytest.fixture(scope="package")
def running() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="cr-chaos-") as directory:
        rig = Rig(Path(directory), RedisServer(redis_binary(), Path(directory)))
        try:
            rig.start()
            yield rig
        finally:
            rig.close()


@pytest.fixture
def rig(running: Rig) -> Iterator[Rig]:
    """The running system; every pair is healthy. Between tests, when a part may be dead, nobody is called overdue."""
    running.make_whole()
    yield running
    running.watch.trouble()
