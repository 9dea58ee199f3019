"""The conformance kit: what every connector promises, as tests that its author runs with pytest.

::

    from registry.testing import ConnectorConformance

    class TestAcmeTracker(ConnectorConformance):
        connector = AcmeTracker

        def config(self, url):
            return {"auth": {"type": "bearer", "token": "k-0123456789abcdef"}, "base_url": url}

        async def vendor(self, request):
            return web.json_response({"user": "ann"})

Each test runs real checks, through the same code as production, against a server of its own on loopback.
"""

from __future__ import annotations

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

from aiohttp import web
from packaging.version import InvalidVersion, Version
from pydantic import SecretStr

from registry.catalog import Catalog
from registry.check import Prepare, build, run_check, service_check, tenant_check
from registry.connector import Connector, ConnectorConfig
from registry.egress import EgressPolicy
from registry.errors import InvalidConfig
from registry.health import REASONS, Fault, Reason, Status, Verdict
from registry.http import VendorHttp
from registry.ids import SYSTEM, Pair, connector_id
from registry.tokens import TokenCache
from registry.validation import config_schema

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

TENANT = "conformance"
DEADLINE = 1.0
"""Seconds a check may take before it is timed out."""

_LOOPBACK = ("127.0.0.0/8",)
_NOW_MS = 1_790_000_000_000
_PAGE = "<!DOCTYPE html><html><body>Down for maintenance</body></html>"
_AUTH: Mapping[str, Mapping[str, object]] = {
    "bearer": {"token": "conformance"},
    "oauth2": {"access_token": "conformance"},
    "service_account": {"key": "{}"},
    "github_app": {"app_id": "1", "installation_id": 1, "private_key": "conformance"},
}


def _says(status: int, text: str, kind: str = "application/json", headers: Mapping[str, str] | None = None) -> Handler:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return handler


async def _hangs(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


_REFUSALS: Mapping[str, Handler] = {
    "401": _says(401, '{"message": "Unauthorized"}'),
    "403": _says(403, '{"message": "Forbidden"}'),
    "429": _says(429, '{"message": "Too many requests"}', headers={"Retry-After": "30"}),
}
"""Answers that are about the credential."""

_FAILURES: Mapping[str, Handler] = {
    "500": _says(500, '{"message": "Internal error"}'),
    "503 with a page": _says(503, _PAGE, "text/html"),
    "200 with a page": _says(200, _PAGE, "text/html"),
    "200 with garbage": _says(200, '{"truncated": [1, 2'),
    "200 with another shape": _says(200, "[]"),
    "200 with nothing": _says(200, ""),
    "a redirect": _says(302, "", headers={"Location": "https://example.com/"}),
    "no answer": _hangs,
}
"""Answers that say nothing about the tenant."""


class ConnectorConformance(ABC):
    """Subclass it in a test module, with `connector`, `config` and `vendor`; pytest finds the tests."""

    connector: ClassVar[type[Connector]]
    """The class under test."""

    @abstractmethod
    def config(self, url: str) -> Mapping[str, object]:
        """A configuration that works with the vendor at `url`; its secrets are clear, made up, and long."""

    @abstractmethod
    async def vendor(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the vendor answers when everything is well, also to a request without a credential."""

    def test_the_manifest_is_complete(self) -> None:
        """Name, versions, steps, address, documentation, limits."""
        manifest = self.connector.manifest
        connector_id(manifest.name)
        catalog = Catalog()
        catalog.register(manifest.name, self.connector)
        catalog.load(manifest.name)
        for version in (manifest.version, *(change.version for change in manifest.breaking_changes)):
            _require(_is_version(version), f"{version!r} is not a version (PEP 440)")
        _require(bool(manifest.title.strip()), "the title is empty")
        _require(bool(manifest.steps), "no step is declared")
        _require(bool(manifest.auth_methods), "no auth method is declared")
        for url in (manifest.documentation, manifest.default_base_url, *(row.documentation for row in manifest.limits)):
            _require(url.startswith("https://"), f"{url!r} is not an https address")

    def test_the_advice_is_for_people(self) -> None:
        """`actions` has reasons of the table, each with one sentence."""
        for reason, action in self.connector.actions.items():
            _require(reason in REASONS, f"{reason!r} is no reason")
            _require(bool(re.search(r"\w.*[.!]$", action)), f"the action for {reason.value} is no sentence: {action!r}")

    def test_validate_accepts_the_configuration(self) -> None:
        """The given configuration, and its JSON Schema can be made."""
        self.connector.validate(self._config("https://vendor.example.com"))
        json.dumps(config_schema(self.connector.manifest))

    def test_validate_refuses_other_auth_methods(self) -> None:
        """Every auth method that the manifest does not name, beginning with the field."""
        for method in set(_AUTH) - set(self.connector.manifest.auth_methods):
            changed = {**self.config("https://vendor.example.com"), "auth": {"type": method, **_AUTH[method]}}
            try:
                self.connector.validate(ConnectorConfig.model_validate(changed))
            except InvalidConfig as error:
                _require(str(error).startswith("auth"), f"the refusal of {method} names no field: {error}")
            else:
                raise AssertionError(f"validate() accepts auth.type {method}, which the manifest does not name")

    def test_a_well_vendor_is_healthy_and_every_declared_step_is_reported(self) -> None:
        """All steps of the manifest, some perhaps only when their failure is found; and no others."""
        well = self._check(self.vendor)
        _require(well.reason is Reason.OK, f"a well vendor gives {_told(well)}")
        reported = {step.name for step in well.checks}
        for handler in _REFUSALS.values():
            reported |= {step.name for step in self._check(handler).checks}
        declared = set(self.connector.manifest.steps)
        _require(reported <= declared, f"steps that the manifest does not declare: {sorted(reported - declared)}")
        _require(declared <= reported, f"declared steps that no check reports: {sorted(declared - reported)}")

    def test_the_configured_address_is_asked(self) -> None:
        """At least one request goes to ``base_url``."""
        asked: list[str] = []

        async def counted(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(request.path)
            return await self.vendor(request)

        self._check(counted)
        _require(bool(asked), "the check asks another address than the configured one")

    def test_the_service_check_sends_no_credential(self) -> None:
        """Scope SYSTEM: a well vendor is healthy, and nothing of a configuration is sent."""
        sent: list[str] = []

        async def heard(request: web.BaseRequest) -> web.StreamResponse:
            sent.append(f"{request.path_qs} {dict(request.headers)} {await request.text()}")
            return await self.vendor(request)

        verdict = self._check(heard, service=True)
        _require(verdict.reason is Reason.OK, f"the service check of a well vendor gives {_told(verdict)}")
        for secret in self._secrets():
            _require(secret not in "".join(sent), "the service check sends a credential")

    def test_a_refusal_never_raises_and_is_never_the_platforms_fault(self) -> None:
        """401, 403 and 429 are verdicts; 429 says nothing against the credential."""
        for name, handler in _REFUSALS.items():
            verdict = self._check(handler)
            _require(verdict.fault is not Fault.PLATFORM, f"{name} gives {_told(verdict)}")
            _require(verdict.reason is not Reason.OK, f"{name} passes for healthy")
        limited = self._check(_REFUSALS["429"])
        _require(limited.reason is Reason.RATE_LIMITED, f"429 gives {_told(limited)}")

    def test_a_failing_vendor_is_the_vendors_fault(self) -> None:
        """500, pages, garbage, silence: never an exception, never the tenant's or the platform's fault."""
        for service in (False, True):
            for name, handler in _FAILURES.items():
                verdict = self._check(handler, service=service)
                usable = REASONS[verdict.reason].status in (Status.HEALTHY, Status.DEGRADED)
                _require(not usable, f"{name} passes for {_told(verdict)}")
                _require(verdict.fault is Fault.VENDOR, f"{name} gives {_told(verdict)}")

    def test_a_credential_that_the_vendor_echoes_is_not_kept(self) -> None:
        """Whatever the vendor repeats, however long the text before it: not in the verdict, not even its beginning."""
        for status in (200, 400, 401, 403, 500):
            for length in (0, 150, 190, 485, 495):
                verdict = self._check(_echo(status, "x" * length))
                for secret in self._secrets():
                    shown = secret[:12] in repr(verdict)
                    _require(not shown, f"HTTP {status} that repeats the request: a credential shows in {verdict!r}")

    def test_closing_twice_does_no_harm(self) -> None:
        """`aclose` is idempotent, and an instance that was never used can be closed."""

        async def run() -> None:
            made = await build(self.connector, self._config("https://vendor.example.com"))
            await made.aclose()
            await made.aclose()

        asyncio.run(run())

    def _config(self, url: str) -> ConnectorConfig:
        return ConnectorConfig.model_validate(self.config(url))

    def _secrets(self) -> list[str]:
        values = [value for _, value in self._config("https://vendor.example.com").secrets()]
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    def _check(self, handler: Handler, *, service: bool = False) -> Verdict:
        return asyncio.run(self._checked(handler, service=service))

    async def _checked(self, handler: Handler, *, service: bool) -> Verdict:
        runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = VendorHttp(EgressPolicy(_LOOPBACK))
        try:
            return await run_check(
                Pair(self.connector.manifest.name, SYSTEM if service else TENANT),
                self._prepare(f"http://127.0.0.1:{runner.addresses[0][1]}", service=service),
                http=http,
                tokens=TokenCache(),
                manifest=self.connector.manifest,
                now_ms=lambda: _NOW_MS,
                timeout=DEADLINE,
                actions=self.connector.actions,
            )
        finally:
            await http.aclose()
            await runner.cleanup()

    def _prepare(self, url: str, *, service: bool) -> Prepare:
        if service:
            return service_check(self.connector, url)

        async def resolve() -> ConnectorConfig:
            return self._config(url)

        return tenant_check(self.connector, resolve)


def _echo(status: int, before: str) -> Handler:
    """A vendor that repeats the whole request wherever its errors may be read."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        told = f"{before}{request.path_qs} {' '.join(request.headers.values())} {await request.text()}"
        error = {"message": told, "code": told, "extensions": {"code": told, "userPresentableMessage": told}}
        body = {"ok": False, "error": told, "error_description": told, "message": told, "errors": [error]}
        credential = request.headers.get("Authorization", "none")
        return web.json_response(body, status=status, headers={"X-Request-Id": credential})

    return handler


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _told(verdict: Verdict) -> str:
    return f"{verdict.reason.value}, the fault of {verdict.fault.value}: {verdict.error}"


def _require(holds: bool, sentence: str) -> None:  # noqa: FBT001 - it reads like assert
    if not holds:
        raise AssertionError(sentence)
