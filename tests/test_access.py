"""Tokens of the API: made once, kept as hashes, limited in role, tenant and time."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from registry import keys
from registry.access import Access, Grant
from registry.audit import Action
from registry.bootstrap import Parts, assemble
from registry.errors import InvalidConfig, InvalidId, NotConfigured
from registry.notes import Note
from registry.notes.memory import MemoryNotes
from registry.roles import RIGHTS, Right, Role
from registry.settings import Settings


async def test_a_token_is_told_once_and_only_its_hash_is_kept(parts: Parts) -> None:
    grant, token = await parts.access.create(Role.READER, actor="ann", note="grafana")
    clear = token.get_secret_value()
    assert await parts.access.of(clear) == grant
    kept = await parts.redis.get(keys.ACCESS)
    assert kept is not None
    assert clear.rpartition("_")[2].encode() not in kept
    assert clear.rpartition("_")[2] not in repr(grant) + repr(token)
    assert await parts.access.grants() == (grant,)


async def test_a_note_is_kept_as_one_line_that_hides_nothing(parts: Parts) -> None:
    grant, _ = await parts.access.create(Role.READER, actor="ann", note="grafana\x1b[2J\nof bob, not ghp_16C7e42F")
    assert grant.note == "grafana [2J of bob, not [masked]"


@pytest.mark.parametrize("wrong", ["", "crt_", "crt_0123456789ab_" + "a" * 43, "Bearer x", "crt_" + "a" * 60])
async def test_what_is_no_token_is_nobodys(parts: Parts, wrong: str) -> None:
    await parts.access.create(Role.ADMIN, actor="ann")
    assert await parts.access.of(wrong) is None


async def test_a_right_id_with_another_secret_is_nobodys(parts: Parts) -> None:
    grant, _ = await parts.access.create(Role.ADMIN, actor="ann")
    assert await parts.access.of(f"crt_{grant.id}_{'a' * 43}") is None


async def test_a_revoked_token_is_worthless_in_another_process(parts: Parts, settings: Settings) -> None:
    grant, token = await parts.access.create(Role.ADMIN, actor="ann")
    other = assemble(settings)
    assert await other.access.of(token.get_secret_value()) == grant
    await parts.access.revoke(grant.id, actor="ann")
    other.access._copies.forget()
    assert await other.access.of(token.get_secret_value()) is None
    await other.aclose()
    with pytest.raises(NotConfigured, match=grant.id):
        await parts.access.revoke(grant.id, actor="ann")


async def test_a_copy_of_what_was_read_before_a_revocation_does_not_undo_it(parts: Parts) -> None:
    class Slow(MemoryNotes):
        """What it answers is on its way for as long as `meanwhile` takes."""

        meanwhile: Awaitable[object] | None = None

        async def read(self, name: str) -> Note:
            found, meanwhile, self.meanwhile = await MemoryNotes.read(self, name), self.meanwhile, None
            if meanwhile is not None:
                await meanwhile
            return found

    notes = Slow()
    access = Access(parts.redis, notes, parts.clock, parts.audit)
    grant, token = await access.create(Role.ADMIN, actor="ann")
    await parts.redis.delete(keys.ACCESS)
    notes.meanwhile = access.revoke(grant.id, actor="ann")
    await access.copy()
    assert await access.of(token.get_secret_value()) is None


async def test_a_token_that_another_process_makes_is_good_at_once(
    parts: Parts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = assemble(settings)
    await parts.access.create(Role.READER, actor="ann")
    assert await other.access.known(), "it has just looked"
    monkeypatch.setattr("registry.access.NEW", 0.0)
    grant, token = await parts.access.create(Role.READER, actor="ann")
    assert await other.access.of(token.get_secret_value()) == grant
    await other.aclose()


async def test_a_token_ends_with_its_time(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = await parts.access.create(Role.READER, actor="ann", days=1)
    now = parts.clock.now_ms()
    monkeypatch.setattr(parts.clock, "now_ms", lambda: now + 86_400_001)
    assert await parts.access.of(token.get_secret_value()) is None


async def test_tokens_outlive_the_loss_of_redis(parts: Parts, settings: Settings) -> None:
    grant, token = await parts.access.create(Role.READER, actor="ann")
    assert await parts.access.of(token.get_secret_value()) == grant
    await parts.redis.flushall()
    parts.access._copies.forget()
    assert await parts.access.of(token.get_secret_value()) == grant, "a process that knew it goes on"
    early = assemble(settings)
    assert not await early.access.known()
    await early.aclose()
    await parts.access.copy()
    other = assemble(settings)
    assert await other.access.known()
    assert await other.access.of(token.get_secret_value()) == grant
    await other.aclose()


async def test_bad_input_makes_no_token(parts: Parts) -> None:
    with pytest.raises(InvalidConfig, match="days"):
        await parts.access.create(Role.READER, actor="ann", days=0)
    with pytest.raises(InvalidId):
        await parts.access.create(Role.READER, actor="ann", tenant="../acme")
    assert await parts.access.grants() == ()


async def test_making_and_revoking_are_in_the_audit_log(parts: Parts) -> None:
    grant, token = await parts.access.create(Role.OPERATOR, actor="ann", tenant="acme")
    await parts.access.revoke(grant.id, actor="bob")
    records = [record.as_dict() for record in await parts.audit.sink.records()]
    assert [(row["action"], row["actor"], row["tenant"]) for row in records] == [
        (Action.TOKEN_CREATED.value, "ann", "acme"),
        (Action.TOKEN_REVOKED.value, "bob", "acme"),
    ]
    assert token.get_secret_value().rpartition("_")[2] not in str(records)


def test_each_role_may_what_the_one_before_may_and_more() -> None:
    assert RIGHTS[Role.READER] < RIGHTS[Role.OPERATOR] < RIGHTS[Role.ADMIN] == frozenset(Right)


def test_a_tenants_token_sees_this_tenant_alone() -> None:
    of_acme, of_all = Grant(id="1", hash="", role=Role.ADMIN, tenant="acme"), Grant(id="2", hash="", role=Role.READER)
    assert (of_acme.sees("acme"), of_acme.sees("acme2"), of_all.sees("acme")) == (True, False, True)
    assert (of_acme.may(Right.CONFIGURE), of_all.may(Right.CHECK)) == (True, False)
