"""What lies in the outbox, and the links in it."""

import re
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.links import Purpose
from newsletter.models import Delivery, Kind, Message
from newsletter.subscribers.consent import Origin

FORM = Origin(
    page="https://blogg.example/",
    network="192.0.2.77",
    wording="Ja, skicka nya inlägg en gång i veckan.",
)


@dataclass(frozen=True)
class Mail:
    """One queued mail."""

    kind: Kind
    address: str
    subject: str
    text: str
    html: str
    state: str

    def token(self, purpose: Purpose) -> str:
        """Return the token of the link of this purpose; both parts have the same."""
        found = {
            m[1]
            for part in (self.text, self.html)
            for m in re.finditer(rf"http://localhost{purpose.path}([\w.-]+)", part)
        }
        assert len(found) == 1, found
        return found.pop()


def mails(session: Session, kind: Kind | None = None) -> list[Mail]:
    """Return every mail that was ever queued, oldest first."""
    query = (
        select(Delivery, Message)
        .join(Message, Message.id == Delivery.message_id)
        .order_by(Delivery.id)
    )
    if kind:
        query = query.where(Message.kind == kind)
    return [
        Mail(m.kind, d.address, m.subject, m.text, m.html, d.state.value)
        for d, m in session.execute(query)
    ]


def last(session: Session, kind: Kind) -> Mail:
    """Return the latest mail of a kind."""
    return mails(session, kind)[-1]
