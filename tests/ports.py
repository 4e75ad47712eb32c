"""Ports for servers that begin later, or again: none that the system hands out."""

import secrets
import socket

# Below those that Linux gives to whoever names none, so that a connection of another
# test, or of the browser, never sits at one in the meantime.
LOWEST, HIGHEST = 20_000, 32_000


def free_port() -> int:
    """Return a port of the loopback at which nobody is."""
    while True:
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
