"""Answers that many people wait for at once are made once: after an event every open page asks for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from registry.clock import steady

MOST = 100
"""Answers at a time; beyond that all are forgotten."""


class Kept:
    """Answers by name, for `seconds` each. Belongs to one event loop. Who asks has been let in already."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds, self._lock = seconds, asyncio.Lock()
        self._answers: dict[str, tuple[float, Response]] = {}

    async def get(self, name: str, make: Callable[[], Awaitable[Response]]) -> Response:
        """The answer of this name, made anew if it is too old; what `make` raises is raised, and not kept."""
        async with self._lock:
            made, answer = self._answers.get(name, (0.0, None))
            if answer is None or steady() - made > self._seconds:
                answer = await make()
                if len(self._answers) >= MOST:
                    self._answers.clear()
                self._answers[name] = (steady(), answer)
            return answer
