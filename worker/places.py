"""The places at vendors' hosts: how many checks a process runs at each, and whether one will be free soon."""

from __future__ import annotations

import asyncio

from registry.clock import steady

FEW = 3
"""Timeouts in a row that make no host silent: they may be one tenant's."""


class Places:
    """So many checks run at a host at a time; whoever holds `gate` has a place. Belongs to one event loop.

    A host is silent when as many checks in a row as it has places (`FEW` at least) came to no answer before their
    deadlines. A host hangs when all its places are taken and none was freed by an answer for `patience` seconds, or for
    twice as long as its last answer took (`longest` at most): whoever waits for one then waits for the deadlines of
    others, and there is no sense in it. At a silent host that is so from the first check on; at any other the time
    counts from when a check began.

    `lanes` is how many lanes lead here: none of them may find itself at a host that was forgotten.
    """

    def __init__(self, many: int, patience: float, longest: float) -> None:
        self.many, self.gate, self.lanes = many, asyncio.Semaphore(many), 0
        self._patience, self._longest, self._moved, self._took = patience, longest, steady(), 0.0
        self._running = self._unanswered = 0

    @property
    def hang(self) -> bool:
        """Will no place be free soon?"""
        given = max(self._patience, min(2 * self._took, self._longest))
        return self.gate.locked() and steady() - self._moved > given

    @property
    def room(self) -> int | None:
        """How many more checks find a place soon; None: however many there are, for the host answers."""
        if self.hang:
            return 0
        return self.many - self._running if self._silent else None

    @property
    def idle(self) -> bool:
        """Is there nothing to remember: nobody who is here or comes, and no silence?"""
        return not (self.lanes or self._silent)

    @property
    def _silent(self) -> bool:
        return self._unanswered >= max(FEW, self.many)

    def begin(self) -> float:
        """A check begins: the moment, to be told to `end`."""
        self._running, now = self._running + 1, steady()
        if not self._silent:
            self._moved = now
        return now

    def end(self, began: float, *, answered: bool | None) -> None:
        """A check has ended: with an answer of the host, without one in time, or (None) without having asked it."""
        self._running -= 1
        if answered:
            self._unanswered, self._moved = 0, steady()
            self._took = self._moved - began
        elif answered is False:
            self._unanswered += 1


class Hosts:
    """The places of every host, by endpoint; made when first asked for, forgotten when nothing is to be remembered.

    Args:
        many: the places of each.
        patience: see `Places`, as for `longest`.
    """

    def __init__(self, many: int, patience: float, longest: float) -> None:
        self._many, self._patience, self._longest = many, patience, longest
        self._places: dict[str, Places] = {}

    def __getitem__(self, endpoint: str) -> Places:
        places = self._places.get(endpoint)
        if places is None:
            places = self._places[endpoint] = Places(self._many, self._patience, self._longest)
        return places

    def __len__(self) -> int:
        return len(self._places)

    def rooms(self) -> dict[str, int]:
        """The hosts that have no place for everybody, and how many more checks find one."""
        return {endpoint: room for endpoint, places in self._places.items() if (room := places.room) is not None}

    def tidy(self) -> None:
        """Forget the hosts of which nothing is to be remembered."""
        for endpoint in [endpoint for endpoint, places in self._places.items() if places.idle]:
            del self._places[endpoint]
