"""A newsletter's DKIM keys in the database: made, switched on and off, found.

At most one of each algorithm signs at a time. A key that is switched off stays, and its
record should stay in the DNS for some weeks: mail that it signed is still under way.
"""

import logging
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.errors import N_, ConfigError, Conflict, InvalidInput, NotFound
from newsletter.mail import keys
from newsletter.mail.keys import Key
from newsletter.models import Algorithm, DkimKey, Newsletter

log = logging.getLogger(__name__)

SLUG_IN_SELECTOR = 40  # characters


def create(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    algorithm: Algorithm,
    *,
    selector: str = "",
    domain: str = "",
    now: datetime,
) -> DkimKey:
    """Make a key, switched off, for the sender's domain or one above it.

    Raises InvalidInput for a name that cannot be, Conflict for one that is taken.
    """
    sender = domain_of(newsletter)
    domain = (domain or sender).lower()
    if not keys.covers(domain, sender):
        raise InvalidInput(
            N_("%(domain)s cannot sign for %(sender)s, from which the mail comes."),
            domain=domain,
            sender=sender,
        )
    selector = selector.lower() or _free_selector(
        session, newsletter, domain, algorithm, now
    )
    if _is_taken(session, domain, selector):
        raise Conflict(
            N_("There is already a key at %(name)s. Choose another selector."),
            name=keys.record_name(domain, selector),
        )
    key = keys.make(domain, selector, algorithm)
    row = DkimKey(
        newsletter_id=newsletter.id,
        domain=domain,
        selector=selector,
        algorithm=algorithm,
        private=keys.encrypt(settings, key),
        public=key.public,
        active=False,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def keys_of(
    session: Session, settings: Settings, newsletter_id: int | None
) -> list[Key]:
    """Return the keys that sign a newsletter's mail; none for mail of no newsletter.

    Raises ConfigError if one cannot be opened: mail that should be signed must wait,
    not leave unsigned.
    """
    if newsletter_id is None:
        return []
    rows = session.execute(
        select(DkimKey, Newsletter.from_email)
        .join(Newsletter, Newsletter.id == DkimKey.newsletter_id)
        .where(DkimKey.newsletter_id == newsletter_id, DkimKey.active)
        .order_by(DkimKey.id)
    )
    return [
        Key(
            row.domain,
            row.selector,
            row.algorithm,
            keys.decrypt(settings, row.private),
        )
        for row, from_email in rows
        if keys.covers(row.domain, from_email.rpartition("@")[2])
    ]


def all_keys(session: Session, newsletter: Newsletter | None = None) -> list[DkimKey]:
    """Return the keys of one newsletter or of all, the oldest first."""
    found = select(DkimKey).order_by(DkimKey.newsletter_id, DkimKey.id)
    if newsletter:
        found = found.where(DkimKey.newsletter_id == newsletter.id)
    return list(session.scalars(found))


def named(
    session: Session, newsletter: Newsletter, selector: str = ""
) -> list[DkimKey]:
    """Return the key called `selector`, or all. Raises NotFound where there is none."""
    rows = [
        row
        for row in all_keys(session, newsletter)
        if not selector or row.selector == selector.lower()
    ]
    if not rows:
        raise NotFound(
            N_("%(slug)s has no such DKIM key. Make one with: dkim create %(slug)s"),
            slug=newsletter.slug,
        )
    return rows


def newest(session: Session, newsletter: Newsletter) -> list[DkimKey]:
    """Return the newest key of each algorithm that can sign for the sender's domain.

    Raises NotFound where there is none.
    """
    sender = domain_of(newsletter)
    rows = {
        row.algorithm: row
        for row in named(session, newsletter)
        if keys.covers(row.domain, sender)
    }
    if not rows:
        raise NotFound(
            N_("No DKIM key of %(slug)s is for %(sender)s, from which the mail comes."),
            slug=newsletter.slug,
            sender=sender,
        )
    return list(rows.values())


def switch_on(session: Session, newsletter: Newsletter, row: DkimKey) -> list[DkimKey]:
    """Let a key sign, instead of others of its algorithm; return those.

    Raises Conflict if the sender's domain is no longer the key's.
    """
    if not keys.covers(row.domain, domain_of(newsletter)):
        raise Conflict(
            N_("%(domain)s cannot sign for %(sender)s, from which the mail comes."),
            domain=row.domain,
            sender=domain_of(newsletter),
        )
    replaced = [
        other
        for other in all_keys(session, newsletter)
        if other.active and other.algorithm is row.algorithm and other is not row
    ]
    for other in replaced:
        other.active = False
    row.active = True
    return replaced


def renew(session: Session, settings: Settings) -> int:
    """Encrypt with the newest secret key what an older one encrypted; return how many.

    Leaves alone what no secret key opens.
    """
    renewed = 0
    for row in all_keys(session):
        try:
            again = keys.renewed(settings, row.private)
        except ConfigError as error:
            log.error("dkim key cannot be opened id=%d reason=%s", row.id, error)
            continue
        if again is not None:
            row.private = again
            renewed += 1
    return renewed


def domain_of(newsletter: Newsletter) -> str:
    """Return the domain that a newsletter's mail comes from."""
    return newsletter.from_email.rpartition("@")[2].lower()


def _free_selector(
    session: Session,
    newsletter: Newsletter,
    domain: str,
    algorithm: Algorithm,
    now: datetime,
) -> str:
    """Name a key after the newsletter and the month, so that it shows its age."""
    slug = newsletter.slug[:SLUG_IN_SELECTOR].strip("-")
    kind = "-ed" if algorithm is Algorithm.ED25519 else ""
    name = first = f"{slug}-{now:%Y%m}{kind}"
    number = 1
    while _is_taken(session, domain, name):
        number += 1
        name = f"{first}-{number}"
    return name


def _is_taken(session: Session, domain: str, selector: str) -> bool:
    found = select(DkimKey.id).where(
        DkimKey.domain == domain, DkimKey.selector == selector
    )
    return session.scalar(found) is not None
