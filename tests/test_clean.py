from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.clean import LIMIT, MASK, STRETCH, clean

CREDENTIALS = [
    "https://ann:p?ss1234@host.example/x",
    "https://ann:pa#ss1234@git.example/x",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11AAAAAAA0abcdefghij_klmnop",
    "glpat-AbCdEf123456",
    "xoxb-1234-5678-abcdef",
    "lin_api_abcdef0123456789",
    "ya29.a0AfH6SMBx-abc_def",
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl",
    "Bearer abcdefgh12345678",
    "password=hunter2hunter2",
    "https://user:pa55word@example.com/",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow",
    "crt_0123456789ab_h1dden-Q7w8E9r0",
    "whsec_aGlkZGVuMTIz",
    "redis://:hunter2@host/x",
    "https://hunter2@host/",
    "https://hooks.slack.com/services/T01/B02/hunter2",
    "Authorization: Bearer hunter-two",
    "Authorization: hunter2",
    "Bearer hunter-hunter-hunter-two",
    '{"token": "hunter2"}',
    "?token=hunter2",
    "PRIVATE-TOKEN: hunter2",
    "password='a hunter2'",
]


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_what_looks_like_a_credential_is_masked(credential: str) -> None:
    text = clean(f"refused: {credential} (try again)")
    assert "[masked]" in text
    for part in credential.replace("://", " ").replace("=", " ").replace(":", " ").replace("@", " ").split():
        if any(letter.isdigit() for letter in part) or "hunter" in part:
            assert part not in text


@pytest.mark.parametrize(
    "prose",
    [
        "the token refresh failed",
        "bearer authentication",
        "token is not accepted",
        "invalid token: gone",
        "the token personal_access_tokens/self",
        "token introspection_endpoint_is_down",
    ],
)
def test_prose_is_left_alone(prose: str) -> None:
    assert clean(prose) == prose


def test_a_cut_credential_leaves_no_head() -> None:
    assert "ghp_" not in clean("x" * (LIMIT - 10) + " ghp_16C7e42F292c6912E7710c838347Ae178B4a")


@given(st.text(max_size=5_000))
def test_what_is_kept_is_one_short_line(text: str) -> None:
    kept = clean(text)
    assert len(kept) <= LIMIT
    assert not any(ord(letter) < 32 or ord(letter) == 127 for letter in kept)
    assert clean(kept) == kept or "[masked]" in kept


SENT = "Zq7+kPw9/3LmXv20Rt==YbNc84HsJd"


@pytest.mark.parametrize(
    "echo",
    [
        SENT,
        SENT[:20],
        SENT[5:],
        quote(SENT, safe=""),
        b64encode(SENT.encode()).decode(),
        b64encode(f"me:{SENT}".encode()).decode(),
        "\u200b".join(SENT),
        " ".join(SENT),
        "x" * 495 + SENT,
    ],
    ids=["whole", "head", "tail", "url", "base64", "basic", "zero-width", "spaced", "long"],
)
def test_what_was_sent_is_masked_however_it_is_echoed(echo: str) -> None:
    kept = clean(f"no access for {echo}!", limit=1_000, credentials=[SENT])
    assert MASK in kept
    shown = "".join(kept.split())
    assert not any(SENT[start : start + STRETCH] in shown for start in range(len(SENT) - STRETCH + 1))


def test_words_that_a_credential_happens_to_have_too_are_left() -> None:
    assert (
        clean("no access to project acme-01", credentials=["demo-token-of-acme-01"]) == "no access to project acme-01"
    )


def test_what_cannot_be_written_down_is_not_kept() -> None:
    clean("lone \ud800 half").encode()
