"""Signing as the Standard Webhooks specification has it, so that receivers can use any of its libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac


def signed_headers(message_id: str, seconds: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """The headers of one attempt made at `seconds` (Unix time); without a key there is no signature."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(seconds)}
    if key is not None:
        told = b".".join((message_id.encode(), str(seconds).encode(), body))
        digest = hmac.new(key, told, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
