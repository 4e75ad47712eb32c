"""Which addresses a feed may be fetched from: public ones, and what an operator allows.

`ipaddress.is_global` lets through tunnels and the clouds' own services, so the table
is explicit. All addresses of a name are checked, and those checked are dialled.
"""

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from newsletter.errors import N_, FeedError

WEB_PORTS = frozenset({80, 443})
MAX_ADDRESSES = 20
Resolve = Callable[[str, int, float], list[str]]

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


class Denied(FeedError):
    """That address may not be asked from here."""


class NoSuchHost(FeedError):
    """There is no such host, or it cannot be looked up now."""


class Guard:
    """Decides where a request may go."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """Take the hosts and networks that are allowed although private; "*" is all."""
        self.networks: list[IPv4Network | IPv6Network] = []
        self.hosts: set[str] = set()
        for text in allowed:
            try:
                self.networks.append(ip_network(text, strict=False))
            except ValueError:
                self.hosts.add(text.lower().rstrip("."))

    def addresses(
        self, host: str, port: int, *, resolve: Resolve, seconds: float
    ) -> list[str]:
        """Resolve a host; return its addresses. Raises FeedError if one is denied."""
        if "*" in self.hosts or host.lower().rstrip(".") in self.hosts:
            return resolve(host, port, seconds)
        if port not in WEB_PORTS and not self.networks:
            raise _port_denied(port)
        found = resolve(host, port, seconds)
        if any(self.denies(address) for address in found):
            raise Denied(
                N_(
                    "%(host)s is on a private network, where feeds are not fetched."
                    " Whoever runs Inkorg can allow it with NEWSLETTER_FETCH_ALLOW."
                ),
                host=host[:100],
            )
        if port not in WEB_PORTS and not all(map(self._is_allowed, found)):
            raise _port_denied(port)
        return found

    def denies(self, address: str) -> bool:
        """Tell whether an address may not be dialled."""
        return not (is_public(address) or self._is_allowed(address))

    def _is_allowed(self, address: str) -> bool:
        ip = _ip(address)
        return any(ip in network for network in self.networks)


def is_public(address: str) -> bool:
    """Tell whether an IP address is on the internet."""
    ip = _ip(address)
    if ip.version == 6 and ip not in _PUBLIC_IPV6:
        return False
    return not any(ip in network for network in _DENIED)


def look_up(host: str, port: int, seconds: float) -> list[str]:
    """Return all addresses of a host. Raises FeedError.

    In a thread, since the system's resolver has no deadline of its own.
    """
    answers: queue.Queue[list[str] | Exception] = queue.Queue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(seconds, 0.01))
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, Exception) or not answer:
        raise NoSuchHost(
            N_("There is no host called %(host)s, or it cannot be looked up now."),
            host=host[:100],
        )
    return answer[:MAX_ADDRESSES]


def _ip(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


def _port_denied(port: int) -> Denied:
    return Denied(
        N_("Feeds are fetched from ports 80 and 443, not from %(port)s."), port=port
    )
