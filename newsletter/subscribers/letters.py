"""The mails a reader gets about their subscription; built here, queued elsewhere.

None carries a word that a stranger typed. Mails that anyone can ask for are rendered
once for each newsletter and language, then only their links are put in: the form is
fast, and takes the same time whatever it finds.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import colours, i18n, links, newsletters, rhythms, templating
from newsletter.colours import Accent
from newsletter.config import Settings
from newsletter.i18n import Language
from newsletter.links import Purpose
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Kind, Newsletter, Post, PostState, Subscription

WELCOME_POSTS = 3
_accent = functools.lru_cache(maxsize=512)(colours.accent)
_FIRST, _SECOND = "https://first.invalid/", "https://second.invalid/"


@dataclass(frozen=True, slots=True)
class Sender:
    """What a mail says about who sends it."""

    title: str
    from_name: str
    from_email: str
    reply_to: str
    address_line: str
    accent: Accent


@dataclass(frozen=True, slots=True)
class Teaser:
    """A post as a mail shows it."""

    title: str
    url: str
    day: str
    excerpt: str
    author: str
    byline: str


def confirmation(
    settings: Settings,
    newsletter: Newsletter,
    language: str,
    *,
    confirm_url: str,
    never_url: str,
) -> Letter:
    """Build the mail that asks whether they meant it."""
    letter = _frame(
        Kind.CONFIRM, "confirm", language, sender_of(newsletter), settings.confirm_hours
    )
    return _put_links(letter, confirm_url, never_url)


def already(settings: Settings, newsletter: Newsletter, language: str) -> Letter:
    """Build the answer to someone who signs up and is subscribed."""
    letter = _frame(Kind.CONFIRM, "already", language, sender_of(newsletter), 0)
    return _put_links(letter, links.preferences_url(settings, mime.PREFERENCES), "")


def address_change(newsletter: Newsletter, language: str, *, url: str) -> Letter:
    """Build the mail that asks at a new address whether it is theirs."""
    return _single(Kind.ADDRESS, "address", newsletter, language, links.ADDRESS, url)


def data_link(newsletter: Newsletter, language: str, *, url: str) -> Letter:
    """Build the mail with the link to one's own data."""
    return _single(Kind.DATA, "data", newsletter, language, links.DATA, url)


def erase_link(newsletter: Newsletter, language: str, *, url: str) -> Letter:
    """Build the mail with the link that erases."""
    return _single(Kind.ERASE, "erase", newsletter, language, links.ERASE, url)


def welcome(session: Session, settings: Settings, subscription: Subscription) -> Letter:
    """Build the first mail after the confirmation, with something to read."""
    newsletter = subscription.newsletter
    words = i18n.language(subscription.language)
    confirmed_at = subscription.confirmed_at or subscription.created_at
    return _build(
        Kind.WELCOME,
        "welcome",
        words,
        sender_of(newsletter),
        rhythm=rhythms.describe(subscription.rhythm, words),
        posts=[
            _teaser(settings, newsletter, post, words)
            for post in latest_posts(session, newsletter, WELCOME_POSTS)
        ],
        confirmed_day=words.day(confirmed_at, newsletter.timezone),
        preferences_url=links.preferences_url(settings, mime.PREFERENCES),
        leave_url=links.leave_url(settings, mime.LEAVE),
    )


def latest_posts(session: Session, newsletter: Newsletter, limit: int) -> list[Post]:
    """Return the newest published posts."""
    return list(
        session.scalars(
            select(Post)
            .where(
                Post.newsletter_id == newsletter.id, Post.state == PostState.PUBLISHED
            )
            .order_by(Post.published_at.desc(), Post.id.desc())
            .limit(limit)
        )
    )


def sender_of(newsletter: Newsletter) -> Sender:
    """Return what mails say about a newsletter's sender."""
    return Sender(
        title=newsletter.title,
        from_name=newsletter.from_name,
        from_email=newsletter.from_email,
        reply_to=newsletter.reply_to,
        address_line=newsletters.sender_line(newsletter),
        accent=_accent(newsletter.accent),
    )


def _teaser(
    settings: Settings, newsletter: Newsletter, post: Post, words: Language
) -> Teaser:
    author = post.author
    return Teaser(
        title=post.title,
        url=post.link
        if post.link.startswith(("https://", "http://"))
        else links.post_url(settings, newsletter.slug, post.id),
        day=words.day(post.published_at, newsletter.timezone),
        excerpt=post.excerpt,
        author=author.shown_name if author else "",
        byline=author.byline if author else "",
    )


def _single(
    kind: Kind,
    folder: str,
    newsletter: Newsletter,
    language: str,
    purpose: Purpose,
    url: str,
) -> Letter:
    hours = (purpose.lifetime_seconds or 0) // links.HOUR
    letter = _frame(kind, folder, language, sender_of(newsletter), hours)
    return _put_links(letter, url, "")


@functools.lru_cache(maxsize=512)
def _frame(
    kind: Kind, folder: str, language: str, sender: Sender, hours: int
) -> Letter:
    """Render a mail with stand-ins for its links."""
    words = i18n.language(language)
    stand_ins = {
        "confirm": {"confirm_url": _FIRST, "never_url": _SECOND},
        "already": {"preferences_url": _FIRST},
    }.get(folder, {f"{folder}_url": _FIRST})
    return _build(
        kind,
        folder,
        words,
        sender,
        lifetime=words.duration(hours * links.HOUR),
        **stand_ins,
    )


def _put_links(letter: Letter, first: str, second: str) -> Letter:
    """Put real links in. They hold nothing that HTML would have to escape."""
    return replace(
        letter,
        text=letter.text.replace(_FIRST, first).replace(_SECOND, second),
        html=letter.html.replace(_FIRST, first).replace(_SECOND, second),
    )


def _build(
    kind: Kind, folder: str, words: Language, sender: Sender, **values: Any
) -> Letter:
    values |= {"sender": sender, "accent": sender.accent}
    subject = templating.render(f"{folder}/subject.txt", words, values).strip()
    values["subject"] = subject
    text = templating.render(f"{folder}/body.txt", words, values)
    return Letter(
        kind=kind,
        language=words.code,
        subject=subject,
        from_name=sender.from_name,
        from_email=sender.from_email,
        reply_to=sender.reply_to,
        text=text.strip() + "\n",
        html=templating.render(f"{folder}/body.mjml", words, values),
    )
