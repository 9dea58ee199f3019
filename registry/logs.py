"""Structured logs: JSON in production, readable on a terminal; nothing that looks like a credential passes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from registry.clean import clean

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from registry.settings import Settings

LONGEST = 2_000
"""Characters of one logged text."""


def configure_logs(settings: Settings) -> None:
    """Send structlog's and the standard library's records to stderr, in one form."""
    on_terminal = sys.stderr.isatty() if settings.log_format == "auto" else settings.log_format == "console"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
    render: Processor = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
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


def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every text is cut and cleared of what looks like a credential."""
    return {name: clean(value, limit=LONGEST) if isinstance(value, str) else value for name, value in event.items()}
