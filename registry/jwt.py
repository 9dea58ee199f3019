"""Signs the assertions that are exchanged for tokens (RS256), without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping


async def sign(private_key: str, claims: Mapping[str, str | int], *, key_id: str | None = None) -> str:
    """A JWT over `claims`, signed with an RSA key in PEM form. Reading such a key takes tens of milliseconds.

    Raises:
        ValueError: the key is not a usable PEM, or no RSA key, or locked with a password.
    """
    return await asyncio.to_thread(_sign, private_key, claims, key_id)


def _sign(private_key: str, claims: Mapping[str, str | int], key_id: str | None) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from google.auth import crypt, jwt

    try:
        signer = crypt.RSASigner.from_string(private_key, key_id)  # type: ignore[no-untyped-call]  # google-auth has no types
        assertion: bytes = jwt.encode(signer, dict(claims))  # type: ignore[no-untyped-call]  # google-auth has no types
    except (TypeError, AttributeError, UnsupportedAlgorithm) as error:  # a locked key, or one of another kind
        raise ValueError(type(error).__name__) from None
    return assertion.decode("ascii")
