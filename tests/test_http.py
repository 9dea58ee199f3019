"""The HTTP client for vendors: its limits, and which reason each transport failure becomes."""

from __future__ import annotations

import asyncio
import gzip
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from registry.connectors.slack import Slack
from registry.egress import EgressPolicy
from registry.errors import CheckFailed
from registry.health import Fault, Reason
from registry.http import BODY_LIMIT, VendorHttp
from tests.fixtures_vendors import LOOPBACK, Check, Serve, says

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def failure(http: VendorHttp, url: str, method: str = "GET") -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        await http.request(method, url)
    return caught.value


@pytest.fixture
async def wire() -> AsyncIterator[Callable[[Talk], Awaitable[str]]]:
    """Servers below HTTP: each connection is handed to the test as raw streams."""
    async with AsyncExitStack() as stack:

        async def start(talk: Talk) -> str:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await talk(reader, writer)
                finally:
                    writer.close()

            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        yield start


def sends(*parts: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


async def test_an_answer_is_returned_whatever_its_status(serve: Serve, vendor_http: VendorHttp) -> None:
    url = await serve(says(418, {"error": "teapot"}, {"X-Request-Id": "7"}))
    answer = await vendor_http.request("GET", url)
    assert (answer.status, answer.json(), answer.headers["x-request-ID"]) == (418, {"error": "teapot"}, "7")
    assert answer.elapsed_ms > 0


async def test_it_introduces_itself_and_sends_what_it_is_given(serve: Serve, vendor_http: VendorHttp) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.headers["User-Agent"], request.headers["Content-Type"], await request.read()))
        return web.Response(headers={"Set-Cookie": "a=b"})

    url = await serve(handler)
    await vendor_http.request("POST", url, json={"query": "x"})
    await vendor_http.request("POST", url, data={"a": "1 2"})
    agent, kind, body = seen[0]
    assert agent.startswith("connector-registry/")
    assert (kind, body) == ("application/json", b'{"query": "x"}')
    assert seen[1][1:] == ("application/x-www-form-urlencoded", b"a=1+2")


async def test_a_header_that_is_given_replaces_ours_whatever_its_case(serve: Serve, vendor_http: VendorHttp) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response([request.headers.getall(name) for name in ("Host", "Accept", "Accept-Encoding")])

    url = await serve(handler)
    answer = await vendor_http.request("GET", url, headers={"accept": "application/vnd.github+json"})
    host = url.removeprefix("http://")
    assert answer.json() == [[host], ["application/vnd.github+json"], ["gzip, deflate"]]


async def test_a_request_without_a_body_says_so_where_one_could_be_expected(
    serve: Serve, vendor_http: VendorHttp
) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=request.headers.get("Content-Length", "none"))

    url = await serve(handler)
    assert (await vendor_http.request("POST", url)).body == b"0"
    assert (await vendor_http.request("GET", url)).body == b"none"


async def test_interim_answers_are_passed_over(wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    answer = await vendor_http.request(
        "GET", await wire(sends(early, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    )
    assert (answer.status, answer.body) == (200, b"ok")


async def test_a_connection_whose_answer_was_not_read_to_its_end_is_not_used_again(
    serve: Serve, vendor_http: VendorHttp
) -> None:
    peers: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="x" * (BODY_LIMIT + 1))

    url = await serve(handler)
    for _ in range(3):
        await failure(vendor_http, url)
    assert len(peers) == 3


def unasked(first: bytes, more: bytes) -> tuple[Talk, Callable[[], Awaitable[None]]]:
    """A vendor that answers ``/`` with `first`, says `more` when it is told to, and ``own`` to everything else."""
    go_on, done = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(65_536):
            if head.startswith(b"GET / "):
                writer.write(first)
                await go_on.wait()
                writer.write(more)
                done.set()
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")

    async def say() -> None:
        go_on.set()
        await done.wait()

    return talk, say


STALE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"


@pytest.mark.parametrize("more", [STALE, b"garbage\r\n\r\n", STALE[:20]], ids=["answer", "garbage", "half"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
async def test_what_a_vendor_says_unasked_answers_no_later_question(
    wire: Callable[[Talk], Awaitable[str]], serve: Serve, vendor_http: VendorHttp, status: str, more: bytes
) -> None:
    talk, say = unasked(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode(), more)
    url = await wire(talk)
    assert (await vendor_http.request("GET", url)).body == b""
    await say()
    await vendor_http.request("GET", await serve(says(200)))  # which takes longer than what was said to arrive
    assert (await vendor_http.request("GET", f"{url}next")).body == b"own"


async def test_a_server_that_always_speaks_first_is_given_up(
    wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    assert (await failure(vendor_http, await wire(greet))).reason in (Reason.BAD_RESPONSE, Reason.UNREACHABLE)


async def test_a_vendors_cookie_is_not_kept(serve: Serve, vendor_http: VendorHttp) -> None:
    cookies: list[str | None] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "tenant=a"})

    url = (await serve(handler)).replace("127.0.0.1", "localhost")
    await vendor_http.request("GET", url)
    await vendor_http.request("GET", url)
    assert cookies == [None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(serve: Serve, vendor_http: VendorHttp, status: int) -> None:
    visits: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        visits.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    failed = await failure(vendor_http, await serve(handler))
    assert failed.reason is Reason.BAD_RESPONSE
    assert failed.evidence == {"http_status": status}
    assert visits == ["/"]


async def test_a_name_that_does_not_resolve_is_unreachable(vendor_http: VendorHttp) -> None:
    assert (await failure(vendor_http, "https://does-not-exist.invalid/")).reason is Reason.UNREACHABLE


@pytest.mark.parametrize("name", [f"{'a' * 70}.example", "gitlab..example"])
async def test_a_name_that_cannot_even_be_looked_up_is_the_addresss_fault_and_not_the_credentials(
    vendor_http: VendorHttp, name: str
) -> None:
    failed = await failure(vendor_http, f"https://{name}/")
    assert (failed.reason, failed.message) == (Reason.MISCONFIGURED, "the address is not a valid URL")


async def test_a_refused_connection_is_unreachable(vendor_http: VendorHttp) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        failed = await failure(vendor_http, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert failed.reason is Reason.UNREACHABLE


async def test_that_we_can_open_no_connection_is_no_fault_of_the_vendors(serve: Serve, vendor_http: VendorHttp) -> None:
    url, (soft, hard) = await serve(says(200, {})), resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # every lower number is in use
    try:
        failed = await failure(vendor_http, url)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed.reason is Reason.MONITOR_ERROR
    assert "EMFILE" in failed.message
    assert (await vendor_http.request("GET", url)).status == 200


async def test_a_server_without_tls_behind_https_is_unreachable(serve: Serve, vendor_http: VendorHttp) -> None:
    failed = await failure(vendor_http, (await serve(says(200))).replace("http:", "https:"))
    assert failed.reason is Reason.UNREACHABLE
    assert "TLS" in failed.message


async def test_no_answer_within_its_own_timeout_is_timeout(serve: Serve) -> None:
    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    http = VendorHttp(EgressPolicy(LOOPBACK), timeout=0.2)
    try:
        assert (await failure(http, await serve(hang))).reason is Reason.TIMEOUT
    finally:
        await http.aclose()


async def test_a_cancelled_request_is_cancelled_and_no_verdict(serve: Serve, vendor_http: VendorHttp) -> None:
    arrived = asyncio.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    request = asyncio.create_task(vendor_http.request("GET", await serve(hang)))
    await arrived.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\nnot gzip!",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5_000 + b"2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=[
        "truncated",
        "chunks-cut",
        "not-gzip",
        "not-http",
        "bad-length",
        "endless-length",
        "many-headers",
        "long-header",
    ],
)
async def test_a_broken_answer_is_bad_response(
    wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp, sent: bytes
) -> None:
    assert (await failure(vendor_http, await wire(sends(sent)))).reason is Reason.BAD_RESPONSE


async def test_a_declared_length_over_the_limit_is_refused_unread(
    wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {100 * BODY_LIMIT}\r\n\r\n".encode()
    failed = await failure(vendor_http, await wire(sends(head)))
    assert failed.reason is Reason.BAD_RESPONSE
    assert "larger" in failed.message


async def test_an_endless_body_ends_as_bad_response(serve: Serve, vendor_http: VendorHttp) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    assert (await failure(vendor_http, await serve(endless))).reason is Reason.BAD_RESPONSE
    assert sent < 32 * BODY_LIMIT  # what the sockets buffered, not all there is


async def test_a_decompression_bomb_ends_as_bad_response(serve: Serve, vendor_http: VendorHttp) -> None:
    bomb = gzip.compress(bytes(200 * BODY_LIMIT), compresslevel=1)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    failed = await failure(vendor_http, await serve(handler))
    assert failed.reason is Reason.BAD_RESPONSE
    assert "larger" in failed.message


async def test_a_body_of_exactly_the_limit_is_read(serve: Serve, vendor_http: VendorHttp) -> None:
    answer = await vendor_http.request("GET", await serve(says(200, "x" * BODY_LIMIT)))
    assert len(answer.body) == BODY_LIMIT


async def test_a_body_of_one_byte_more_is_refused_also_without_a_declared_length(
    serve: Serve, vendor_http: VendorHttp
) -> None:
    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"x" * (BODY_LIMIT + 1))
        return response

    assert "larger" in (await failure(vendor_http, await serve(chunked))).message


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_kept_connection_that_the_vendor_closed_is_replaced_once(
    wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp, method: str
) -> None:
    """The second request finds the kept connection closing under it; it succeeds on a new one."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if connections == 1:
            await reader.readuntil(b"\r\n\r\n")  # the second request arrives, and is dropped

    url = await wire(talk)
    assert (await vendor_http.request(method, url)).body == b"ok"
    assert (await vendor_http.request(method, url)).body == b"ok"
    assert connections == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_vendor_that_keeps_resetting_is_tried_twice_and_no_more(
    wire: Callable[[Talk], Awaitable[str]], vendor_http: VendorHttp, method: str
) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")

    failed = await failure(vendor_http, await wire(talk), method)
    assert failed.reason is Reason.UNREACHABLE
    assert connections == 2


@pytest.mark.parametrize("status", [401, 429, 500, 502, 503])
async def test_no_http_answer_is_ever_retried(serve: Serve, vendor_http: VendorHttp, status: int) -> None:
    calls = 0

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return web.Response(status=status)

    url = await serve(handler)
    await vendor_http.request("GET", url)
    await vendor_http.request("POST", url)
    assert calls == 2


async def test_connections_are_kept_and_used_again(serve: Serve, vendor_http: VendorHttp) -> None:
    peers: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        peers.add(request.transport and request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    url = await serve(handler)
    for _ in range(5):
        await vendor_http.request("GET", url)
    assert len(peers) == 1


async def test_a_credential_that_cannot_be_a_header_is_misconfigured_and_not_repeated(
    serve: Serve, vendor_http: VendorHttp
) -> None:
    with pytest.raises(CheckFailed) as caught:
        await vendor_http.request(
            "GET", await serve(says(200)), headers={"Authorization": "Bearer a\r\nX-Evil: sekrit"}
        )
    assert caught.value.reason is Reason.MISCONFIGURED
    assert "sekrit" not in caught.value.message
    with pytest.raises(CheckFailed, match="cannot be sent"):
        await vendor_http.request("GET", await serve(says(200)), headers={"X-Name: x\r\nX-Evil": "1"})
    for control in "\0\n\v\x1b\x7f":
        with pytest.raises(CheckFailed, match="cannot be sent"):
            await vendor_http.request("GET", await serve(says(200)), headers={"Authorization": f"Bearer a{control}"})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]"])
async def test_without_an_exception_no_spelling_of_loopback_is_reached(serve: Serve, host: str) -> None:
    visits: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        visits.append(request.path)
        return web.Response()

    port = (await serve(handler)).rsplit(":", 1)[1]
    http = VendorHttp()
    try:
        for url in (f"https://{host}/", f"https://{host}:{port}/", f"http://{host}:{port}/"):
            assert (await failure(http, url)).reason is Reason.MISCONFIGURED, url
    finally:
        await http.aclose()
    assert visits == []


async def test_a_public_name_that_was_rebound_to_loopback_is_refused_when_connecting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL passes; the look-up, made at the moment of connecting, shows where it leads by now."""
    url = await serve(says(200))
    port = int(url.rsplit(":", 1)[1])

    def rebound(*_args: object, **_kwargs: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    http = VendorHttp(EgressPolicy(["10.2.0.0/16"]))
    try:
        for target in ("https://gitlab.example.com/", f"http://gitlab.example.com:{port}/"):
            assert (await failure(http, target)).reason is Reason.MISCONFIGURED
    finally:
        await http.aclose()


async def test_a_vendors_own_address_that_our_name_service_sends_astray_is_not_the_tenants_fault(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sinkhole(*_args: object, **_kwargs: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 443))]  # noqa: S104 - what sinkholes answer

    monkeypatch.setattr(socket, "getaddrinfo", sinkhole)
    auth = {"type": "bearer", "token": "xoxb-1"}
    ours = await check(Slack, {"auth": auth})
    theirs = await check(Slack, {"auth": auth, "base_url": "https://slack.example.com"})
    assert (ours.reason, ours.fault) == (Reason.MISCONFIGURED, Fault.PLATFORM)
    assert (theirs.reason, theirs.fault) == (Reason.MISCONFIGURED, Fault.TENANT)


async def test_a_name_with_several_addresses_is_reached_only_at_those_admitted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int((await serve(says(200, "refused"), host="127.0.0.1")).rsplit(":", 1)[1])
    await serve(says(200, "admitted"), host="127.0.0.2", port=port)

    def both(*_args: object, **_kwargs: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    http = VendorHttp(EgressPolicy(["127.0.0.2"]))
    try:
        assert (await http.request("GET", f"http://gitlab.example.com:{port}/")).body == b"admitted"
    finally:
        await http.aclose()


async def test_a_proxy_named_in_the_environment_is_not_used(
    serve: Serve, vendor_http: VendorHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await vendor_http.request("GET", await serve(says(200, "direct")))).body == b"direct"


def test_a_use_from_another_event_loop_is_a_clear_error() -> None:
    http = VendorHttp(EgressPolicy(LOOPBACK))

    async def use() -> None:
        with pytest.raises(CheckFailed):
            await http.request("GET", "http://127.0.0.1:9/")

    async def close_after_use() -> None:
        await use()
        await http.aclose()

    async def misuse() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await http.request("GET", "http://127.0.0.1:9/")

    asyncio.run(close_after_use())
    asyncio.run(misuse())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN,"])
async def test_a_body_that_is_not_json_is_a_value_error(serve: Serve, vendor_http: VendorHttp, body: bytes) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body)

    answer = await vendor_http.request("GET", await serve(handler))
    with pytest.raises(ValueError):  # noqa: PT011 - json's own message
        answer.json()
