"""Exchanged tokens: kept, shared by a tenant's checks, and never by anyone else."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from registry.ids import Pair
from registry.tokens import MARGIN_MS, Token, TokenCache

PAIR = Pair("vertex", "acme")
HOUR_MS = 3_600_000


class Exchange:
    """A token endpoint that counts; each token says which exchange made it."""

    def __init__(self, *, fails: int = 0) -> None:
        self.calls = 0
        self._fails = fails

    async def __call__(self) -> Token:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self._fails:
            raise ConnectionError
        return Token(SecretStr(f"token-{self.calls}"), HOUR_MS)


async def value(
    cache: TokenCache, exchange: Exchange, *, pair: Pair = PAIR, credential: str = "key", now_ms: int = 0
) -> str:
    token, _ = await cache.get(pair, credential, exchange, now_ms=now_ms)
    return token.value.get_secret_value()


async def test_a_token_is_exchanged_once_and_then_kept() -> None:
    cache, exchange = TokenCache(), Exchange()
    first = await cache.get(PAIR, "key", exchange, now_ms=0)
    second = await cache.get(PAIR, "key", exchange, now_ms=0)
    assert (first[1], second[1], exchange.calls) == (False, True, 1)


async def test_a_token_is_exchanged_anew_shortly_before_its_end() -> None:
    cache, exchange = TokenCache(), Exchange()
    assert await value(cache, exchange) == "token-1"
    assert await value(cache, exchange, now_ms=HOUR_MS - MARGIN_MS - 1) == "token-1"
    assert await value(cache, exchange, now_ms=HOUR_MS - MARGIN_MS) == "token-2"


async def test_checks_at_the_same_time_share_one_exchange() -> None:
    cache, exchange = TokenCache(), Exchange()
    assert set(await asyncio.gather(*(value(cache, exchange) for _ in range(20)))) == {"token-1"}


async def test_another_tenant_with_the_same_credential_gets_its_own_token() -> None:
    cache, exchange = TokenCache(), Exchange()
    assert await value(cache, exchange) == "token-1"
    assert await value(cache, exchange, pair=Pair("vertex", "other")) == "token-2"


async def test_a_changed_credential_never_gets_the_old_token() -> None:
    cache, exchange = TokenCache(), Exchange()
    assert await value(cache, exchange) == "token-1"
    assert await value(cache, exchange, credential="rotated") == "token-2"


async def test_a_failed_exchange_is_not_kept_and_the_next_one_tries_again() -> None:
    cache, exchange = TokenCache(), Exchange(fails=1)
    with pytest.raises(ConnectionError):
        await value(cache, exchange)
    assert await value(cache, exchange) == "token-2"


async def test_who_waits_for_a_cancelled_exchange_makes_its_own() -> None:
    cache, exchange, started = TokenCache(), Exchange(), asyncio.Event()

    async def hang() -> Token:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.create_task(cache.get(PAIR, "key", hang, now_ms=0))
    await started.wait()
    second = asyncio.create_task(value(cache, exchange))
    first.cancel()
    assert await second == "token-1"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_dropped_pair_loses_its_tokens_and_no_other_does() -> None:
    cache, exchange, other = TokenCache(), Exchange(), Pair("vertex", "other")
    await value(cache, exchange)
    await value(cache, exchange, pair=other)
    cache.drop(PAIR)
    assert await value(cache, exchange, pair=other) == "token-2"
    assert await value(cache, exchange) == "token-3"


class Compared(Pair):
    """A pair that counts how often it is compared with another."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)

    __hash__ = Pair.__hash__


async def test_dropping_a_pair_looks_at_no_other_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, exchange = TokenCache(), Exchange()
    for tenant in range(500):
        await value(cache, exchange, pair=Pair("vertex", f"tenant-{tenant}"))
    monkeypatch.setattr(Compared, "times", 0)
    cache.drop(Compared("vertex", "tenant-7"))
    assert Compared.times < 10
    assert len(cache) == 499


async def test_a_dropped_pair_loses_the_tokens_of_all_its_credentials() -> None:
    cache, exchange = TokenCache(limit=3), Exchange()
    for credential in ("evicted", "old", "new"):
        await value(cache, exchange, credential=credential)
    await value(cache, exchange, pair=Pair("vertex", "other"))
    cache.drop(PAIR)
    assert len(cache) == 1
    cache.drop(PAIR)
    assert await value(cache, exchange, credential="new") == "token-5"


async def test_the_least_recently_used_token_goes_when_the_cache_is_full() -> None:
    cache, exchange = TokenCache(limit=2), Exchange()
    pairs = [Pair("vertex", name) for name in "abc"]
    await value(cache, exchange, pair=pairs[0])
    await value(cache, exchange, pair=pairs[1])
    await value(cache, exchange, pair=pairs[0])
    await value(cache, exchange, pair=pairs[2])
    assert len(cache) == 2
    assert await value(cache, exchange, pair=pairs[0]) == "token-1"


async def test_neither_credential_nor_token_shows_in_the_cache() -> None:
    cache = TokenCache()
    await value(cache, Exchange(), credential="sekrit")
    assert "sekrit" not in repr(vars(cache))
    assert "token-1" not in repr(vars(cache))
