"""All pairs at a glance: counts, rows and groups."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bootstrap import Parts
from registry.errors import CacheUnavailable
from registry.health import Fault, HealthStatus, Reason, Status
from registry.ids import Pair
from registry.recording import Outcome
from registry.survey import Survey, Surveyor
from tests.fixtures_history import CONFIG, verdict

IDS = st.text("ab-1", min_size=1, max_size=6).filter(lambda text: text[0] != "-" and text[-1] != "-")


def status(tenant: str, connector: str, word: Status) -> HealthStatus:
    return HealthStatus(connector, tenant, word, Reason.OK, Fault.NONE, 0)


def survey(tenants: Iterable[str], word: Status = Status.HEALTHY) -> Survey:
    made = Survey(("github", "slack"))
    made.add([status(tenant, "github", word) for tenant in sorted(tenants)])
    return made


def test_a_row_has_a_place_for_each_connector() -> None:
    made = Survey(("github", "slack", "vertex"))
    made.add([status("acme", "vertex", Status.UNHEALTHY), status("acme", "github", Status.HEALTHY)])
    made.add([status("zeta", "github", Status.DEGRADED)])
    assert made.rows == {"acme": "h-x", "zeta": "d--"}
    assert (made.worst("acme"), made.worst("zeta"), made.pairs) == ("x", "d", 3)
    assert made.in_trouble() == ["acme", "zeta"]
    assert [trouble.tenant for trouble in made.troubles["vertex"]] == ["acme"]


def test_tenants_are_found_by_how_their_ids_begin() -> None:
    made = survey(["acme", "acme-01", "acme-02", "zeta"])
    assert list(made.under("acme-")) == ["acme-01", "acme-02"]
    assert list(made.under("")) == ["acme", "acme-01", "acme-02", "zeta"]


@given(st.sets(IDS, min_size=1, max_size=60), st.integers(1, 20))
def test_groups_hold_every_tenant_once_and_are_no_more_than_asked(tenants: set[str], most: int) -> None:
    groups = list(survey(tenants).groups("", most))
    assert [tenant for _, members in groups for tenant in members] == sorted(tenants)
    assert len(groups) <= most
    assert all(tenant.startswith(head) for head, members in groups for tenant in members)


def test_a_common_beginning_makes_no_group_of_its_own() -> None:
    groups = dict(survey([f"customer-{number:04}" for number in range(5_000)]).groups("", 60))
    assert len(groups) > 40
    assert all(head.startswith("customer-") for head in groups)


async def recorded(parts: Parts, pair: Pair, reason: Reason) -> None:
    await parts.schedule.put(pair, 1, CONFIG, reset=True)
    task = await parts.schedule.task(pair)
    assert task is not None
    await parts.recorder.record([Outcome(task, verdict(reason, parts.clock.now_ms() / 1000), "github|x")])


async def test_a_survey_is_what_the_cache_says(parts: Parts) -> None:
    await recorded(parts, Pair("github", "acme"), Reason.OK)
    await recorded(parts, Pair("slack", "acme"), Reason.CREDENTIAL_REJECTED)
    await parts.schedule.put(Pair("github", "beta"), 1, CONFIG, reset=True)
    surveyor = Surveyor(parts)
    found = await surveyor.look()
    place = {name: at for at, name in enumerate(found.connectors)}
    assert found.tenants == ["acme", "beta"]
    assert (found.rows["acme"][place["github"]], found.rows["acme"][place["slack"]]) == ("h", "x")
    assert found.rows["beta"][place["github"]] == "u"
    assert found.reasons["slack"][Reason.CREDENTIAL_REJECTED, Fault.TENANT] == 1
    await surveyor.aclose()


async def test_who_looks_after_a_time_when_nobody_did_sees_how_it_is_now(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("EVERY", 0.0), ("DUTY", 0.0), ("LOOKED", 0.05)):
        monkeypatch.setattr(f"registry.survey.{name}", seconds)
    surveyor = Surveyor(parts)
    assert (await surveyor.look()).pairs == 0
    assert surveyor._task
    await surveyor._task  # nobody looks any more
    await parts.configurations.set(Pair("github", "acme"), CONFIG, actor="ann")
    assert (await surveyor.look()).pairs == 1
    await surveyor.aclose()


async def test_without_redis_there_is_no_survey(settings: object) -> None:
    from registry.bootstrap import assemble
    from registry.settings import Settings

    parts = assemble(Settings.model_validate({"redis_url": "redis://127.0.0.1:9/0", "config_store": "memory"}))
    surveyor = Surveyor(parts)
    with pytest.raises(CacheUnavailable):
        await surveyor.look()
    await surveyor.aclose()
    await parts.aclose()
