"""Sending what a test has queued to a real SMTP server."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

from newsletter.config import Settings, parse_relay
from newsletter.db import Database
from newsletter.mail.sender import Sender
from tests.smtp_server import Received, SmtpServer


def through(settings: Settings, server: SmtpServer, **relay: Any) -> Settings:
    """Return the settings with `server` as the relay."""
    return replace(settings, relay=replace(parse_relay(server.url), **relay))


def deliver(
    database: Database,
    settings: Settings,
    server: SmtpServer | None = None,
    *,
    now: datetime | None = None,
    **relay: Any,
) -> list[Received]:
    """Run a sender until it has nothing to do; return what the server has received.

    Without a server of the test's own, one is started that takes everything.
    """
    clock = {"now": lambda: now} if now else {}
    with SmtpServer() if server is None else nullcontext(server) as relay_server:
        place = through(settings, relay_server, **relay)
        sender = Sender(database, place, **clock)  # type: ignore[arg-type]
        asyncio.run(sender.send_until_idle())
        return list(relay_server.received)
