"""A hostile server behind a tenant's address: whatever it sends, memory is bounded and nobody is misjudged."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.egress import EgressPolicy
from registry.health import Fault, Reason, Verdict
from registry.http import BODY_LIMIT, VendorHttp
from tests.fixtures_vendors import LOOPBACK
from tests.test_fuzz import CONNECTORS, TOKEN, assert_no_leak, assert_sound, verdict_of

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]

BY_TOKEN = ("github", "gitlab", "linear", "slack", "vertex-token")
"""Those whose first request goes to the configured address."""

HUNDRED_MB = 100 * (1 << 20)
ROOM = 24 * (1 << 20)
"""Bytes that one check of a hostile server may take, at its worst moment."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


def said(talk: Talk, *names: str, runner: asyncio.Runner) -> list[Verdict]:
    """The verdicts of connectors that meet a server which reads a request's head, talks, and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    async def meet() -> list[Verdict]:
        http = VendorHttp(EgressPolicy(LOOPBACK))
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            verdicts = [await verdict_of(name, http, base_url=url) for name in names]
            await http.aclose()
        return verdicts

    return runner.run(meet())


def sends(*parts: bytes) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


LINE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"Content-Length: -1",
            b"Content-Length: 5, 6",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Encoding: gzip",
            b"Content-Encoding: br",
            b"Content-Encoding: zstd",
            b"Content-Encoding: deflate",
            b"Content-Type: application/json; charset=\xff",
            b"Connection: upgrade",
            b"Location: //[",
            b"Set-Cookie: a=\x01; expires=never",
            b"X-Request-Id: \xff\xfe" + TOKEN.encode(),
            b"X-Request-Id: a\x00b",
            b" folded",
        ]
    ),
)
STATUS = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 401 " + TOKEN.encode(), b"HTTP/1.1 100 Continue", b"HTTP/9.9 200"]),
    st.integers(0, 1_200).map(lambda status: b"HTTP/1.1 %d x" % status),
    st.binary(max_size=20),
)
BODY = st.binary(max_size=40) | st.sampled_from([b"5\r\n{}\r\n0\r\n\r\n", b"zz\r\n", b"{}", b"\x1f\x8b\x08"])
WIRE = st.builds(
    lambda first, lines, body, cut: b"\r\n".join([first, *lines, b"", body])[:cut],
    STATUS,
    st.lists(LINE, max_size=4),
    BODY,
    st.just(None) | st.integers(0, 80),
)


@given(wire=WIRE, name=st.sampled_from(BY_TOKEN))
def test_whatever_comes_over_the_wire_the_tenant_is_blamed_for_no_broken_answer(
    runner: asyncio.Runner, wire: bytes, name: str
) -> None:
    (verdict,) = said(sends(wire), name, runner=runner)
    assert_sound(verdict)
    assert_no_leak(verdict, {TOKEN})
    if verdict.fault is Fault.TENANT:  # then it was an HTTP answer, and its status says so
        assert "http_status" in verdict.metadata
        assert verdict.reason is not Reason.MISCONFIGURED


def bomb(window: int) -> bytes:
    """A hundred megabytes of zeros, compressed: gzip with a window of 31 bits, deflate with 15."""
    packer = zlib.compressobj(9, wbits=window)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(100)), packer.flush()])


def streamed(*lines: str) -> Talk:
    """A hundred megabytes in chunks of 64 KiB."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    return sends(head("Transfer-Encoding: chunked", *lines), *[chunk] * (HUNDRED_MB // 65_536))


def packed(encoding: str, window: int) -> Talk:
    body = bomb(window)
    return sends(head(f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}"), body)


@pytest.mark.parametrize(
    "talk",
    [
        streamed(),
        streamed("Content-Type: text/html"),
        sends(head(f"Content-Length: {HUNDRED_MB}"), *[b" " * 65_536] * (HUNDRED_MB // 65_536)),
        sends(head(), *[b" " * 65_536] * (HUNDRED_MB // 65_536)),
        packed("gzip", 31),
        packed("deflate", 15),
        sends(head(*[f"X-Many-{number}: {number}" for number in range(10_000)], "Content-Length: 2"), b"{}"),
        sends(head("X-Long: " + "x" * 65_536), *[b"y" * 65_536] * (HUNDRED_MB // 65_536)),
        sends(b"HTTP/1.1 200 " + b"x" * 65_536, *[b"x" * 65_536] * (HUNDRED_MB // 65_536)),
        sends(head("Transfer-Encoding: chunked"), b"1" * 65_536, *[b"1" * 65_536] * (HUNDRED_MB // 65_536)),
    ],
    ids=["chunked", "page", "length", "endless", "gzip", "deflate", "headers", "header", "status", "chunk-size"],
)
def test_a_hundred_megabytes_or_ten_thousand_headers_are_refused_in_little_memory(
    runner: asyncio.Runner, talk: Talk
) -> None:
    said(sends(b""), *BY_TOKEN, runner=runner)  # what is imported and kept at first use is not the server's doing
    tracemalloc.start()
    verdicts = said(talk, *BY_TOKEN, runner=runner)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {verdict.reason for verdict in verdicts} == {Reason.BAD_RESPONSE}
    assert peak < ROOM


MANY = BODY_LIMIT // 4
LARGE = {
    "numbers": b'{"id":1,"active":true,"revoked":false,"scopes":[' + b"1," * (2 * MANY - 100) + b"1]}",
    "nested": b"[" * BODY_LIMIT,
    "details": b'{"error":{"details":[' + b'{"reason":1},' * (MANY // 4) + b"1]}}",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(MANY // 3)) + b"}",
    "word": b'{"ok":true,"team":"' + b"x" * (3 * MANY) + b'","team_id":"a","user_id":"a"}',
    "escapes": json.dumps({"message": "\u2028" * (MANY // 2), "error": "\u2028" * 1000}).encode(),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_a_body_just_within_the_limit_is_judged_in_little_memory(
    runner: asyncio.Runner, body: bytes, status: str
) -> None:
    assert len(body) <= BODY_LIMIT
    answer = sends(head("Content-Type: application/json", f"Content-Length: {len(body)}", status=status), body)
    said(sends(b""), *BY_TOKEN, runner=runner)
    tracemalloc.start()
    verdicts = said(answer, *BY_TOKEN, runner=runner)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for verdict in verdicts:
        assert_sound(verdict)
    assert peak < ROOM


def test_the_hostile_server_is_met_by_connectors_that_exist() -> None:
    assert set(BY_TOKEN) <= set(CONNECTORS)
