import pytest
from pydantic import ValidationError

from registry.connector import ConnectorConfig

AUTH = {"type": "bearer", "token": "env://TOKEN"}


@pytest.mark.parametrize(
    "url",
    [
        "gitlab.example.com",
        "ftp://gitlab.example.com",
        "https://",
        "https://user:pass@gitlab.example.com",
        "https://gitlab.example.com/?a=b",
        "https://gitlab.example.com/#top",
        "https://gitlab.example.com:99999",
        "https://ok.example/\x1b]0;title\x07",
        "https://a b.example",
        "https://a|c.example",
        "https://exämple.com",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        ConnectorConfig.model_validate({"auth": AUTH, "base_url": url})


def test_a_slash_at_the_end_of_an_address_makes_no_difference() -> None:
    config = ConnectorConfig.model_validate({"auth": AUTH, "base_url": "https://gitlab.example.com:8443/git/"})
    assert config.base_url == "https://gitlab.example.com:8443/git"
