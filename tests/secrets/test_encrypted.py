from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from registry.connector import SecretRef
from registry.errors import InvalidConfig, SecretNotFound, SecretUnavailable
from registry.ids import Pair
from registry.secrets.encrypted import EncryptedSecrets

ACME = Pair("github", "acme")


def key() -> SecretStr:
    return SecretStr(base64.b64encode(os.urandom(32)).decode())


OLD, NEW = key(), key()


async def sealed(secret: str, *keys: SecretStr) -> SecretRef:
    return await EncryptedSecrets(keys).seal(ACME, "token", SecretStr(secret))


@given(st.text())
async def test_what_was_sealed_opens_for_its_pair(secret: str) -> None:
    reference = await sealed(secret, NEW)
    assert (await EncryptedSecrets([NEW]).read(ACME, reference)).get_secret_value() == secret


async def test_the_same_secret_never_looks_the_same() -> None:
    assert await sealed("hunter2", NEW) != await sealed("hunter2", NEW)


@pytest.mark.parametrize("pair", [Pair("github", "globex"), Pair("slack", "acme"), Pair("github", "acme:x")])
async def test_a_reference_copied_to_another_pair_does_not_open(pair: Pair) -> None:
    reference = await sealed("hunter2", NEW)
    secrets = EncryptedSecrets([NEW])
    with pytest.raises(SecretNotFound, match="belongs to another pair"):
        await secrets.read(pair, reference)
    with pytest.raises(SecretNotFound):
        secrets.admit(pair, reference)


async def test_the_first_key_seals_and_every_key_opens() -> None:
    old = await sealed("hunter2", OLD)
    both = EncryptedSecrets([NEW, OLD])
    assert (await both.read(ACME, old)).get_secret_value() == "hunter2"
    renewed = await both.seal(ACME, "token", SecretStr("hunter2"))
    assert (await EncryptedSecrets([NEW]).read(ACME, renewed)).get_secret_value() == "hunter2"


async def test_a_key_that_is_no_longer_there_is_ours_to_mend() -> None:
    reference = await sealed("hunter2", OLD)
    secrets = EncryptedSecrets([NEW])
    secrets.admit(ACME, reference)
    with pytest.raises(SecretUnavailable, match=r"key [0-9a-f]{8}, which ENCRYPTION_KEYS lacks"):
        await secrets.read(ACME, reference)


async def test_a_changed_reference_does_not_open() -> None:
    reference = await sealed("hunter2", NEW)
    head, body = reference.rsplit("/", 1)
    raw = bytearray(base64.urlsafe_b64decode(body))
    secrets = EncryptedSecrets([NEW])
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1
        with pytest.raises(SecretNotFound):
            await secrets.read(ACME, SecretRef(f"{head}/{base64.urlsafe_b64encode(changed).decode()}"))


@pytest.mark.parametrize(
    "reference", ["enc://", "enc://x/y", "enc://00000000/", "enc://0000000g/AAAA", "enc://00000000/A"]
)
async def test_a_damaged_reference_is_told_without_being_shown(reference: str) -> None:
    with pytest.raises(SecretNotFound, match="github:acme: the enc:// reference is damaged"):
        await EncryptedSecrets([NEW]).read(ACME, SecretRef(reference))


async def test_a_reference_too_short_to_be_sealed_does_not_open() -> None:
    reference = await sealed("", NEW)
    head, _ = reference.rsplit("/", 1)
    for size in (0, 1, 11, 12, 27):
        with pytest.raises(SecretNotFound):
            await EncryptedSecrets([NEW]).read(
                ACME, SecretRef(f"{head}/{base64.urlsafe_b64encode(bytes(size)).decode()}")
            )


@pytest.mark.parametrize("bad", ["", "short", "MDEyMw==", "not base64 at all, but long enough to be 32 bytes"])
def test_an_unusable_key_is_told_by_its_number_without_being_shown(bad: str) -> None:
    with pytest.raises(InvalidConfig, match="ENCRYPTION_KEYS, key 2") as refused:
        EncryptedSecrets([NEW, SecretStr(bad)])
    assert not bad or bad not in str(refused.value)


def test_without_a_key_it_says_how_to_make_one() -> None:
    with pytest.raises(InvalidConfig, match="openssl rand -base64 32"):
        EncryptedSecrets([])
