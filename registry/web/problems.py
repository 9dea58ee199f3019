"""Errors as problem documents: https://www.rfc-editor.org/rfc/rfc9457

``code`` is a stable word for programs; ``detail`` is the sentence for a person. Nothing of what a client sent is
repeated: it may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.clean import clean
from registry.connection import RedisError
from registry.errors import (
    CacheUnavailable,
    ConflictError,
    ConnectorUnhealthy,
    ConnectorUnusable,
    IncompatibleConnector,
    InvalidConfig,
    InvalidId,
    NotConfigured,
    RegistryError,
    SecretNotFound,
    SecretUnavailable,
    StoreUnavailable,
    UnknownConnector,
)
from registry.validation import place

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY = {"Retry-After": "5"}
"""The header that tells when to come again when a server of ours is away."""


class Problem(Exception):
    """Ends a request with a problem document.

    Args:
        status: the HTTP status.
        code: a stable word for programs.
        detail: one sentence for a person.
    """

    def __init__(self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})


def not_found(what: str = "there is no such thing, or it is not yours to see") -> Problem:
    """The one answer to what does not exist and to what is not the caller's."""
    return Problem(404, "not_found", what)


def too_many(wait: float) -> Problem:
    """A caller has used up its allowance for `wait` seconds."""
    seconds = max(1, ceil(wait))
    return Problem(
        429,
        "too_many_requests",
        f"this token's allowance is used up: come again in {seconds} s",
        headers={"Retry-After": str(seconds)},
    )


_STATUS: tuple[tuple[type[RegistryError], int, str], ...] = (
    (UnknownConnector, 404, "unknown_connector"),
    (NotConfigured, 404, "not_configured"),
    (InvalidId, 422, "invalid_id"),
    (InvalidConfig, 422, "invalid_config"),
    (SecretNotFound, 422, "secret_not_found"),
    (ConflictError, 409, "conflict"),
    (ConnectorUnhealthy, 409, "unhealthy"),
    (SecretUnavailable, 503, "secret_store_unavailable"),
    (StoreUnavailable, 503, "store_unavailable"),
    (CacheUnavailable, 503, "cache_unavailable"),
    (IncompatibleConnector, 503, "connector_incompatible"),
    (ConnectorUnusable, 503, "connector_unusable"),
)


_INSTEAD = {
    "unknown_connector": "no connector of that name is registered: GET /v1/connectors tells which there are",
    "store_unavailable": "the store does not answer: nothing was written, try again",
    "secret_store_unavailable": "the secret store does not answer, or is not configured here: nothing was written",
    "invalid_id": "this is spelled like no connector's or tenant's id",
}
"""What is said instead of a sentence that repeats what the client sent, or tells where our own things are."""

MOST_ERRORS = 20
"""Wrong fields that are told."""


def document(problem: Problem, **more: object) -> Response:
    """The answer that tells `problem`."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **more,
    }
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def of_error(error: RegistryError) -> Problem:
    """The problem that an error of ours is to a client."""
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            if status == 503:
                log.warning("unavailable", code=code, error=str(error))
            return Problem(status, code, _INSTEAD.get(code, str(error)), headers=RETRY if status == 503 else None)
    return Problem(500, "internal", "something of ours failed: its log tells what")


def install(app: FastAPI) -> None:
    """Let every error of `app` end as a problem document."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> Response:
        return document(error)

    @app.exception_handler(RegistryError)
    async def _ours(_: Request, error: RegistryError) -> Response:
        return document(of_error(error))

    @app.exception_handler(RedisError)
    async def _away(_: Request, error: RedisError) -> Response:
        return document(of_error(CacheUnavailable(f"Redis did not answer ({type(error).__name__}): try again")))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": place(row["loc"]), "message": clean(str(row["msg"]))} for row in error.errors()[:MOST_ERRORS]
        ]
        told = "; ".join(f"{row['field']}: {row['message']}" for row in errors[:5])
        return document(Problem(422, "invalid_request", told or "the request cannot be used"), errors=errors)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return document(Problem(error.status_code, code, str(error.detail), headers=error.headers))
