"""Settings that cannot be used: one sentence names each variable and what is expected, and none shows a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import InvalidConfig
from registry.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("REDIS_URL", "hunter2", "REDIS_URL: expected an address that begins with redis://, rediss://, unix://"),
        ("REDIS_URL", "redis://hunter2:x/0", "REDIS_URL: expected host:port in it"),
        ("BROKER_URL", "amqp://:hunter2@host", "BROKER_URL: expected an address that begins with redis://"),
        ("PUSHGATEWAY_URL", "hunter2://", "PUSHGATEWAY_URL: expected an address that begins with https://, http://"),
        ("PUSHGATEWAY_URL", "gateway:hunter2", "PUSHGATEWAY_URL: expected host:port in it"),
        ("CHECK_INTERVALS", "{hunter2", 'CHECK_INTERVALS: expected JSON such as {"name": …}'),
        ("CHECK_INTERVALS", "", 'CHECK_INTERVALS: expected JSON such as {"name": …}'),
        ("CHECK_INTERVALS", '{"vertex": -1}', "CHECK_INTERVALS, vertex: input should be greater than 0"),
        ("TENANT_INTERVALS", '{"*": 30}', "TENANT_INTERVALS, *: string should match pattern '^[^*]'"),
        ("VENDOR_BUDGETS", "[1]", "VENDOR_BUDGETS: input should be a valid dictionary"),
        ("VENDOR_URLS", '{"github": "hunter2"}', "VENDOR_URLS, github: expected an address that begins with https://"),
        ("CANARY_URL", "hunter2", "CANARY_URL: expected an address that begins with https://"),
        ("HEARTBEAT_URL", "hunter2", "HEARTBEAT_URL: expected an address that begins with https://"),
        ("EGRESS_ALLOW", "10.0.0.0/8,hunter2", "EGRESS_ALLOW: input is not a valid IPv4 network"),
        ("METRICS_TENANTS", "hunter2", "METRICS_TENANTS: input should be 'plain', 'opaque' or 'off'"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidConfig) as refused:
        load_settings(env_file=None)
    assert str(refused.value).startswith(f"the environment does not fit: {says}")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "redis+sentinel://:word@one:26379,two/cache/1"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "rediss://user:word@[::1]:6380/1"),
        ("BROKER_URL", "sentinel://:word@one:26379/0;sentinel://:word@two:26379/0"),
        ("BROKER_URL", "redis+socket:///run/redis.sock?virtual_host=0"),
    ],
)
def test_every_spelling_of_a_redis_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(load_settings(env_file=None), variable.lower()) == value


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix://:word@/run/redis.sock", "redis+socket://:word@/run/redis.sock?virtual_host=0"),
    ],
)
def test_a_brokers_socket_is_put_into_celerys_spelling(
    monkeypatch: pytest.MonkeyPatch, written: str, read: str
) -> None:
    monkeypatch.setenv("BROKER_URL", written)
    settings = load_settings(env_file=None)
    assert settings.broker_url == read
    assert settings.broker_redis_url == (written if "?" in written else f"{written}?db=0")


def test_tables_come_from_json_and_no_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_INTERVALS", '{"vertex": 300}')
    monkeypatch.setenv("TENANT_INTERVALS", '{"acme": 30}')
    monkeypatch.setenv("ROUTE_GROUPS", '{"chat": ["slack", "teams"]}')
    monkeypatch.setenv("STATUS_PAGE_URLS", '{"github": ""}')
    monkeypatch.setenv("CANARY_URL", "")
    settings = load_settings(env_file=None)
    assert settings.check_intervals == {"vertex": 300.0}
    assert settings.tenant_intervals == {"acme": 30.0}
    assert settings.route_groups == {"chat": ("slack", "teams")}
    assert settings.status_page_urls == {"github": ""}
    assert not settings.canary_url


def test_a_table_given_is_not_mixed_with_the_one_of_an_earlier_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run/env").write_text("""VENDOR_URLS='{"github": "http://127.0.0.1:1/demo"}'\n""")
    fresh = load_settings(env_file=None)
    assert Settings.model_validate(dict(fresh)).vendor_urls == {}
