"""Signing in and out. A token is given once, and stands behind a cookie from then on.

The address ``/login#crt_…`` signs in at once where there is JavaScript: what follows ``#`` is sent to no server.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from registry.throttle import Allowance
from registry.web import guard
from registry.web.dashboard.rendering import HEADERS, PageRoute, form, page, redirect
from registry.web.problems import Problem, too_many
from registry.web.site import site_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

ATTEMPTS = Allowance(most=20, rate=0.2)
"""How often one address may try to sign in."""

_LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


def local(address: str | None) -> str:
    """`address` if it is one of this site: a path that no browser takes for another host. Else the beginning.

    >>> local("/tenants/acme?x=1"), local("//evil.example"), local("/\\t/evil.example"), local("https://evil.example")
    ('/tenants/acme?x=1', '/', '/', '/')
    """
    return address if address and _LOCAL.fullmatch(address) else "/"


@router.get("/login")
async def ask(request: Request, next: Annotated[str, Query(max_length=2_000)] = "/") -> Response:  # noqa: A002 - its name in the address
    """The form. It never leads on by itself: a browser would carry the token behind ``#`` along."""
    return _form(request, next)


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Begin a session."""
    if not guard.same_origin(request):
        raise Problem(403, "cross_site", "a page of another site may not sign you in here")
    address = request.client.host if request.client else "unknown"
    site = site_of(request)
    if wait := await site.parts.throttle.take(f"login:{address}", 1, ATTEMPTS):
        raise too_many(wait)
    fields = await form(request)
    onward = local(fields.get("next"))
    try:
        session = await guard.sign_in(site, fields.get("token", ""))
    except Problem as problem:
        await guard.denied(site, request, "a token that is not valid")
        return _form(request, onward, problem)
    answer = RedirectResponse(onward, 303, HEADERS)
    answer.set_cookie(
        guard.cookie_name(request),
        session,
        max_age=int(site.parts.settings.api_session),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/logout")
async def sign_out(request: Request) -> Response:
    """End the session."""
    if not guard.same_origin(request):
        raise Problem(403, "cross_site", "a page of another site may not sign you out here")
    name = guard.cookie_name(request)
    if session := request.cookies.get(name):
        await guard.sign_out(site_of(request), session)
    answer = redirect("login")
    answer.delete_cookie(name, path="/", httponly=True, samesite="lax")
    return answer


def _form(request: Request, onward: str, problem: Problem | None = None) -> Response:
    status = problem.status if problem else 200
    return page(request, "login.html", None, status=status, problem=problem, onward=local(onward))
