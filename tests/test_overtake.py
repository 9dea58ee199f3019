"""The store is restored from an older copy: what it has counts, whatever newer revisions are in use."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.bootstrap import Parts
from registry.connector import ConnectorConfig
from registry.errors import ConflictError
from registry.health import Reason
from registry.ids import Pair
from registry.overtake import overtake
from tests.test_schedule import ACME, CONFIG, GLOBEX, record

OTHER = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://OTHER"}})
THIRD = ConnectorConfig.model_validate({"auth": {"type": "bearer", "token": "env://THIRD"}})


class Backup:
    """A copy of the store, and its way back: as SQLite's own ``.restore`` goes."""

    def __init__(self, parts: Parts, directory: Path) -> None:
        self._path, self._copy = Path(parts.settings.sqlite_path), directory / "copy.db"
        self._carry(self._path, self._copy)

    def restore(self) -> None:
        self._carry(self._copy, self._path)

    def _carry(self, source: Path, target: Path) -> None:
        there, here = sqlite3.connect(source), sqlite3.connect(target)
        there.backup(here)
        there.close()
        here.close()


async def configured(parts: Parts, pair: Pair, config: ConnectorConfig) -> int:
    return (await parts.configurations.set(pair, config, actor="test")).revision


async def scheduled(parts: Parts, pair: Pair) -> ConnectorConfig | None:
    (found,) = await parts.schedule.get([pair])
    return found.config if found else None


async def compare_everything(parts: Parts) -> None:
    await parts.redis.hset("cr1:cursor", "full_ms", "0")
    await parts.reconciler.run()


@pytest.fixture
async def backup(parts: Parts, tmp_path: Path) -> Backup:
    """Of a store that has ACME with CONFIG; since then it was configured with OTHER, and GLOBEX too."""
    await configured(parts, ACME, CONFIG)
    await parts.reconciler.run()
    backup = Backup(parts, tmp_path)
    for _ in range(3):
        await configured(parts, ACME, OTHER)
    await configured(parts, GLOBEX, OTHER)
    await parts.reconciler.run()
    return backup


async def test_what_the_store_has_replaces_what_it_has_forgotten(parts: Parts, backup: Backup) -> None:
    backup.restore()
    await compare_everything(parts)
    assert await scheduled(parts, ACME) == CONFIG
    assert await scheduled(parts, GLOBEX) is None
    assert (await parts.store.get_config(ACME)).revision == 5
    assert await parts.reconciler.run() == {"changed": 0}


async def test_verdicts_of_what_was_forgotten_count_no_more(parts: Parts, backup: Backup) -> None:
    late = await parts.schedule.task(ACME)
    assert late is not None
    await record(parts, late)
    backup.restore()
    await compare_everything(parts)
    assert (await parts.cache.status(ACME)).reason is Reason.NOT_CHECKED
    assert not await record(parts, late), "a check of the forgotten configuration that ends late"
    task = await parts.schedule.task(ACME)
    assert task is not None
    assert await record(parts, task)


async def test_a_configuration_written_after_that_counts_at_once(parts: Parts, backup: Backup) -> None:
    backup.restore()
    assert await configured(parts, ACME, THIRD) == 5
    assert await scheduled(parts, ACME) == THIRD


async def test_the_same_revision_of_another_content_is_noticed(parts: Parts, backup: Backup) -> None:
    backup.restore()
    for _ in range(3):
        await parts.store.set_config(ACME, THIRD, actor="another tool")
    await compare_everything(parts)
    assert await scheduled(parts, ACME) == THIRD


async def test_a_number_that_json_has_not_is_no_other_content(parts: Parts) -> None:
    """A schedule keeps it as null, which is never equal: the store would be written over in every round."""
    await configured(parts, ACME, CONFIG)
    document = '{"schema": 1, "auth": {"type": "bearer", "token": "env://TOKEN"}, "settings": {"a": NaN}}'
    with closing(sqlite3.connect(parts.settings.sqlite_path)) as store, store:
        store.execute("UPDATE configs SET document = ?, revision = 2", (document,))
    for _ in range(3):
        await compare_everything(parts)
    with closing(sqlite3.connect(parts.settings.sqlite_path)) as store:
        assert store.execute("SELECT revision FROM configs").fetchall() == [(2,)]
    assert await scheduled(parts, ACME) == CONFIG


async def test_a_forgotten_deletion_keeps_nothing_out(parts: Parts, tmp_path: Path) -> None:
    await configured(parts, ACME, CONFIG)
    backup = Backup(parts, tmp_path)
    await configured(parts, ACME, OTHER)
    await parts.configurations.delete(ACME, actor="test")
    backup.restore()
    await compare_everything(parts)
    assert await scheduled(parts, ACME) == CONFIG


async def test_changes_are_followed_from_the_beginning(parts: Parts, backup: Backup) -> None:
    """The position that was reached lies beyond the restored store's."""
    backup.restore()
    await parts.reconciler.run()
    assert await scheduled(parts, ACME) == CONFIG


async def test_whoever_configures_meanwhile_wins(parts: Parts, backup: Backup) -> None:
    backup.restore()

    class Slow:
        """The store; between the look at it and the write somebody configures."""

        async def get_config(self, pair: Pair) -> object:
            found = await parts.store.get_config(pair)
            await configured(parts, pair, THIRD)
            return found

        set_config = parts.store.set_config

    with pytest.raises(ConflictError):
        await overtake(ACME, Slow(), parts.schedule)  # type: ignore[arg-type]  # all that is used of a store
    assert await scheduled(parts, ACME) == THIRD


async def test_a_store_that_is_not_behind_is_left_alone(parts: Parts, backup: Backup) -> None:
    assert await overtake(ACME, parts.store, parts.schedule) is None
    await compare_everything(parts)
    assert (await parts.store.get_config(ACME)).revision == 4
