"""What commands run on: the parts that the environment asks for, for as long as one command takes."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from registry.errors import CacheUnavailable

if TYPE_CHECKING:
    from registry.bootstrap import Parts
    from registry.settings import Settings

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds a person's read waits for Redis: longer than an orchestrator's."""


def with_parts(work: Callable[[Parts], Awaitable[T]]) -> T:
    """Run `work` on the parts of this environment and give them back afterwards.

    Raises:
        InvalidConfig: a setting cannot be used.
        CacheUnavailable: Redis did not answer.
    """
    from registry.settings import load_settings

    return asyncio.run(_with(load_settings(), work))


async def _with(settings: Settings, work: Callable[[Parts], Awaitable[T]]) -> T:
    from redis.exceptions import RedisError

    parts = assembled(settings)
    try:
        return await work(parts)
    except RedisError as error:
        raise CacheUnavailable(away(error)) from error
    finally:
        await parts.aclose()


def assembled(settings: Settings) -> Parts:
    """The parts of `settings`, with a person's patience, and warnings on stderr so that stdout stays the answer."""
    from registry.bootstrap import assemble

    _logs_to_stderr()
    parts = assemble(settings.model_copy(update={"read_timeout": max(PATIENCE, settings.read_timeout)}))
    parts.audit.actor = actor()
    return parts


def away(error: BaseException) -> str:
    """The sentence for a Redis that does not answer."""
    return (
        f"Redis did not answer ({type(error).__name__}): see `connectors status`, start the system with "
        "`connectors up`, or set REDIS_URL"
    )


def actor() -> str:
    """Who is named in the history of a configuration that this command changes."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user needs no name
        return f"cli:uid-{os.getuid()}"


def _logs_to_stderr() -> None:
    import structlog

    from registry.logs import console, mask

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            mask,
            console(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
