"""How pages are made: templates, what every page shows, and errors as pages for people.

A page that is asked for with the header ``X-Fragment`` is its ``<main>`` alone: what is shown is brought up to date
with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from gzip import compress
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qs

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from registry.clean import clean
from registry.connection import AWAY
from registry.errors import CacheUnavailable, RegistryError
from registry.health import Fault, Status
from registry.roles import Right
from registry.web.dashboard import words
from registry.web.guard import SAFE, Caller
from registry.web.problems import Problem, document, not_found, of_error
from registry.web.site import site_of

log = structlog.get_logger(__name__)

T = TypeVar("T")

FRAGMENT = "x-fragment"

HEADERS = {"Referrer-Policy": "same-origin", "Vary": "Cookie, X-Fragment, Accept-Encoding"}
"""A form's request tells where it comes from only where the policy lets it, and this site asks for that."""

WORTH = 2_000
"""Characters from which on a page is compressed. No page holds a secret that its size could tell of."""

_STATIC = files("registry.web") / "static"


def asset(name: str) -> str:
    """The address of a static file, which changes with its content: browsers may keep it for ever."""
    return f"/static/{name}?v={sha256((_STATIC / name).read_bytes()).hexdigest()[:12]}"


_templates = Environment(
    loader=PackageLoader("registry.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.globals.update(
    href=words.href,
    Status=Status,
    Fault=Fault,
    Right=Right,
    faults=words.FAULTS,
    parties=words.PARTIES,
    assets={name: asset(name) for name in ("app.css", "live.js", "login.js", "theme.js", "favicon.svg")},
)
_templates.filters.update(
    reason=words.reason,
    meaning=words.meaning,
    span=words.span,
    exact=words.exact,
    machine=words.machine,
    number=words.number,
    percent=words.percent,
    ms=words.milliseconds,
    many=words.many,
    sentence=words.sentence,
)


def is_fragment(request: Request) -> bool:
    """Is only ``<main>`` asked for?"""
    return FRAGMENT in request.headers


def page(
    request: Request,
    template: str,
    asked: Caller | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    stream: str | None = None,
    **shown: object,
) -> Response:
    """A page.

    Args:
        asked: who looks at it; None: nobody known.
        stream: the address of the events after which it is to be brought up to date.
        shown: what the template shows.
    """
    text = _templates.get_template(template).render(
        shown,
        me=asked,
        here=request.url.path,
        now=site_of(request).parts.clock.now_ms(),
        layout="fragment.html" if is_fragment(request) else "page.html",
        stream=stream,
    )
    return _sent(request, text, status, {**HEADERS, **(headers or {})})


def _sent(request: Request, text: str, status: int, headers: Mapping[str, str]) -> Response:
    """A page, compressed where the browser can: a map of many tenants is long and says much the same everywhere."""
    if len(text) < WORTH or "gzip" not in request.headers.get("accept-encoding", ""):
        return HTMLResponse(text, status, headers)
    packed = compress(text.encode(), compresslevel=4, mtime=0)
    return HTMLResponse(packed, status, {**headers, "Content-Encoding": "gzip"})


def refused(request: Request, problem: Problem) -> Response:
    """An error as a page; who is not signed in is led to where that is done."""
    if problem.status == 401 and request.method in SAFE and not is_fragment(request):
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(words.href("login", next=back if back != "/" else None), 303, HEADERS)
    return page(
        request,
        "refused.html",
        getattr(request.state, "caller", None),
        status=problem.status,
        headers=problem.headers,
        problem=problem,
        phrase=HTTPStatus(problem.status).phrase,
    )


class PageRoute(APIRoute):
    """A route whose errors are pages, with the status that the API would answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own way to stand around a route: https://fastapi.tiangolo.com/how-to/custom-request-and-route/"""
        handle = super().get_route_handler()

        async def twice(request: Request) -> Response:
            try:
                return await handle(request)
            except CacheUnavailable:
                if request.method not in SAFE:
                    raise
                return await handle(request)  # a read waits for READ_TIMEOUT only: a busy moment is no outage

        async def told(request: Request) -> Response:
            try:
                return await twice(request)
            except Problem as error:
                return refused(request, error)
            except RegistryError as error:
                return refused(request, of_error(error))
            except RequestValidationError:
                return refused(request, Problem(422, "invalid_request", "the address or form cannot be used"))
            except HTTPException as error:
                return refused(request, Problem(error.status_code, "refused", str(error.detail), headers=error.headers))
            except Exception:
                log.exception("page_failed", method=request.method, path=clean(request.url.path))
                return refused(request, Problem(500, "internal", "something of ours failed: its log tells what"))

        return told


def install(app: FastAPI) -> None:
    """Let who has mistyped an address be told so on a page; programs are answered as ever."""

    @app.exception_handler(404)
    async def _lost(request: Request, error: HTTPException) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return refused(request, not_found("there is no page at this address"))
        return document(Problem(404, "not_found", str(error.detail)))


def redirect(*segments: str, anchor: str = "", **query: str | None) -> Response:
    """See another page of this site."""
    return RedirectResponse(words.href(*segments, **query) + (f"#{anchor}" if anchor else ""), 303, HEADERS)


async def form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body, which is bounded already. Raises `Problem` (415) for any other."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "invalid_request", "send the fields of a form, urlencoded")
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=50, keep_blank_values=False)
    except ValueError:
        raise Problem(422, "invalid_request", "the form cannot be read") from None
    return {name: values[-1].strip() for name, values in fields.items()}


async def told(answer: Awaitable[T]) -> T:
    """What Redis answers. Raises `CacheUnavailable` where it does not."""
    try:
        return await answer
    except AWAY as error:
        raise CacheUnavailable(f"Redis did not answer ({type(error).__name__})") from error
