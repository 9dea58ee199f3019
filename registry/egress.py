"""Where a tenant-supplied address may lead: to the public internet over https, or where the operator allows.

The policy is asked twice: about the URL (`EgressPolicy.check`), and about every address that its host name
resolves to at the moment of connecting (`EgressPolicy.admit`), so that a name cannot be pointed elsewhere between
the two. An address hidden inside another one (IPv4-mapped, NAT64, 6to4) is judged as what it leads to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

from registry.errors import CheckFailed
from registry.health import Reason

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_EMBEDDED = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped, RFC 4291
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated, RFC 2765
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291
    (IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""IPv6 networks that carry an IPv4 address, and how many bits stand to its right."""

_ALSO_REFUSED: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # Azure's platform address: metadata and DNS, though it looks public
    IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890; Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    IPv6Network("64:ff9b:1::/48"),  # local NAT64, RFC 8215
    IPv6Network("fec0::/10"),  # site-local, RFC 3879
    IPv6Network("2001::/32"),  # Teredo, RFC 4380
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
    IPv6Network("5f00::/16"),  # segment routing, RFC 9602
)
"""What `ipaddress` of some supported Python calls global, and must not be reached all the same."""


class EgressPolicy:
    """Refuses with ``misconfigured`` what the connector of a tenant must not reach.

    Args:
        allow: the operator's exceptions: networks (``10.2.0.0/16``, ``127.0.0.1``) and exact host names
            (``gitlab.corp.example``). For these, plain http and any port are permitted too.

    Raises:
        ValueError: an exception is neither a network nor a host name.
    """

    def __init__(self, allow: Iterable[str | Network] = ()) -> None:
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                self._hosts.add(_host_name(str(entry)))
        # A judgement of a URL depends on nothing else, and the same few URLs come with every check.
        self._judgement = lru_cache(maxsize=4096)(self._checked)

    def check(self, url: str) -> URL:
        """Judge a URL before any look-up, and return it parsed; its resolved address is left to `admit`.

        Raises:
            CheckFailed: ``misconfigured``, with the rule that refuses.
        """
        return self._judgement(url)

    def _checked(self, url: str) -> URL:
        try:
            parsed = URL(url)
            host, port = parsed.host, parsed.port
        except ValueError:
            raise _refusal("the address is not a URL") from None
        if parsed.scheme not in ("http", "https") or not host or port is None:
            raise _refusal("the address must begin with https:// and name a host")
        if parsed.user is not None or parsed.password is not None:
            raise _refusal("the address must not carry credentials")
        address = _literal(host)
        if address is not None:
            self._judge(parsed.scheme, host, port, address)
        elif not self._networks and host not in self._hosts:
            _require_https(parsed.scheme, port)
        return parsed

    def admit(self, scheme: str, host: str, port: int, addresses: Iterable[str]) -> set[str]:
        """Those of a host's resolved `addresses` that may be connected to.

        Raises:
            CheckFailed: ``misconfigured``, when none of them may.
        """
        refused: CheckFailed | None = None
        admitted: set[str] = set()
        for text in addresses:
            try:
                self._judge(scheme, host, port, ipaddress.ip_address(text))
            except CheckFailed as refusal:
                refused = refusal
            else:
                admitted.add(text)
        if refused and not admitted:
            raise refused
        return admitted

    def _judge(self, scheme: str, host: str, port: int, address: Address) -> None:
        if host.rstrip(".").lower() in self._hosts or self._named(address):
            return
        if not _public(address):
            raise _refusal(f"{host} leads to a private or reserved network")
        _require_https(scheme, port)

    def _named(self, address: Address) -> bool:
        inner = _embedded(address)
        return any(address in network or (inner is not None and inner in network) for network in self._networks)


def _require_https(scheme: str, port: int) -> None:
    if scheme != "https":
        raise _refusal("the address must begin with https://")
    if port != 443:
        raise _refusal(f"port {port} is not permitted, only 443")


def _public(address: Address) -> bool:
    inner = _embedded(address)
    if inner is not None:
        return _public(inner)
    if address.is_multicast or any(address in network for network in _ALSO_REFUSED):
        return False
    return address.is_global


def _embedded(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv6Address):
        for network, shift in _EMBEDDED:
            if address in network:
                return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host_name(entry: str) -> str:
    name = entry.rstrip(".").lower()
    if not name or not name.isascii() or not all(part.replace("-", "").isalnum() for part in name.split(".")):
        raise ValueError(f"egress allow list: {entry!r} is neither a network such as 10.2.0.0/16 nor a host name")
    return name


def _refusal(why: str) -> CheckFailed:
    return CheckFailed(Reason.MISCONFIGURED, f"refused by the egress policy: {why}", evidence={"refused": "egress"})
