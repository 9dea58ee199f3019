"""Where a tenant's client has read to, told so that it tells nothing of others.

A position is a moment and a place in the stream that a tenant shares with others: it would tell when others had
transitions, and whoever may name any would find out which there are. So a tenant's client is given its position sealed,
and another one each time; only what was sealed for the same tenant is taken back.
"""

from __future__ import annotations

import base64
import os
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry import keys
from registry.clock import steady
from registry.connection import AWAY, Redis

KEEP = 2.0
"""Seconds a process believes the key that it last read."""

_NONCE, _LENGTH = 12, 32  # bytes; no position is longer, and all are told alike


class Bookmarks:
    """Seals and opens positions with a key that lives beside the streams in Redis, and ends with them."""

    def __init__(self, redis: Redis) -> None:
        self._redis, self._read = redis, float("-inf")
        self._cipher = AESGCM(os.urandom(32))  # until Redis tells another: what it seals reads as a gap elsewhere

    async def refresh(self) -> None:
        """Look whether Redis has another key; the old one has to do while it is away."""
        if steady() - self._read < KEEP:
            return
        self._read = steady()
        with suppress(*AWAY):
            await self._redis.set(keys.BOOKMARKS, os.urandom(32), nx=True)
            key = await self._redis.get(keys.BOOKMARKS)
            if isinstance(key, bytes) and len(key) == 32:
                self._cipher = AESGCM(key)

    def seal(self, tenant: str, position: str) -> str:
        """The bookmark of a position, with the key that was there at the last `refresh`."""
        nonce, padded = os.urandom(_NONCE), position.ljust(_LENGTH).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, padded, tenant.encode())).decode()

    def open(self, tenant: str, bookmark: str) -> str | None:
        """The position of a bookmark; None if it is not this tenant's, or older than the key."""
        try:
            sealed = base64.urlsafe_b64decode(bookmark)
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], tenant.encode()).decode().rstrip()
        except (ValueError, InvalidTag):
            return None
