"""What an import will change, found out before anything is written; then written all or nothing."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import JsonValue, SecretStr
from redis.exceptions import RedisError

from registry.clean import clean
from registry.connector import ConnectorConfig, SecretRef
from registry.errors import ConflictError, InvalidConfig, NotConfigured, RegistryError, SecretError
from registry.stores import Broken, StoredConfig
from worker.commands.exits import Failed
from worker.commands.tenants_file import Entry, Problem, TenantsFile

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.ids import Pair

AT_ONCE = 20
"""Secrets that are resolved at the same time."""


class Action(StrEnum):
    """What becomes of a pair."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Step:
    """One pair of a plan. `changes` tells each changed field, never a secret; `config` is None for a removal."""

    action: Action
    pair: Pair
    config: ConnectorConfig | None = None
    revision: int = 0
    changes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "action": self.action.value,
            "tenant": self.pair.tenant,
            "connector": self.pair.connector,
            "changes": list(self.changes),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Every pair of a file, and with ``--prune`` those that the file leaves out."""

    steps: tuple[Step, ...]

    def of(self, *actions: Action) -> list[Step]:
        """The steps of these kinds."""
        return [step for step in self.steps if step.action in actions]

    def summary(self) -> str:
        """The counts in one line."""
        return ", ".join(f"{len(self.of(action))} {action.value}" for action in Action)


async def make_plan(parts: Parts, file: TenantsFile, *, prune: Callable[[Pair], bool] | None = None) -> Plan:
    """Validate everything in `file` and compare it with the store. Writes nothing.

    Args:
        prune: which of the pairs that `file` leaves out are to be removed; None: none of them.

    Raises:
        BadInput: with every problem of the file.
        StoreUnavailable, SecretUnavailable
    """
    configs = await validated(parts, file)
    stored = {row.pair: row async for row in stored_pairs(parts)}
    steps = [await _compared(parts, entry.pair, config, stored.get(entry.pair)) for entry, config in configs]
    if prune:
        kept = {entry.pair for entry in file.entries}
        gone = [row for pair, row in stored.items() if pair not in kept and prune(pair)]
        steps += [Step(Action.REMOVED, row.pair, None, row.revision) for row in gone]
    return Plan(tuple(steps))


async def validated(parts: Parts, file: TenantsFile) -> list[tuple[Entry, ConnectorConfig]]:
    """Every entry's configuration, none of which anything is wrong with. Raises `BadInput` with every problem."""
    configs = [(entry, config) for entry in file.entries if (config := _valid(parts, file, entry)) is not None]
    gate = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*[_require_secrets(parts, file, entry, config, gate) for entry, config in configs])
    file.refuse()
    return configs


async def carry_out(parts: Parts, plan: Plan, *, actor: str) -> bool:
    """Write a plan: what is added or changed all or nothing (see `TenantConfigStore.set_many`), then the removals.

    Returns False when Redis is away: the store is written, and `reconcile` brings the schedule after it.

    Raises:
        StoreUnavailable, SecretUnavailable
        ConflictError, NotConfigured: something has changed since the plan was made; nothing was written.
        Failed: the same, but something was written before.
    """
    steps = plan.of(Action.ADDED, Action.CHANGED)
    items = [(step.pair, step.config) for step in steps if step.config is not None]
    written: Sequence[StoredConfig] = ()
    removed = 0
    try:
        expected = {step.pair: step.revision for step in steps}
        written = await parts.configurations.set_many(items, actor=actor, expected=expected)
        if here := await _answers(parts):
            for stored in written:
                await parts.configurations.announce(stored)
        for step in plan.of(Action.REMOVED):
            await parts.configurations.delete(step.pair, actor=actor, expected=step.revision, announce=here)
            removed += 1
    except (ConflictError, NotConfigured) as error:
        kept = len(written or (error.written if isinstance(error, ConflictError) else ()))
        if not kept and not removed:
            raise
        raise Failed(f"{error}; {kept} were written and {removed} removed before that: run it again") from error
    return here


async def _answers(parts: Parts) -> bool:
    try:
        await parts.redis.ping()
    except RedisError:
        return False
    return True


def _valid(parts: Parts, file: TenantsFile, entry: Entry) -> ConnectorConfig | None:
    try:
        config = parts.configurations.validate(entry.pair, entry.document)
    except InvalidConfig as error:
        file.problems.append(Problem(entry.line, str(error)))
    except RegistryError as error:
        file.problems.append(Problem(entry.line, f"tenant {entry.pair.tenant}: {error}"))
    else:
        return config
    return None


async def _require_secrets(
    parts: Parts, file: TenantsFile, entry: Entry, config: ConnectorConfig, gate: asyncio.Semaphore
) -> None:
    """Each reference must open for this tenant, and each clear secret must find a place to be kept."""
    where = f"tenant {entry.pair.tenant}, connector {entry.pair.connector}"
    can_seal = parts.settings.encryption_keys or parts.settings.secret_manager_project
    for name, value in config.secrets():
        if isinstance(value, SecretStr) and not can_seal:
            sentence = f"{where}: auth.{name} is a clear secret and nothing here can seal it: set ENCRYPTION_KEYS"
            file.problems.append(Problem(entry.line, f"{sentence}, or give a reference (env://…, file://…, gcp://…)"))
    try:
        async with gate:
            await parts.secrets.resolve(entry.pair, config)
    except SecretError as error:
        file.problems.append(Problem(entry.line, f"{where}: auth: {error}"))


async def stored_pairs(parts: Parts) -> AsyncIterator[StoredConfig | Broken]:
    """Everything in the store."""
    cursor: str | None = None
    while True:
        page = await parts.store.list_pairs(cursor=cursor)
        for row in page.items:
            yield row
        cursor = page.next_cursor
        if cursor is None:
            return


async def _compared(parts: Parts, pair: Pair, config: ConnectorConfig, stored: StoredConfig | Broken | None) -> Step:
    if stored is None:
        return Step(Action.ADDED, pair, config)
    if isinstance(stored, Broken):
        return Step(Action.CHANGED, pair, config, stored.revision, ("what is stored cannot be read any more",))
    changes = (*_changed_fields(stored.config, config), *await _changed_secrets(parts, pair, stored.config, config))
    return Step(Action.CHANGED if changes else Action.UNCHANGED, pair, config, stored.revision, changes)


def _changed_fields(old: ConnectorConfig, new: ConnectorConfig) -> Iterator[str]:
    before, after = dict(_fields(plain(old))), dict(_fields(plain(new)))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: {_shown(before.get(name))} → {_shown(after.get(name))}"


async def _changed_secrets(parts: Parts, pair: Pair, old: ConnectorConfig, new: ConnectorConfig) -> list[str]:
    before, changes = dict(old.secrets()), []
    for name, value in new.secrets():
        known = before.get(name)
        if isinstance(value, SecretRef):
            if value != known:
                changes.append(f"auth.{name}: {reference(known)} → {reference(value)}")
        elif not await _same_secret(parts, pair, old, name, value):
            changes.append(f"auth.{name}: (another secret)")
    return changes


async def _same_secret(parts: Parts, pair: Pair, old: ConnectorConfig, name: str, new: SecretStr) -> bool:
    """Sealing gives another reference each time, so the secrets themselves are compared, in memory."""
    try:
        opened = dict((await parts.secrets.resolve(pair, old)).secrets()).get(name)
    except SecretError:
        return False
    if not isinstance(opened, SecretStr):
        return False
    return hmac.compare_digest(opened.get_secret_value().encode(), new.get_secret_value().encode())


def plain(config: ConnectorConfig) -> dict[str, JsonValue]:
    """A configuration without its secrets and their references."""
    secret = {name for name, _ in config.secrets()}
    return config.model_dump(mode="json", exclude={"auth": secret}, exclude_none=True)


def reference(value: SecretRef | SecretStr | None) -> str:
    """A reference as it may be shown: of ``enc://`` only the scheme, for the rest is the sealed secret."""
    if value is None:
        return "(none)"
    if not isinstance(value, SecretRef):
        return "(a secret)"
    return "enc://…" if value.startswith("enc://") else clean(value)


def _fields(document: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{above}{name}.")
        elif value != {}:
            yield f"{above}{name}", value


def _shown(value: JsonValue) -> str:
    return "(none)" if value is None else clean(str(value))
