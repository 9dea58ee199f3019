"""``enc://KEY/…``: the secret itself, encrypted, inside its reference. For deployments without a secret store.

AES-256-GCM (https://cryptography.io/en/stable/hazmat/primitives/aead/) with the pair as associated data: a reference
that is copied to another tenant or connector does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from registry.connector import SecretRef
from registry.errors import InvalidConfig, SecretNotFound, SecretUnavailable
from registry.ids import Pair

_REFERENCE = re.compile(r"enc://([0-9a-f]{8})/([A-Za-z0-9_-]+={0,2})")
_NONCE = 12  # bytes; random, which is safe for 2^32 secrets a key


class EncryptedSecrets:
    """Seals with the first key and opens with any of them, so that keys can be rotated.

    Args:
        keys: base64 of 32 random bytes each, as ``openssl rand -base64 32`` prints; the newest first.

    Raises:
        InvalidConfig: there is no key, or one has another form.
    """

    scheme = "enc"

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        raw = [_key(number, key) for number, key in enumerate(keys, start=1)]
        if not raw:
            raise InvalidConfig(
                "enc:// secrets need a key: set ENCRYPTION_KEYS to the output of openssl rand -base64 32"
            )
        self._ciphers = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in raw}
        self._newest = next(iter(self._ciphers))

    def admit(self, pair: Pair, reference: SecretRef) -> None:
        """Raise `SecretNotFound` unless the reference opens for this pair (or needs a key that is not here)."""
        if _parts(pair, reference)[0] in self._ciphers:
            self.open(pair, reference)

    async def read(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The decrypted secret. Raises `SecretUnavailable` when its key is not among ours."""
        return self.open(pair, reference)

    def open(self, pair: Pair, reference: SecretRef) -> SecretStr:
        """The same as `read`, at once."""
        key_id, sealed = _parts(pair, reference)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretUnavailable(f"{pair}: the secret is sealed with key {key_id}, which ENCRYPTION_KEYS lacks")
        try:
            text = cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound_to(pair))
        except (InvalidTag, ValueError):
            raise SecretNotFound(
                f"{pair}: the enc:// reference was changed or belongs to another pair: save the secret again"
            ) from None
        return SecretStr(text.decode())

    async def seal(self, pair: Pair, field: str, secret: SecretStr) -> SecretRef:  # noqa: ARG002 - the protocol's
        """Encrypt `secret` for this pair; the same secret gives another reference each time."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._ciphers[self._newest].encrypt(nonce, secret.get_secret_value().encode(), _bound_to(pair))
        return SecretRef(f"enc://{self._newest}/{base64.urlsafe_b64encode(sealed).decode()}")

    async def forget(self, tenant: str) -> None:
        """Nothing to delete: what was sealed is in its references only."""

    async def aclose(self) -> None:
        """Nothing to give back."""


def _parts(pair: Pair, reference: SecretRef) -> tuple[str, bytes]:
    found = _REFERENCE.fullmatch(reference)
    try:
        if found:
            return found[1], base64.urlsafe_b64decode(found[2])
    except ValueError:
        pass
    raise SecretNotFound(f"{pair}: the enc:// reference is damaged: save the secret again")


def _bound_to(pair: Pair) -> bytes:
    return f"connector-registry secret 1 {pair}".encode()


def _key(number: int, key: SecretStr) -> bytes:
    try:
        raw = base64.b64decode(key.get_secret_value(), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InvalidConfig(f"ENCRYPTION_KEYS, key {number}: not base64 of 32 bytes, as openssl rand -base64 32 prints")
    return raw
