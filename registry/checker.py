"""Makes the check of one scheduled pair; the same for workers, the facade and the command line."""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from registry.announcing import Announcement
from registry.canary import Canary
from registry.catalog import Catalog, Loaded
from registry.check import CLOSE_TIMEOUT, OTHERWISE, Prepare, run_check, service_check, tenant_check
from registry.clock import SharedClock
from registry.connector import ConnectorConfig
from registry.deadlines import Deadlines
from registry.endpoints import Endpoints
from registry.errors import ConnectorError, ConnectorUnusable
from registry.health import REASONS, Fault, Reason, Verdict
from registry.http import VendorHttp
from registry.ids import Pair
from registry.incidents import NETWORK, IncidentBoard, attribute, ours
from registry.schedule import Scheduled
from registry.secrets import SecretResolver
from registry.settings import Settings
from registry.tokens import TokenCache

REFUSED = (Reason.CREDENTIAL_REJECTED, Reason.CREDENTIAL_EXPIRED)

OWN_SERVER = "Ask the tenant to look at its own server: the vendor's status page does not tell of it."
"""The advice where what is the vendor's to mend is at an address that the tenant brought along."""


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
        self._clock, self._settings, self._deadlines = clock, settings, Deadlines()

    @property
    def longest(self) -> float:
        """Seconds one check may take: what comes before its calls, the calls, closing the connector, our canary."""
        return 2 * self._settings.check_timeout + CLOSE_TIMEOUT + self._canary.timeout

    async def check(self, scheduled: Scheduled) -> Verdict:
        """One check, to its raw verdict. Never raises, whatever the connector or the vendor does.

        The connector is built for this check and nothing of it is kept: so a check costs the same however many pairs
        there are, and a process holds no more than the checks it runs.
        """
        pair = scheduled.pair
        try:
            loaded = self._catalog.load(pair.connector)
            prepare = self._prepare(loaded, scheduled)
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
            deadlines=self._deadlines,
        )
        verdict = self._located(await self._attributed(verdict, scheduled), scheduled)
        if verdict.reason in REFUSED and verdict.fault is Fault.TENANT:
            self._forget(pair)  # what is kept may be the old secret of a rotation
        return verdict

    async def try_out(self, pair: Pair, config: ConnectorConfig) -> Verdict:
        """One check of a configuration that is stored nowhere."""
        return await self.check(Scheduled(pair, 0, config))

    def hear(self, announcement: Announcement | None) -> None:
        """Forget the secrets and tokens that an announcement makes outdated; None: all of them."""
        if announcement is None:
            self._secrets.clear()
            self._tokens.clear()
        elif announcement.pair is not None:
            self._forget(announcement.pair)

    def _forget(self, pair: Pair) -> None:
        self._secrets.drop(pair)
        self._tokens.drop(pair)

    async def _attributed(self, verdict: Verdict, scheduled: Scheduled) -> Verdict:
        """Who is at fault, given our canary and what is happening elsewhere."""
        if verdict.reason in NETWORK and not await self._canary.alive():
            return ours(verdict, "our own network fails: the canary cannot be reached either")
        incidents = await self._board.current()
        return attribute(verdict, self.endpoint(scheduled), incidents) if incidents else verdict

    def _located(self, verdict: Verdict, scheduled: Scheduled) -> Verdict:
        """Whose address it is decides whom it can be blamed on, and who has to look."""
        chosen = scheduled.config.base_url if scheduled.config else None
        if verdict.fault is Fault.TENANT and not chosen and _is_about_address(verdict, scheduled):
            return replace(verdict, fault=Fault.PLATFORM, action=OTHERWISE[Fault.PLATFORM])
        if chosen and verdict.fault is REASONS[verdict.reason].fault is Fault.VENDOR:
            with suppress(ConnectorError):  # it is not registered any more
                if self.endpoint(scheduled) != self._endpoints.own(scheduled.pair.connector).name:
                    return replace(verdict, action=OWN_SERVER)
        return verdict

    def endpoint(self, scheduled: Scheduled) -> str:
        """What incidents and the limits of a vendor's host are about: ``connector|host``."""
        try:
            return self._endpoints.of(scheduled).name
        except Exception:  # noqa: BLE001 - isolation: the check itself will tell what is wrong
            return scheduled.pair.connector

    def _prepare(self, loaded: Loaded, scheduled: Scheduled) -> Prepare:
        if scheduled.config is None:
            if loaded.cls is None:
                raise ConnectorUnusable(f"connector {scheduled.pair.connector} has no service check")
            return service_check(loaded.cls, self._endpoints.of(scheduled).base_url)
        pair, config = scheduled.pair, self._endpoints.located(scheduled.pair.connector, scheduled.config)

        async def resolve() -> ConnectorConfig:
            loaded.validate(config)
            return await self._secrets.resolve(pair, config)

        return tenant_check(loaded.factory, resolve)


def _is_about_address(verdict: Verdict, scheduled: Scheduled) -> bool:
    """Does it say something of the address alone? A service check knows nothing else."""
    return scheduled.config is None or verdict.metadata.get("refused") == "base_url"
