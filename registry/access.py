"""Who may use the HTTP API, and for what: tokens, of which only hashes are kept, with a role and perhaps one tenant.

A token is ``crt_<id>_<secret>``: the id finds its grant, the secret is 256 random bits, so a plain SHA-256 of it is as
good as any slow hash. Grants are kept as a note and copied to Redis (`registry.noticeboard`); a revoked token is
refused everywhere within `registry.noticeboard.KEEP` seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

import msgspec
from pydantic import SecretStr

from registry import keys
from registry.audit import Action
from registry.audit.trail import Trail
from registry.clean import clean
from registry.clock import SharedClock
from registry.connection import Redis
from registry.errors import InvalidConfig, NotConfigured
from registry.health import rfc3339
from registry.ids import tenant_id
from registry.notes import NoteStore
from registry.noticeboard import KEEP, Copies, Noticeboard
from registry.roles import Right, Role

NOTE = "access"

MOST = 2_000
"""Tokens at a time: a note is one document, and Firestore's are at most 1 MiB."""

LONGEST_DAYS = 3_650
"""Days a token may be valid, unless it is valid until it is revoked."""

NEW = 0.1
"""Seconds for which even a token that nobody seems to have is not looked up again."""

_TOKEN = re.compile(r"crt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one token may do. `tenant` None: for every tenant, else for this one alone; `hash` is that of the token."""

    id: str
    hash: str
    role: Role
    tenant: str | None = None
    note: str = ""
    actor: str = ""
    created_ms: int = 0
    expires_ms: int | None = None

    def __repr__(self) -> str:
        return f"<{self.role.value} token {self.id} of {self.tenant or 'every tenant'}>"

    @property
    def name(self) -> str:
        """Who acts with this token, for the audit log and the history of configurations."""
        return f"token:{self.id}"

    def may(self, right: Right) -> bool:
        """Does its role have this right?"""
        return right in self.role.rights

    def sees(self, tenant: str) -> bool:
        """Is this tenant within its scope?"""
        return self.tenant is None or self.tenant == tenant

    def as_dict(self) -> dict[str, object]:
        """The public form, with RFC 3339 times; without the hash."""
        return {
            "id": self.id,
            "role": self.role.value,
            "tenant": self.tenant,
            "note": self.note,
            "actor": self.actor,
            "created": rfc3339(self.created_ms),
            "expires": rfc3339(self.expires_ms),
        }


class Access:
    """Makes, lists and revokes tokens, and tells whose a token is.

    Args:
        notes: where grants are kept.
        trail: told of every change.
    """

    def __init__(self, redis: Redis, notes: NoteStore, clock: SharedClock, trail: Trail) -> None:
        self._board = Noticeboard(redis, notes, clock, name=NOTE, key=keys.ACCESS, kind=Grant)
        self._copies, self._clock, self._trail = Copies(redis, keys.ACCESS, Grant), clock, trail
        self._current: tuple[Grant, ...] = ()
        self._by_id: dict[str, Grant] = {}

    async def grants(self) -> tuple[Grant, ...]:
        """The tokens that are valid, the oldest first. Raises `StoreUnavailable`."""
        kept, now = await self._board.posted(), await self._board.now_ms()
        return tuple(grant for grant in kept.notices if _valid(grant, now))

    async def create(
        self, role: Role, *, actor: str, tenant: str | None = None, note: str = "", days: float | None = None
    ) -> tuple[Grant, SecretStr]:
        """A new token, which is told this once.

        Args:
            tenant: None makes a token for every tenant.
            note: what it is for, at most 200 characters.
            days: how long it is valid; None: until it is revoked.

        Raises:
            InvalidId: the tenant is not spelled like one.
            InvalidConfig: `days` cannot be used, or there are too many tokens.
            ConflictError: somebody else changed the tokens meanwhile: try again.
            StoreUnavailable: the store is away; nothing was made.
        """
        if days is not None and not 0 < days <= LONGEST_DAYS:
            raise InvalidConfig(f"a token is valid for more than 0 and at most {LONGEST_DAYS} days")
        if tenant is not None:
            tenant_id(tenant)
        kept, now = await self._board.posted(), await self._board.now_ms()
        left = tuple(grant for grant in kept.notices if _valid(grant, now))
        if len(left) >= MOST:
            raise InvalidConfig(f"there are {MOST} tokens already: revoke some first")
        id_ = secrets.token_hex(6)
        token = SecretStr(f"crt_{id_}_{secrets.token_urlsafe(32)}")
        grant = Grant(
            id=id_,
            hash=_hash(token),
            role=role,
            tenant=tenant,
            note=clean(note),
            actor=actor,
            created_ms=now,
            expires_ms=None if days is None else now + round(days * 86_400_000),
        )
        await self._board.post(kept, (*left, grant))
        self._copies.forget()
        await self._trail.record(Action.TOKEN_CREATED, actor=actor, tenant=tenant, token_id=id_, role=role.value)
        return grant, token

    async def revoke(self, id_: str, *, actor: str) -> Grant:
        """Make a token worthless.

        Raises:
            NotConfigured: there is no such token, or it has expired.
            ConflictError, StoreUnavailable: as for `create`.
        """
        kept, now = await self._board.posted(), await self._board.now_ms()
        left = tuple(grant for grant in kept.notices if _valid(grant, now))
        found = next((grant for grant in left if grant.id == id_), None)
        if found is None:
            raise NotConfigured(f"token {id_}: there is none, or it has expired")
        await self._board.post(kept, tuple(grant for grant in left if grant.id != id_))
        self._copies.forget()
        await self._trail.record(Action.TOKEN_REVOKED, actor=actor, tenant=found.tenant, token_id=id_)
        return found

    async def copy(self) -> None:
        """Bring what is kept into Redis, which may have lost it. Raises `StoreUnavailable`, and as redis-py does."""
        await self._board.copy()

    async def of(self, token: str) -> Grant | None:
        """Whose token this is; None if it is nobody's, revoked or expired. Never asks the store."""
        spelled = _TOKEN.fullmatch(token)
        if spelled is None:
            return None
        hashed = _hash(SecretStr(token))
        for within in (KEEP, NEW):  # it may just have been made, by another process
            grant = await self.by_id(spelled[1], within)
            # An unknown id is compared too, so that the time it takes does not tell which ids there are.
            if hmac.compare_digest(hashed, grant.hash if grant else "0" * 64):
                return grant
        return None

    async def by_id(self, id_: str, within: float = KEEP) -> Grant | None:
        """The grant of this id, if it is valid still, or was `within` seconds ago."""
        current = await self._copies.current(within)
        if current is not self._current:
            self._current, self._by_id = current, {grant.id: grant for grant in current}
        grant = self._by_id.get(id_)
        return grant if grant and _valid(grant, self._clock.now_ms()) else None

    async def known(self) -> bool:
        """Is it known, or was it ever, which tokens there are? Until then nobody can be told from anybody."""
        await self._copies.current()
        return self._copies.ever


def _valid(grant: Grant, now_ms: int) -> bool:
    return grant.expires_ms is None or grant.expires_ms > now_ms


def _hash(token: SecretStr) -> str:
    return hashlib.sha256(token.get_secret_value().encode()).hexdigest()
