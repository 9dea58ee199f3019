"""Vendor text is untrusted: cut it, strip control characters, mask what looks like a credential."""

from __future__ import annotations

import re

LIMIT = 200
"""Characters of vendor text that are kept."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_CREDENTIAL = re.compile(
    r"""
      \b(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{4,}             # GitHub
    | \bgl[a-z]{2,6}-[A-Za-z0-9_.-]{4,}                        # GitLab
    | \bxox[a-z]-[A-Za-z0-9-]{4,} | \bxapp-[A-Za-z0-9-]{4,}    # Slack
    | \blin_(?:api|oauth)_[A-Za-z0-9]{4,}                      # Linear
    | \bya29\.[A-Za-z0-9_.-]{4,} | \bAIza[A-Za-z0-9_-]{10,}    # Google
    | \beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_.-]+                  # JWT
    | -----BEGIN[^-]*PRIVATE\ KEY-----.*                       # PEM
    | (?i:\b(?:bearer|basic|token)\s+)[A-Za-z0-9+/=_.~-]{8,}
    | (?i:\b(?:password|passwd|secret|api_?key|access_token|refresh_token|client_secret)["']?\s*[=:]\s*["']?)[^\s"'&,;]+
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)                          # credentials in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
MASK = "[masked]"


def clean(text: str, *, limit: int = LIMIT) -> str:
    """`text` made fit to keep: at most `limit` characters, one line, credentials replaced by ``[masked]``.

    Masking comes before cutting, so that the head of a cut credential does not remain.
    """
    text = _CREDENTIAL.sub(MASK, text[: limit * 20])
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
