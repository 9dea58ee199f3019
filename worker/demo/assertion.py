"""Signed assertions (JWT) as the demo token endpoint judges them.

The endpoint remembers no keys: a demo key's id *is* its public half, so that any process can tell a genuine assertion
from one signed with another key. https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

AUDIENCE = "https://oauth2.googleapis.com/token"
"""google-auth always signs for this one, whatever the key file's ``token_uri`` says."""


def key_id(key: RSAPublicKey) -> str:
    """The id of a demo key."""
    from cryptography.hazmat.primitives import serialization

    return _text(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def issuer(assertion: str) -> str | None:
    """The tenant named by the issuer (``demo-acme-01@…`` or ``acme-01``), genuine or not."""
    name = _part(assertion, 1).get("iss")
    return str(name).rsplit("@", 1)[0].removeprefix("demo-") if isinstance(name, str | int) else None


def complaint(assertion: str) -> str | None:
    """What Google's token endpoint has against an assertion, in its words; None accepts it."""
    if not _signed(assertion):
        return "Invalid JWT Signature."
    if _part(assertion, 1).get("aud") != AUDIENCE:
        return f"Invalid JWT: Failed audience check. The right audience is {AUDIENCE}"
    return None


def _signed(assertion: str) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    signed, _, signature = assertion.rpartition(".")
    try:
        key = serialization.load_der_public_key(_bytes(str(_part(assertion, 0).get("kid"))))
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        key.verify(_bytes(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _part(assertion: str, number: int) -> dict[str, object]:
    """The header (0) or the claims (1); empty where it is none."""
    try:
        found = json.loads(_bytes(assertion.split(".")[number]))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Raises ValueError where this is no base64."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
