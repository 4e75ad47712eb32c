"""How feeds are: failures counted, the next look set, editors told once, in a line.

A feed is broken when it has failed several times over some hours, when it says that it
is gone, or when something else than a feed stands at its address. The editors get one
mail then, and another when it is well again; and one when posts of it are held back.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.errors import FeedError
from newsletter.i18n import Language
from newsletter.mail import outbox
from newsletter.mail.notices import Notice, notice_letter
from newsletter.models import Editor, Feed, Membership, Newsletter, Post, Role
from newsletter.posts.download import Refused

POLL = timedelta(minutes=30)
FIRST_BACKOFF = timedelta(minutes=5)  # doubled with each failure in a row
LONGEST_BACKOFF = timedelta(hours=24)
GONE = 410
BROKEN_FAILURES = 4
BROKEN_AFTER = timedelta(hours=2)
NO_FEED_FAILURES = 3  # in a row, where what came was no feed


Writer = Callable[[Language, Settings, Feed, Newsletter, datetime], Notice]


@dataclass(frozen=True, slots=True)
class Line:
    """How a feed is, in a sentence or two, and why."""

    state: str  # good | bad | quiet (paused, or not looked at yet)
    text: str
    reason: str = ""


def note_success(
    session: Session,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    now: datetime,
) -> None:
    """Write down that a feed was read; tell the editors if they know it as broken."""
    if feed.told_at is not None:
        occasion = f"well:{int(feed.told_at.timestamp())}"
        _tell(session, settings, feed, newsletter, _well, occasion, now=now)
    feed.failing_since, feed.failures, feed.told_at = None, 0, None
    feed.error, feed.error_values, feed.error_status = "", {}, 0
    feed.gone = False
    feed.next_check_at = now + POLL


def note_failure(
    session: Session,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    error: FeedError,
    *,
    unreadable: bool,
    by_hand: bool = False,
    now: datetime,
) -> None:
    """Write down that a feed failed, and when it is tried again; tell if it is broken.

    `unreadable`: something came, but it was not a feed. `by_hand`: somebody looked, and
    sees the answer; however often they do, that is one failure.
    """
    feed.failures = max(feed.failures, 1) if by_hand else feed.failures + 1
    feed.failing_since = feed.failing_since or now
    feed.error = error.message
    feed.error_values = {name: str(value) for name, value in error.values.items()}
    feed.error_status = error.status if isinstance(error, Refused) else 0
    feed.gone = feed.error_status == GONE
    wait = min(FIRST_BACKOFF * 2 ** min(feed.failures - 1, 20), LONGEST_BACKOFF)
    if isinstance(error, Refused):
        wait = LONGEST_BACKOFF if feed.gone else max(wait, error.wait)
    feed.next_check_at = now + wait
    if by_hand and not feed.gone:
        return
    if feed.told_at is None and _is_broken(feed, unreadable=unreadable, now=now):
        occasion = f"broken:{int(feed.failing_since.timestamp())}"
        _tell(session, settings, feed, newsletter, _broken, occasion, now=now)
        feed.told_at = now


def tell_held(
    session: Session,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    held: int,
    *,
    now: datetime,
) -> None:
    """Tell the editors that posts are held back; once a day for each feed."""
    write = partial(_held, held)
    occasion = f"held:{now.date().isoformat()}"
    _tell(session, settings, feed, newsletter, write, occasion, now=now)


def last_posts(session: Session, feeds: Iterable[Feed]) -> dict[int, datetime]:
    """Return when each feed's newest post is from, by the feed's id."""
    rows = session.execute(
        select(Post.feed_id, func.max(Post.published_at))
        .where(Post.feed_id.in_([feed.id for feed in feeds]))
        .group_by(Post.feed_id)
    )
    return {feed_id: moment for feed_id, moment in rows if feed_id is not None}


def line(
    words: Language,
    feed: Feed,
    zone: str,
    last_posts: Mapping[int, datetime],
    *,
    now: datetime,
) -> Line:
    """Say how a feed is: "Last new post 3 days ago. 404 since Tuesday."."""
    parts = [_last_post(words, last_posts.get(feed.id), now)]
    if feed.failing_since:
        state, since = "bad", words.since(feed.failing_since, now, zone)
        if feed.error_status:
            parts.append(
                words.gettext(
                    "%(status)s since %(when)s.", status=feed.error_status, when=since
                )
            )
        else:
            parts.append(words.gettext("Cannot be read since %(when)s.", when=since))
    elif feed.checked_at:
        state = "good"
        when = words.ago(feed.checked_at, now)
        parts.append(words.gettext("Looked at %(when)s.", when=when))
    else:
        state, parts = "quiet", [words.gettext("Not looked at yet.")]
    if feed.paused:
        state, parts = "quiet", [words.gettext("The feed is paused."), *parts]
    return Line(state, " ".join(parts), reason(words, feed))


def reason(words: Language, feed: Feed) -> str:
    """Say why a feed fails, or nothing if it does not."""
    return words.gettext(feed.error, **feed.error_values) if feed.error else ""


def _last_post(words: Language, moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return words.gettext("No post from it yet.")
    if moment > now:
        return words.gettext("A new post waits for its date.")
    return words.gettext("Last new post %(when)s.", when=words.ago(moment, now))


def _is_broken(feed: Feed, *, unreadable: bool, now: datetime) -> bool:
    if feed.gone or (unreadable and feed.failures >= NO_FEED_FAILURES):
        return True
    lasted = now - (feed.failing_since or now) >= BROKEN_AFTER
    return lasted and feed.failures >= BROKEN_FAILURES


def _tell(
    session: Session,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    write: Writer,
    occasion: str,
    *,
    now: datetime,
) -> None:
    """Queue a mail to each editor of the newsletter, in their own language."""
    for editor in _editors(session, newsletter):
        words = i18n.language(editor.language)
        letter = notice_letter(
            words,
            write(words, settings, feed, newsletter, now),
            from_name=newsletter.from_name,
            from_email=newsletter.from_email,
        )
        outbox.queue_single(
            session,
            letter,
            address=editor.email,
            occasion=f"feed:{feed.id}:{occasion}",
            now=now,
            newsletter_id=newsletter.id,
        )


def _broken(
    words: Language,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    now: datetime,
) -> Notice:
    found = line(words, feed, newsletter.timezone, {}, now=now)
    if feed.gone:
        what_now = words.gettext(
            "Inkorg has stopped asking for it. Give the feed's new address, or remove"
            " it."
        )
    else:
        what_now = words.gettext(
            "Inkorg goes on trying, more and more seldom, and writes again when the"
            " feed works. Until then no new posts come from it."
        )
    return Notice(
        subject=words.gettext("%(title)s: a feed is broken", title=newsletter.title),
        paragraphs=[
            words.gettext("The feed %(url)s cannot be read.", url=feed.url),
            " ".join(
                filter(
                    None,
                    (
                        found.reason,
                        words.gettext(
                            "That is so since %(moment)s.",
                            moment=words.moment(
                                feed.failing_since or now, newsletter.timezone
                            ),
                        ),
                    ),
                )
            ),
            what_now,
        ],
        button=words.gettext("Look at the feeds"),
        url=_page(settings, newsletter),
        footer=_why(words, newsletter),
    )


def _held(
    held: int,
    words: Language,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    _now: datetime,
) -> Notice:
    return Notice(
        subject=words.gettext("%(title)s: posts wait for you", title=newsletter.title),
        paragraphs=[
            words.ngettext(
                "%(num)s post from the feed %(url)s waits for your yes.",
                "%(num)s posts from the feed %(url)s wait for your yes.",
                held,
                url=feed.url,
            ),
            words.gettext(
                "It brought many at once, or old ones: that happens when a blog moves,"
                " and nobody should get its archive by mail. Nothing of it goes out"
                " before you have looked."
            ),
        ],
        button=words.gettext("Look through"),
        url=f"{settings.base_url}/editor/{newsletter.slug}/posts/?state=held",
        footer=_why(words, newsletter),
    )


def _well(
    words: Language,
    settings: Settings,
    feed: Feed,
    newsletter: Newsletter,
    _now: datetime,
) -> Notice:
    return Notice(
        subject=words.gettext(
            "%(title)s: the feed works again", title=newsletter.title
        ),
        paragraphs=[
            words.gettext(
                "The feed %(url)s can be read again, and its new posts come as before.",
                url=feed.url,
            )
        ],
        button=words.gettext("Look at the feeds"),
        url=_page(settings, newsletter),
        footer=_why(words, newsletter),
    )


def _page(settings: Settings, newsletter: Newsletter) -> str:
    return f"{settings.base_url}/editor/{newsletter.slug}/feeds/"


def _why(words: Language, newsletter: Newsletter) -> str:
    return words.gettext(
        "You get this because you work with %(title)s.", title=newsletter.title
    )


def _editors(session: Session, newsletter: Newsletter) -> list[Editor]:
    """Return who can do something about it, and has been here."""
    return list(
        session.scalars(
            select(Editor)
            .where(
                Editor.active,
                Editor.confirmed_at.is_not(None),
                Editor.id.in_(
                    select(Membership.editor_id).where(
                        Membership.name.in_((Role.OWNER, Role.EDITOR)),
                        or_(
                            Membership.newsletter_id == newsletter.id,
                            Membership.newsletter_id.is_(None),
                        ),
                    )
                ),
            )
            .order_by(Editor.id)
        )
    )
