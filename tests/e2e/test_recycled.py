"""A check process that is replaced (`worker_max_tasks_per_child`) while a check hangs behind its last batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from celery import Celery

from registry import HealthView, keys
from registry.bootstrap import Parts
from registry.health import Reason
from registry.ids import Pair
from registry.settings import Settings
from tests.e2e.test_scale_out import LEAN, Fleet, ours
from tests.e2e.test_up import environment
from tests.fixtures_redis import RedisServer
from tests.fixtures_vendors import demo_config
from tests.waiting import eventually
from worker.batch import Batch
from worker.demo.vendors import DemoVendors
from worker.dispatch import dispatch

STUCK, OTHER = "acme-01", "acme-02"
PACE = {"CHECK_TIMEOUT": "3", "BATCH_PATIENCE": "30", "CHECK_INTERVAL": "3600", "CLAIM_LEASE": "60"}
"""Nobody is due again: a verdict is that of the one batch."""


@pytest.fixture
def fleet(settings: Settings, script: DemoVendors, tmp_path: Path) -> Iterator[Fleet]:
    """A worker with one check process, which is replaced after each batch."""
    fleet = Fleet(tmp_path, environment() | ours(settings, script.url, "http://127.0.0.1:1") | PACE)
    fleet.start("checks", "worker", "--queues", "checks", "--concurrency", "1", "--max-tasks-per-child", "1", *LEAN)
    yield fleet
    fleet.end()


async def test_it_ends_what_its_batch_has_left_behind(
    parts: Parts, redis_server: RedisServer, script: DemoVendors, fleet: Fleet
) -> None:
    script.script.set(STUCK, "gitlab", "hanging")
    for number, tenant in enumerate((STUCK, OTHER), 1):
        await parts.configurations.set(Pair("gitlab", tenant), demo_config("gitlab", script, number), actor="test")
    with redis_server.client() as client, HealthView(parts.settings.redis_url, timeout=2.0, shards=4) as view:

        def alive() -> list[bytes]:
            return cast("list[bytes]", client.hkeys(keys.RUNNING))

        def reason(tenant: str) -> Reason:
            return view.status("gitlab", tenant).reason

        eventually("a check process", lambda: bool(alive()))
        (first,) = alive()
        with Celery(broker=fleet.environment["BROKER_URL"]) as sender:

            def send(batch: Batch) -> None:
                sender.send_task("check_batch", (batch.message(),), queue="checks")

            await dispatch(parts, send)
        eventually("the other one's verdict", lambda: reason(OTHER) is Reason.OK)
        assert reason(STUCK) is Reason.NOT_CHECKED
        eventually("its own verdict", lambda: reason(STUCK) is Reason.TIMEOUT)
        eventually("another check process", lambda: alive() not in ([], [first]))
