"""What stands in front of every secret store: cache, single-flight, sealing."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from pydantic import SecretStr

from registry.bootstrap import assemble
from registry.connector import BearerAuth, ConnectorConfig, GitHubAppAuth, SecretRef
from registry.errors import InvalidConfig, SecretNotFound, SecretUnavailable
from registry.ids import Pair
from registry.secrets import SecretResolver
from registry.secrets.encrypted import EncryptedSecrets
from registry.secrets.env import EnvSecrets
from registry.settings import Settings

ACME = Pair("github", "acme")
KEY = SecretStr("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")


class Vault:
    """A secret store whose content, faults and pace a test decides; it counts what it is asked."""

    scheme = "file"

    def __init__(self) -> None:
        self.value = "one"
        self.reads: Counter[Pair] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Semaphore(0)
        self.fault: Exception | None = None
        self.closed = False

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        if "foreign" in reference:
            raise SecretNotFound(f"{pair}: not yours")

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        self.reads[pair] += 1
        self.entered.release()
        value = self.value
        await self.gate.wait()
        if self.fault:
            raise self.fault
        return SecretStr(value)

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def config(reference: str = "file://TOKEN") -> ConnectorConfig:
    return ConnectorConfig(auth=BearerAuth(token=SecretRef(reference)))


def clear(text: str) -> ConnectorConfig:
    return ConnectorConfig(auth=BearerAuth(token=SecretStr(text)))


async def token(resolver: SecretResolver, pair: Pair = ACME, reference: str = "file://TOKEN") -> str:
    resolved = await resolver.resolve(pair, config(reference))
    assert isinstance(resolved.auth, BearerAuth)
    assert isinstance(resolved.auth.token, SecretStr)
    return resolved.auth.token.get_secret_value()


async def test_every_reference_is_replaced_and_nothing_else() -> None:
    original = ConnectorConfig(
        auth=GitHubAppAuth(app_id="7", installation_id=8, private_key=SecretRef("file://KEY")),
        label="ours",
        interval=30,
    )
    resolved = await SecretResolver([Vault()]).resolve(ACME, original)
    assert resolved == original.with_secrets({"private_key": SecretStr("one")})
    assert original.auth.private_key == "file://KEY"  # type: ignore[union-attr]  # built as a GitHub App above


async def test_a_clear_secret_stays_what_it_is() -> None:
    assert await SecretResolver([]).resolve(ACME, clear("mine")) == clear("mine")


async def test_a_secret_is_read_once_until_its_time_is_over() -> None:
    vault, clock = Vault(), Clock()
    resolver = SecretResolver([vault], ttl=300, clock=clock)
    assert await token(resolver) == "one"
    vault.value = "two"
    clock.now += 299
    assert await token(resolver) == "one"
    clock.now += 1
    assert await token(resolver) == "two"
    assert vault.reads[ACME] == 2


async def test_a_dropped_pair_is_read_again_and_the_others_are_not() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    other = Pair("slack", "acme")
    await token(resolver), await token(resolver, other)
    vault.value = "two"
    resolver.drop(ACME)
    assert await token(resolver) == "two"
    assert await token(resolver, other) == "one"


async def test_what_is_being_read_when_its_pair_is_dropped_is_not_kept() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    vault.gate.clear()
    early = asyncio.create_task(token(resolver))
    await vault.entered.acquire()
    vault.value = "two"
    resolver.drop(ACME)
    late = asyncio.create_task(token(resolver))
    await vault.entered.acquire()
    vault.gate.set()
    assert (await early, await late) == ("one", "two")
    assert await token(resolver) == "two"
    assert vault.reads[ACME] == 2


async def test_concurrent_reads_of_one_secret_are_one_read() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    assert await asyncio.gather(*(token(resolver) for _ in range(50))) == ["one"] * 50
    assert vault.reads[ACME] == 1


async def test_one_callers_cancellation_is_not_the_others() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    vault.gate.clear()
    first, second = asyncio.create_task(token(resolver)), asyncio.create_task(token(resolver))
    await vault.entered.acquire()
    first.cancel()
    vault.gate.set()
    assert await second == "one"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_failure_reaches_everyone_who_waits_and_is_not_kept() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    vault.fault = SecretUnavailable("the vault is away")
    answers = await asyncio.gather(*(token(resolver) for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the vault is away"] * 3
    vault.fault = None
    assert await token(resolver) == "one"
    assert vault.reads[ACME] == 2


async def test_a_kept_secret_goes_on_while_its_store_is_away_and_no_longer() -> None:
    vault, clock = Vault(), Clock()
    resolver = SecretResolver([vault], ttl=300, clock=clock)
    await token(resolver)
    vault.value, vault.fault = "two", SecretUnavailable("the vault is away")
    clock.now += 301
    assert await token(resolver) == "one"
    with pytest.raises(SecretUnavailable):
        await token(resolver, Pair("slack", "acme"))
    vault.fault = None
    assert await token(resolver) == "two"
    vault.fault = SecretUnavailable("away again")
    resolver.drop(ACME)
    with pytest.raises(SecretUnavailable):
        await token(resolver)


async def test_the_least_recently_used_pair_is_forgotten_first() -> None:
    vault = Vault()
    resolver = SecretResolver([vault], max_pairs=2)
    a, b, c = (Pair("github", tenant) for tenant in "abc")
    for pair in (a, b, a, c, a, b):
        await token(resolver, pair)
    assert vault.reads == {a: 1, b: 2, c: 1}


async def test_how_many_pairs_secrets_are_kept_is_a_setting(settings: Settings) -> None:
    pairs = [Pair("github", tenant) for tenant in "abc"]
    files = [settings.secrets_dir / pair.tenant / "TOKEN" for pair in pairs]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("old")
    parts = assemble(settings.model_copy(update={"secret_capacity": 2}))
    try:
        for pair in pairs:
            assert await token(parts.secrets, pair) == "old"
        for file in files:
            file.write_text("new")
        kept = [await token(parts.secrets, pair) for pair in reversed(pairs)]
    finally:
        await parts.aclose()
    assert kept == ["old", "old", "new"]


async def test_one_pairs_secret_is_never_anothers() -> None:
    resolver = SecretResolver([EnvSecrets({"CONNECTOR_SECRET_acme__T": "a", "CONNECTOR_SECRET_globex__T": "g"})])
    assert await token(resolver, ACME, "env://T") == "a"
    assert await token(resolver, Pair("github", "globex"), "env://T") == "g"


async def test_a_scheme_without_a_store_is_ours_to_mend() -> None:
    with pytest.raises(SecretUnavailable, match="no store for gcp://"):
        await token(SecretResolver([Vault()]), reference="gcp://projects/p/secrets/s/versions/1")


async def test_a_clear_secret_is_sealed_and_comes_back_the_same() -> None:
    resolver = SecretResolver([], sealing=EncryptedSecrets([KEY]))
    sealed = await resolver.seal(ACME, clear("hunter2"))
    assert isinstance(sealed.auth, BearerAuth)
    assert isinstance(sealed.auth.token, SecretRef)
    assert "hunter2" not in sealed.model_dump_json()
    assert await resolver.resolve(ACME, sealed) == clear("hunter2")


async def test_sealing_leaves_references_alone() -> None:
    resolver = SecretResolver([Vault()])
    assert await resolver.seal(ACME, config()) == config()


async def test_sealing_refuses_a_reference_that_is_not_the_tenants() -> None:
    with pytest.raises(SecretNotFound):
        await SecretResolver([Vault()]).seal(ACME, config("file://foreign"))
    with pytest.raises(SecretUnavailable):
        await SecretResolver([Vault()]).seal(ACME, config("env://T"))


async def test_without_a_sealing_store_a_clear_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidConfig, match=r"github:acme: auth\.token .* ENCRYPTION_KEYS") as refused:
        await SecretResolver([Vault()]).seal(ACME, clear("hunter2"))
    assert "hunter2" not in str(refused.value)


async def test_closing_forgets_everything_and_closes_the_stores() -> None:
    vault = Vault()
    resolver = SecretResolver([vault])
    await token(resolver)
    await resolver.aclose()
    assert vault.closed
    await token(resolver)
    assert vault.reads[ACME] == 2


def test_one_resolver_serves_several_event_loops() -> None:
    resolver = SecretResolver([EnvSecrets({"CONNECTOR_SECRET_acme__T": "a"})], ttl=0.0)
    assert [asyncio.run(token(resolver, reference="env://T")) for _ in range(2)] == ["a", "a"]
