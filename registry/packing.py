"""The short form in which the schedule keeps configurations: most of their JSON is the same for every pair.

Deflate with a preset dictionary of the words they have in common, and of the pair's own name, makes a quarter of a
usual one. `DICTIONARY` belongs to the format: another dictionary needs another `PACKED` byte, so that what an older
version wrote stays readable.
https://www.rfc-editor.org/rfc/rfc1951, https://docs.python.org/3/library/zlib.html#zlib.compressobj
"""

from __future__ import annotations

import zlib

from registry.ids import Pair, encoded

PACKED = b"z"
"""How a packed configuration begins; JSON never does."""

DICTIONARY = (
    b'"},"base_url":"https://gitlab.github.","label":"","interval":"settings":{"project":"","location":"europe-west4us-'
    b'central1","required_scopes":["repo","read:org","read_api","chat:write","channels:read","users:read"]}}'
    b'{"auth":{"type":"github_app","app_id":"","installation_id":,"private_key":"file://'
    b'{"auth":{"type":"oauth2","access_token":"","expires_at":17'
    b'{"auth":{"type":"service_account","key":"enc://env://gcp://projects/-prod/secrets/connector-'
    b'--vertex--slack--linear--gitlab--github/versions/1"}}{"auth":{"type":"bearer","token":"enc://env://gcp://projects/'
)


def packed(text: str, pair: Pair) -> bytes:
    """The short form of the pair's `text`, or its UTF-8 where that is shorter."""
    plain = text.encode()
    words = _words(pair)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, words)
    short = PACKED + deflate.compress(plain) + deflate.flush()
    return short if len(short) < len(plain) else plain


def unpacked(wire: bytes, pair: Pair) -> bytes:
    """The inverse of `packed`; what is not packed is returned as it is.

    Raises:
        ValueError: it is packed, and damaged.
    """
    if not wire.startswith(PACKED):
        return wire
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, _words(pair))
    try:
        return inflate.decompress(wire[1:]) + inflate.flush()
    except zlib.error as error:
        raise ValueError("a damaged configuration") from error


def _words(pair: Pair) -> bytes:
    """The names of secrets hold their pair's, spelled as `registry.ids.encoded` does."""
    return b"%b%b--%b" % (DICTIONARY, encoded(pair.tenant).encode(), encoded(pair.connector).encode())
