"""What the detector leaves behind for sparklines."""

from registry.bootstrap import Parts
from registry.tally import BUCKET_MS, Ending, Tally
from registry.trend import MINUTE_MS, REACH_MS, Minute, note, trends

NOON = 29_000_000 * MINUTE_MS


def buckets(from_ms: int, to_ms: int, **counts: int) -> dict[int, dict[str, Tally]]:
    tally = Tally()
    for name, count in counts.items():
        tally.counts[Ending(name)] = count
    return {bucket: {"github|api.github.com": tally} for bucket in range(from_ms // BUCKET_MS, to_ms // BUCKET_MS + 1)}


async def left(parts: Parts, now_ms: int, **counts: int) -> None:
    async with parts.redis.pipeline(transaction=False) as pipe:
        note(pipe, buckets(now_ms - REACH_MS, now_ms, **counts), now_ms - REACH_MS, now_ms)
        await pipe.execute()


async def test_a_minute_that_was_looked_at_in_its_first_seconds_after_is_whole(parts: Parts) -> None:
    await left(parts, NOON - 5_000, good=1)
    await left(parts, NOON + 5_000, good=2, failed=1, cut_off=1)
    found = await trends(parts.redis, NOON + 5_000, minutes=2)
    assert found == {"github": [Minute(), Minute(good=12, failed=12)]}
    assert found["github"][1].share == 0.5


async def test_a_late_look_does_not_cut_a_minute_short(parts: Parts) -> None:
    await left(parts, NOON + 5_000, good=2)
    await left(parts, NOON + 45_000, good=7)
    assert (await trends(parts.redis, NOON + 45_000, minutes=1))["github"] == [Minute(good=12)]


async def test_nothing_checked_is_no_share(parts: Parts) -> None:
    assert await trends(parts.redis, NOON) == {}
    assert Minute().share is None
