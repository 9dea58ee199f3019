"""Short-lived tokens that were exchanged for a credential: GitHub App installation tokens, Google access tokens."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import SecretStr

from registry.ids import Pair

MARGIN_MS = 300_000
"""A token is exchanged anew this long before its end, so that no check begins with one about to expire."""


@dataclass(frozen=True, slots=True)
class Token:
    """An exchanged token and its end in Unix milliseconds."""

    value: SecretStr
    expires_ms: int


_Key: TypeAlias = tuple[Pair, str]
"""A pair and the digest of its credential."""


@dataclass(slots=True)
class _Slot:
    token: Token | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TokenCache:
    """Keeps each pair's token until near its end. Bounded: the least recently used goes first.

    A token is found only by the pair it was made for and the very credential it was exchanged from, so neither
    another tenant nor a changed credential ever gets it. Forgetting a pair costs the same however many tokens are kept:
    it is done for each rejected credential, and for each announced change.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._slots: OrderedDict[_Key, _Slot] = OrderedDict()
        self._of: dict[Pair, set[_Key]] = {}

    async def get(
        self, pair: Pair, credential: str, exchange: Callable[[], Awaitable[Token]], *, now_ms: int
    ) -> tuple[Token, bool]:
        """The pair's token and whether it was kept from before; `exchange` runs once for all who wait.

        Args:
            credential: everything the token depends on (key, endpoint, installation); only a digest is kept.
            now_ms: the shared clock, Unix milliseconds.

        Raises:
            Whatever `exchange` raises; nothing is kept then.
        """
        slot = self._slot(pair, credential)
        async with slot.lock:
            if slot.token and slot.token.expires_ms - MARGIN_MS > now_ms:
                return slot.token, True
            slot.token = None
            slot.token = await exchange()
            return slot.token, False

    def drop(self, pair: Pair) -> None:
        """Forget the pair's tokens: its credential was refused, changed or removed."""
        for key in self._of.pop(pair, ()):
            del self._slots[key]

    def clear(self) -> None:
        """Forget every token."""
        self._slots.clear()
        self._of.clear()

    def __len__(self) -> int:
        return len(self._slots)

    def _slot(self, pair: Pair, credential: str) -> _Slot:
        key = (pair, hashlib.sha256(credential.encode()).hexdigest())
        slot = self._slots.get(key)
        if slot is not None:
            self._slots.move_to_end(key)
            return slot
        slot = self._slots[key] = _Slot()
        self._of.setdefault(pair, set()).add(key)
        while len(self._slots) > self._limit:
            self._evict()
        return slot

    def _evict(self) -> None:
        key, _ = self._slots.popitem(last=False)
        others = self._of[key[0]]
        others.discard(key)
        if not others:
            del self._of[key[0]]
