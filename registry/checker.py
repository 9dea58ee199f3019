"""Makes the check of one scheduled pair; the same for workers, the facade and the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from msgspec.structs import replace

from registry.announcing import Announcement
from registry.canary import Canary
from registry.catalog import Catalog, Loaded
from registry.check import (
    OTHERWISE,
    CheckSession,
    Discreet,
    Prepare,
    Run,
    build,
    run_check,
    service_check,
    tenant_check,
)
from registry.clock import SharedClock
from registry.connector import Connector, ConnectorConfig
from registry.endpoints import Endpoints
from registry.errors import ConnectorError, ConnectorUnusable
from registry.health import Fault, Reason, Verdict
from registry.http import VendorHttp
from registry.ids import Pair
from registry.incidents import NETWORK, IncidentBoard, attribute, ours
from registry.instances import Build, Instances
from registry.schedule import Scheduled
from registry.secrets import SecretResolver
from registry.settings import Settings
from registry.tokens import TokenCache

KEPT = 20_000
"""Built connectors one process keeps for further checks."""

IDLE = 3_600.0
"""Seconds after which one that was not checked again is closed."""


class Checker:
    """Everything a check needs besides the pair. Belongs to one event loop, like its HTTP session."""

    def __init__(
        self,
        catalog: Catalog,
        secrets: SecretResolver,
        http: VendorHttp,
        tokens: TokenCache,
        endpoints: Endpoints,
        board: IncidentBoard,
        clock: SharedClock,
        settings: Settings,
    ) -> None:
        self._catalog, self._secrets, self._http, self._tokens = catalog, secrets, http, tokens
        self._endpoints, self._board, self._canary = endpoints, board, Canary(settings.canary_url)
        # Building a connector costs more than all the rest of a check but its request.
        self._instances = Instances(capacity=KEPT, idle=IDLE, grace=0.0, renew=settings.secret_ttl)
        self._clock, self._settings = clock, settings

    async def check(self, scheduled: Scheduled) -> Verdict:
        """One check, to its raw verdict. Never raises, whatever the connector or the vendor does."""
        return await self._checked(scheduled, self._prepare)

    async def try_out(self, pair: Pair, config: ConnectorConfig) -> Verdict:
        """One check of a configuration that is stored nowhere; nothing of it is kept."""
        return await self._checked(Scheduled(pair, 0, config), self._prepare_once)

    async def _checked(self, scheduled: Scheduled, prepared: Callable[[Loaded, Scheduled], Prepare]) -> Verdict:
        pair = scheduled.pair
        try:
            loaded = self._catalog.load(pair.connector)
            prepare = prepared(loaded, scheduled)
        except ConnectorError as error:
            return Verdict(Reason.MONITOR_ERROR, Fault.PLATFORM, self._clock.now_ms(), str(error))
        verdict = await run_check(
            pair,
            prepare,
            http=self._http,
            tokens=self._tokens,
            manifest=loaded.manifest,
            actions=getattr(loaded.factory, "actions", {}),
            now_ms=self._clock.now_ms,
            timeout=self._settings.check_timeout,
        )
        verdict = await self._attributed(verdict, self.endpoint(scheduled))
        if pair.is_service and verdict.fault is Fault.TENANT:  # there is no tenant to blame
            verdict = replace(verdict, fault=Fault.PLATFORM, action=OTHERWISE[Fault.PLATFORM])
        if verdict.reason is Reason.CREDENTIAL_REJECTED and verdict.fault is Fault.TENANT:
            self._forget(pair)  # what is kept may be the old secret of a rotation
        return verdict

    def hear(self, announcement: Announcement | None) -> None:
        """Forget the secrets, tokens and instances that an announcement makes outdated; None: all of them."""
        if announcement is None:
            self._secrets.clear()
            self._tokens.clear()
            self._instances.retire(lambda _: True)
        elif announcement.pair is not None:
            self._forget(announcement.pair)
        else:
            self._instances.retire(lambda pair: pair.connector == announcement.connector)

    def _forget(self, pair: Pair) -> None:
        self._instances.void(pair)
        self._secrets.drop(pair)
        self._tokens.drop(pair)

    async def _attributed(self, verdict: Verdict, endpoint: str) -> Verdict:
        """Who is at fault, given our canary and what is happening elsewhere."""
        if verdict.reason in NETWORK and not await self._canary.alive():
            return ours(verdict, "our own network fails: the canary cannot be reached either")
        return attribute(verdict, endpoint, await self._board.current())

    def endpoint(self, scheduled: Scheduled) -> str:
        """What incidents and the limits of a vendor's host are about: ``connector|host``."""
        try:
            return self._endpoints.of(scheduled).name
        except (ConnectorError, ValueError):  # the check itself will tell what is wrong
            return scheduled.pair.connector

    async def aclose(self) -> None:
        """Close the connectors that are kept for further checks."""
        await self._instances.aclose()

    def _prepare(self, loaded: Loaded, scheduled: Scheduled) -> Prepare:
        if scheduled.config is None:
            if loaded.cls is None:
                raise ConnectorUnusable(f"connector {scheduled.pair.connector} has no service check")
            return service_check(loaded.cls, self._endpoints.of(scheduled).base_url)
        pair, config = scheduled.pair, self._endpoints.located(scheduled.pair.connector, scheduled.config)

        async def made() -> Connector:
            loaded.validate(config)
            resolved = await self._secrets.resolve(pair, config)
            connector = Discreet(await build(loaded.factory, resolved), resolved)
            return cast("Connector", connector)  # nobody else gets these instances, and checks need no more of them

        async def source() -> tuple[int, Build]:
            return scheduled.revision, made

        async def prepare() -> Run:
            instance = await self._instances.hold(pair, scheduled.revision, source)

            async def run(session: CheckSession) -> None:
                try:
                    await instance.connector.check(session)
                finally:
                    self._instances.give_back(instance)

            return run

        return prepare

    def _prepare_once(self, loaded: Loaded, scheduled: Scheduled) -> Prepare:
        pair, config = scheduled.pair, cast("ConnectorConfig", scheduled.config)

        async def resolve() -> ConnectorConfig:
            return await self._secrets.resolve(pair, self._endpoints.located(pair.connector, config))

        return tenant_check(loaded.factory, resolve)
