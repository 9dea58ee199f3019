import pytest

from registry.errors import ConnectorUnhealthy, InvalidId
from registry.facade import ConnectorRegistry
from registry.health import REASONS, Fault, HealthStatus, Reason, Status, status_of
from registry.route import choose, distrust
from tests.fixtures_redis import RedisServer
from tests.fixtures_replicas import Replicas
from tests.plugin import Plugin, plugin_config


def status(name: str, reason: Reason, last_known: Status | None = None) -> HealthStatus:
    fault = REASONS[reason].fault
    return HealthStatus(name, "acme", status_of(reason, fault), reason, fault, 0, last_known=last_known)


def statuses(**reasons: Reason) -> dict[str, HealthStatus]:
    return {name: status(name, reason) for name, reason in reasons.items()}


def stale(name: str, last_known: Status) -> HealthStatus:
    return status(name, Reason.STALE, last_known)


def test_healthy_comes_before_degraded_whatever_the_order() -> None:
    page = statuses(a=Reason.QUOTA_LOW, b=Reason.OK)
    assert choose(["a", "b"], page).connector == "b"
    assert choose(["b", "a"], page).connector == "b"


def test_among_equals_the_callers_order_counts() -> None:
    page = statuses(a=Reason.OK, b=Reason.OK)
    route = choose(["b", "a"], page)
    assert (route.connector, route.refused) == ("b", {"a": "usable, but another comes first in the order asked for"})


def test_every_refusal_says_why_and_what_to_do() -> None:
    route = choose(["a", "b", "typo"], statuses(a=Reason.CREDENTIAL_REJECTED, b=Reason.NOT_CONFIGURED))
    assert not route
    assert "unhealthy: credential_rejected. Ask the tenant" in route.refused["a"]
    assert "not_configured" in route.refused["b"]
    assert route.refused["typo"] == "no connector of that name is registered"
    assert route.explanation.splitlines()[0].startswith("a: unhealthy")


def test_an_unknown_one_is_chosen_only_if_so_asked_and_never_before_a_usable_one() -> None:
    page = statuses(a=Reason.MONITOR_ERROR, b=Reason.RATE_LIMITED)
    assert choose(["a", "b"], page, allow_unknown=True).connector == "b"
    assert choose(["a"], page).connector is None
    assert choose(["a"], page, allow_unknown=True).connector == "a"


def test_what_is_not_configured_or_known_to_be_broken_is_never_chosen() -> None:
    page = statuses(a=Reason.NOT_CONFIGURED, b=Reason.CREDENTIAL_REJECTED) | {"c": stale("c", Status.UNHEALTHY)}
    for panic in (None, "most are unknown"):
        assert choose(["a", "b", "c"], page, allow_unknown=True, panic=panic).connector is None


def test_when_most_is_unknown_the_last_known_healthy_one_is_chosen_and_it_says_so() -> None:
    page = {
        "a": stale("a", Status.UNHEALTHY),
        "b": stale("b", Status.DEGRADED),
        "c": stale("c", Status.HEALTHY),
        "d": status("d", Reason.CREDENTIAL_REJECTED),
    }
    panic = distrust(page.values())
    assert panic is not None
    assert panic.startswith("3 of 4 connectors are unknown")
    route = choose(["a", "b", "c", "d"], page, panic=panic)
    assert (route.connector, route.panic) == ("c", panic)
    assert route.explanation.splitlines()[:2] == [panic, "c: chosen, unknown (stale)"]


def test_a_usable_one_is_no_panic() -> None:
    page = {"a": stale("a", Status.HEALTHY), "b": stale("b", Status.HEALTHY), "c": status("c", Reason.OK)}
    route = choose(["a", "c"], page, panic=distrust(page.values()))
    assert (route.connector, route.panic) == ("c", None)


def test_half_is_not_most() -> None:
    page = {"a": stale("a", Status.HEALTHY), "b": status("b", Reason.CREDENTIAL_REJECTED)}
    assert distrust(page.values()) is None


def test_connectors_the_tenant_does_not_have_do_not_count() -> None:
    page = {"a": stale("a", Status.HEALTHY), **statuses(b=Reason.NOT_CONFIGURED, c=Reason.NOT_CONFIGURED)}
    assert distrust(page.values()) is not None


def test_a_single_new_pair_is_no_reason_for_distrust_but_several_are() -> None:
    assert distrust(statuses(a=Reason.NOT_CHECKED).values()) is None
    assert distrust(statuses(a=Reason.NOT_CHECKED, b=Reason.NOT_CHECKED).values()) is not None


def test_our_own_faults_are_unknown_whoever_they_look_like() -> None:
    ours = HealthStatus("a", "acme", Status.UNKNOWN, Reason.TIMEOUT, Fault.PLATFORM, 0)
    assert distrust([ours]) is not None


async def configured(reg: ConnectorRegistry, **reasons: str) -> None:
    await reg._parts.reconciler.run()
    for name, reason in reasons.items():
        if not reg.has(name):
            reg.register(name, Plugin)
        await reg.set_config(name, plugin_config(reason=reason), tenant_id="acme", actor="test")
        await reg.health_check(name, tenant_id="acme", max_age=0)


async def test_a_group_stands_for_its_connectors(replica: Replicas) -> None:
    reg = await replica(route_groups={"chat": ("plugin", "backup")})
    await configured(reg, plugin="credential_rejected", backup="ok", other="ok")
    route = await reg.route("chat", tenant_id="acme")
    assert (route.connector, list(route.refused)) == ("backup", ["plugin"])
    assert (await reg.route(["other", "chat"], tenant_id="acme")).connector == "other"
    assert (await reg.route("other", tenant_id="acme")).connector == "other"


async def test_the_name_of_nothing_is_refused_with_a_reason(replica: Replicas) -> None:
    reg = await replica()
    await configured(reg, plugin="ok")
    assert (await reg.route(["typo", "plugin"], tenant_id="acme")).refused["typo"].startswith("no connector")
    with pytest.raises(InvalidId):
        await reg.route("Not a name", tenant_id="acme")


async def test_a_tenant_is_never_routed_to_what_only_others_have(replica: Replicas) -> None:
    reg = await replica()
    await configured(reg, plugin="ok")
    route = await reg.route("plugin", tenant_id="globex", allow_unknown=True)
    assert not route
    assert "not_configured" in route.refused["plugin"]


async def test_when_redis_is_away_routing_falls_open_and_says_so(replica: Replicas, redis_server: RedisServer) -> None:
    reg = await replica(read_timeout=0.2, redis_timeout=0.2)
    await configured(reg, plugin="ok")
    redis_server.kill()
    route = await reg.route("plugin", tenant_id="acme")
    redis_server.start()
    assert route.connector == "plugin"
    assert route.panic is not None
    assert route.status is not None
    assert route.status.reason is Reason.MONITOR_ERROR


async def test_wait_healthy_returns_as_soon_as_it_works(replica: Replicas) -> None:
    here, there = await replica(), await replica()
    await configured(here, plugin="credential_rejected")
    with pytest.raises(ConnectorUnhealthy) as caught:
        await there.wait_healthy("plugin", tenant_id="acme", timeout=0)
    assert caught.value.status.reason is Reason.CREDENTIAL_REJECTED
    await configured(here, plugin="quota_low")
    assert (await there.wait_healthy("plugin", tenant_id="acme", timeout=10)).status is Status.DEGRADED
