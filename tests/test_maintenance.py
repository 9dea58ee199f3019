"""An announced time: verdicts go on, nobody is told, and it counts in no uptime."""

import pytest

from registry import keys
from registry.audit import Action
from registry.bootstrap import Parts
from registry.errors import ConflictError, InvalidConfig, InvalidId, NotConfigured
from registry.health import REASONS, Reason, Verdict
from registry.ids import SYSTEM, Pair
from registry.maintenance import FARTHEST_MS, LONGEST_MS, Maintenance, MaintenanceBoard, Window, until
from registry.notes import Note
from registry.notes.memory import MemoryNotes
from registry.recording import Outcome
from tests.test_schedule import CONFIG
from worker.metrics import shard_families
from worker.snapshot import whole_snapshot

HOUR = 3_600_000
ACME, GLOBEX = Pair("github", "acme"), Pair("github", "globex")


async def checked(parts: Parts, pair: Pair, reason: Reason) -> None:
    await parts.schedule.put(pair, 1, CONFIG, reset=True)
    task = await parts.schedule.task(pair)
    assert task is not None
    verdict = Verdict(reason, REASONS[reason].fault, parts.clock.now_ms())
    await parts.recorder.record([Outcome(task, verdict, "github|api.github.com")])


async def announce(parts: Parts, **scope: str) -> Window:
    now = parts.clock.now_ms()
    return await parts.maintenance.add(actor="ann", starts_ms=now, ends_ms=now + HOUR, **scope)


@pytest.mark.parametrize(
    ("connector", "tenant", "covered"),
    [("github", None, True), (None, "acme", True), ("github", "acme", True), ("slack", None, False)],
)
def test_what_a_window_covers(connector: str | None, tenant: str | None, covered: bool) -> None:
    window = Window(id="w", starts_ms=100, ends_ms=200, connector=connector, tenant=tenant)
    assert window.covers(ACME, 100) is covered
    assert not window.covers(ACME, 99)
    assert not window.covers(ACME, 200)
    assert window.covers(GLOBEX, 150) is (covered and tenant is None)
    assert until(ACME, [window], 150) == (200 if covered else 0)


async def test_a_covered_pair_keeps_its_verdict_and_says_that_it_is_in_maintenance(parts: Parts) -> None:
    window = await announce(parts, connector="github", tenant="acme")
    for pair in (ACME, GLOBEX):
        await checked(parts, pair, Reason.CREDENTIAL_REJECTED)
    status, other = await parts.cache.status(ACME), await parts.cache.status(GLOBEX)
    assert (status.healthy, status.reason) == (False, Reason.CREDENTIAL_REJECTED)
    assert status.maintenance_until_ms == window.ends_ms
    assert status.as_dict()["maintenance_until"] == window.as_dict()["ends"]
    assert other.maintenance_until_ms is None


async def test_the_gauge_says_so_at_once_and_no_longer_than_the_window(parts: Parts) -> None:
    await checked(parts, ACME, Reason.OK)
    await checked(parts, GLOBEX, Reason.OK)
    window = await announce(parts, tenant="acme")
    assert await gauge(parts) == {("github", "acme")}
    await parts.maintenance.end(window.id, actor="ann")
    assert await gauge(parts) == set()


async def test_a_window_of_a_whole_connector_covers_its_service_check(parts: Parts) -> None:
    await parts.schedule.put(Pair("github", SYSTEM), 1, None, base_url=None, reset=True)
    await checked(parts, ACME, Reason.OK)
    await announce(parts, connector="github")
    assert await gauge(parts) == {("github", "acme"), ("github", SYSTEM)}


async def gauge(parts: Parts) -> set[tuple[str, str]]:
    families = shard_families(await whole_snapshot(parts))
    family = next(family for family in families if family.name == "registry_connector_maintenance")
    return {(sample.labels["connector"], sample.labels["tenant_id"]) for sample in family.samples}


async def test_the_time_in_maintenance_is_neither_up_nor_down(parts: Parts) -> None:
    await announce(parts, connector="github")
    await checked(parts, ACME, Reason.CREDENTIAL_REJECTED)
    past = (await parts.cache.histories("acme", ["github"]))["github"].day
    assert past.unhealthy == 0
    assert past.uptime is None


async def test_windows_outlive_redis(parts: Parts) -> None:
    window = await announce(parts, connector="github")
    await parts.redis.delete(keys.MAINTENANCE)
    assert await MaintenanceBoard(parts.redis).current() == ()
    await parts.maintenance.copy()
    assert await MaintenanceBoard(parts.redis).current() == (window,)


async def test_a_store_that_lost_its_windows_ends_none(parts: Parts) -> None:
    window = await announce(parts, connector="github")
    lost = Maintenance(parts.redis, MemoryNotes(), parts.clock, parts.audit)
    await lost.copy()
    assert await MaintenanceBoard(parts.redis).current() == (window,)
    await lost.end(window.id, actor="ann")
    assert await MaintenanceBoard(parts.redis).current() == (), "who can be seen can be ended"


async def test_of_two_changes_made_from_the_same_state_one_is_refused(parts: Parts) -> None:
    class Slow(MemoryNotes):
        """Somebody else writes between our read and our write."""

        async def write(self, name: str, text: str, *, expected: int) -> Note:
            await MemoryNotes.write(self, name, "[]", expected=expected)
            return await MemoryNotes.write(self, name, text, expected=expected)

    now = parts.clock.now_ms()
    windows = Maintenance(parts.redis, Slow(), parts.clock, parts.audit)
    with pytest.raises(ConflictError):
        await windows.add(actor="ann", starts_ms=now, ends_ms=now + HOUR, tenant="acme")


async def test_windows_are_listed_until_they_are_over_and_ended_once(parts: Parts) -> None:
    window = await announce(parts, tenant="acme")
    assert await parts.maintenance.windows() == (window,)
    assert await parts.maintenance.end(window.id, actor="bob") == window
    assert await parts.maintenance.windows() == ()
    with pytest.raises(NotConfigured, match="there is none, or it is over"):
        await parts.maintenance.end(window.id, actor="bob")
    told = [record.as_dict() for record in await parts.audit.sink.latest()]
    assert [(row["action"], row["actor"], row["tenant"]) for row in told] == [
        (Action.MAINTENANCE_ANNOUNCED, "ann", "acme"),
        (Action.MAINTENANCE_ENDED, "bob", "acme"),
    ]


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (HOUR, 0, "must end after it begins"),
        (-2 * HOUR, -HOUR, "is over"),
        (0, LONGEST_MS + 1_000, "more than 90 days"),
        (FARTHEST_MS, FARTHEST_MS + HOUR, "within 100 years"),
        (-FARTHEST_MS, HOUR, "begins after 1970"),
    ],
)
async def test_a_window_that_makes_no_sense_is_refused(parts: Parts, start: int, end: int, says: str) -> None:
    now = parts.clock.now_ms()
    with pytest.raises(InvalidConfig, match=says):
        await parts.maintenance.add(actor="ann", starts_ms=now + start, ends_ms=now + end, tenant="acme")
    assert await parts.maintenance.windows() == ()


async def test_a_window_needs_somebody_and_a_valid_id(parts: Parts) -> None:
    with pytest.raises(InvalidConfig, match="needs a connector, a tenant or both"):
        await announce(parts)
    with pytest.raises(InvalidId):
        await announce(parts, tenant="no/such")


async def test_windows_that_another_version_wrote_are_none(parts: Parts) -> None:
    await parts.redis.set(keys.MAINTENANCE, b'{"version": 9}')
    assert await MaintenanceBoard(parts.redis).current() == ()
