"""A sender in a process of its own, to be killed.

Arguments: DATABASE_URL SMTP_URL LEASE_SECONDS MOST_UNWRITTEN
"""

import asyncio
import signal
import sys
from datetime import timedelta

import uvloop
from sqlalchemy import create_engine

from newsletter.config import load_settings
from newsletter.db import Database, engine_options, prepare_engine
from newsletter.mail.sender import Sender


async def main(
    database_url: str, smtp_url: str, lease: str, most_unwritten: str
) -> None:
    settings = load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": "k" * 40,
            "NEWSLETTER_DATABASE_URL": database_url,
            "NEWSLETTER_SMTP_URL": smtp_url,
            "NEWSLETTER_EHLO_NAME": "inkorg.test",
        }
    )
    engine = create_engine(database_url, **engine_options(database_url))
    prepare_engine(engine)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sender = Sender(
        Database(engine),
        settings,
        lease=timedelta(seconds=float(lease)),
        most_unwritten=int(most_unwritten),
    )
    await sender.run(stop)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
