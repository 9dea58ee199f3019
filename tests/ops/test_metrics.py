"""``worker.families`` is what is exposed: no family without a row, no row with other labels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from registry.bootstrap import assemble
from registry.health import Quota, Reason, Verdict
from registry.ids import Pair
from registry.incidents import Incident, IncidentKind, dump
from registry.keys import INCIDENTS, PLATFORM
from registry.lease import Lease
from registry.recording import Outcome
from registry.settings import Settings
from tests.test_schedule import enter
from worker.events import box
from worker.families import FAMILIES
from worker.publish import exposition

PAGE = (Path(__file__).parent.parent.parent / "docs/metrics.md").read_text(encoding="utf-8")


@pytest.fixture
async def exposed(settings: Settings) -> AsyncIterator[list[Metric]]:
    """What a system exposes that has something to say in every family."""
    parts = assemble(settings)
    for tenant, reason in (("acme", Reason.OK), ("globex", Reason.CREDENTIAL_EXPIRING)):
        await enter(parts, Pair("github", tenant))
        task = await parts.schedule.task(Pair("github", tenant))
        assert task is not None
        now = parts.clock.now_ms()
        told = Verdict(reason, checked_ms=now, credential_expires_ms=now + 10**9, quota=Quota(100, 9))
        await parts.recorder.record([Outcome(task, told, "github|api.github.com")])
    await parts.redis.hset(PLATFORM, "dispatch_ms", str(parts.clock.now_ms()))
    incident = Incident(IncidentKind.OUTAGE, "github|api.github.com", 1, 1, 5, "no usable answer")
    await parts.redis.hset(INCIDENTS, incident.id, dump(incident))
    await parts.redis.hset(box.SENT, "ops", "0-0")
    await Lease(parts.redis, "webhook:ops", "test").hold(60)
    now = parts.clock.now_ms()
    await parts.maintenance.add(actor="ann", starts_ms=now, ends_ms=now + 60_000, tenant="acme")
    yield list((await exposition(parts)).collect())
    await parts.aclose()


async def test_every_family_of_the_table_is_exposed_and_no_other(exposed: list[Metric]) -> None:
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in exposed}
    assert names == set(FAMILIES)


async def test_a_family_is_exposed_as_the_table_says(exposed: list[Metric]) -> None:
    for metric in exposed:
        family = FAMILIES[f"{metric.name}_total" if metric.type == "counter" else metric.name]
        assert (metric.type, metric.documentation) == (family.kind, family.meaning)
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample
        assert metric.samples, family.name


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_documented(name: str) -> None:
    assert f"| `{name}` | {FAMILIES[name].kind} |" in PAGE
