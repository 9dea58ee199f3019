import asyncio
from pathlib import Path

from registry import keys
from registry.bootstrap import assemble
from registry.facts import count
from registry.settings import Settings
from tests.commands.conftest import Cli
from worker.lags import LOOP, Lags, buckets, quantile


async def observed(settings: Settings, what: str, milliseconds: float, dropped: int = 0) -> None:
    parts, lags = assemble(settings), Lags()
    for _ in range(20):
        lags.observe(what, milliseconds)
    seconds, _ = await parts.redis.time()
    await lags.flush(parts.redis, seconds * 1000)
    async with parts.redis.pipeline(transaction=False) as pipe:
        count(pipe, {"batches_expired": dropped}, seconds * 1000)
        await pipe.execute()
    assert await parts.redis.hget(keys.PLATFORM, f"lag|{what}|sum_ms") == str(round(milliseconds) * 20).encode()
    await parts.aclose()


def wrong(cli: Cli) -> dict[str, str]:
    return {row["what"]: row["do"] for row in cli("doctor", "--json").json() if not row["ok"]}


def test_the_doctor_judges_what_was_observed_of_late(cli: Cli, settings: Settings) -> None:
    before = wrong(cli)
    assert not {"check lag", "event loops", "dropped"} & set(before)
    asyncio.run(observed(settings, "queue", 20_000))
    asyncio.run(observed(settings, LOOP, 3_000, dropped=11))
    after = wrong(cli)
    assert {"check lag", "event loops", "dropped"} <= set(after)
    assert all(after.values()), "each says what to do"


def test_a_probe_of_a_role_that_runs_nowhere_is_one_sentence_and_exit_code_1(cli: Cli) -> None:
    cli.environment.setenv("HEARTBEAT_DIR", str(Path("heartbeats")))
    cli.environment.setenv("REDIS_URL", "unix:///nowhere/redis.sock")
    ran = cli("doctor", "--live", "checks")
    assert (ran.code, ran.err) == (1, "no checks process has a heartbeat in heartbeats\n")
    assert cli("doctor", "--live", "nobody").code == 2


def test_a_histogram_tells_its_quantiles_to_the_next_bound() -> None:
    facts = {"lag|queue|100": 19, "lag|queue|5000": 1, "lag|queue|sum_ms": 6_900}
    assert [quantile(facts, "queue", part) for part in (0.5, 0.95, 1.0)] == [0.1, 0.1, 5.0]
    assert quantile({}, "queue", 0.5) is None
    rows, total = buckets(facts, "queue")
    assert (rows[-1], total) == (("+Inf", 20.0), 6.9)
