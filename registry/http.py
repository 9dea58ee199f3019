"""The one HTTP client for vendors: bounded in time, bytes and headers, kept to the egress policy.

Here, and nowhere else, a transport error becomes a reason: see `TRANSPORT`. Any HTTP answer is returned, except a
redirect: those are refused, because their target was chosen by someone else than the configuration. A request is
sent once more at most, and only when the connection was reset before any answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client import IDEMPOTENT_METHODS
from multidict import CIMultiDict
from yarl import URL

from registry.egress import EgressPolicy
from registry.errors import CheckFailed
from registry.health import Reason

BODY_LIMIT = 1 << 20
"""Bytes of a decoded body that are read; a health answer has a thousandth of that."""

_CHUNK = 1 << 16
_HEADERS = 128
_HEADER_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """A vendor's complete HTTP answer; `headers` ignores case, `elapsed_ms` is from sending to the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float

    def json(self) -> object:
        """The body as JSON.

        Raises:
            ValueError: it is not JSON, or nested beyond reason.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


class VendorHttp:
    """An aiohttp client with a keep-alive pool, created on the event loop that first uses it.

    It does not bound how many requests run at once: that is its caller's to decide.

    Args:
        egress: what may be reached.
        timeout: seconds for one whole request; None leaves it to the caller's own deadline, which every check has.
        connect_timeout: seconds for name look-up, connection and TLS.
    """

    def __init__(
        self, egress: EgressPolicy | None = None, *, timeout: float | None = None, connect_timeout: float = 5.0
    ) -> None:
        self._egress = egress or EgressPolicy()
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its whole answer.

        Raises:
            CheckFailed: there is no HTTP answer that could be judged; the reason says why.
            RuntimeError: called from another event loop than the first time.
        """
        target = self._egress.check(url)
        try:
            try:
                return await self._send(method, target, headers, json, data)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if method in IDEMPOTENT_METHODS or isinstance(error, aiohttp.ClientConnectorError):
                    raise  # aiohttp itself has tried once more; or there never was a connection
            return await self._send(method, target, headers, json, data)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _translated(error, target) from error

    async def aclose(self) -> None:
        """Close every connection. Call it on the loop that used the client."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str] | None, json: object, data: Mapping[str, str] | None
    ) -> Answer:
        started = time.perf_counter()
        async with self._session(url.scheme).request(
            method, url, headers=headers, json=json, data=data, allow_redirects=False
        ) as response:
            if 300 <= response.status < 400:
                raise CheckFailed(
                    Reason.BAD_RESPONSE,
                    f"{url.host} redirects to another address, which is not followed",
                    evidence={"http_status": response.status},
                )
            body = await _read(response)
        return Answer(response.status, response.headers, body, (time.perf_counter() - started) * 1000)

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("this VendorHttp belongs to another event loop: make one per loop")
        if scheme not in self._sessions:
            self._loop = loop
            self._sessions[scheme] = self._open(scheme)
        return self._sessions[scheme]

    def _open(self, scheme: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_GuardedResolver(self._egress, scheme), limit=0, ttl_dns_cache=30, keepalive_timeout=75
            ),
            headers=CIMultiDict({"User-Agent": user_agent(), "Accept": "application/json"}),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            trust_env=False,
            max_headers=_HEADERS,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )


@cache
def user_agent() -> str:
    """What vendors see us as; GitHub refuses requests without one."""
    from registry.versions import framework_version

    return f"connector-registry/{framework_version()}"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The decoded body, chunk by chunk, so that no more than a chunk over the limit is ever held."""
    if (response.content_length or 0) <= BODY_LIMIT:
        body = await response.content.read(_CHUNK)
        if response.content.at_eof():
            return body  # as nearly always
        held = bytearray(body)
        while len(held) <= BODY_LIMIT:
            if response.content.at_eof():
                return bytes(held)
            held += await response.content.read(_CHUNK)
    response.close()
    raise CheckFailed(
        Reason.BAD_RESPONSE, f"the answer is larger than {BODY_LIMIT} bytes", evidence={"http_status": response.status}
    )


class _GuardedResolver(AbstractResolver):
    """Looks names up, and gives only the addresses that the egress policy admits for this scheme."""

    def __init__(self, egress: EgressPolicy, scheme: str) -> None:
        self._egress = egress
        self._scheme = scheme
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        admitted = self._egress.admit(self._scheme, host, port, [result["host"] for result in found])
        return [result for result in found if result["host"] in admitted]

    async def close(self) -> None:
        await self._system.close()


TRANSPORT: tuple[tuple[tuple[type[BaseException], ...], Reason, str], ...] = (
    ((aiohttp.ClientConnectorDNSError,), Reason.UNREACHABLE, "the name {host} cannot be resolved"),
    ((aiohttp.ClientConnectorCertificateError,), Reason.UNREACHABLE, "the TLS certificate of {host} is not valid"),
    ((aiohttp.ClientSSLError,), Reason.UNREACHABLE, "TLS with {host} failed"),
    ((aiohttp.ConnectionTimeoutError,), Reason.TIMEOUT, "no connection to {host} in time"),
    ((TimeoutError,), Reason.TIMEOUT, "no complete answer from {host} in time"),
    ((aiohttp.ClientConnectorError,), Reason.UNREACHABLE, "no connection to {host}: {why}"),
    ((aiohttp.ClientPayloadError,), Reason.BAD_RESPONSE, "the answer of {host} broke off or is badly encoded"),
    ((aiohttp.ClientResponseError,), Reason.BAD_RESPONSE, "the answer of {host} is not valid HTTP"),
    ((aiohttp.InvalidURL,), Reason.MISCONFIGURED, "the address is not a valid URL"),
    ((aiohttp.ClientConnectionError, OSError), Reason.UNREACHABLE, "{host} closed the connection"),
    ((ValueError,), Reason.MISCONFIGURED, "the credential has characters that cannot be sent"),
)
"""Transport error → reason and sentence; the first row that fits counts."""


def _translated(error: BaseException, url: URL) -> CheckFailed:
    for kinds, reason, sentence in TRANSPORT:
        if isinstance(error, kinds):
            why = error.strerror if isinstance(error, OSError) and error.strerror else "refused"
            return CheckFailed(
                reason, sentence.format(host=url.host, why=why), evidence={"error": type(error).__name__}
            )
    return CheckFailed(Reason.UNREACHABLE, f"no answer from {url.host}", evidence={"error": type(error).__name__})
