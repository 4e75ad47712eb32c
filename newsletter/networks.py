"""Which network addresses are on the internet, and which private ones are allowed.

`ipaddress.is_global` lets through tunnels and the clouds' own services, so the table
is explicit.
"""

from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_DENIED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, a public address in name only
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address inside
        "3fff::/20",
    )
)
# Everything else in IPv6 (mapped, NAT64, site-local, 5f00::/16 …) is not the internet.
_PUBLIC_IPV6 = IPv6Network("2000::/3")


class Allowed:
    """Hosts and networks that may be dialled although they are private."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """Take names of hosts, addresses and networks; "*" is all."""
        self.networks: list[IPv4Network | IPv6Network] = []
        self.hosts: set[str] = set()
        for text in allowed:
            try:
                self.networks.append(ip_network(text, strict=False))
            except ValueError:
                self.hosts.add(text.lower().rstrip("."))

    def names(self, host: str) -> bool:
        """Tell whether a host is allowed by its name, wherever it is."""
        return "*" in self.hosts or host.lower().rstrip(".") in self.hosts

    def holds(self, address: str) -> bool:
        """Tell whether an address is in one of the networks."""
        ip = _ip(address)
        return any(ip in network for network in self.networks)

    def denies(self, address: str) -> bool:
        """Tell whether an address may not be dialled."""
        return not (is_public(address) or self.holds(address))


def is_public(address: str) -> bool:
    """Tell whether an IP address is on the internet."""
    ip = _ip(address)
    if ip.version == 6 and ip not in _PUBLIC_IPV6:
        return False
    return not any(ip in network for network in _DENIED)


def _ip(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])
