"""The places at a vendor's host: how many checks a process runs there at a time, and whether one will be free soon."""

from __future__ import annotations

import asyncio

from registry.clock import steady


class Places:
    """So many checks run at a host at a time; whoever holds `gate` has a place. Belongs to one event loop.

    A host hangs when all of its places are taken and no check there has ended within `patience` seconds of its
    beginning for as long: who waits for a place then waits for the deadlines of others, and there is no sense in it.
    It is judged by how long checks take, not by their reasons, for a deadline frees places too.
    """

    def __init__(self, many: int, patience: float) -> None:
        self.many, self.gate = many, asyncio.Semaphore(many)
        self._patience, self._answers, self._moved = patience, True, steady()

    @property
    def hang(self) -> bool:
        """Will no place be free soon?"""
        return self.gate.locked() and steady() - self._moved > self._patience

    def begin(self) -> float:
        """A check begins: the moment, to be told to `end`. At a host that answers, its time begins now."""
        now = steady()
        if self._answers:
            self._moved = now
        return now

    def end(self, began: float) -> float:
        """A check that began then has ended: the moment."""
        now = steady()
        self._answers = now - began <= self._patience
        if self._answers:
            self._moved = now
        return now
