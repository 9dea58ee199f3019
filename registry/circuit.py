"""A circuit: who did not answer several times in a row is left alone for a while, then asked once to see."""

from __future__ import annotations

from threading import Lock

from redis.exceptions import ConnectionError as RedisConnectionError

from registry.clock import steady

FAILURES = 3
"""Failures in a row that open a circuit."""

PAUSE = 1.0
"""Seconds an open circuit stays shut for all, and then between two questions that try it."""


class CircuitOpen(RedisConnectionError):
    """Not asked: it did not answer several times in a row."""


class Circuit:
    """Counts failures in a row; safe to share between threads.

    What was under way together fails together and counts once: a process that stood still for a moment has not found
    anybody dead. While the circuit is open one question in `pause` seconds is let through; the first answer closes it.
    """

    def __init__(self, *, failures: int = FAILURES, pause: float = PAUSE) -> None:
        self._most, self._pause, self._lock = failures, pause, Lock()
        self._failures, self._failed, self._next = 0, 0.0, 0.0

    @property
    def is_open(self) -> bool:
        """Are questions turned away?"""
        return self._failures >= self._most

    def admit(self) -> float:
        """The moment the question begins, to be told to `failed`. Raises `CircuitOpen` when it may not be asked."""
        now = steady()
        if self.is_open:
            with self._lock:
                if now < self._next:
                    raise CircuitOpen("it did not answer several times in a row and is asked again in a moment")
                self._next = now + self._pause
        return now

    def failed(self, began: float) -> None:
        """A question that began then was not answered."""
        with self._lock:
            now = steady()
            if began >= self._failed:
                self._failures, self._failed = self._failures + 1, now
                self._next = now + self._pause

    def answered(self) -> None:
        """There was an answer."""
        if self._failures:
            self._failures = 0
