"""Who asks, and whether they may: by a token in ``Authorization``, or by a browser's session that stands for one.

What is not there and what is not the caller's get one answer, by one way. Every write and whoever is turned away is in
the audit log.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Path, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from registry import keys
from registry.access import Grant
from registry.audit import Action
from registry.clean import clean
from registry.connection import AWAY
from registry.errors import CacheUnavailable, InvalidId
from registry.ids import Pair, connector_id, tenant_id
from registry.roles import Right
from registry.throttle import Allowance
from registry.web.problems import Problem, not_found, too_many
from registry.web.site import Site, site_of

log = structlog.get_logger(__name__)

LONG = 25.0
"""Seconds a long-poll may wait."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

DENIALS = Allowance(most=10, rate=0.1)
"""Refusals of one token or address that are written into the audit log; others are only answered."""

_bearer = HTTPBearer(auto_error=False, description="A token of `connectors tokens create`.")
_cookie = APIKeyCookie(name="session", auto_error=False, description="A browser's session, made by `POST /login`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the grant of its token. `session` is that of a browser, None for a program."""

    grant: Grant
    session: str | None = None

    @property
    def name(self) -> str:
        """Who acts, for the audit log."""
        return self.grant.name

    def may(self, right: Right) -> bool:
        """Does the token's role have this right?"""
        return self.grant.may(right)


def cookie_name(request: Request) -> str:
    """Browsers share cookies between the ports of a host, and two checkouts may run on one."""
    server = request.scope.get("server") or ("", 0)
    return f"session_{server[1]}"


async def sign_in(site: Site, token: str) -> str:
    """A new session for a valid token. Raises `Problem` for any other, `CacheUnavailable`."""
    grant = await site.parts.access.of(token.strip())
    if grant is None:
        raise _unauthorized("this token is not valid: it is misspelt, revoked or expired")
    session = secrets.token_urlsafe(32)
    try:
        await site.parts.redis.set(_key(session), grant.id, ex=int(site.parts.settings.api_session))
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__}): nobody can sign in now") from error
    return session


async def sign_out(site: Site, session: str) -> None:
    """End a session."""
    try:
        await site.parts.redis.delete(_key(session))
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__}): try again") from error


async def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    _session: Annotated[str | None, Security(_cookie)],
) -> Caller:
    """Whoever asks, if that is known; takes from its allowance what the request costs.

    Raises:
        Problem: 401 for nobody, 403 for a page of another site, 429 when the allowance is used up.
    """
    site = site_of(request)
    found = await identified(request, bearer.credentials if bearer else None)
    if found is None:
        given = bearer is not None or cookie_name(request) in request.cookies
        await denied(site, request, "a token that is not valid" if given else "no token")
        if not await site.parts.access.known():
            raise CacheUnavailable("Redis did not answer, so tokens cannot be told apart: try again")
        raise _unauthorized(
            "this token is not valid: it is misspelt, revoked or expired"
            if given
            else "give a token: Authorization: Bearer crt_…; `connectors tokens create` makes one"
        )
    wait = await site.parts.throttle.take(found.grant.id, _cost(request), site.allowance)
    if wait:
        raise too_many(wait)
    request.state.caller = found  # for the page that may have to tell of an error
    return found


async def identified(request: Request, token: str | None) -> Caller | None:
    """Who asks, by `token` or by the session of the cookie; None: nobody who is known."""
    site = site_of(request)
    if token is not None:
        grant = await site.parts.access.of(token)
        return Caller(grant) if grant else None
    session = request.cookies.get(cookie_name(request))
    if session is None:
        return None
    try:
        id_ = cast("bytes | None", await site.parts.redis.get(_key(session)))
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__}): try again") from error
    grant = await site.parts.access.by_id(id_.decode()) if id_ else None
    if grant is None:
        return None
    if request.method not in SAFE and not same_origin(request):
        await denied(site, request, "a page of another site", Caller(grant, session))
        raise Problem(403, "cross_site", "a page of another site may not do this with your session")
    return Caller(grant, session)


def same_origin(request: Request) -> bool:
    """Does a browser say that the request comes from a page of this site?

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


Asked = Annotated[Caller, Depends(caller)]


def may(right: Right) -> Callable[[Request, Caller], Awaitable[Caller]]:
    """A dependency: the caller, if its role has `right` for every tenant."""

    async def checked(request: Request, asked: Asked) -> Caller:
        if asked.grant.tenant is not None:
            await denied(site_of(request), request, "beyond its tenant", asked)
            raise Problem(403, "tenant_scoped", "this token is for one tenant, and this is about all of them")
        await _require(request, asked, right)
        return asked

    return checked


async def holding(request: Request, asked: Asked) -> AsyncIterator[None]:
    """A dependency: one token may hold half of the connections there can be, in streams and long-polls. Else 429."""
    site, who = site_of(request), asked.grant.id
    if site.held[who] >= site.parts.settings.api_connections // 2:
        raise too_many(LONG)
    site.held[who] += 1
    try:
        yield
    finally:
        site.held[who] -= 1
        site.held += Counter()  # who holds nothing is forgotten


@dataclass(frozen=True, slots=True)
class OfTenant:
    """A tenant that the caller may see, and the caller."""

    tenant: str
    caller: Caller


def within(right: Right) -> Callable[[Request, str, Caller], Awaitable[OfTenant]]:
    """A dependency: the tenant of the path, if it is within the caller's scope and its role has `right`."""

    async def checked(request: Request, tenant: TenantPath, asked: Asked) -> OfTenant:
        await seen(request, tenant, asked, right)
        return OfTenant(tenant, asked)

    return checked


async def seen(request: Request, tenant: str, asked: Caller, right: Right = Right.READ) -> None:
    """Raise `Problem` unless `tenant` is within the caller's scope (else 404) and its role has `right` (else 403)."""
    if not asked.grant.sees(tenant):
        await denied(site_of(request), request, "another tenant", asked)
        raise not_found()
    try:
        tenant_id(tenant)
    except InvalidId:
        raise not_found() from None
    await _require(request, asked, right)


TenantPath = Annotated[str, Path(description="The tenant's id.", max_length=128)]
ConnectorPath = Annotated[str, Path(description="The connector's name, such as `github`.", max_length=64)]


def pair_of(of: OfTenant, connector: str) -> Pair:
    """The pair that a path names. Raises `Problem` (404) where the connector is not spelled like one."""
    try:
        return Pair(connector_id(connector), of.tenant)
    except InvalidId:
        raise not_found() from None


async def _require(request: Request, asked: Caller, right: Right) -> None:
    if not asked.may(right):
        await denied(site_of(request), request, f"without the right to {right.value}", asked)
        raise Problem(403, "forbidden", f"a {asked.grant.role.value} may not {right.value}: use a token that may")


async def denied(site: Site, request: Request, why: str, asked: Caller | None = None) -> None:
    """Write down that somebody was turned away; of one token or address only so many, or the log could be filled."""
    actor = asked.name if asked else f"address:{_address(request)}"
    if (site.known if asked else site.strangers).take(1):
        return
    if await site.parts.throttle.take(f"denied:{actor}", 1, DENIALS):
        return
    where = f"{request.method} {clean(request.scope['path'], limit=100)}"
    await site.parts.audit.record(
        Action.ACCESS_DENIED, actor=actor, tenant=asked.grant.tenant if asked else None, request=where, why=why
    )


def _address(request: Request) -> str:
    """Where a request comes from; of IPv6 the network, since whoever has one address there has all of them."""
    try:
        found = ipaddress.ip_address((request.client.host if request.client else "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))
    return str(found)


def _cost(request: Request) -> float:
    path = request.scope["path"]
    if path == "/metrics":
        return 10
    if request.method in SAFE:
        return 1
    return 10 if path.endswith(("/check", "/test")) else 5


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _key(session: str) -> str:
    return keys.session(hashlib.sha256(session.encode()).hexdigest())
