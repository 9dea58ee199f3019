"""One running system for all tests, whole again at the beginning of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.rig import Rig
from tests.chaos.started import started


@pytest.fixture(scope="package")
def running() -> Iterator[Rig]:
    with started(Rig) as rig:
        yield rig


@pytest.fixture
def rig(running: Rig) -> Iterator[Rig]:
    """The running system; every pair is healthy. Between tests, when a part may be dead, nobody is called overdue."""
    running.make_whole()
    yield running
    running.watch.trouble()
