"""The egress policy: what a tenant's address may lead to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.egress import EgressPolicy
from registry.errors import CheckFailed
from registry.health import Reason

STRICT = EgressPolicy()


def refusal(url: str, policy: EgressPolicy = STRICT) -> str | None:
    try:
        policy.check(url)
    except CheckFailed as failure:
        return failure.message if failure.reason is Reason.MISCONFIGURED else None
    return None


def resolves_to(*addresses: str, policy: EgressPolicy = STRICT, scheme: str = "https", port: int = 443) -> set[str]:
    return policy.admit(scheme, "gitlab.example.com", port, addresses)


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "0.0.0.0",  # noqa: S104 - an address to refuse
    "0.1.2.3",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "3fff::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_or_reserved_address_is_refused_in_the_url_and_as_what_a_name_resolves_to(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert "private or reserved" in (refusal(f"https://{host}/") or "")
    with pytest.raises(CheckFailed, match="private or reserved"):
        resolves_to(address)


@pytest.mark.parametrize(
    "address", ["140.82.112.5", "2606:4700::6810:84e5", "64:ff9b::8c52:7005", "::ffff:140.82.112.5"]
)
def test_a_public_address_is_admitted(address: str) -> None:
    assert resolves_to(address) == {address}


@pytest.mark.parametrize(
    "url",
    [
        "http://github.example.com/",
        "https://github.example.com:8443/",
        "https://github.example.com:22/",
        "https://user:secret@github.example.com/",
        "https://user@github.example.com/",
        "https://:secret@github.example.com/",
        "ftp://github.example.com/",
        "file:///etc/passwd",
        "gopher://github.example.com:443/",
        "unix:///var/run/docker.sock",
        "//github.example.com/",
        "github.example.com",
        "https://",
        "https:///path",
        "https://[::1",
        "https://host:99999/",
        "",
    ],
)
def test_a_url_that_is_not_plain_https_on_443_is_refused(url: str) -> None:
    assert refusal(url)


def test_a_refusal_never_repeats_the_credentials_of_the_url() -> None:
    told = refusal("https://user:hunter2@github.example.com/")
    assert told
    assert "hunter2" not in told


def test_a_name_that_resolves_to_both_is_reached_only_at_its_public_address() -> None:
    assert resolves_to("10.0.0.1", "140.82.112.5") == {"140.82.112.5"}


def test_the_operator_can_allow_a_network_for_http_and_any_port() -> None:
    policy = EgressPolicy(["10.2.0.0/16", "127.0.0.1"])
    assert refusal("http://10.2.3.4:8080/", policy) is None
    assert refusal("http://127.0.0.1:1234/", policy) is None
    assert resolves_to("10.2.3.4", policy=policy, scheme="http", port=8080) == {"10.2.3.4"}
    assert resolves_to("::ffff:10.2.3.4", policy=policy) == {"::ffff:10.2.3.4"}


def test_an_allowed_network_allows_nothing_beside_it() -> None:
    policy = EgressPolicy(["10.2.0.0/16"])
    assert refusal("https://10.3.0.1/", policy)
    assert refusal("https://169.254.169.254/", policy)
    with pytest.raises(CheckFailed, match="https"):
        resolves_to("140.82.112.5", policy=policy, scheme="http", port=80)
    with pytest.raises(CheckFailed, match="port 8080"):
        resolves_to("140.82.112.5", policy=policy, port=8080)


def test_the_operator_can_allow_one_host_by_name() -> None:
    policy = EgressPolicy(["gitlab.example.com"])
    assert refusal("http://gitlab.example.com:8080/", policy) is None
    assert resolves_to("10.0.0.1", policy=policy, scheme="http", port=8080) == {"10.0.0.1"}
    assert refusal("http://other.example.com/", policy)
    with pytest.raises(CheckFailed):
        policy.admit("https", "evil.gitlab.example.com", 443, ["10.0.0.1"])


@pytest.mark.parametrize("entry", ["10.2.0.1/16", "http://x", "", "a b", "*.example.com", "/etc"])
def test_an_entry_that_is_neither_network_nor_host_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a network"):
        EgressPolicy([entry])


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "::"]))
def test_an_address_inside_another_is_judged_as_what_it_leads_to(inner: object, prefix: str) -> None:
    import ipaddress

    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(ipaddress.IPv4Address(str(inner))))
    plain, wrapped = (refusal(f"https://{host}/") is None for host in (str(inner), f"[{outer}]"))
    assert plain == wrapped
