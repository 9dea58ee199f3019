"""The demo vendors, and small servers that say exactly what a test wants a vendor to say."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from registry.check import run_check, service_check, tenant_check
from registry.connector import Connector, ConnectorConfig
from registry.egress import EgressPolicy
from registry.health import Verdict
from registry.http import VendorHttp
from registry.ids import SYSTEM, Pair
from registry.tokens import TokenCache
from worker.demo.tenants import demo_tenants
from worker.demo.vendors import DemoVendors

NOW_MS = 1_790_000_000_000
"""The shared clock of these tests: 2026-09-21T14:13:20Z."""

LOOPBACK = ("127.0.0.0/8", "::1/128")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def demo_vendors() -> Iterator[DemoVendors]:
    """The demo vendors on a free port, on a loop and thread of their own; `script` says who plays which fault."""
    loop, vendors = asyncio.new_event_loop(), DemoVendors(slow=0.2, now=lambda: NOW_MS / 1000)
    thread = threading.Thread(target=loop.run_forever, name="demo-vendors", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(vendors.start(), loop).result(10)
    yield vendors
    asyncio.run_coroutine_threadsafe(vendors.aclose(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def script(demo_vendors: DemoVendors) -> Iterator[DemoVendors]:
    """The demo vendors with every tenant healthy and the counters at zero."""
    demo_vendors.script.clear()
    demo_vendors.requests.clear()
    demo_vendors.journal.clear()
    yield demo_vendors
    demo_vendors.script.clear()


@pytest.fixture
async def vendor_http() -> AsyncIterator[VendorHttp]:
    """A client that may reach loopback."""
    http = VendorHttp(EgressPolicy(LOOPBACK))
    yield http
    await http.aclose()


class Serve(Protocol):
    """Starts a server for one test and gives its URL."""

    async def __call__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> str: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts HTTP servers that answer every request with a handler; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> str:
            runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, host, port).start()
            return f"http://{host}:{runner.addresses[0][1]}"

        yield start


def says(status: int, body: object = "", headers: Mapping[str, str] | None = None) -> Handler:
    """A vendor that gives one answer; a body that is text is sent as it is, anything else as JSON."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        kind = "text/plain" if isinstance(body, str) else "application/json"
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={"Content-Type": kind, **(headers or {})})

    return handler


class Check(Protocol):
    """Runs one check to its verdict."""

    async def __call__(
        self, connector: type[Connector], config: Mapping[str, object], *, tenant: str = "acme-01", timeout: float = 5
    ) -> Verdict: ...


@pytest.fixture
def tokens() -> TokenCache:
    """The exchanged tokens of one test."""
    return TokenCache()


@pytest.fixture
def check(vendor_http: VendorHttp, tokens: TokenCache) -> Check:
    """The check of a pair, through `registry.check` and the real client."""

    async def run(
        connector: type[Connector], config: Mapping[str, object], *, tenant: str = "acme-01", timeout: float = 5
    ) -> Verdict:
        async def resolve() -> ConnectorConfig:
            return ConnectorConfig.model_validate(config)

        return await run_check(
            Pair(connector.manifest.name, tenant),
            tenant_check(connector, resolve),
            http=vendor_http,
            tokens=tokens,
            manifest=connector.manifest,
            now_ms=lambda: NOW_MS,
            timeout=timeout,
            actions=connector.actions,
        )

    return run


class CheckService(Protocol):
    """Runs one service check to its verdict."""

    async def __call__(self, connector: type[Connector], base_url: str) -> Verdict: ...


@pytest.fixture
def check_service(vendor_http: VendorHttp, tokens: TokenCache) -> CheckService:
    """The credential-free check of an endpoint."""

    async def run(connector: type[Connector], base_url: str) -> Verdict:
        return await run_check(
            Pair(connector.manifest.name, SYSTEM),
            service_check(connector, base_url),
            http=vendor_http,
            tokens=tokens,
            manifest=connector.manifest,
            now_ms=lambda: NOW_MS,
            timeout=5,
        )

    return run


def demo_config(connector: str, vendors: DemoVendors, tenant: int = 1) -> dict[str, object]:
    """The configuration of a demo tenant's connector at these demo vendors."""
    return demo_tenants(tenant, vendors.url)["tenants"][f"acme-{tenant:02d}"][connector]


def signed_claims(assertion: str, key: rsa.RSAPublicKey) -> dict[str, object]:
    """The claims of a JWT whose RS256 signature by `key` holds; else raises."""
    head, _, signature = assertion.rpartition(".")
    key.verify(_unpadded(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
    header, claims = (json.loads(_unpadded(part)) for part in head.split("."))
    assert header["alg"] == "RS256"
    return dict(claims)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
