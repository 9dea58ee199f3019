import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import cast
from unittest.mock import AsyncMock, Mock

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.errors import StoreUnavailable
from registry.health import Reason
from registry.ids import SYSTEM, Pair
from registry.loss import LOOK_AGAIN
from registry.schedule import Entry, Scheduled
from registry.stores import Change, Changes, StoredConfig
from tests.fixtures_redis import RedisServer
from tests.test_schedule import ACME, CONFIG, GLOBEX, record


async def scheduled(parts: Parts, pair: Pair) -> int | None:
    (found,) = await parts.schedule.get([pair])
    return found.revision if found else None


async def test_what_the_store_has_is_scheduled(parts: Parts) -> None:
    await parts.store.set_many([(ACME, CONFIG), (GLOBEX, CONFIG)], actor="test")
    await parts.reconciler.run()
    assert [await scheduled(parts, ACME), await scheduled(parts, GLOBEX)] == [1, 1]


async def test_every_connectors_endpoint_is_scheduled_once(parts: Parts) -> None:
    await parts.reconciler.run()
    found = await parts.schedule.get([Pair(name, SYSTEM) for name in parts.catalog.list()])
    assert [service.base_url for service in found if service] == [
        parts.catalog.load(name).manifest.default_base_url for name in parts.catalog.list()
    ]


async def test_changes_are_followed(parts: Parts) -> None:
    await parts.reconciler.run()
    await parts.store.set_config(ACME, CONFIG, actor="test")
    assert await parts.reconciler.run() == {"changed": 1}
    await parts.store.delete_config(ACME, actor="test")
    assert await parts.reconciler.run() == {"changed": 1}
    assert await scheduled(parts, ACME) is None
    assert await parts.reconciler.run() == {"changed": 0}


async def test_a_changed_credential_voids_the_verdict_and_a_changed_label_does_not(parts: Parts) -> None:
    await parts.store.set_config(ACME, CONFIG, actor="test")
    await parts.reconciler.run()
    task = await parts.schedule.task(ACME)
    assert task is not None
    await record(parts, task)

    await parts.store.set_config(ACME, CONFIG.model_copy(update={"label": "main"}), actor="test")
    await parts.reconciler.run()
    assert (await parts.cache.status(ACME)).reason is Reason.OK

    other = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://OTHER"}})
    await parts.store.set_config(ACME, other, actor="test")
    await parts.reconciler.run()
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CHECKED


async def test_a_configuration_that_cannot_be_written_holds_up_no_other(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Change(ACME, 1, deleted=False, config=CONFIG.model_copy(update={"label": "\ud800"}))
    pages = parts.store.changes_since

    async def with_odd_one(cursor: str | None, *, limit: int = 500) -> Changes:
        page = await pages(cursor, limit=limit)
        return replace(page, items=(odd, *page.items))

    monkeypatch.setattr(parts.store, "changes_since", with_odd_one)
    await parts.store.set_config(GLOBEX, CONFIG, actor="test")
    log = Mock()
    monkeypatch.setattr("registry.reconcile.log", log)
    await parts.reconciler.run()
    assert [await scheduled(parts, ACME), await scheduled(parts, GLOBEX)] == [None, 1]
    log.error.assert_called_once()
    assert (log.error.call_args.args, log.error.call_args.kwargs["pair"]) == (("broken_configuration",), str(ACME))
    await parts.configurations.announce(StoredConfig(ACME, 1, cast("ConnectorConfig", odd.config), "test", 0, 1))


async def test_the_schedule_is_rebuilt_after_redis_lost_its_data(parts: Parts, redis_server: RedisServer) -> None:
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(60)], actor="test")
    await parts.reconciler.run()
    with redis_server.client() as client:
        client.flushall()
    await parts.reconciler.run()
    depth = await parts.schedule.depth(["github"])
    pairs, due = depth["github"]
    assert pairs == 61, "sixty tenants and the service check"
    assert due < 20, "spread over an interval, not all at once"


async def test_after_a_loss_a_pair_of_a_long_interval_is_checked_as_soon_as_others(
    parts: Parts, redis_server: RedisServer
) -> None:
    daily = CONFIG.model_copy(update={"interval": 86_400.0})
    await parts.store.set_many([(Pair("github", f"t{n}"), daily) for n in range(20)], actor="test")
    await parts.reconciler.run()
    with redis_server.client() as client:
        client.flushall()
    await parts.reconciler.run()
    turns = [
        await parts.redis.zscore(keys.due(parts.schedule.shard(Pair("github", f"t{n}")), "github"), f"t{n}")
        for n in range(20)
    ]
    assert max(turn or inf for turn in turns) <= parts.clock.now_ms() + 60_000


@pytest.mark.parametrize("lost", [True, False])
async def test_pairs_of_a_connector_that_is_not_registered_any_more_hold_up_no_comparison(
    parts: Parts, *, lost: bool
) -> None:
    """An extension was uninstalled. What is configured stays configured."""
    pairs = [(Pair("extension", f"t{n}"), CONFIG) for n in range(60)]
    await parts.store.set_many([*pairs, (GLOBEX, CONFIG)], actor="test")
    await parts.schedule.put(ACME, 7, CONFIG, reset=True)
    if not lost:
        for shard in range(parts.settings.shards):
            await parts.redis.set(keys.epoch(shard), 1)
    assert (await parts.reconciler.run())["removed"] == 1
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CONFIGURED
    assert await parts.redis.keys("*:seen:*") == []
    assert await parts.reconciler.run() == {"changed": 0}, "nothing is compared again"


async def test_what_the_store_does_not_know_is_taken_out(parts: Parts) -> None:
    await parts.schedule.put(ACME, 7, CONFIG, reset=True)
    await parts.store.set_config(GLOBEX, CONFIG, actor="test")
    assert (await parts.reconciler.run())["removed"] == 1
    assert await scheduled(parts, ACME) is None
    assert await scheduled(parts, GLOBEX) == 1


async def test_a_pair_configured_while_everything_is_compared_stays(parts: Parts) -> None:
    await parts.store.set_config(ACME, CONFIG, actor="test")
    await parts.schedule.put(ACME, 1, CONFIG, reset=True)
    assert not await parts.reconciler._remove_unknown(ACME)
    assert await scheduled(parts, ACME) == 1


async def test_only_a_complete_index_is_believed(parts: Parts) -> None:
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CHECKED
    await parts.reconciler.run()
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CONFIGURED
    assert await parts.redis.exists(*[keys.epoch(shard) for shard in range(parts.settings.shards)]) == 4


@pytest.mark.parametrize("rounds", [1, 3])
async def test_a_round_without_changes_changes_nothing(parts: Parts, rounds: int) -> None:
    await parts.store.set_config(ACME, CONFIG, actor="test")
    for _ in range(rounds):
        await parts.reconciler.run()
    assert await scheduled(parts, ACME) == 1


async def test_a_comparison_longer_than_a_round_goes_on_in_the_next(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(1200)], actor="test")
    assert [await parts.reconciler.run() for _ in range(4)] == [
        {"changed": 500},
        {"changed": 500},
        {"changed": 200, "removed": 0},
        {"changed": 0},
    ]
    assert (await parts.schedule.depth(["github"]))["github"][0] == 1201
    assert await parts.redis.keys("*:seen:*") == []


async def test_an_index_that_is_not_filled_yet_is_not_believed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(600)], actor="test")
    await parts.reconciler.run()
    assert (await parts.cache.status(Pair("slack", "t1"))).reason is Reason.NOT_CHECKED
    await parts.reconciler.run()
    assert (await parts.cache.status(Pair("slack", "t1"))).reason is Reason.NOT_CONFIGURED


async def test_changes_are_followed_while_everything_is_compared(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(1200)], actor="test")
    await parts.reconciler.run()
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.redis.hset(keys.CURSOR, "full_ms", "0")
    await parts.reconciler.run()
    await parts.store.set_config(ACME, CONFIG, actor="test")
    assert await parts.reconciler.run() == {"changed": 1}, "and the comparison is in its middle"
    assert await scheduled(parts, ACME) == 1


async def test_data_lost_in_the_middle_of_a_comparison_begins_it_anew(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(1200)], actor="test")
    await parts.reconciler.run()
    with redis_server.client() as client:
        client.flushall()
    for _ in range(3):
        await parts.reconciler.run()
    assert (await parts.schedule.depth(["github"]))["github"][0] == 1201
    assert (await parts.cache.status(Pair("slack", "t1"))).reason is Reason.NOT_CONFIGURED


async def test_a_store_that_comes_back_empty_has_deleted_nobody(parts: Parts) -> None:
    await parts.schedule.put_many([Entry(pair, 7, CONFIG, reset=True) for pair in (ACME, GLOBEX)])
    for _ in range(2):  # it is said in every round, not only when everything is compared
        with pytest.raises(StoreUnavailable, match=r"has lost pairs that nobody deleted \(2\)"):
            await parts.reconciler.run()
    assert [await scheduled(parts, ACME), await scheduled(parts, GLOBEX)] == [7, 7]
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CHECKED, "and not: not configured"


async def test_a_store_that_is_being_restored_has_deleted_nobody_either(parts: Parts) -> None:
    """Not even when most is back already. Those who are configured and deleted meanwhile are followed."""
    pairs = [Pair("github", f"t{n}") for n in range(5)]
    await parts.schedule.put_many([Entry(pair, 7, CONFIG, reset=True) for pair in pairs])
    with pytest.raises(StoreUnavailable, match=r"\(5\)"):
        await parts.reconciler.run()
    await parts.store.set_many([(pair, CONFIG) for pair in pairs[:4]], actor="who restores it")
    await parts.store.delete_config(pairs[0], actor="who restores it")
    with pytest.raises(StoreUnavailable, match=r"\(5\)"):
        await parts.reconciler.run()
    assert [await scheduled(parts, pair) is not None for pair in pairs] == [False, True, True, True, True]

    await look_again(parts)
    with pytest.raises(StoreUnavailable, match=r"\(1\)"):
        await parts.reconciler.run()
    await parts.store.set_config(pairs[4], CONFIG, actor="who restores it")
    await look_again(parts)
    assert (await parts.reconciler.run())["removed"] == 0
    assert await parts.reconciler.run() == {"changed": 0}


async def look_again(parts: Parts) -> None:
    """Let the time pass after which a store that was lost is compared again."""
    await parts.redis.hset(keys.CURSOR, "full_ms", str(int(parts.clock.now_ms() - LOOK_AGAIN * 1000 - 10_000)))


async def test_who_was_configured_while_an_empty_store_was_compared_is_no_loss(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = parts.store.changes_since

    async def configured_meanwhile(cursor: str | None, *, limit: int = 500) -> Changes:
        page = await pages(cursor, limit=limit)
        for pair in (ACME, GLOBEX):
            await parts.configurations.set(pair, CONFIG, actor="test")
        return page

    monkeypatch.setattr(parts.store, "changes_since", configured_meanwhile)
    assert (await parts.reconciler.run())["removed"] == 0
    assert [await scheduled(parts, ACME), await scheduled(parts, GLOBEX)] == [1, 1]


async def nothing_is_believed_until_the_next_round(parts: Parts, pairs: Sequence[Pair]) -> None:
    nobody = Pair("slack", "t1")
    assert {(await parts.cache.status(pair)).reason for pair in (*pairs, nobody)} == {Reason.NOT_CHECKED}
    await parts.reconciler.run()
    assert (await parts.schedule.depth(["github"]))["github"][0] == len(pairs) + 1, "and the service check"
    assert (await parts.cache.status(nobody)).reason is Reason.NOT_CONFIGURED


@pytest.mark.parametrize("lost_at", [1, 2, 3], ids=["first page", "second page", "last page"])
async def test_an_index_that_was_lost_while_it_was_compared_is_not_believed(
    parts: Parts, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, lost_at: int
) -> None:
    """What was entered before is gone, and the schedule was read before: nothing tells but what Redis itself keeps."""
    pairs = [Pair("github", f"t{n}") for n in range(1200)]
    await parts.store.set_many([(pair, CONFIG) for pair in pairs], actor="test")
    await parts.reconciler.run()
    await parts.redis.hset(keys.CURSOR, "full_ms", "0")
    known, pages = parts.schedule.get, itertools.count()  # the first one is of following changes

    async def known_before_it_was_lost(pairs: Sequence[Pair]) -> list[Scheduled | None]:
        found = await known(pairs)
        if next(pages) == lost_at:
            with redis_server.client() as client:
                client.flushall()
        return found

    monkeypatch.setattr(parts.schedule, "get", known_before_it_was_lost)
    await parts.reconciler.run()
    await nothing_is_believed_until_the_next_round(parts, pairs)


async def test_of_two_comparisons_only_the_one_that_began_after_the_loss_completes_the_index(
    parts: Parts, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease that keeps them apart is lost with everything else."""
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(1200)], actor="test")
    pages, first = parts.store.changes_since, itertools.count()

    async def overtaken(cursor: str | None, *, limit: int = 500) -> Changes:
        page = await pages(cursor, limit=limit)
        if next(first) == 1:
            with redis_server.client() as client:
                client.flushall()
            monkeypatch.setattr("registry.reconcile.ROUND", 0)
            assert await parts.reconciler.run() == {"changed": 500}, "the other one is in its middle"
            monkeypatch.setattr("registry.reconcile.ROUND", 15)
        return page

    monkeypatch.setattr(parts.store, "changes_since", overtaken)
    await parts.reconciler.run()
    assert (await parts.cache.status(Pair("slack", "t1"))).reason is Reason.NOT_CHECKED
    while not await parts.redis.exists(keys.epoch(0)):
        await parts.reconciler.run()
    assert (await parts.schedule.depth(["github"]))["github"][0] == 1201


async def after_page(parts: Parts, monkeypatch: pytest.MonkeyPatch, number: int, then: Callable[[], None]) -> None:
    """Run a round in which `then` happens once as the store is asked for the page after page `number` (from 1)."""
    pages, asked = parts.store.changes_since, itertools.count()

    async def asked_for(cursor: str | None, *, limit: int = 500) -> Changes:
        if next(asked) == number:
            then()
        return await pages(cursor, limit=limit)

    with monkeypatch.context() as patch:
        patch.setattr(parts.store, "changes_since", asked_for)
        await parts.reconciler.run()


async def test_an_index_that_was_set_back_while_it_was_filled_is_not_believed(
    parts: Parts, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover to a replica that is behind: the copy has the comparison's mark, and lacks its second page."""
    pairs = [Pair("github", f"t{n}") for n in range(1600)]
    await parts.store.set_many([(pair, CONFIG) for pair in pairs], actor="test")
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.reconciler.run()
    monkeypatch.setattr("registry.reconcile.ROUND", 15)
    with redis_server.client() as client:
        copy = {key: client.dump(key) for key in client.scan_iter()}

        def set_back() -> None:
            client.flushall()
            for key, dumped in copy.items():
                client.restore(key, 0, dumped)

        await after_page(parts, monkeypatch, 2, set_back)
    await nothing_is_believed_until_the_next_round(parts, pairs)


async def test_a_pair_that_the_schedule_lost_after_it_was_met_is_entered_again(
    parts: Parts, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [Pair("github", f"t{n}") for n in range(600)]
    lost = pairs[7]
    await parts.store.set_many([(pair, CONFIG) for pair in pairs], actor="test")
    shard = parts.schedule.shard(lost)

    def lose() -> None:
        with redis_server.client() as client:
            client.zrem(keys.due(shard, lost.connector), lost.tenant)
            client.hdel(keys.configs(shard, lost.connector), lost.tenant)
            client.delete(keys.index(shard, lost.tenant))

    await after_page(parts, monkeypatch, 1, lose)
    assert (await parts.cache.status(lost)).reason is Reason.NOT_CHECKED
    await parts.reconciler.run()
    assert await scheduled(parts, lost) == 1


async def test_pairs_and_service_checks_that_lost_only_their_turns_get_others(parts: Parts) -> None:
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(30)], actor="test")
    await parts.reconciler.run()
    await parts.redis.delete(*[keys.due(shard, "github") for shard in range(parts.settings.shards)])
    await parts.redis.hset(keys.CURSOR, "full_ms", "0")
    await parts.reconciler.run()
    pairs, due = (await parts.schedule.depth(["github"]))["github"]
    assert pairs == 31, "and the service check"
    assert due < 15, "spread over an interval, not all at once"
    assert await parts.reconciler.run() == {"changed": 0, "removed": 0}
    assert await parts.reconciler.run() == {"changed": 0}


async def test_a_comparison_whose_notes_are_gone_begins_anew_and_asks_for_nobody_singly(
    parts: Parts, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not outlive a store that is away for an hour; whom it had met would all be strangers."""
    await parts.store.set_many([(Pair("github", f"t{n}"), CONFIG) for n in range(1600)], actor="test")
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    await parts.reconciler.run()
    monkeypatch.setattr("registry.reconcile.ROUND", 15)
    with redis_server.client() as client:
        client.delete(*client.scan_iter("*:seen:*"))
    asked = AsyncMock(wraps=parts.store.get_config)
    monkeypatch.setattr(parts.store, "get_config", asked)
    await parts.reconciler.run()
    assert (await parts.cache.status(Pair("slack", "t1"))).reason is Reason.NOT_CHECKED
    assert (await parts.reconciler.run())["removed"] == 0
    assert asked.await_count == 0


async def test_many_who_are_taken_out_are_so_in_several_rounds(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    there, gone = ([Pair("github", f"{name}{n}") for n in range(50)] for name in ("there", "gone"))
    await parts.store.set_many([(pair, CONFIG) for pair in there], actor="test")
    await parts.schedule.put_many([Entry(pair, 1, CONFIG, reset=True) for pair in gone])
    monkeypatch.setattr("registry.reconcile.ROUND", 0)
    rounds = [await parts.reconciler.run() for _ in range(3)]
    assert [done["removed"] for done in rounds] == [20, 20, 10]
    assert (await parts.schedule.depth(["github"]))["github"][0] == 51
    assert await parts.reconciler.run() == {"changed": 0, "removed": 0}
