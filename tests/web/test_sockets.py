"""What a client can do with bare sockets: slowly, endlessly, oddly. All of it ends, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from registry.web import server
from tests.fixtures_web import Api, StartApi
from tests.waiting import reached
from tests.web.world import OWN, World

PATIENCE = 20.0
"""Seconds a test waits for what should end soon."""

ALIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Line:
    """One connection to an API."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *parts: bytes) -> None:
        """Send, piece by piece."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields of an answer."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *fields = head.strip().split("\r\n")
        found = dict(field.split(": ", 1) for field in fields)
        return int(first.split()[1]), {name.lower(): value for name, value in found.items()}

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of an answer of known length."""
        status, fields = await self.head()
        async with asyncio.timeout(PATIENCE):
            return status, await self.reader.readexactly(int(fields.get("content-length", 0)))

    async def ended(self) -> bytes:
        """What still comes until the server closes; hangs the test if it never does."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                return await self.reader.read()
        return b""

    async def drip(self, byte: bytes) -> None:
        """Say something now and then until the server has had enough."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while not self.reader.at_eof():
                    self.writer.write(byte)
                    await self.writer.drain()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.reader.read(1 << 16), 0.02)


@asynccontextmanager
async def line(api: Api) -> AsyncIterator[Line]:
    url = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1 << 22)
    yield Line(reader, writer)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def assert_served(api: Api) -> None:
    async with asyncio.timeout(PATIENCE):
        assert (await api.ask("GET", "/livez")).status == 200


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for heads, and for its answers to be taken, a fifth of a second."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server, "TAKE_SECONDS", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"G",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"\r\n",
        ALIVE,
        ALIVE + b"\r\n",
        ALIVE + b"GET /li",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"PUT /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n",
    ],
    ids=["silent", "one-byte", "field", "blank", "kept", "kept-blank", "kept-next", "chunked", "trailer", "length"],
)
@pytest.mark.parametrize("drop", [b"", b"\r\n", b"a"], ids=["nothing", "blank", "letter"])
async def test_a_head_that_does_not_come_is_not_waited_for(api: Api, begun: bytes, drop: bytes) -> None:
    async with line(api) as slow:
        await slow.say(begun)
        await slow.drip(drop)
    await assert_served(api)


async def test_many_slow_heads_hold_up_nobody(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 1.0)
    url = urlsplit(api.url)
    slow = [await asyncio.open_connection(url.hostname, url.port) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"GET /livez HTTP/1.1\r\nX: ")
    await assert_served(api)
    async with asyncio.timeout(PATIENCE):
        assert {await reader.read() for reader, _ in slow} == {b""}
    for _, writer in slow:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /livez?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a/" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["long", "many", "query", "path"],
)
async def test_a_large_head_is_refused(api: Api, head: bytes) -> None:
    async with line(api) as large:
        await large.say(head)
        status, body = await large.answer()
        assert (status, json.loads(body)["code"]) == (431, "head_too_large")
        await large.ended()
    async with line(api) as pieces:
        with suppress(ConnectionError):
            await pieces.say(*(head[at : at + 4_000] for at in range(0, len(head), 4_000)))
        assert b"431" in await pieces.ended()
    await assert_served(api)


@pytest.mark.parametrize("piece", [b"X-More: y\r\n", b"a" * 100], ids=["fields", "one"])
async def test_an_endless_head_ends(api: Api, piece: bytes) -> None:
    async with line(api) as endless:
        await endless.say(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
        with suppress(ConnectionError):
            for _ in range(100_000):
                await endless.say(piece)
                if endless.reader.at_eof():
                    break
        await endless.ended()
    await assert_served(api)


CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
PUT = (
    f"PUT /v1/tenants/{OWN}/connectors/github/config HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 70000\r\n\r\n", 413),
        (b"Content-Length: 9999999999999999999\r\n\r\n", 413),
        (b"Content-Length: 999999999999999999999999999999\r\n\r\n", 400),
        (b"Content-Length: -1\r\n\r\n", 400),
        (b"Content-Length: 0x10\r\n\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"Content-Length: 5\r\n" + CHUNKS, 400),
        (b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n", 413),
        (b"Transfer-Encoding: gzip\r\n\r\n", 400),
    ],
    ids=range(9),
)
async def test_a_body_that_cannot_be_is_refused_before_it_comes(api: Api, head: bytes, status: int) -> None:
    async with line(api) as sending:
        await sending.say(PUT + head)
        found, body = await sending.answer()
        assert (found, json.loads(body)["status"]) == (status, status)
    await assert_served(api)


@pytest.mark.parametrize("chunk", [b"2000\r\n" + b" " * 8192 + b"\r\n", b"1;" + b"x" * 4000 + b"\r\n \r\n"])
async def test_an_endless_body_ends(api: Api, chunk: bytes) -> None:
    token = await api.token()
    for target in (PUT, b"GET /livez HTTP/1.1\r\nHost: x\r\n"):
        async with line(api) as endless:
            await endless.say(target + f"Authorization: Bearer {token}\r\n".encode() + CHUNKS)
            with suppress(ConnectionError):
                for _ in range(10_000):
                    await endless.say(chunk)
            await endless.ended()
    await assert_served(api)


async def test_a_large_body_of_chunks_is_refused(api: Api) -> None:
    async with line(api) as large:
        await large.say(PUT + CHUNKS, *[b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 5)
        status, body = await large.answer()
        assert (status, json.loads(body)["code"]) == (413, "too_large")
        await large.ended()


async def test_endless_trailers_end(api: Api) -> None:
    async with line(api) as endless:
        await endless.say(PUT + CHUNKS + b"2\r\n{}\r\n0\r\n")
        with suppress(ConnectionError):
            for _ in range(10_000):
                await endless.say(b"X-Trailer: " + b"y" * 4_000 + b"\r\n")
        await endless.ended()
    await assert_served(api)


async def test_a_slow_body_is_the_clients_fault(start_api: StartApi, api: Api) -> None:
    hasty = await start_api(api.parts.settings.model_copy(update={"api_timeout": 0.2}))
    async with line(hasty) as slow:
        await slow.say(PUT + b"Content-Length: 1000\r\n\r\n{")
        status, body = await slow.answer()
        assert (status, json.loads(body)["code"]) == (408, "timeout")
        await slow.ended()
    await assert_served(hasty)


@pytest.mark.usefixtures("hasty")
async def test_a_client_that_takes_no_answer_is_cut(api: Api) -> None:
    url = urlsplit(api.url)
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.setblocking(False)
        await asyncio.get_running_loop().sock_connect(greedy, (url.hostname, url.port))
        wanted = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
        await asyncio.get_running_loop().sock_sendall(greedy, wanted)

        async def is_cut() -> bool:
            """Has the server reset the connection, nothing of what it wrote having been taken?"""
            try:
                await asyncio.get_running_loop().sock_sendall(greedy, b"x")
            except ConnectionError:
                return True
            return False

        async with asyncio.timeout(PATIENCE):
            await reached("the server cuts the connection", is_cut)
    await assert_served(api)


async def test_one_more_than_the_crowd_is_told_so_and_probes_are_not(start_api: StartApi, api: Api) -> None:
    few = await start_api(api.parts.settings.model_copy(update={"api_connections": 10}))
    url = urlsplit(few.url)
    crowd = [await asyncio.open_connection(url.hostname, url.port) for _ in range(11)]
    async with line(few) as late:
        await late.say(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n")
        status, body = await late.answer()
        assert (status, json.loads(body)["code"]) == (503, "crowded")
    async with line(few) as probe:
        await probe.say(ALIVE)
        assert (await probe.answer())[0] == 200
    for _, writer in crowd:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", (200,)),
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: x\r\n\r\n", (200,)),
        (b"GET http://evil.example HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
        (b"GET //evil.example/livez HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
        (b"GET livez HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405)),
        (b"TRACE /livez HTTP/1.1\r\nHost: x\r\n\r\n", (405,)),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405)),
        (b"PROPFIND /livez HTTP/1.1\r\nHost: x\r\n\r\n", (405,)),
        (b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405)),
        (b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", (400, 200)),
        (b"GET /livez\r\n\r\n", (400, 200)),
        (b"\x16\x03\x01\x02\x00\x01", (400,)),
        (b"GET /livez\x00 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", (400,)),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", (400,)),
        (b"GET /livez HTTP/1.1\nHost: x\n\n", (200, 400)),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", (200,)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 404, 405, 505)),
        (b"GET /v1/tenants/..%2f..%2fx/health HTTP/1.1\r\nHost: x\r\n\r\n", (401, 404)),
        (b"GET /v1/tenants/%00/health HTTP/1.1\r\nHost: x\r\n\r\n", (401,)),
        (b"GET /v1/tenants/%ff%fe/health HTTP/1.1\r\nHost: x\r\n\r\n", (401,)),
        (b"GET /v1/tenants/%ED%A0%80/health HTTP/1.1\r\nHost: x\r\n\r\n", (401,)),
        (b"GET /v1/tenants/%0d%0aX-Evil:%20x/health HTTP/1.1\r\nHost: x\r\n\r\n", (401,)),
        (b"GET /%2e%2e/livez HTTP/1.1\r\nHost: x\r\n\r\n", (404,)),
        (b"GET /livez/ HTTP/1.1\r\nHost: x\r\n\r\n", (404,)),
    ],
    ids=range(26),
)
async def test_odd_requests_get_plain_answers(api: Api, request_: bytes, statuses: tuple[int, ...]) -> None:
    async with line(api) as odd:
        await odd.say(request_)
        status, fields = await odd.head()
        assert status in statuses
        assert "x-evil" not in fields
        if status >= 400:
            assert fields["content-type"] == "application/problem+json"
    await assert_served(api)


async def test_requests_in_a_row_are_answered_in_a_row(api: Api) -> None:
    async with line(api) as row:
        await row.say(ALIVE * 50 + b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for _ in range(50):
            assert await row.answer() == (200, b'{"alive":true}')
        assert (await row.answer())[0] == 200
        assert await row.ended() == b""


async def test_a_client_may_ask_before_it_sends(world: World) -> None:
    token = (await world.token()).encode()
    body = json.dumps(world.config()).encode()
    async with line(world.api) as asking:
        head = PUT.replace(b"config HTTP", b"config/test HTTP").replace(b"PUT", b"POST")
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        await asking.say(head + b"Expect: 100-continue\r\nAuthorization: Bearer " + token + b"\r\n" + length)
        async with asyncio.timeout(PATIENCE):
            assert await asking.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await asking.say(body)
        assert (await asking.answer())[0] == 200


TENANTS = ("%00", "a%00b", "%2e%2e", "..%2f..", "*", "%2a", "%ff", "a%0d%0ab", "%ED%A0%80", "a" * 129, "__x__", "%20")
QUERIES = (
    "prefix=%00",
    "prefix=%ff",
    "after=%00&prefix=%5B",
    "prefix=(",
    "after=%ED%A0%80",
    "connector=" + "x" * 9_000,
)


async def test_ids_spelled_oddly_are_nobodys(world: World) -> None:
    for tenant in TENANTS:
        found = await world.ask("GET", f"/v1/tenants/{tenant}/health")
        assert found.status in (404, 422), tenant
        assert (await world.ask("GET", f"/connectors/health?tenant_id={tenant}")).status in (404, 422)
    for query in QUERIES:
        assert (await world.ask("GET", f"/v1/pairs?{query}")).status in (200, 422), query
