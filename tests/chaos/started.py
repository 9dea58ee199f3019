"""A system of its own for a package or a module of tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.chaos.rig import Rig
from tests.fixtures_redis import RedisServer, redis_binary

Kind = TypeVar("Kind", bound=Rig)


@contextmanager
def started(kind: type[Kind], **settings_changed: object) -> Iterator[Kind]:
    """It runs, and every pair is right; at the end every process is ended."""
    with tempfile.TemporaryDirectory(prefix="cr-chaos-") as directory:
        redis = RedisServer(redis_binary(), Path(directory))
        rig = kind(Path(directory), redis, settings_changed=settings_changed)
        try:
            rig.start()
            yield rig
        finally:
            rig.close()
