import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

import pytest

from registry.connector import Connector, ConnectorConfig
from registry.errors import NotConfigured, SecretUnavailable, StoreUnavailable
from registry.ids import Pair
from registry.instances import Instances, Source
from tests.fixtures_replicas import ended
from tests.plugin import Plugin, plugin_config

ACME, GLOBEX, INITECH = (Pair("plugin", tenant) for tenant in ("acme", "globex", "initech"))
CONFIG = ConnectorConfig.model_validate(plugin_config())
Pool = Callable[..., Instances]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Makes a pool that keeps everything until told otherwise."""
    pools: list[Instances] = []

    def make(**limits: float) -> Instances:
        usual = {"capacity": 10, "idle": 900, "grace": 0, "renew": 900}
        pools.append(Instances(**{**usual, **limits}))  # type: ignore[arg-type]  # the capacity is a whole number
        return pools[-1]

    yield make
    for made in pools:
        await made.aclose()


class Gate(asyncio.Event):
    """What a construction waits for; `asked` once the first one does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.asked.set()
        return await super().wait()


def of(revision: int, *, gate: Gate | None = None, error: Exception | None = None) -> Source:
    """A source of this revision; it waits for `gate`, and fails with `error`."""

    async def build() -> Connector:
        if gate is not None:
            await gate.wait()
        if error is not None:
            raise error
        return Plugin(CONFIG)

    async def source() -> tuple[int, Callable[[], asyncio.Future[Connector]]]:
        return revision, lambda: asyncio.ensure_future(build())

    return source


def away(error: Exception) -> Source:
    async def source() -> tuple[int, Callable[[], asyncio.Future[Connector]]]:
        raise error

    return source


async def connector(pool: Instances, pair: Pair, revision: int = 1) -> Connector:
    return pool.lend(await pool.hold(pair, revision, of(revision)))


async def test_concurrent_callers_share_one_construction(pool: Pool) -> None:
    instances, gate = pool(), Gate()
    held = [asyncio.create_task(instances.hold(ACME, 1, of(1, gate=gate))) for _ in range(10)]
    await gate.asked.wait()
    gate.set()
    assert len(set(await asyncio.gather(*held))) == 1


async def test_a_failed_construction_fails_for_all_who_wait_and_is_tried_again_by_the_next(pool: Pool) -> None:
    instances, gate = pool(), Gate()
    failing = of(1, gate=gate, error=SecretUnavailable("away"))
    held = [asyncio.create_task(instances.hold(ACME, 1, failing)) for _ in range(10)]
    await gate.asked.wait()
    gate.set()
    failures = await asyncio.gather(*held, return_exceptions=True)
    assert len({id(failure) for failure in failures}) == 1
    assert isinstance(failures[0], SecretUnavailable)
    assert isinstance(await connector(instances, ACME), Plugin)


async def test_one_callers_cancellation_is_not_the_others(pool: Pool) -> None:
    instances, gate = pool(), Gate()
    gone, stays = (asyncio.create_task(instances.hold(ACME, 1, of(1, gate=gate))) for _ in range(2))
    await gate.asked.wait()
    gone.cancel()
    await asyncio.wait([gone])
    gate.set()
    instance = await stays
    instances.retire(lambda _: True)
    assert not isinstance(instance.connector, Plugin) or not instance.connector.closed
    instances.give_back(instance)
    assert await ended(instance.connector), "nobody's use is counted for ever"


async def test_a_retired_instance_is_closed_when_its_last_use_ends(pool: Pool) -> None:
    instances = pool()
    one, two = await instances.hold(ACME, 1, of(1)), await instances.hold(ACME, 1, of(1))
    assert one is two
    instances.retire(lambda pair: pair == ACME)
    instances.give_back(one)
    await instances.settle()
    assert isinstance(one.connector, Plugin)
    assert not one.connector.closed
    instances.give_back(two)
    await instances.settle()
    assert one.connector.closed


async def test_a_lent_instance_is_closed_a_grace_later(pool: Pool) -> None:
    instances = pool(grace=0.2)
    lent = await connector(instances, ACME)
    instances.retire(lambda _: True)
    await instances.settle()
    assert isinstance(lent, Plugin)
    assert not lent.closed
    assert await ended(lent), "without any further call"


async def test_the_least_recently_used_goes_first(pool: Pool) -> None:
    instances = pool(capacity=2)
    acme, globex = await connector(instances, ACME), await connector(instances, GLOBEX)
    await connector(instances, ACME)
    await connector(instances, INITECH)
    assert await ended(globex)
    assert await connector(instances, ACME) is acme


async def test_more_callers_than_places_all_get_their_connector(pool: Pool) -> None:
    instances, gate = pool(capacity=1), Gate()
    pairs = [Pair("plugin", f"t{n}") for n in range(5)]
    held = [asyncio.create_task(instances.hold(pair, 1, of(1, gate=gate))) for pair in pairs]
    await gate.asked.wait()
    gate.set()
    for instance in await asyncio.gather(*held):
        assert isinstance(instance.connector, Plugin)
        assert not instance.connector.closed
        instances.give_back(instance)


async def test_an_idle_instance_is_closed_without_any_further_call(pool: Pool) -> None:
    instances = pool(idle=0.05)
    assert await ended(await connector(instances, ACME))


async def test_an_instance_in_use_is_never_idle(pool: Pool) -> None:
    instances = pool(idle=0.02)
    used = await instances.hold(ACME, 1, of(1))
    assert await ended(await connector(instances, GLOBEX))
    assert isinstance(used.connector, Plugin)
    assert not used.connector.closed
    instances.give_back(used)


async def test_what_changes_while_it_is_built_is_built_again(pool: Pool) -> None:
    instances, gate = pool(), Gate()
    sources = iter([of(1, gate=gate), of(2)])

    async def source() -> object:
        return await next(sources)()

    held = asyncio.create_task(instances.hold(ACME, 1, source))  # type: ignore[arg-type]  # as `of` gives it
    await gate.asked.wait()
    instances.retire(lambda pair: pair == ACME, before=2)
    gate.set()
    assert (await held).revision == 2
    assert await ended(Plugin.made[-2]), "the outdated one is nobody's"


async def test_a_caller_who_knows_of_a_newer_revision_does_not_get_the_older_one(pool: Pool) -> None:
    instances = pool()
    old = await connector(instances, ACME, 1)
    new = await connector(instances, ACME, 2)
    assert await ended(old)
    assert await connector(instances, ACME, 2) is new


async def test_an_instance_whose_secrets_may_be_outdated_is_built_again(pool: Pool) -> None:
    instances = pool(renew=0.0)
    assert await connector(instances, ACME) is not await connector(instances, ACME)


async def test_while_the_secret_store_is_away_the_present_instance_goes_on(pool: Pool) -> None:
    instances = pool(renew=0.0)
    present = await connector(instances, ACME)
    again = await instances.hold(ACME, 1, of(1, error=SecretUnavailable("away")))
    assert again.connector is present
    with pytest.raises(SecretUnavailable):
        await instances.hold(ACME, 2, of(2, error=SecretUnavailable("away")))


async def test_while_the_store_is_away_the_present_instance_goes_on(pool: Pool) -> None:
    instances = pool()
    with pytest.raises(StoreUnavailable):
        await instances.hold(ACME, None, away(StoreUnavailable("away")))
    present = await connector(instances, ACME)
    assert (await instances.hold(ACME, None, away(StoreUnavailable("away")))).connector is present


async def test_when_the_pair_is_configured_no_more_its_instance_ends(pool: Pool) -> None:
    instances = pool()
    present = await connector(instances, ACME)
    with pytest.raises(NotConfigured):
        await instances.hold(ACME, None, away(NotConfigured("gone")))
    assert await ended(present)


async def test_a_connector_that_cannot_be_closed_hinders_nobody(pool: Pool) -> None:
    class Stuck(Plugin):
        async def aclose(self) -> None:
            await super().aclose()
            raise ZeroDivisionError

    async def build() -> Connector:
        return Stuck(CONFIG)

    async def source() -> tuple[int, Callable[[], asyncio.Future[Connector]]]:
        return 1, lambda: asyncio.ensure_future(build())

    instances = pool()
    stuck = instances.lend(await instances.hold(ACME, 1, source))
    other = await connector(instances, GLOBEX)
    instances.retire(lambda _: True)
    await instances.settle()
    assert await ended(stuck)
    assert await ended(other)
