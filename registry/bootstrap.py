"""Puts the parts together from settings. The only file that names concrete ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from registry.access import Access
from registry.announcing import Announcements
from registry.audit import AuditSink
from registry.audit.trail import Trail
from registry.budget import Budgets
from registry.cache import HealthCache
from registry.catalog import Catalog
from registry.checker import Checker
from registry.clock import SharedClock
from registry.configuring import Configurations
from registry.connection import Redis, connect
from registry.connectors import CONNECTORS
from registry.discovery import discover
from registry.egress import EgressPolicy
from registry.endpoints import Endpoints
from registry.facade import ConnectorRegistry
from registry.http import VendorHttp
from registry.incidents import IncidentBoard
from registry.maintenance import Maintenance
from registry.notes import NoteStore
from registry.reading import Reading
from registry.reconcile import Reconciler
from registry.recording import Recorder
from registry.schedule import Schedule
from registry.secrets import SealingBackend, SecretBackend, SecretResolver
from registry.settings import Settings, load_settings
from registry.stores import TenantConfigStore
from registry.throttle import Throttle
from registry.tokens import TokenCache


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything one process needs, wired. Belongs to one event loop; `aclose` gives all of it back."""

    settings: Settings
    clock: SharedClock
    redis: Redis
    reading: Reading
    store: TenantConfigStore
    secrets: SecretResolver
    catalog: Catalog
    http: VendorHttp
    cache: HealthCache
    schedule: Schedule
    announcements: Announcements
    endpoints: Endpoints
    checker: Checker
    recorder: Recorder
    budgets: Budgets
    configurations: Configurations
    reconciler: Reconciler
    maintenance: Maintenance
    access: Access
    throttle: Throttle
    audit: Trail

    async def aclose(self) -> None:
        """Close every connection."""
        await self.announcements.aclose()
        await self.http.aclose()
        await self.audit.aclose()
        await self.secrets.aclose()
        await self.store.aclose()
        await self.maintenance.aclose()
        await self.redis.aclose()
        await self.reading.aclose()


def assemble(settings: Settings | None = None) -> Parts:
    """Wire the parts that `settings` (default: the environment) ask for. Opens no connection yet.

    Raises:
        InvalidConfig: a setting cannot be used.
    """
    settings = settings or load_settings()
    found = discover(CONNECTORS, settings.connector_pins)
    trail = Trail(_audit(settings), reads=settings.audit_reads)
    clock, catalog, tokens = SharedClock(), Catalog(CONNECTORS, found, trail=trail), TokenCache()
    redis = connect(settings.redis_url, settings.redis_timeout)
    reading = Reading(settings.redis_url, settings.read_timeout)
    store, secrets = _store(settings), _secrets(settings, trail)
    http = VendorHttp(EgressPolicy(settings.egress_allow))
    schedule = Schedule(redis, clock, shards=settings.shards, lease=settings.claim_lease)
    announcements = Announcements(
        redis,
        schedule.origin,
        shards=settings.shards,
        wait=settings.stream_wait,
        patience=settings.read_timeout,
    )
    endpoints = Endpoints(redis, schedule, catalog, settings)
    notes = _notes(settings)
    checker = Checker(catalog, secrets, http, tokens, endpoints, IncidentBoard(redis), clock, settings)
    announcements.hear(checker.hear)
    return Parts(
        settings=settings,
        clock=clock,
        redis=redis,
        reading=reading,
        store=store,
        secrets=secrets,
        catalog=catalog,
        http=http,
        cache=HealthCache(reading, clock, shards=settings.shards),
        schedule=schedule,
        announcements=announcements,
        endpoints=endpoints,
        checker=checker,
        recorder=Recorder(redis, clock, settings),
        budgets=Budgets(redis, schedule, settings),
        configurations=Configurations(store, secrets, schedule, catalog, announcements, trail),
        reconciler=Reconciler(redis, schedule, store, catalog, endpoints, clock, settings),
        maintenance=Maintenance(redis, notes, clock, trail),
        access=Access(redis, notes, clock, trail),
        throttle=Throttle(redis),
        audit=trail,
    )


def _store(settings: Settings) -> TenantConfigStore:
    if settings.config_store == "firestore":
        from registry.stores.firestore import FirestoreStore

        return FirestoreStore(project=settings.firestore_project, database=settings.firestore_database)
    if settings.config_store == "memory":
        from registry.stores.memory import MemoryStore

        return MemoryStore()
    from registry.stores.sqlite import SqliteStore

    return SqliteStore(settings.sqlite_path)


def _notes(settings: Settings) -> NoteStore:
    match settings.config_store:
        case "firestore":
            from registry.notes.firestore import FirestoreNotes

            return FirestoreNotes(settings.firestore_project, database=settings.firestore_database)
        case "memory":
            from registry.notes.memory import MemoryNotes

            return MemoryNotes()
        case _:
            from registry.notes.sqlite import SqliteNotes

            return SqliteNotes(settings.sqlite_path)


def _audit(settings: Settings) -> AuditSink:
    match settings.config_store if settings.audit == "auto" else settings.audit:
        case "memory":
            from registry.audit.memory import MemoryAudit

            return MemoryAudit()
        case "firestore":
            from registry.audit.firestore import FirestoreAudit

            return FirestoreAudit(settings.firestore_project, database=settings.firestore_database)
        case "file":
            from registry.audit.lines import LinesAudit

            return LinesAudit(settings.audit_path)
        case _:
            from registry.audit.sqlite import SqliteAudit

            return SqliteAudit(settings.sqlite_path)


def _secrets(settings: Settings, trail: Trail) -> SecretResolver:
    from registry.secrets.encrypted import EncryptedSecrets
    from registry.secrets.env import EnvSecrets
    from registry.secrets.file import FileSecrets

    backends: list[SecretBackend] = [EnvSecrets(), FileSecrets(settings.secrets_dir)]
    sealing: SealingBackend | None = None
    if settings.encryption_keys:
        sealing = EncryptedSecrets(settings.encryption_keys)
        backends.append(sealing)
    if settings.secret_manager_project:
        from registry.secrets.gcp import SecretManagerSecrets

        sealing = SecretManagerSecrets(settings.secret_manager_project, prefix=settings.secret_manager_prefix)
    return SecretResolver(
        backends,
        sealing=sealing,
        ttl=settings.secret_ttl,
        max_pairs=settings.secret_capacity,
        on_read=trail.secret_read,
    )


def create_registry(settings: Settings | None = None) -> ConnectorRegistry:
    """A registry wired from `settings` (default: the environment). Raises `InvalidConfig`."""
    return ConnectorRegistry(assemble(settings))


def default() -> ConnectorRegistry:
    """The process's own registry, built from the environment at its first use; a forked process gets another one.

    >>> default() is default()
    True

    It belongs to the event loop that first uses it. A program with several loops makes one registry for each, with
    `create_registry`.
    """
    return _default_of(os.getpid())


@cache
def _default_of(_process: int) -> ConnectorRegistry:
    return create_registry()
