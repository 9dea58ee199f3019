from typing import Any

import pytest
from pydantic import ValidationError

from registry.connector import ConnectorConfig, SecretRef

AUTH = {"type": "bearer", "token": "env://TOKEN"}
APP = {"type": "github_app", "app_id": "1", "installation_id": 1, "private_key": "env://KEY"}


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


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"auth": APP | {"app_id": "\ud800"}}, "app_id"),
        ({"auth": {"type": "bearer", "token": SecretRef("env://\ud800")}}, "token"),
        ({"label": "\ud800"}, "label"),
        ({"settings": {"\ud800": 1}}, "settings"),
        ({"settings": {"a": {"b": ["\udfff"]}}}, "settings"),
        ({"settings": {"a": float("nan")}}, "settings"),
        ({"settings": {"a": [{"b": float("-inf")}]}}, "settings"),
    ],
    ids=range(7),
)
def test_what_json_in_utf8_cannot_hold_is_in_no_configuration(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        ConnectorConfig.model_validate({"auth": AUTH, **fields})


def test_a_slash_at_the_end_of_an_address_makes_no_difference() -> None:
    config = ConnectorConfig.model_validate({"auth": AUTH, "base_url": "https://gitlab.example.com:8443/git/"})
    assert config.base_url == "https://gitlab.example.com:8443/git"
