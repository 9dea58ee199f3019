"""Vendor text is untrusted: cut it, strip control characters, mask what looks like a credential."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterator
from urllib.parse import quote

LIMIT = 200
"""Characters of vendor text that are kept."""

STRETCH = 16
"""So many characters in a row that a known credential has too (or a whole shorter one) are masked."""

_SHORTEST = 4
"""A credential shorter than this is no secret, and masking it would tear every word apart."""

_harmless: set[str] = set()
"""Short texts that were kept as they are: vendors say the same few words to all tenants."""

_WORDS, _KNOWN = 64, 4_096
"""Characters of such a text, and how many of them are remembered."""

_QUICKLY = 1_000_000
"""Where text and spellings are longer than this, multiplied, searching one in the other is no quick look."""

_UNQUOTED = re.compile(r"[A-Za-z0-9_.~-]*")
_URLSAFE = str.maketrans("+/", "-_")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\ud800-\udfff\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_CREDENTIAL = re.compile(
    r"""
      \b(?:                                                    # once for all of them: it is asked at every letter
        (?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{4,}             # GitHub
      | gl[a-z]{2,6}-[A-Za-z0-9_.-]{4,}                        # GitLab
      | xox[a-z]-[A-Za-z0-9-]{4,} | xapp-[A-Za-z0-9-]{4,} | hooks\.slack\.com/\w+/[^\s"'<>]+   # Slack
      | lin_(?:api|oauth)_[A-Za-z0-9]{4,}                      # Linear
      | ya29\.[A-Za-z0-9_.-]{4,} | AIza[A-Za-z0-9_-]{10,}      # Google
      | eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_.-]+                  # JWT
      | crt_[0-9a-f]{12}_[A-Za-z0-9_-]{4,} | whsec_[A-Za-z0-9+/=_-]{4,}   # our own
      | (?i:bearer|basic)\s+(?:(?=\S*\d)[A-Za-z0-9+/=_.~-]{8,}|[A-Za-z0-9+/=_.~-]{20,})
      | (?i:token)\s+(?:(?=\S*\d)[A-Za-z0-9+/=_.~-]{8,}|(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9+/=_.~-]{20,})   # or prose
      | (?i:authorization)["']?\s*[=:]\s*["']?[^\s"',;]+(?:\ [^\s"',;]+)?
      | (?i:password|passwd|secret|api[_-]?key|client_secret|(?:access|refresh|private|job|deploy)[_-]token)["']?
        \s*[=:]\s*b?(?:"[^"]+|'[^']+|[^\s"'&,;]+)
      | (?i:token)(?:=|["']\s*:\s*["'])[^\s"'&,;]+             # "token: expired" is prose
      )
    | -----BEGIN[^-]*PRIVATE\ KEY-----.*                       # PEM
    | (?<=://)(?:[^/\s:@]*:[^/\s@]+|[^/?#\s]+)(?=@)           # credentials in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
MASK = "[masked]"


def clean(text: str, *, limit: int = LIMIT, credentials: Collection[str] = ()) -> str:
    """`text` made fit to keep: at most `limit` characters, one line, credentials replaced by ``[masked]``.

    Masking comes before cutting, so that the head of a cut credential does not remain. `credentials` are those that
    the vendor was sent: whatever they look like, no stretch of them remains.
    """
    text = text[: limit * 20]
    text = _concealed(text, credentials) if credentials else text
    if text in _harmless and len(text) <= limit:
        return text
    cleaned = _CONTROL.sub(" ", _CREDENTIAL.sub(MASK, text)).strip()
    if len(cleaned) > limit:
        return f"{cleaned[: limit - 1]}…"
    if cleaned == text and len(text) <= _WORDS and len(_harmless) < _KNOWN:
        _harmless.add(text)
    return cleaned


def masked(text: str) -> str:
    """`text` with what looks like a credential replaced by ``[masked]``, and otherwise as it is."""
    return _CREDENTIAL.sub(MASK, text)


def printable(text: str) -> str:
    """`text` without what a terminal obeys or does not show, apart from line ends and tabs."""
    return _CONTROL.sub(lambda found: "".join(letter for letter in found[0] if letter in "\n\t"), text)


def _concealed(text: str, credentials: Collection[str]) -> str:
    """Letters that do not show are passed over, so that they cannot hide a credential between them."""
    letters = _letters(text)
    echoed = [
        (size, spelled) for size, spelled in _spelled(credentials, len(letters)) if _shared(letters, spelled, size)
    ]
    if not echoed:
        return text
    shown = [index for index, letter in enumerate(text) if _shows(letter)]
    covered: set[int] = set()
    for size, spelled in echoed:
        # Both sides are passed over once: a vendor's long text and a tenant's long credential must not multiply.
        stretches = {letters[start : start + size] for start in range(len(letters) - size + 1)}
        leaked = stretches.intersection(spelled[start : start + size] for start in range(len(spelled) - size + 1))
        for start in range(len(letters) - size + 1) if leaked else ():
            if letters[start : start + size] in leaked:
                covered.update(range(shown[start], shown[start + size - 1] + 1))
    if not covered:
        return text
    marked = "".join("\0" if index in covered else letter for index, letter in enumerate(text.replace("\0", " ")))
    return re.sub("\0+", MASK, marked)


def _spelled(credentials: Collection[str], room: int) -> Iterator[tuple[int, str]]:
    """Of each credential that a text of `room` letters could show: how long a stretch counts, and its spellings."""
    for credential in map(_letters, credentials):
        size = min(STRETCH, len(credential))
        if _SHORTEST <= size <= room:
            yield size, _spellings(credential)


def _shared(letters: str, spelled: str, size: int) -> bool:
    """May both have `size` letters in a row in common? If so, both have one of the pieces half as long of `letters`."""
    piece = (size + 1) // 2
    if len(letters) * len(spelled) > _QUICKLY:
        return True
    return any(letters[start : start + piece] in spelled for start in range(0, len(letters) - piece + 1, piece))


def _letters(text: str) -> str:
    return "".join(text.split() if text.isprintable() else filter(_shows, text))


def _shows(letter: str) -> bool:
    return letter.isprintable() and not letter.isspace()


def _spellings(credential: str) -> str:
    """In clear, URL-encoded, and in base64 wherever in a longer text it stood."""
    raw = credential.encode(errors="replace")
    coded = [b64encode(bytes(before) + raw).decode() for before in range(3)]
    urlsafe = [text.translate(_URLSAFE) for text in coded if "+" in text or "/" in text]
    quoted = [] if _UNQUOTED.fullmatch(credential) else [quote(credential, safe="", errors="replace")]
    return "\n".join([credential, *quoted, *coded, *urlsafe])
