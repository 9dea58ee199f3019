"""The one HTTP client for vendors: bounded in time, bytes and headers, kept to the egress policy.

Here, and nowhere else, a transport error becomes a reason: see `TRANSPORT`. Any HTTP answer is returned, except a
redirect: those are refused, because their target was chosen by someone else than the configuration. A request is
sent once more at most, and only when the connection was reset before any answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Mapping
from functools import cache
from json import dumps, loads
from urllib.parse import urlencode

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from registry.egress import EgressPolicy
from registry.errors import CheckFailed
from registry.health import Reason
from registry.wire import Unread, Wire

BODY_LIMIT = 1 << 20
"""Bytes of a decoded body that are read; a health answer has a thousandth of that."""

_ACCEPT = {"Accept": "application/json"}


class Answer(Struct, frozen=True, gc=False):
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
            return loads(self.body)
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
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._wires: dict[str, Wire] = {}
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
        content, body = _content(json, data)
        sent = _sent(content, headers or {})
        try:
            if self._timeout is None:
                return await self._send_again(method, target, sent, body)
            async with asyncio.timeout(self._timeout):
                return await self._send_again(method, target, sent, body)
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, ValueError) as error:
            raise _translated(error, target) from error

    async def aclose(self) -> None:
        """Close every connection. Call it on the loop that used the client."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            await wire.aclose()

    async def _send_again(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """Once more, if need be."""
        try:
            return await self._send(method, url, headers, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
        return await self._send(method, url, headers, body)

    async def _send(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        started = time.perf_counter()
        try:
            status, told, answered = await self._wire(url.scheme).exchange(method, url, headers, body)
        except Unread as unread:
            why = f"the answer is larger than {BODY_LIMIT} bytes"
            if 300 <= unread.status < 400:
                why = f"{url.host} redirects to another address, which is not followed"
            raise CheckFailed(Reason.BAD_RESPONSE, why, evidence={"http_status": unread.status}) from None
        return Answer(status, told, answered, (time.perf_counter() - started) * 1000)

    def _wire(self, scheme: str) -> Wire:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("this VendorHttp belongs to another event loop: make one per loop")
        wire = self._wires.get(scheme)
        if wire is None:
            self._loop = loop
            wire = self._wires[scheme] = Wire(
                _GuardedResolver(self._egress, scheme),
                agent=user_agent(),
                connect_timeout=self._connect_timeout,
                limit=BODY_LIMIT,
            )
        return wire


def _sent(content: Mapping[str, str], headers: Mapping[str, str]) -> Mapping[str, str]:
    """What is sent besides what every request has; `headers` go before, however they are spelled."""
    if not content and "Accept" in headers:
        return headers  # as most connectors say it
    sent = CIMultiDict(_ACCEPT)
    sent.update(content)
    sent.update(headers)
    return sent


def _content(json: object, data: Mapping[str, str] | None) -> tuple[Mapping[str, str], bytes]:
    """The body that is sent, and the header that tells its form."""
    if json is not None:
        return {"Content-Type": "application/json"}, dumps(json).encode()
    if data is not None:
        return {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(data).encode()
    return {}, b""


@cache
def user_agent() -> str:
    """What vendors see us as; GitHub refuses requests without one."""
    from registry.versions import framework_version

    return f"connector-registry/{framework_version()}"


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
    ((aiohttp.ClientResponseError, HttpProcessingError), Reason.BAD_RESPONSE, "the answer of {host} is not valid HTTP"),
    ((aiohttp.InvalidURL,), Reason.MISCONFIGURED, "the address is not a valid URL"),
    ((aiohttp.ClientConnectionError, OSError), Reason.UNREACHABLE, "{host} closed the connection"),
    ((ValueError,), Reason.MISCONFIGURED, "the credential has characters that cannot be sent"),
)
"""Transport error → reason and sentence; the first row that fits counts."""


EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What the operating system refuses a connection with that never left us."""


def _translated(error: BaseException, url: URL) -> CheckFailed:
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        why = (
            f"no connection can be made here ({errno.errorcode[error.errno]}): raise this process' limit of open files"
        )
        return CheckFailed(Reason.MONITOR_ERROR, why, evidence={"error": type(error).__name__})
    for kinds, reason, sentence in TRANSPORT:
        if isinstance(error, kinds):
            why = error.strerror if isinstance(error, OSError) and error.strerror else "refused"
            return CheckFailed(
                reason, sentence.format(host=url.host, why=why), evidence={"error": type(error).__name__}
            )
    return CheckFailed(Reason.UNREACHABLE, f"no answer from {url.host}", evidence={"error": type(error).__name__})
