import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.clean import LIMIT, clean

CREDENTIALS = [
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
]


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_what_looks_like_a_credential_is_masked(credential: str) -> None:
    text = clean(f"refused: {credential} (try again)")
    assert "[masked]" in text
    for part in credential.replace("://", " ").replace("=", " ").replace(":", " ").replace("@", " ").split():
        if any(letter.isdigit() for letter in part):
            assert part not in text


@pytest.mark.parametrize("prose", ["the token refresh failed", "bearer authentication", "token is not accepted"])
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
