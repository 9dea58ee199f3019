import asyncio

import pytest

from registry import keys
from registry.bootstrap import Parts, assemble
from registry.check import CheckSession
from registry.connector import ConnectorConfig
from registry.errors import CheckFailed
from registry.health import Reason, Status
from registry.ids import Pair
from registry.schedule import Claim
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from worker.batch import Batch, batched
from worker.dispatch import dispatch
from worker.monitor import Monitor

PATIENT = {"batch_patience": 0.3, "check_timeout": 1.0}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=PATIENT)


@pytest.fixture(autouse=True)
def plugin(parts: Parts) -> None:
    Plugin.made.clear()
    Plugin.started.clear()
    parts.catalog.register("plugin", Plugin)


async def enter(parts: Parts, *tenants: str, **behaviour: str | bool) -> None:
    for tenant in tenants:
        await parts.configurations.set(Pair("plugin", tenant), plugin_config(**behaviour), actor="test")


async def dispatched(parts: Parts) -> list[Batch]:
    """The batches of one tick, as a worker would receive them."""
    sent: list[Batch] = []
    await dispatch(parts, lambda batch: sent.append(Batch.read(batch.message())))
    return sent


async def reason(parts: Parts, tenant: str) -> Reason:
    return (await parts.cache.status(Pair("plugin", tenant))).reason


async def test_a_tick_sends_what_is_due_and_a_batch_checks_it(parts: Parts) -> None:
    await enter(parts, *[f"t{n}" for n in range(30)])
    batches = await dispatched(parts)
    assert sum(len(list(batch.pairs())) for batch in batches) == 30
    monitor = Monitor(parts)
    for batch in batches:
        await monitor.check_batch(batch)
    assert {await reason(parts, f"t{n}") for n in range(30)} == {Reason.OK}
    assert await dispatched(parts) == [], "nothing is due any more"


async def test_only_ids_travel_in_messages(parts: Parts) -> None:
    await enter(parts, "acme")
    (batch,) = await dispatched(parts)
    assert set(batch.message()) == {"id", "connector", "claims", "ends"}
    assert "enc://" not in str(batch.message())
    assert "plugin-token" not in str(batch.message())


async def test_one_pairs_bug_is_that_pairs_verdict_only(parts: Parts) -> None:
    await enter(parts, "acme", "globex")
    await enter(parts, "broken", bug=True)
    monitor = Monitor(parts)
    for batch in await dispatched(parts):
        await monitor.check_batch(batch)
    assert [await reason(parts, t) for t in ("acme", "globex", "broken")] == [
        Reason.OK,
        Reason.OK,
        Reason.MONITOR_ERROR,
    ]


async def test_a_hanging_pair_holds_up_nobody_in_its_batch(parts: Parts) -> None:
    await enter(parts, "acme", "globex")
    await enter(parts, "stuck", hang=True)
    monitor = Monitor(parts)
    (batch,) = await dispatched(parts)
    await monitor.check_batch(batch)
    assert [await reason(parts, tenant) for tenant in ("acme", "globex")] == [Reason.OK, Reason.OK]
    assert await reason(parts, "stuck") is Reason.NOT_CHECKED, "its own check goes on behind the batch"
    await monitor.drain()
    status = await parts.cache.status(Pair("plugin", "stuck"))
    assert (status.status, status.reason) == (Status.UNHEALTHY, Reason.TIMEOUT)


async def test_what_finds_no_place_at_its_host_is_handed_back_not_timed_out(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"host_concurrency": 2, "confirm_delay": 0.001}))
    parts.catalog.register("plugin", Plugin)
    await enter(parts, *[f"t{n}" for n in range(6)], hang=True)
    monitor = Monitor(parts)
    (batch,) = await dispatched(parts)
    await monitor.check_batch(batch)
    await monitor.drain()
    reasons = [await reason(parts, f"t{n}") for n in range(6)]
    assert sorted(reasons) == [Reason.NOT_CHECKED] * 4 + [Reason.TIMEOUT] * 2
    assert await parts.redis.hget(keys.PLATFORM, "released") == b"4"
    again = await dispatched(parts)
    assert sum(len(list(batch.pairs())) for batch in again) >= 4, "they are due again"
    await parts.aclose()


async def test_a_cancelled_batch_hands_its_pairs_back(parts: Parts) -> None:
    await enter(parts, "acme", hang=True)
    (batch,) = await dispatched(parts)
    running = asyncio.create_task(Monitor(parts).check_batch(batch))
    await Plugin.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(await dispatched(parts)) == 1
    assert await reason(parts, "acme") is Reason.NOT_CHECKED


async def test_a_redelivered_batch_changes_nothing(parts: Parts) -> None:
    await enter(parts, "acme")
    (batch,) = await dispatched(parts)
    monitor = Monitor(parts)
    await monitor.check_batch(batch)
    version = (await parts.cache.status(Pair("plugin", "acme"))).version
    await monitor.check_batch(batch)
    assert (await parts.cache.status(Pair("plugin", "acme"))).version == version


async def test_two_dispatchers_share_the_work(parts: Parts) -> None:
    await enter(parts, *[f"t{n}" for n in range(40)])
    one, two = await asyncio.gather(dispatched(parts), dispatched(parts))
    pairs = [pair for batch in one + two for pair in batch.pairs()]
    assert len(pairs) == len(set(pairs)) == 40


async def test_a_message_that_cannot_be_sent_leaves_its_pairs_due(parts: Parts) -> None:
    await enter(parts, "acme")

    def refuse(_: Batch) -> None:
        raise ConnectionError("broker away")

    with pytest.raises(ConnectionError):
        await dispatch(parts, refuse)
    assert len(await dispatched(parts)) == 1


async def test_no_more_batches_fly_than_the_workers_can_take(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"batch_size": 1, "in_flight_seconds": 1.2}))
    parts.catalog.register("plugin", Plugin)
    await enter(parts, *[f"t{n}" for n in range(40)])
    first = await dispatched(parts)
    assert len(first) <= 4
    assert await dispatched(parts) == [], "one connector never has more than its half"
    monitor = Monitor(parts)
    for batch in first:
        await monitor.check_batch(batch)
    assert await dispatched(parts) != []
    await parts.aclose()


async def test_a_tick_in_the_future_brings_every_turn_back(parts: Parts) -> None:
    await enter(parts, "acme")
    await dispatched(parts)
    shard, ahead = parts.schedule.shard(Pair("plugin", "acme")), parts.clock.now_ms() + 3_600_000
    await parts.redis.zadd(keys.due(shard, "plugin"), {"acme": ahead})
    await parts.redis.hset(keys.PLATFORM, "dispatch_ms", str(ahead))
    await dispatched(parts)
    due = await parts.redis.zscore(keys.due(shard, "plugin"), "acme")
    assert due is not None
    assert due < ahead - 3_000_000


async def test_a_lost_batch_is_counted_and_frees_its_place(parts: Parts) -> None:
    await parts.redis.zadd(keys.batches("plugin"), {"gone": 1})
    await enter(parts, "acme")
    await dispatched(parts)
    assert await parts.redis.hget(keys.PLATFORM, "batches_lost") == b"1"


def test_batches_hold_one_connector_and_a_bounded_number_of_pairs() -> None:
    claims = [Claim(name, shard, 1, tuple(f"t{n}" for n in range(30))) for name in ("a", "b") for shard in range(5)]
    batches = batched(claims, 100)
    assert all(len(list(batch.pairs())) <= 100 for batch in batches)
    assert sorted(pair for batch in batches for pair in batch.pairs()) == sorted(
        Pair(claim.connector, tenant) for claim in claims for tenant in claim.tenants
    )


class BreaksOne(Plugin):
    """A plugin that breaks for one tenant, where its configuration says so."""

    manifest = Plugin.manifest.model_copy(update={"name": "breaks"})

    async def check(self, session: CheckSession) -> None:
        bug = self.config.settings.get("bug")
        if bug == "cancelled":
            task = asyncio.ensure_future(asyncio.Event().wait())
            task.cancel()
            await task
        if bug == "reason":
            raise CheckFailed("no_such_reason", "x")  # type: ignore[arg-type]  # a plugin need not be typed

    @classmethod
    def address(cls, config: ConnectorConfig) -> str:
        """Fails with a `KeyError` for who has the bug `address`, and for nobody else."""
        known = dict.fromkeys((None, "cancelled", "reason"), "https://plugin.example.com")
        return known[config.settings.get("bug")]  # type: ignore[index]  # settings hold anything


@pytest.mark.parametrize("bug", ["cancelled", "reason", "address"])
async def test_what_a_plugin_breaks_for_one_tenant_is_nobody_elses_business(parts: Parts, bug: str) -> None:
    parts.catalog.register("breaks", BreaksOne)
    pairs = [Pair("breaks", tenant) for tenant in ("broken", *[f"t{n}" for n in range(5)])]
    for pair in pairs:
        config = plugin_config(bug=bug) if pair.tenant == "broken" else plugin_config()
        await parts.configurations.set(pair, config, actor="test")
    monitor = Monitor(parts)
    for batch in await dispatched(parts):
        await monitor.check_batch(batch)
    broken, *others = [(await parts.cache.status(pair)).reason for pair in pairs]
    assert set(others) == {Reason.OK}
    assert broken is (Reason.OK if bug == "address" else Reason.MONITOR_ERROR)
