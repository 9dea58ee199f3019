"""One HTTP/1.1 exchange on a connection of aiohttp's pool.

aiohttp keeps the connections (TLS, name look-up, keep-alive) and parses the answers. What its `ClientSession` puts
around that (cookies, redirects, proxies, tracing, streamed uploads) a health check must not or need not have, and it
takes half of the time of a call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

BODILESS = ("GET", "HEAD", "OPTIONS")
"""Methods of requests that announce no length."""

HEADERS = 128
"""Headers an answer may have."""

HEADER_BYTES = 16_384
"""Bytes of an answer's first line, and of each header."""

SPOILED = 8
"""Connections in a row on which the vendor spoke unasked, after which it is not asked."""

_ENCODINGS = "gzip, deflate"
_CHUNK = 1 << 16
_BROKEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Start:
    """What every request to one URL has in common: the way to its connection, and the head's first lines."""

    way: aiohttp.ClientRequest
    head: str


class Unread(Exception):
    """The body is not read: the answer is a redirect, or too long."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Wire:
    """The connections of one scheme. Belongs to the event loop it is made on.

    Args:
        resolver: looks up names, and may refuse.
        agent: what we call ourselves.
        connect_timeout: seconds for name look-up, connection and TLS.
        limit: bytes of a decoded body.
    """

    def __init__(
        self, resolver: aiohttp.abc.AbstractResolver, *, agent: str, connect_timeout: float, limit: int
    ) -> None:
        self._connector = aiohttp.TCPConnector(resolver=resolver, limit=0, ttl_dns_cache=30, keepalive_timeout=75)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._agent, self._limit = agent, limit
        self._loop = asyncio.get_running_loop()
        self._start = lru_cache(maxsize=4096)(self._started)

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; returns status, headers and decoded body of the answer.

        Raises:
            Unread: a redirect, or more than `limit` bytes.
            ValueError: a header cannot be sent.
            aiohttp.ClientError, HttpProcessingError, OSError: there is no whole answer.
        """
        start = self._start(method, url)
        request = f"{start.head}{_lines(headers)}{_length(method, body)}\r\n".encode() + body
        await asyncio.sleep(0)  # whatever is ready in this turn of the loop is sent at one go: a fifth of a check's CPU
        connection = await self._connection(start.way)
        try:
            answer = await self._answered(connection, request, method)
        except BaseException:
            connection.close()
            raise
        connection.release()
        await asyncio.sleep(0)  # all answers of a turn are read before the first is judged: some 4 % less
        return answer

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connector.close()

    async def _connection(self, way: aiohttp.ClientRequest) -> aiohttp.connector.Connection:
        """A connection on which nothing waits to be read: it would be taken for the answer to the next question."""
        for _ in range(SPOILED):
            try:
                connection = await self._connector.connect(way, [], self._timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError from error
            except UnicodeError as error:  # no such name can be: a part of it is empty, or too long
                raise aiohttp.InvalidURL(way.url) from error
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()
        raise HttpProcessingError(message="it speaks unasked")

    async def _answered(
        self, connection: aiohttp.connector.Connection, request: bytes, method: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
        )
        transport.write(request)
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        if 300 <= message.code < 400 or _longer(message.headers.get("Content-Length", "0"), self._limit):
            raise Unread(message.code)
        return message.code, message.headers, await self._read(message.code, payload)

    async def _read(self, status: int, payload: aiohttp.StreamReader) -> bytes:
        """The decoded body, chunk by chunk, so that no more than a chunk over the limit is ever held."""
        body = await payload.read(_CHUNK)
        if payload.at_eof():
            return body  # as nearly always
        held = bytearray(body)
        while len(held) <= self._limit:
            if payload.at_eof():
                return bytes(held)
            held += await payload.read(_CHUNK)
        raise Unread(status)

    def _started(self, method: str, url: URL) -> Start:
        way = aiohttp.ClientRequest(method, url, loop=self._loop)
        lines = {"Host": url.host_port_subcomponent or "", "User-Agent": self._agent, "Accept-Encoding": _ENCODINGS}
        return Start(way, f"{method} {url.raw_path_qs} HTTP/1.1\r\n{_lines(lines)}")


def _lines(headers: Mapping[str, str]) -> str:
    text = "".join([*headers, *headers.values()])
    if not text.isprintable() and _BROKEN.search(text):
        raise ValueError("a header must not have control characters")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _longer(length: str, limit: int) -> bool:
    """Is a body of this announced length too long? Nobody pads it with so many zeros that it cannot be a number."""
    return len(length) > 20 or int(length) > limit


def _length(method: str, body: bytes) -> str:
    return f"Content-Length: {len(body)}\r\n" if body or method not in BODILESS else ""
