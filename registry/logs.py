"""Structured logs: JSON in production, readable on a terminal; nothing that looks like a credential passes."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from registry.clean import MASK, clean, masked

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from registry.settings import Settings

checking: ContextVar[tuple[str, int] | None] = ContextVar("checking", default=None)
"""Tenant and fence of the check that runs here: set once a check, looked at only when something is logged."""

LONGEST = 2_000
"""Characters of one logged text."""

MOST_LINES = 60
"""Lines of one logged traceback."""

DEEPEST = 6
"""Levels of nested data that are shown as such."""

_SECRET = re.compile(r"password|passwd|secret|token|authorization|api_?key|private_?key|credential", re.IGNORECASE)
"""Names whose text is never shown, whatever it looks like."""

_HEADER = re.compile(r"(proxy-)?authorization|(set-)?cookie|(x-)?([a-z]+-)*(token|secret|key)", re.IGNORECASE)
"""Headers whose value is never shown: the first of a pair."""


def configure_logs(settings: Settings) -> None:
    """Send structlog's and the standard library's records to stderr, in one form."""
    on_terminal = sys.stderr.isatty() if settings.log_format == "auto" else settings.log_format == "console"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        which_check,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: Processor = console() if on_terminal else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:-1], structlog.stdlib.PositionalArgumentsFormatter(), mask],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    for chatty in ("celery.app.trace", "celery.beat", "celery.worker.strategy"):  # a line for every task and tick
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def console(*, colors: bool = True) -> structlog.dev.ConsoleRenderer:
    """Readable lines. Tracebacks are plain: the prettier ones show local variables, and those may hold secrets."""
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def which_check(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: lines that a check writes say whose check it is."""
    if found := checking.get():
        event.setdefault("tenant", found[0])
        event.setdefault("check", found[1])
    return event


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: whatever is logged, however deep, is cut and cleared of what looks like a credential."""
    return {
        name: value if name.startswith("_") else _traceback(value) if name == "exception" else _masked(value, name)
        for name, value in event.items()
    }


def _masked(value: object, name: str = "", depth: int = 0) -> object:
    """`value` as plain data. What is no plain data is shown as its ``repr``, which may tell more than is meant.

    `name` is the whole path to it, and of a pair, as headers are, the first is the name of the second.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth < DEEPEST:
        return {clean(str(key)): _masked(inner, f"{name} {key}", depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        match value:
            case [str() | bytes() as key, inner] if _HEADER.fullmatch(
                key if isinstance(key, str) else key.decode("latin-1")
            ):
                return [clean(str(key)), _masked(inner, f"{name} {key!r}", depth + 1)]
        return [_masked(inner, name, depth + 1) for inner in value]
    if _SECRET.search(name):
        return MASK
    return clean(value if isinstance(value, str) else repr(value), limit=LONGEST)


def _traceback(value: object) -> str:
    """The end of a traceback, line by line: there it says what happened."""
    lines = masked(str(value)).splitlines()
    return "\n".join(line[:LONGEST] for line in lines[-MOST_LINES:])
