from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from registry import keys
from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.health import Fault, Reason, Status, Verdict
from registry.ids import SYSTEM, Pair
from registry.record import Kind, decode, seen
from registry.recording import Outcome
from registry.schedule import Claim, Task
from registry.tally import Ending, read_tallies, since
from tests.fixtures_redis import RedisServer

CONFIG = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://TOKEN"}})
ACME, GLOBEX = Pair("github", "acme"), Pair("github", "globex")


async def enter(parts: Parts, *pairs: Pair, revision: int = 1) -> None:
    for pair in pairs:
        assert await parts.schedule.put(pair, revision, CONFIG, reset=True)


async def claimed(parts: Parts) -> list[Task]:
    return await parts.schedule.read(await parts.schedule.claim({"github": 1000}))


async def on_demand(parts: Parts, pair: Pair) -> list[Task]:
    task = await parts.schedule.task(pair)
    return [task] if task else []


async def record(parts: Parts, task: Task, reason: Reason = Reason.OK) -> bool:
    verdict = Verdict(reason, Fault.NONE, parts.clock.now_ms())
    return task.pair in await parts.recorder.record([Outcome(task, verdict, "github|api.github.com")])


async def stored(parts: Parts, pair: Pair) -> str:
    wire = await parts.redis.get(keys.verdict(parts.schedule.shard(pair), pair))
    assert isinstance(wire, bytes)
    return seen(pair, decode(wire), parts.clock.now_ms()).reason.value


async def test_a_new_pair_is_due_at_once(parts: Parts) -> None:
    await enter(parts, ACME)
    assert [task.pair for task in await claimed(parts)] == [ACME]


async def test_what_is_claimed_is_claimed_by_nobody_else(parts: Parts) -> None:
    pairs = [Pair("github", f"t{n}") for n in range(250)]
    await enter(parts, *pairs)
    first, second = await claimed(parts), await claimed(parts)
    assert {task.pair for task in first} == set(pairs)
    assert second == []


async def test_a_claim_takes_no_more_than_asked_for(parts: Parts) -> None:
    await enter(parts, *[Pair("github", f"t{n}") for n in range(300)])
    claims = await parts.schedule.claim({"github": 40})
    assert 40 <= sum(len(claim.tenants) for claim in claims) <= 44


async def test_an_unfinished_claim_is_due_again_after_its_lease(parts: Parts) -> None:
    await enter(parts, ACME)
    (claim,) = await parts.schedule.claim({"github": 10})
    now = parts.clock.now_ms()
    due = await parts.redis.zscore(keys.due(claim.shard, "github"), "acme")
    assert due is not None
    assert 0 <= now + 60_000 - due < 5_000


async def test_fences_grow(parts: Parts) -> None:
    fences = [await parts.schedule.fence(ACME) for _ in range(5)]
    assert fences == sorted(set(fences))


async def test_fences_grow_although_the_counter_is_ahead_of_the_clock(parts: Parts) -> None:
    ahead = 9 * 10**15
    await parts.redis.set(keys.fence(parts.schedule.shard(ACME)), ahead)
    assert await parts.schedule.fence(ACME) == ahead + 1


async def test_a_recorded_check_moves_the_pair_to_its_next_turn(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    assert await record(parts, task)
    assert await stored(parts, ACME) == "ok"
    due = await parts.redis.zscore(keys.due(parts.schedule.shard(ACME), "github"), "acme")
    assert due is not None
    assert 25_000 < due - parts.clock.now_ms() < 95_000


async def due_in(parts: Parts, pair: Pair) -> float:
    """Seconds."""
    due = await parts.redis.zscore(keys.due(parts.schedule.shard(pair), pair.connector), pair.tenant)
    assert due is not None
    return (due - parts.clock.now_ms()) / 1000


async def test_a_change_while_a_check_runs_is_checked_at_once(parts: Parts) -> None:
    rare = CONFIG.model_copy(update={"interval": 3_600.0})
    for number in range(2):
        pair = Pair("github", f"t{number}")
        await parts.schedule.put(pair, 1, rare, reset=True)
        (task,) = await on_demand(parts, pair) if number else await claimed(parts)
        await parts.schedule.put(pair, 2, CONFIG, reset=False)
        assert await record(parts, task), "it is a true result, of the older configuration"
        assert await due_in(parts, pair) <= 0
        (newer,) = await claimed(parts)
        assert newer.scheduled.revision == 2
        assert await record(parts, newer)
        assert await due_in(parts, pair) > 25


async def test_a_change_within_the_millisecond_of_a_check_on_demand_is_checked_too(parts: Parts) -> None:
    await parts.schedule.put(ACME, 1, CONFIG, reset=True, due_ms=5)
    (task,) = await on_demand(parts, ACME)
    await parts.schedule.put(ACME, 2, CONFIG, reset=False, due_ms=5)
    assert await record(parts, task)
    assert await due_in(parts, ACME) < 0


async def test_a_check_on_demand_gives_the_pair_a_new_turn(parts: Parts) -> None:
    await enter(parts, ACME)
    for present in (10, 3_000):
        await parts.redis.zadd(
            keys.due(parts.schedule.shard(ACME), "github"), {"acme": parts.clock.now_ms() + present * 1_000}
        )
        (task,) = await on_demand(parts, ACME)
        await record(parts, task)
        assert 25 < await due_in(parts, ACME) < 95


async def test_a_late_result_postpones_nobodys_turn(parts: Parts) -> None:
    """It comes after its lease, and the pair is to be checked in ten seconds; or others hold it for longer."""
    for number, (present, expected) in enumerate(((10, 10), (3_000, 60))):
        pair = Pair("github", f"t{number}")
        await enter(parts, pair)
        (task,) = await claimed(parts)
        shard, now = parts.schedule.shard(pair), parts.clock.now_ms()
        await parts.redis.zadd(keys.due(shard, "github"), {pair.tenant: now + present * 1_000})
        assert await record(parts, task)
        assert await due_in(parts, pair) == pytest.approx(expected, abs=35)
        assert await due_in(parts, pair) <= present


async def test_a_redelivered_result_changes_nothing(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    await record(parts, task)
    before = await parts.redis.get(keys.verdict(parts.schedule.shard(ACME), ACME))
    assert not await record(parts, task, Reason.CREDENTIAL_REJECTED)
    assert await parts.redis.get(keys.verdict(parts.schedule.shard(ACME), ACME)) == before


async def test_an_older_check_never_overwrites_a_newer_one(parts: Parts) -> None:
    await enter(parts, ACME)
    (older,) = await claimed(parts)
    newer = await parts.schedule.task(ACME)
    assert newer is not None
    await record(parts, newer)
    assert not await record(parts, older, Reason.CREDENTIAL_REJECTED)
    assert await stored(parts, ACME) == "ok"


async def test_a_result_computed_from_an_outdated_record_is_computed_again(parts: Parts) -> None:
    await enter(parts, ACME)
    older = await parts.schedule.task(ACME)
    newer = await parts.schedule.task(ACME)
    assert older is not None
    assert newer is not None
    await record(parts, older, Reason.TIMEOUT)
    assert await record(parts, newer, Reason.TIMEOUT)
    wire = await parts.redis.get(keys.verdict(parts.schedule.shard(ACME), ACME))
    assert isinstance(wire, bytes)
    assert decode(wire).failures == 2, "the newer result was counted on top of the older one, not of nothing"


async def test_a_result_of_an_old_configuration_is_dropped(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    await enter(parts, ACME, revision=2)
    assert not await record(parts, task)
    assert await stored(parts, ACME) == "not_checked"


async def test_a_changed_credential_voids_the_old_verdict_and_a_changed_label_does_not(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    await record(parts, task)
    await parts.schedule.put(ACME, 2, CONFIG, reset=False)
    assert await stored(parts, ACME) == "ok"
    await parts.schedule.put(ACME, 3, CONFIG, reset=True)
    assert await stored(parts, ACME) == "not_checked"


async def test_an_old_revision_does_not_come_back(parts: Parts) -> None:
    await enter(parts, ACME, revision=3)
    assert not await parts.schedule.put(ACME, 2, CONFIG, reset=True)
    assert not await parts.schedule.remove(ACME, 2)


async def test_a_pair_that_lost_its_turn_is_entered_again_and_one_that_is_claimed_has_one(parts: Parts) -> None:
    await enter(parts, ACME)
    await claimed(parts)
    assert not await parts.schedule.put(ACME, 1, CONFIG, reset=True)
    assert await parts.redis.delete(keys.due(parts.schedule.shard(ACME), "github"))
    assert not await parts.schedule.put(ACME, 0, CONFIG, reset=True)
    assert await parts.schedule.put(ACME, 1, CONFIG, reset=True)
    assert [task.pair for task in await claimed(parts)] == [ACME]


async def test_a_removed_pair_is_gone_and_refuses_late_results(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    assert await parts.schedule.remove(ACME, 2)
    assert not await record(parts, task)
    assert await parts.schedule.task(ACME) is None
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CONFIGURED
    assert await parts.redis.zscore(keys.due(parts.schedule.shard(ACME), "github"), "acme") is None


async def test_a_configuration_nobody_can_read_hurts_only_its_own_pair(parts: Parts) -> None:
    await enter(parts, ACME, GLOBEX)
    shard = parts.schedule.shard(ACME)
    await parts.redis.hset(keys.configs(shard, "github"), "acme", b'1\n{"field_of_tomorrow": 1}')
    assert [task.pair for task in await claimed(parts)] == [GLOBEX]
    await enter(parts, ACME, revision=2)


async def test_a_verdict_that_cannot_be_kept_is_that_pairs_error_only(parts: Parts) -> None:
    await enter(parts, ACME, GLOBEX)
    tasks = {task.pair: task for task in await claimed(parts)}
    odd = Verdict(Reason.OK, Fault.NONE, parts.clock.now_ms(), retry_after=float("inf"))
    fine = Verdict(Reason.OK, Fault.NONE, parts.clock.now_ms())
    await parts.recorder.record([Outcome(tasks[ACME], odd, "github|x"), Outcome(tasks[GLOBEX], fine, "github|x")])
    assert (await stored(parts, ACME), await stored(parts, GLOBEX)) == ("monitor_error", "ok")


async def test_a_change_judged_against_another_revision_voids_the_verdict(parts: Parts) -> None:
    await enter(parts, ACME, revision=2)
    task = await parts.schedule.task(ACME)
    assert task is not None
    await record(parts, task)
    await parts.schedule.put(ACME, 3, CONFIG, reset=False, over=1)
    assert await stored(parts, ACME) == "not_checked"


async def test_after_redis_clock_was_set_back_no_turn_is_out_of_reach(parts: Parts) -> None:
    await enter(parts, ACME, GLOBEX)
    await parts.schedule.read([])
    ahead = parts.clock.now_ms() + 3_600_000
    for pair in (ACME, GLOBEX):
        await parts.redis.zadd(keys.due(parts.schedule.shard(pair), "github"), {pair.tenant: ahead})
    assert await parts.schedule.rescue({"github": 60_000}) == 2
    for pair in (ACME, GLOBEX):
        due = await parts.redis.zscore(keys.due(parts.schedule.shard(pair), "github"), pair.tenant)
        assert due is not None
        assert due - parts.clock.now_ms() <= 61_000


async def test_released_pairs_are_due_again(parts: Parts) -> None:
    await enter(parts, ACME)
    await parts.schedule.release([task.held for task in await claimed(parts)])
    assert [task.pair for task in await claimed(parts)] == [ACME]


async def test_release_does_not_bring_a_removed_pair_back(parts: Parts) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    await parts.schedule.remove(ACME, 2)
    await parts.schedule.release([task.held])
    assert await claimed(parts) == []


async def test_the_batchs_configuration_comes_with_its_revision(parts: Parts) -> None:
    await enter(parts, ACME, revision=5)
    (task,) = await claimed(parts)
    assert (task.scheduled.revision, task.scheduled.config, task.previous and task.previous.kind) == (
        5,
        CONFIG,
        Kind.WAITING,
    )


async def test_a_service_check_has_an_endpoint_and_no_credential(parts: Parts) -> None:
    pair = Pair("github", SYSTEM)
    await parts.schedule.put(pair, 1, None, base_url="https://api.example.com", reset=True)
    (task,) = await claimed(parts)
    assert (task.pair, task.scheduled.config, task.scheduled.base_url) == (pair, None, "https://api.example.com")


async def test_a_clear_secret_is_never_scheduled(parts: Parts) -> None:
    clear = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "clear-text-1"}})
    with pytest.raises(ValueError, match="never written"):
        await parts.schedule.put(ACME, 1, clear, reset=True)


async def test_two_pairs_never_share_a_key(parts: Parts) -> None:
    await enter(parts, Pair("github", "a:b"), Pair("github", "a"))
    tasks = await claimed(parts)
    assert {task.pair.tenant for task in tasks} == {"a:b", "a"}
    for task in tasks:
        await record(parts, task, Reason.OK if task.pair.tenant == "a" else Reason.CREDENTIAL_REJECTED)
    assert await stored(parts, Pair("github", "a")) == "ok"
    assert await stored(parts, Pair("github", "a:b")) == "credential_rejected"


async def test_transitions_are_told_once(parts: Parts) -> None:
    await enter(parts, ACME)
    for reason in (Reason.OK, Reason.OK, Reason.CREDENTIAL_REJECTED, Reason.CREDENTIAL_REJECTED, Reason.OK):
        task = await parts.schedule.task(ACME)
        assert task is not None
        await record(parts, task, reason)
    assert await parts.redis.xlen(keys.events(parts.schedule.shard(ACME))) == 3


async def test_finished_checks_are_counted_by_reason(parts: Parts) -> None:
    await enter(parts, ACME, GLOBEX)
    for task in await claimed(parts):
        await record(parts, task)
    counted = 0
    for shard in {parts.schedule.shard(ACME), parts.schedule.shard(GLOBEX)}:
        counted += int(await parts.redis.hget(keys.counters(shard), "checks|github|ok") or 0)
    assert counted == 2


async def test_only_what_was_written_is_counted(parts: Parts) -> None:
    """A result that lost its race, was sent twice, or is of a pair that is gone adds to nothing."""
    await enter(parts, ACME, GLOBEX)
    older = await parts.schedule.task(ACME)
    (newer, gone) = sorted(await claimed(parts), key=lambda task: task.pair)
    assert older is not None
    await parts.schedule.remove(GLOBEX, 2)
    verdict = Verdict(Reason.TIMEOUT, Fault.VENDOR, parts.clock.now_ms(), latency_ms=70)
    outcomes = [Outcome(task, verdict, f"github|{task.pair.tenant}.example.com") for task in (older, newer, gone)]
    assert list(await parts.recorder.record(outcomes[:1])) == [ACME]
    assert list(await parts.recorder.record(outcomes[1:])) == [ACME], "at the second attempt"
    assert await parts.recorder.record(outcomes[1:]) == {}
    counted = Counter[str]()
    for shard in range(parts.settings.shards):
        row = cast("dict[bytes, bytes]", await parts.redis.hgetall(keys.counters(shard)))
        counted.update({name.decode(): int(count) for name, count in row.items()})
    assert counted == {
        "checks|github|timeout": 2,
        "bucket|github|100": 2,
        "turns|github|unhealthy": 1,
        "sum_ms|github": 140,
    }
    now, shards = parts.clock.now_ms(), range(parts.settings.shards)
    tallies = since(await read_tallies(parts.redis, shards, now, 60_000), 0)
    assert {name: tally.counts[Ending.CUT_OFF] for name, tally in tallies.items()} == {"github|acme.example.com": 2}
    assert {name: tally.tenants(Ending.CUT_OFF) for name, tally in tallies.items()} == {"github|acme.example.com": 1}


async def test_depth_counts_pairs_and_what_is_due(parts: Parts) -> None:
    await enter(parts, ACME, GLOBEX)
    await parts.schedule.read([])  # sets the shared clock
    assert (await parts.schedule.depth(["github"]))["github"] == (2, 2)
    await claimed(parts)
    assert (await parts.schedule.depth(["github"]))["github"] == (2, 0)


async def test_pairs_are_listed_page_by_page(parts: Parts) -> None:
    wanted = {Pair("github", f"t{n}") for n in range(50)}
    await enter(parts, *wanted)
    found = {
        pair
        for shard in range(parts.schedule.shards)
        async for page in parts.schedule.pairs("github", shard, page=10)
        for pair in page
    }
    assert found == wanted


async def test_results_claimed_before_redis_lost_its_data_do_no_harm(
    parts: Parts, redis_server: RedisServer, tmp_path: Path
) -> None:
    await enter(parts, ACME)
    (task,) = await claimed(parts)
    with redis_server.client() as client:
        client.flushall()
    await record(parts, task)
    await enter(parts, ACME, revision=1)
    (again,) = await claimed(parts)
    assert again.fence > task.fence
    assert await record(parts, again, Reason.CREDENTIAL_REJECTED)
    assert (await parts.cache.status(ACME)).status is Status.UNHEALTHY


async def test_claims_of_an_empty_schedule_are_none(parts: Parts) -> None:
    assert await parts.schedule.claim({"github": 100}) == []
    assert await parts.schedule.read([Claim("github", 0, 1, ("nobody",))]) == []
