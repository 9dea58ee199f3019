"""Changing a tenant's configuration: validate, seal the secrets, store, announce.

The store is the truth and is written first. The schedule follows at once; should Redis be away just then, `reconcile`
brings the change in from the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from registry.announcing import Announcement, Announcements
from registry.audit import Action
from registry.audit.trail import Trail
from registry.catalog import Catalog
from registry.connection import AWAY
from registry.connector import ConnectorConfig
from registry.errors import CacheUnavailable, ConflictError, InvalidConfig, NotConfigured, StoreUnavailable
from registry.ids import Pair
from registry.overtake import overtake
from registry.schedule import Schedule
from registry.secrets import SecretResolver
from registry.stores import StoredConfig, TenantConfigStore
from registry.validation import problems

log = structlog.get_logger(__name__)


def is_reset(old: ConnectorConfig | None, new: ConnectorConfig) -> bool:
    """Does the change make the old verdict void? Credential, endpoint and settings do; a label does not."""
    return old is None or (old.auth, old.base_url, old.settings) != (new.auth, new.base_url, new.settings)


def parse_config(pair: Pair, document: Mapping[str, object] | ConnectorConfig) -> ConnectorConfig:
    """A configuration from plain data. Raises `InvalidConfig` naming tenant, connector and every wrong field."""
    fields = vars(document) if isinstance(document, ConnectorConfig) else document  # a changed copy was never checked
    try:
        config = ConnectorConfig.model_validate(fields)
        from_json(to_json({"settings": config.settings}))
    except ValidationError as error:
        told = problems(error, ConnectorConfig)
    except ValueError:
        told = "settings: too deep, or a number too long, to be read back"
    else:
        return config
    raise InvalidConfig(f"tenant {pair.tenant}, connector {pair.connector}: {told}")


class Configurations:
    """The one way configurations change."""

    def __init__(
        self,
        store: TenantConfigStore,
        secrets: SecretResolver,
        schedule: Schedule,
        catalog: Catalog,
        announcements: Announcements,
        trail: Trail,
    ) -> None:
        self._store, self._secrets, self._schedule, self._catalog = store, secrets, schedule, catalog
        self._announcements, self._trail = announcements, trail

    def validate(self, pair: Pair, document: Mapping[str, object] | ConnectorConfig) -> ConnectorConfig:
        """Everything that can be wrong without asking anyone.

        Raises:
            UnknownConnector, InvalidConfig
        """
        loaded = self._catalog.load(pair.connector)
        config = parse_config(pair, document)
        try:
            loaded.validate(config)
        except InvalidConfig as error:
            raise InvalidConfig(f"tenant {pair.tenant}, connector {pair.connector}: {error}") from None
        return config

    async def set(
        self,
        pair: Pair,
        document: Mapping[str, object] | ConnectorConfig,
        *,
        actor: str,
        expected: int | None = None,
    ) -> StoredConfig:
        """Validate, seal and store a configuration, then make the pair due at once.

        Args:
            expected: the revision this replaces (0: there must be none); None overwrites whatever is there.

        Raises:
            UnknownConnector, InvalidConfig, SecretError, ConflictError, StoreUnavailable
        """
        sealed = await self._secrets.seal(pair, self.validate(pair, document))
        stored = await self._store.set_config(pair, sealed, actor=actor, expected=expected)
        await self._configured(stored)
        return await self.announce(stored)

    async def set_many(
        self, items: Sequence[tuple[Pair, ConnectorConfig]], *, actor: str, expected: Mapping[Pair, int] | None = None
    ) -> list[StoredConfig]:
        """Seal and store valid configurations as `TenantConfigStore.set_many` does; `announce` each of them next.

        Raises:
            InvalidConfig, SecretError, ConflictError, StoreUnavailable
        """
        sealed = [(pair, await self._secrets.seal(pair, config)) for pair, config in items]
        try:
            written = await self._store.set_many(sealed, actor=actor, expected=expected) if sealed else []
        except ConflictError as error:
            for stored in error.written:
                await self._configured(stored)
            raise
        for stored in written:
            await self._configured(stored)
        return written

    async def _configured(self, stored: StoredConfig) -> None:
        pair, after = stored.pair, stored.revision
        names = {"tenant": pair.tenant, "connector": pair.connector}
        await self._trail.record(Action.CONFIGURED, actor=stored.actor, before=after - 1, after=after, **names)

    async def delete(self, pair: Pair, *, actor: str, expected: int | None = None, announce: bool = True) -> int:
        """Delete a configuration; its verdict is gone at once, unless `announce` is False because Redis is away.

        Raises:
            NotConfigured, ConflictError, StoreUnavailable
        """
        revision = await self._store.delete_config(pair, actor=actor, expected=expected)
        names = {"tenant": pair.tenant, "connector": pair.connector}
        await self._trail.record(Action.DELETED, actor=actor, before=revision - 1, after=revision, **names)
        await self._remove(pair, revision, announce=announce)
        return revision

    async def offboard(self, tenant: str, *, actor: str) -> int:
        """Remove everything of a tenant: configurations and their history, sealed secrets, schedule and verdicts.

        Its metrics are gone with the next publish. What stays says that it was so: the audit log, and bare
        tombstones (see `TenantConfigStore.forget_tenant`). What failed half-way is finished by calling it again.
        Returns how many configurations there were.

        Raises:
            NotConfigured: there is nothing of such a tenant.
            StoreUnavailable, SecretUnavailable
        """
        count = len(await self._store.list_connectors(tenant))
        tombstones = await self._store.forget_tenant(tenant, actor=actor)
        if not tombstones:
            raise NotConfigured(f"tenant {tenant} is not known here")
        for tombstone in tombstones:
            await self._remove(tombstone.pair, tombstone.revision)
        await self._secrets.forget(tenant)
        await self._trail.record(Action.OFFBOARDED, actor=actor, tenant=tenant, configurations=count)
        return count

    async def _remove(self, pair: Pair, revision: int, *, announce: bool = True) -> None:
        try:
            if announce:
                await self._schedule.remove(pair, revision)
        except AWAY as error:
            log.warning("schedule_behind", pair=str(pair), error=type(error).__name__)
        self._announcements.tell(Announcement(*pair, revision))

    async def rotate(self, pair: Pair) -> None:
        """The secrets behind the pair's references were replaced: forget them everywhere and check at once.

        Raises:
            CacheUnavailable: this process has forgotten them, but nobody else could be told: try again.
        """
        self._announcements.tell(Announcement(*pair))
        try:
            await self._schedule.rotate(pair)
        except AWAY as error:
            raise CacheUnavailable(f"{pair}: the other processes could not be told ({type(error).__name__})") from error

    async def announce(self, stored: StoredConfig) -> StoredConfig:
        """Bring a stored configuration into the schedule, and tell every replica.

        Returns it, with a higher revision if that one was in use before the store was set back (`registry.overtake`).
        """
        pair = stored.pair
        try:
            if not await self._enter(stored) and (newer := await overtake(pair, self._store, self._schedule)):
                stored = newer
                await self._enter(stored)
        except (NotConfigured, ConflictError):
            pass  # somebody else has changed it since
        except (*AWAY, InvalidConfig, StoreUnavailable) as error:
            log.warning("schedule_behind", pair=str(pair), error=type(error).__name__)
        self._announcements.tell(Announcement(*pair, stored.revision))
        return stored

    async def _enter(self, stored: StoredConfig) -> bool:
        (known,) = await self._schedule.get([stored.pair])
        reset, over = is_reset(known.config if known else None, stored.config), known.revision if known else 0
        return await self._schedule.put(stored.pair, stored.revision, stored.config, reset=reset, over=over)
