"""Messages as a worker has them at hand: loaded, unpacked and ready to be signed."""

import logging
from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime
from time import monotonic

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.errors import ConfigError, RelayError
from newsletter.mail import keyring, relays
from newsletter.mail.desk import Words
from newsletter.mail.dkim import Seal
from newsletter.mail.keys import Key
from newsletter.mail.mime import Frozen
from newsletter.mail.relays import Health
from newsletter.models import Message, Newsletter

log = logging.getLogger(__name__)

KEPT = 64  # messages, of the latest used
RELOAD_SECONDS = 30.0  # a key that is switched on or off counts after so long


class Shelf:
    """Loads words, keeps the latest used, and looks anew now and then."""

    def __init__(
        self, settings: Settings, *, reload_seconds: float = RELOAD_SECONDS
    ) -> None:
        """Start empty."""
        self.reload_seconds = reload_seconds
        self._settings = settings
        self._words: OrderedDict[int, Words] = OrderedDict()
        self._unopened: set[str] = set()  # newsletters whose key cannot be opened

    def words(
        self, session: Session, message_ids: Collection[int], *, now: datetime
    ) -> dict[int, Words]:
        """Return the words of messages; those that cannot be signed are left out."""
        oldest = monotonic() - self.reload_seconds
        missing = []
        for message_id in message_ids:
            words = self._words.get(message_id)
            if words is None or words.loaded_at < oldest:
                self._words.pop(message_id, None)
                missing.append(message_id)
            else:
                self._words.move_to_end(message_id)
        if missing:
            self._load(session, missing, now)
        found = {m: self._words[m] for m in message_ids if m in self._words}
        while len(self._words) > KEPT:
            self._words.popitem(last=False)
        return found

    def _load(self, session: Session, message_ids: list[int], now: datetime) -> None:
        rows = session.execute(
            select(
                Message.id,
                Message.newsletter_id,
                Message.frozen,
                Message.sender,
                Message.nonce,
                Newsletter.hold_unknown,
            )
            .outerjoin(Newsletter, Newsletter.id == Message.newsletter_id)
            .where(Message.id.in_(message_ids))
        ).all()
        keys = {
            which: self._keys(session, which, now) for which in {r[1] for r in rows}
        }
        for message_id, newsletter_id, packed, sender, nonce, hold in rows:
            signing = keys[newsletter_id]
            if signing is None:
                continue
            frozen = Frozen.unpack(packed)
            seal = Seal(frozen, signing) if signing else None
            self._words[message_id] = Words(
                frozen, sender, nonce, bool(hold), seal, monotonic()
            )

    def _keys(
        self, session: Session, newsletter_id: int | None, now: datetime
    ) -> list[Key] | None:
        """Return what signs a newsletter's mail; None where a key cannot be opened."""
        name = f"{relays.UNSIGNED}{newsletter_id}"
        try:
            keys = keyring.keys_of(session, self._settings, newsletter_id)
        except ConfigError as error:
            if name not in self._unopened:
                log.error("newsletter id=%s: %s", newsletter_id, error)
            self._unopened.add(name)
            trouble = RelayError(error.message, **error.values)
            relays.report(session, Health(name, trouble, failures=1), now=now)
            return None
        if name in self._unopened:
            self._unopened.discard(name)
            relays.report(session, Health(name), now=now)
        return keys
