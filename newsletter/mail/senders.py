"""All the senders of a worker: the installation's, and one for each own relay in use.

A newsletter with a relay of its own has a sender of its own, while it has mail under
way: its claims, its connections, its pace and its pauses are apart from everyone
else's, so that a relay that refuses or crawls holds nobody up but its own newsletter.

The first sender is always there. The others come with their mail and go after it; one
whose relay is changed or switched off ends, and the next begins by what is then true.
"""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.errors import ConfigError
from newsletter.mail import own_relays
from newsletter.mail.sender import Sender
from newsletter.models import NewsletterRelay

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
IDLE_SECONDS = 20.0  # without mail, until a newsletter's own sender goes
REPORT_SECONDS = 60.0  # between reports of a password that cannot be opened
AGAIN_SECONDS = 5.0  # after one failed


@dataclass(slots=True)
class _Own:
    """A newsletter's own sender at work."""

    settings: Settings
    stop: asyncio.Event
    task: asyncio.Task[None]
    needed_at: float  # when it last had mail


class Senders:
    """Sends all there is, each newsletter's mail by the relay that it goes by."""

    def __init__(self, database: Database, settings: Settings, **over: Any) -> None:
        """Prepare; nothing happens before `run`. `over` is for each `Sender`."""
        self.first = Sender(database, settings, **over)
        self.name = self.first.name
        self._database = database
        self._settings = settings
        self._over = over
        self._own: dict[int, _Own] = {}  # by newsletter
        self._leaving: set[asyncio.Task[None]] = set()
        self._told_at: dict[int, float] = {}  # that a password cannot be opened
        self._not_before: dict[int, float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; then all finish what is on the wire."""
        first = asyncio.create_task(self.first.run(stop))
        stopped = asyncio.create_task(stop.wait())
        try:
            while not (stop.is_set() or first.done()):
                try:
                    await self._look()
                except Exception:  # a bug of ours must not stop the first sender
                    log.exception("own relays")
                await asyncio.wait(
                    {first, stopped},
                    timeout=LOOK_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            stopped.cancel()
            for newsletter_id in list(self._own):
                self._send_away(newsletter_id)
            await asyncio.gather(*self._leaving, return_exceptions=True)
            await first

    async def _look(self) -> None:
        """Begin and end senders by what the database says now."""
        try:
            wanted = await asyncio.to_thread(self._wanted)
        except SQLAlchemyError as error:
            log.error("own relays: %s", error)
            return
        now = monotonic()
        for newsletter_id, own in list(self._own.items()):
            self._look_after(newsletter_id, own, wanted.get(newsletter_id), now)
        for newsletter_id, place in wanted.items():
            if newsletter_id not in self._own:
                self._begin(newsletter_id, place, now)

    def _look_after(
        self, newsletter_id: int, own: _Own, place: Settings | None, now: float
    ) -> None:
        """End a sender that failed, has had no mail for a while, or goes elsewhere."""
        if own.task.done():
            self._put_down(newsletter_id, own, now)
        elif place is None:
            if now >= own.needed_at + IDLE_SECONDS:
                self._send_away(newsletter_id)
        elif place != own.settings:
            self._send_away(newsletter_id)
        else:
            own.needed_at = now

    def _wanted(self) -> dict[int, Settings]:
        """Return the newsletters with mail for their own relays, and those."""
        wanted, closed = {}, []
        with self._database.reading() as session:
            for row, slug in own_relays.with_mail(session):
                try:
                    place = own_relays.place_of(self._settings, row, slug)
                except ConfigError as error:
                    closed.append((row, slug, error))
                else:
                    wanted[row.newsletter_id] = place
        for row, slug, why in closed:
            self._tell(row, slug, why)
        return wanted

    def _tell(self, row: NewsletterRelay, slug: str, error: ConfigError) -> None:
        """Write down, now and then, why a newsletter's mail waits."""
        now = monotonic()
        if now < self._told_at.get(row.newsletter_id, -REPORT_SECONDS) + REPORT_SECONDS:
            return
        self._told_at[row.newsletter_id] = now
        log.error("relay newsletter=%s: %s", slug, error)
        with self._database.transaction() as session:
            own_relays.report_unopened(session, row, slug, error, now=utcnow())

    def _begin(self, newsletter_id: int, place: Settings, now: float) -> None:
        if now < self._not_before.get(newsletter_id, 0.0):
            return
        stop = asyncio.Event()
        sender = Sender(self._database, place, pool=newsletter_id, **self._over)
        log.info("sender newsletter=%d relay=%s", newsletter_id, place.relay.name)
        task = asyncio.create_task(sender.run(stop))
        self._own[newsletter_id] = _Own(place, stop, task, now)

    def _send_away(self, newsletter_id: int) -> None:
        """Let a sender finish what is on the wire; it takes up nothing more."""
        own = self._own.pop(newsletter_id)
        own.stop.set()
        self._leaving.add(own.task)
        own.task.add_done_callback(self._leaving.discard)

    def _put_down(self, newsletter_id: int, own: _Own, now: float) -> None:
        """Take note of a sender that failed; the next one begins after a while."""
        del self._own[newsletter_id]
        self._not_before[newsletter_id] = now + AGAIN_SECONDS
        if error := own.task.exception():
            log.error("sender newsletter=%d failed", newsletter_id, exc_info=error)
