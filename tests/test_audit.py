"""What the parts of the system leave in the audit log, and what the log does when its sink is away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from registry import keys
from registry.audit import Action, Entry, Head
from registry.audit.memory import MemoryAudit
from registry.audit.trail import Trail
from registry.bootstrap import Parts, assemble
from registry.connector import BearerAuth, ConnectorConfig
from registry.errors import ConnectorUnusable, StoreUnavailable
from registry.facade import ConnectorRegistry
from registry.ids import Pair
from registry.settings import Settings
from tests.plugin import Plugin, plugin_config
from worker.auditing import audit_transitions
from worker.cli import main
from worker.events.standing import lost

ACME = Pair("plugin", "acme")


@pytest.fixture
def parts(parts: Parts) -> Parts:
    parts.catalog.register("plugin", Plugin)
    return parts


async def told(parts: Parts, action: Action | None = None) -> list[dict[str, Any]]:
    await parts.audit.flush()
    records = [record.as_dict() for record in await parts.audit.sink.records()]
    return [record for record in records if action in (None, record["action"])]


async def test_every_change_of_a_configuration_is_recorded_with_who_and_its_revisions(parts: Parts) -> None:
    await parts.configurations.set(ACME, plugin_config(), actor="ann")
    await parts.configurations.set(ACME, plugin_config(reason="slow"), actor="bob")
    await parts.configurations.delete(ACME, actor="cem")
    many = [(Pair("plugin", name), ConnectorConfig(auth=BearerAuth(token=SecretStr("t")))) for name in ("b", "c")]
    await parts.configurations.set_many(many, actor="dan")
    changes = [*await told(parts, Action.CONFIGURED), *await told(parts, Action.DELETED)]
    rows = [(r["actor"], r["tenant"], r["connector"], r["before"], r["after"]) for r in changes]
    assert rows == [
        ("ann", "acme", "plugin", 0, 1),
        ("bob", "acme", "plugin", 1, 2),
        ("dan", "b", "plugin", 0, 1),
        ("dan", "c", "plugin", 0, 1),
        ("cem", "acme", "plugin", 2, 3),
    ]


async def test_no_value_of_a_configuration_is_in_the_log(parts: Parts) -> None:
    await parts.configurations.set(
        ACME, {**plugin_config(reason="slow"), "label": "a-label", "base_url": "https://x.example"}, actor="ann"
    )
    await ConnectorRegistry(parts).get("plugin", tenant_id="acme")
    text = json.dumps(await told(parts))
    for value in ("plugin-token-1", "enc://", "a-label", "x.example", "slow"):
        assert value not in text


async def test_a_connector_is_recorded_when_it_is_loaded_and_when_it_is_unregistered(parts: Parts) -> None:
    registry = ConnectorRegistry(parts)
    for _ in range(3):
        await registry.get_metadata("plugin")
    await registry.unregister("plugin")
    assert [(r["connector"], r["detail"]) for r in await told(parts, Action.CONNECTOR_LOADED)] == [
        ("plugin", {"version": "1.2.0"})
    ]
    assert [r["connector"] for r in await told(parts, Action.CONNECTOR_UNREGISTERED)] == ["plugin"]


def plain_factory(config: ConnectorConfig) -> Plugin:
    return Plugin(config)


async def test_a_connector_that_is_refused_is_recorded_once_with_the_reason(parts: Parts) -> None:
    parts.catalog.register("bare", plain_factory)
    for _ in range(3):
        with pytest.raises(ConnectorUnusable):
            parts.catalog.load("bare")
    (refused,) = await told(parts, Action.CONNECTOR_REFUSED)
    assert "has no manifest" in refused["detail"]["error"]


async def test_a_process_records_its_first_read_of_a_pairs_secret_only(parts: Parts) -> None:
    stored = await parts.configurations.set(ACME, plugin_config(), actor="ann")
    for _ in range(3):
        await parts.secrets.resolve(ACME, stored.config)
        parts.secrets.drop(ACME)
    (read,) = await told(parts, Action.SECRET_RESOLVED)
    assert (read["tenant"], read["connector"]) == ("acme", "plugin")
    assert read["actor"].startswith("process:")


async def test_loads_and_reads_can_be_left_out(settings: Settings) -> None:
    parts = assemble(settings.model_copy(update={"audit_reads": False}))
    parts.catalog.register("plugin", Plugin)
    stored = await parts.configurations.set(ACME, plugin_config(), actor="ann")
    await parts.secrets.resolve(ACME, stored.config)
    assert [record["action"] for record in await told(parts)] == ["configured"]
    await parts.aclose()


async def test_every_transition_is_copied_once_and_in_order(parts: Parts) -> None:
    registry = ConnectorRegistry(parts)
    for reason in ("ok", "credential_rejected"):
        await parts.configurations.set(ACME, plugin_config(reason=reason), actor="ann")
        await registry.health_check("plugin", tenant_id="acme", max_age=0)
    assert await audit_transitions(parts) == 3
    assert await audit_transitions(parts) == 0
    found = [(r["tenant"], r["detail"]["to"], r["detail"]["fault"]) for r in await told(parts, Action.TRANSITION)]
    assert found == [
        ("acme", "healthy/ok", "none"),
        ("acme", "unknown/not_checked", "platform"),
        ("acme", "unhealthy/credential_rejected", "tenant"),
    ]


class Away(MemoryAudit):
    """A sink that can be away."""

    away = True

    async def append(self, entries: Sequence[Entry]) -> Head:
        if self.away:
            raise StoreUnavailable("the audit log is away")
        return await super().append(entries)


async def test_a_sink_that_is_away_stops_nobody_and_gets_everything_later() -> None:
    sink = Away()
    trail = Trail(sink)
    await trail.record(Action.CONFIGURED, actor="ann", tenant="acme", connector="github", before=0, after=1)
    trail.note(Action.CONNECTOR_LOADED, connector="github")
    assert await sink.records() == []
    sink.away = False
    await trail.aclose()
    assert [record.as_dict()["action"] for record in await sink.records()] == ["configured", "connector_loaded"]


async def test_what_is_being_written_when_its_caller_is_cancelled_is_written_once() -> None:
    class Slow(MemoryAudit):
        """Writes in the end, whoever has given up."""

        def __init__(self) -> None:
            super().__init__()
            self.asked, self.go_on = asyncio.Event(), asyncio.Event()

        async def append(self, entries: Sequence[Entry]) -> Head:
            self.asked.set()
            return await asyncio.shield(asyncio.ensure_future(self.later(entries)))

        async def later(self, entries: Sequence[Entry]) -> Head:
            await self.go_on.wait()
            return await MemoryAudit.append(self, entries)

    sink = Slow()
    trail = Trail(sink)
    recording = asyncio.create_task(trail.record(Action.CONFIGURED, actor="ann"))
    await sink.asked.wait()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    sink.go_on.set()
    await trail.record(Action.DELETED, actor="ann")
    assert [row.as_dict()["action"] for row in await sink.records()] == ["configured", "deleted"]


async def test_what_could_not_be_kept_is_counted_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.audit.trail.AT_MOST", 3)
    sink = Away()
    trail = Trail(sink)
    for number in range(5):
        await trail.record(Action.CONFIGURED, actor="ann", after=number)
    sink.away = False
    await trail.flush()
    records = [record.as_dict() for record in await sink.records()]
    assert (records[0]["action"], records[0]["detail"]) == ("records_lost", {"lost": 2})
    assert [record["after"] for record in records[1:]] == [2, 3, 4]


async def test_what_waits_is_bounded_though_a_sink_takes_its_time_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Away):
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def append(self, entries: Sequence[Entry]) -> Head:
            self.asked.set()
            await self.go_on.wait()
            return await super().append(entries)

    monkeypatch.setattr("registry.audit.trail.AT_MOST", 3)
    sink = Slow()
    trail = Trail(sink)
    for _ in range(5):
        sink.asked.clear()
        sink.go_on.clear()
        recording = asyncio.create_task(trail.record(Action.CONFIGURED, actor="ann"))
        await sink.asked.wait()
        for _ in range(3):  # they are there before the sink has refused what it was given
            trail.note(Action.CONNECTOR_LOADED, connector="github")
        sink.go_on.set()
        await recording
    sink.away = False
    await trail.flush()
    records = [record.as_dict() for record in await sink.records()]
    assert (len(records), records[0]["detail"]) == (1 + 3, {"lost": 5 * 4 - 3})


async def test_transitions_wait_for_a_sink_that_is_away(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    await parts.configurations.set(ACME, plugin_config(), actor="ann")
    await ConnectorRegistry(parts).health_check("plugin", tenant_id="acme", max_age=0)
    sink = Away()
    monkeypatch.setattr(parts.audit, "sink", sink)
    assert await audit_transitions(parts) == 0
    sink.away = False
    assert await audit_transitions(parts) == 1


async def turn_twice(parts: Parts) -> str:
    """Two transitions of one pair. Returns their stream's key."""
    await parts.configurations.set(ACME, plugin_config(), actor="ann")
    await ConnectorRegistry(parts).health_check("plugin", tenant_id="acme", max_age=0)
    await parts.configurations.set(ACME, plugin_config(reason="credential_rejected"), actor="ann")
    return keys.events(parts.schedule.shard(ACME))


@pytest.mark.parametrize("kept", [1, 0])
async def test_transitions_that_were_cut_off_before_they_were_copied_are_told_in_the_log_and_counted(
    parts: Parts, kept: int
) -> None:
    stream = await turn_twice(parts)
    assert await audit_transitions(parts) == 2
    await ConnectorRegistry(parts).health_check("plugin", tenant_id="acme", max_age=0)
    await parts.redis.xtrim(stream, maxlen=kept, approximate=False)  # as the cap does while the sink is away
    assert await audit_transitions(parts) == kept
    assert await audit_transitions(parts) == 0, "and it is said once"
    assert len(await told(parts, Action.RECORDS_LOST)) == 1
    assert (await told(parts))[-kept - 1]["action"] == Action.RECORDS_LOST, "before what follows the gap"
    assert await lost(parts) == 1


async def test_a_transition_in_the_words_of_another_version_holds_up_no_other(parts: Parts) -> None:
    stream = await turn_twice(parts)
    for odd in ('{"connector":"plugin","tenant":"acme","state":{"to":"ok"}}', "[]", "{"):
        await parts.redis.xadd(stream, {"transition": odd})
    await ConnectorRegistry(parts).health_check("plugin", tenant_id="acme", max_age=0)
    assert await audit_transitions(parts) == 3
    assert await audit_transitions(parts) == 0
    assert len(await told(parts, Action.TRANSITION)) == 3
    assert len(await told(parts, Action.RECORDS_LOST)) == await lost(parts) == 3


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (key,) = settings.encryption_keys
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SQLITE_PATH", str(settings.sqlite_path))
    monkeypatch.setenv("ENCRYPTION_KEYS", key.get_secret_value())
    monkeypatch.chdir(settings.sqlite_path.parent)
    return settings


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def configured(environment: Settings, tmp_path: Path) -> Settings:
    """Three changes made on the command line."""
    path = tmp_path / "slack.yaml"
    for label in ("one", "two", "three"):
        path.write_text(f"{{auth: {{type: bearer, token: xoxb-1234567890}}, label: {label}}}")
        assert run("config", "set", "slack", str(path), "--tenant", "acme" if label != "two" else "globex") == 0
    return environment


def test_the_log_is_listed_for_people_and_programs(configured: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("audit", "list", "--tenant", "acme", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    changes = [(row["action"], row["before"], row["after"]) for row in rows if row["action"] == "configured"]
    assert changes == [("configured", 0, 1), ("configured", 1, 2)]
    assert all(row["actor"].startswith("cli:") for row in rows)
    assert run("audit", "list", "--limit", "2") == 0
    assert "configured" in capsys.readouterr().out
    assert run("audit", "list", "--tenant", "no such tenant") == 2


def test_a_whole_log_is_verified_and_its_head_can_be_noted(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("audit", "verify", "--json") == 0
    head = json.loads(capsys.readouterr().out)["head"]
    assert run("audit", "verify", "--head", head) == 0
    assert run("audit", "verify", "--head", "nonsense") == 2


def tamper(settings: Settings, statement: str) -> None:
    """As whoever owns the file can."""
    connection = sqlite3.connect(settings.sqlite_path)
    connection.execute("DROP TRIGGER audit_is_not_changed")
    connection.execute("DROP TRIGGER audit_is_not_cut")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE audit SET text = replace(text, 'cli:', 'eve:') WHERE number = 2", 2),
        ("DELETE FROM audit WHERE number = 2", 2),
    ],
)
def test_a_log_that_was_tampered_with_is_told_by_its_first_wrong_record(
    configured: Settings, capsys: pytest.CaptureFixture[str], statement: str, number: int
) -> None:
    tamper(configured, statement)
    capsys.readouterr()
    assert run("audit", "verify") == 1
    assert f"record {number}: " in capsys.readouterr().out


def test_a_log_that_was_cut_or_written_anew_does_not_reach_the_noted_head(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run("audit", "verify", "--json")
    head = json.loads(capsys.readouterr().out)["head"]
    tamper(configured, "DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)")
    assert run("audit", "verify") == 0
    assert run("audit", "verify", "--head", head) == 1
    assert "was noted" in capsys.readouterr().out
