"""WebSub (W3C): hubs that push a feed's news, so that they arrive within a minute.

A feed names its hub. We ask it to push, with a secret and an address that nobody can
guess; it comes back to see whether we meant it, and then sends what is new, signed.
Feeds are polled all the same: a hub that fails costs minutes, never a post.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.errors import FeedError
from newsletter.links import looks_like_token, new_token
from newsletter.markup import is_web
from newsletter.models import Feed, FeedPush, HubParting, Newsletter
from newsletter.posts.download import Client
from newsletter.posts.entries import MAX_URL_CHARACTERS, Parsed
from newsletter.posts.importer import Report, import_entries

LEASE = timedelta(days=10)  # what we ask for; the hub decides
LONGEST_LEASE = timedelta(days=30)
# A hub comes back about what it was asked within this time, or not at all.
PENDING = timedelta(hours=1)
FIRST_RETRY = timedelta(hours=1)  # doubled with each failure in a row
LONGEST_RETRY = timedelta(hours=24)
LAST_PARTING = 5  # a hub that does not hear by then finds out when its lease ends
BATCH = 20
MAX_CHALLENGE_CHARACTERS = 1000
ALGORITHMS = frozenset({"sha1", "sha256", "sha384", "sha512"})  # W3C WebSub §7.1


@dataclass(frozen=True, slots=True)
class Asking:
    """What a hub is to be asked."""

    row_id: int
    hub: str
    form: dict[str, str]


def discover(
    session: Session,
    settings: Settings,
    feed: Feed,
    *,
    hub: str,
    topic: str,
    now: datetime,
) -> None:
    """Take note of the hub that a feed names; one it names no longer is told so.

    The demo has no address that a hub could reach.
    """
    known = session.get(FeedPush, feed.id)
    usable = all(is_web(u) and len(u) <= MAX_URL_CHARACTERS for u in (hub, topic))
    if not usable or settings.demo:
        part(session, feed, now=now)
        return
    if known is not None and (known.hub, known.topic) == (hub, topic):
        return
    part(session, feed, now=now)
    session.add(
        FeedPush(
            feed_id=feed.id,
            hub=hub,
            topic=topic,
            token=new_token(),
            secret=secrets.token_urlsafe(32),
            next_attempt_at=now,
        )
    )
    session.flush()


def part(session: Session, feed: Feed, *, now: datetime) -> None:
    """Forget a feed's hub, if it has one, and have it told if it knows of us."""
    push = session.get(FeedPush, feed.id)
    if push is None:
        return
    if push.failures or push.lease_until:
        session.add(
            HubParting(
                hub=push.hub, topic=push.topic, token=push.token, next_attempt_at=now
            )
        )
    session.delete(push)
    session.flush()


def ask_hubs(
    database: Database, settings: Settings, client: Client, *, now: datetime
) -> int:
    """Ask hubs to begin pushing, to go on when a lease nears its end, or to stop.

    That is written down before the hub is asked, as it may come back while it is. Safe
    to call from several processes. Returns how many were asked.
    """
    with database.transaction() as session:
        asking = [
            *_claim(session, settings, now),
            *_claim_partings(session, settings, now),
        ]
    for one in asking:
        try:
            status = client.post(one.hub, one.form)
        except FeedError:
            status = 0
        if not 200 <= status < 300:
            with database.transaction() as session:
                _forget_question(session, one)
    return len(asking)


def confirm(
    session: Session,
    token: str,
    *,
    mode: str,
    topic: str,
    lease_seconds: str,
    challenge: str,
    now: datetime,
) -> str | None:
    """Return the challenge to a hub that asks whether we meant it, else nothing.

    Only what is pending is confirmed, once, and only as we asked for it (§5.3): for all
    else, a second time too, nothing is written and nothing is answered.
    """
    if not 0 < len(challenge) <= MAX_CHALLENGE_CHARACTERS:
        return None
    if mode == "unsubscribe":
        parting = _parting_by(session, token, lock=True)
        if not _is_pending(parting, topic, now):
            return None
        session.delete(parting)
        return challenge
    push = _by_token(session, token, lock=True)
    lease = _lease(lease_seconds)
    if push is None or lease is None or mode != "subscribe":
        return None
    if not _is_pending(push, topic, now):
        return None
    push.asked_at, push.failures = None, 0
    push.lease_until = now + lease
    # Early enough for a hub that is away for a day; half-way where leases are short.
    push.next_attempt_at = now + max(lease - LONGEST_RETRY, lease / 2)
    return challenge


def is_signed(push: FeedPush, body: bytes, signature: str) -> bool:
    """Tell whether a body comes from the hub: X-Hub-Signature, in constant time."""
    method, _, digest = signature[:200].partition("=")
    if method.lower() not in ALGORITHMS:
        return False
    mine = hmac.new(push.secret.encode(), body, getattr(hashlib, method.lower()))
    return hmac.compare_digest(mine.hexdigest().encode(), digest.lower().encode())


def find(session: Session, token: str) -> FeedPush | None:
    """Return whose callback that is, if anyone's."""
    return _by_token(session, token)


def awaits(session: Session, token: str) -> bool:
    """Tell whether a hub's question is being waited for at that address."""
    row = _by_token(session, token) or _parting_by(session, token)
    return row is not None and row.asked_at is not None


def take(
    session: Session, token: str, parsed: Parsed | None, *, now: datetime
) -> Report | None:
    """Store what a hub pushed; None if the feed is paused, or gone by now.

    What could not be read (no `parsed`) is fetched from the feed itself, soon.
    """
    push = _by_token(session, token)
    feed = session.get(Feed, push.feed_id, with_for_update=True) if push else None
    if push is None or feed is None or feed.paused:
        return None
    push.pushed_at = now
    if parsed is None:
        feed.next_check_at = now
        return Report()
    newsletter = session.get_one(Newsletter, feed.newsletter_id)
    return import_entries(session, newsletter, parsed, feed=feed, partial=True, now=now)


def callback_url(settings: Settings, push: FeedPush | HubParting) -> str:
    """Return the address that a hub pushes to."""
    return f"{settings.base_url}/websub/{push.token}"


def _claim(session: Session, settings: Settings, now: datetime) -> list[Asking]:
    due = session.scalars(
        select(FeedPush)
        .join(Feed, Feed.id == FeedPush.feed_id)
        .where(
            FeedPush.next_attempt_at <= now,
            Feed.paused.is_(False),
            Feed.gone.is_(False),
        )
        .order_by(FeedPush.next_attempt_at)
        .limit(BATCH)
        .with_for_update(of=FeedPush, skip_locked=True)
    ).all()
    for push in due:
        push.asked_at = now
        push.failures += 1  # until it is confirmed
        wait = FIRST_RETRY * 2 ** min(push.failures - 1, 10)
        push.next_attempt_at = now + min(wait, LONGEST_RETRY)
    return [
        Asking(
            push.feed_id,
            push.hub,
            {
                "hub.mode": "subscribe",
                "hub.topic": push.topic,
                "hub.callback": callback_url(settings, push),
                "hub.secret": push.secret,
                "hub.lease_seconds": str(int(LEASE.total_seconds())),
            },
        )
        for push in due
    ]


def _claim_partings(
    session: Session, settings: Settings, now: datetime
) -> list[Asking]:
    due = session.scalars(
        select(HubParting)
        .where(HubParting.next_attempt_at <= now)
        .order_by(HubParting.next_attempt_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    asking = []
    for parting in due:
        if parting.failures >= LAST_PARTING:
            session.delete(parting)
            continue
        parting.asked_at = now
        parting.next_attempt_at = now + FIRST_RETRY * 2**parting.failures
        parting.failures += 1  # until it is confirmed
        form = {
            "hub.mode": "unsubscribe",
            "hub.topic": parting.topic,
            "hub.callback": callback_url(settings, parting),
        }
        asking.append(Asking(parting.id, parting.hub, form))
    return asking


def _forget_question(session: Session, asking: Asking) -> None:
    """Let nothing be confirmed, since the hub has not taken what it was asked."""
    row: FeedPush | HubParting | None
    if asking.form["hub.mode"] == "unsubscribe":
        row = session.get(HubParting, asking.row_id)
    else:
        row = session.get(FeedPush, asking.row_id)
    if row is not None:
        row.asked_at = None


def _is_pending(row: FeedPush | HubParting | None, topic: str, now: datetime) -> bool:
    """Tell whether a hub was asked that, and not long ago."""
    return (
        row is not None
        and row.asked_at is not None
        and now - row.asked_at <= PENDING
        and row.topic == topic
    )


def _parting_by(
    session: Session, token: str, *, lock: bool = False
) -> HubParting | None:
    query = select(HubParting).where(HubParting.token == token)
    if lock:
        query = query.with_for_update()
    return session.scalar(query) if looks_like_token(token) else None


def _by_token(session: Session, token: str, *, lock: bool = False) -> FeedPush | None:
    query = select(FeedPush).where(FeedPush.token == token)
    if lock:
        query = query.with_for_update()
    return session.scalar(query) if looks_like_token(token) else None


def _lease(text: str) -> timedelta | None:
    """Read the seconds a hub grants; one that says nothing grants what we asked for."""
    if not text:
        return LEASE
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    return min(timedelta(seconds=int(text)), LONGEST_LEASE) or None
