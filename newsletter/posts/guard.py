"""Which addresses a feed may be fetched from: public ones, and what an operator allows.

All addresses of a name are checked, and those checked are dialled.
"""

import queue
import socket
import threading
from collections.abc import Callable

from newsletter.errors import N_, FeedError
from newsletter.networks import Allowed

WEB_PORTS = frozenset({80, 443})
MAX_ADDRESSES = 20
Resolve = Callable[[str, int, float], list[str]]


class Denied(FeedError):
    """That address may not be asked from here."""


class NoSuchHost(FeedError):
    """There is no such host, or it cannot be looked up now."""


class Guard(Allowed):
    """Decides where a request may go."""

    def addresses(
        self, host: str, port: int, *, resolve: Resolve, seconds: float
    ) -> list[str]:
        """Resolve a host; return its addresses. Raises FeedError if one is denied."""
        if self.names(host):
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
        if port not in WEB_PORTS and not all(map(self.holds, found)):
            raise _port_denied(port)
        return found


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


def _port_denied(port: int) -> Denied:
    return Denied(
        N_("Feeds are fetched from ports 80 and 443, not from %(port)s."), port=port
    )
