"""One event loop a process, in a thread of its own, with the parts that belong to it.

Celery's task bodies are synchronous; they hand coroutines to this loop and wait on a future, so that a soft time limit
is raised in the task and never swallowed by the loop. The loop, its HTTP session and its Redis connections are made
after the fork, when the process first uses them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import structlog

from registry.bootstrap import Parts, assemble
from registry.settings import Settings

T = TypeVar("T")

log = structlog.get_logger(__name__)

COLLECT_AFTER = 20_000
"""Objects made (and not ended) between two looks for cycles; checks make few cycles, and a batch's objects live on."""

LOOKUP_THREADS = 64
"""Threads for what blocks: name look-ups and signing."""


class Runtime:
    """An event loop in a background thread, and the `Parts` that live on it."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        # Name look-ups wait in threads: with the default of a few, tenants whose names hang would hold up all others.
        self._loop.set_default_executor(ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()
        self.pid = os.getpid()
        self.parts: Parts = self.run(_assembled(settings))
        # What is there by now stays: the collector need not look at it again and again between checks.
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)

    def run(self, work: Coroutine[object, object, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for it; an exception in the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[object, object, object]) -> None:
        """Run a coroutine beside everything else, until it ends or the runtime is closed; that it breaks is logged."""
        name = getattr(work, "__qualname__", "")

        def ended(future: Future[object]) -> None:
            if not future.cancelled() and (error := future.exception()):
                at = traceback.extract_tb(error.__traceback__)[-1]  # its words may hold a secret
                log.error(
                    "background_work_broke", work=name, error=type(error).__name__, where=f"{at.name}:{at.lineno}"
                )

        asyncio.run_coroutine_threadsafe(work, self._loop).add_done_callback(ended)

    def close(self, *first: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run the coroutines `first`, close the parts, end the loop and its thread."""
        try:
            for step in first:
                self.run(step(), timeout=self.parts.settings.check_timeout + 30)
            self.run(_cancel_rest(), timeout=10)
            self.run(self.parts.aclose(), timeout=10)
            self.run(self._loop.shutdown_default_executor(), timeout=10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()


async def _assembled(settings: Settings) -> Parts:
    return assemble(settings)


async def _cancel_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
