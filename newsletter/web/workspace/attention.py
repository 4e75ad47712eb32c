"""What needs a person just now, most pressing first; and what is new to send."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import url_for
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from newsletter.digests import calendar, drafts, telling
from newsletter.i18n import Language
from newsletter.mail import probing, relays
from newsletter.models import (
    Editor,
    Feed,
    Issue,
    IssueState,
    Newsletter,
    Post,
    PostState,
    Worker,
)
from newsletter.posts import health
from newsletter.web.workspace import issue_form

HELD_SHOWN = 10
WORKER_SILENT = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Matter:
    """Something to see to: a sentence, and where to do something about it."""

    text: str
    url: str = ""
    action: str = ""


def find(
    session: Session,
    newsletter: Newsletter,
    editor: Editor,
    words: Language,
    *,
    may_own: bool,
    now: datetime,
) -> list[Matter]:
    """Return what needs a person. Empty is the good news."""
    return [
        *_about_digests(session, newsletter, words, may_own=may_own),
        *_about_sending(session, newsletter, words, now, may_own=may_own),
        *_about_sender(session, newsletter, words, may_own=may_own),
        *_about_held_posts(session, newsletter, words),
        *_about_feeds(session, newsletter, words, now),
        *(_about_settings(newsletter, words) if may_own else ()),
        *_about_editor(editor, words),
    ]


def new_posts(session: Session, newsletter: Newsletter, limit: int) -> list[Post]:
    """Return some of the posts since the last issue, the newest first."""
    some = select(Post).where(*_new(session, newsletter))
    return list(session.scalars(some.order_by(Post.position.desc()).limit(limit)))


def whether_new(session: Session, newsletter: Newsletter) -> dict[str, object]:
    """Return how many posts there are since the last issue, and if there is any."""
    number = select(func.count(Post.id)).where(*_new(session, newsletter))
    any_post = select(Post.id).where(Post.newsletter_id == newsletter.id).limit(1)
    return {
        "new_count": session.scalar(number) or 0,
        "any_posts": session.scalar(any_post) is not None,
    }


def _new(session: Session, newsletter: Newsletter) -> tuple[ColumnElement[bool], ...]:
    last = drafts.last_gone_out(session, newsletter)
    return (
        Post.newsletter_id == newsletter.id,
        Post.state == PostState.PUBLISHED,
        Post.position > (last.last_position if last else 0),
    )


def _about_sending(
    session: Session,
    newsletter: Newsletter,
    words: Language,
    now: datetime,
    *,
    may_own: bool,
) -> Iterator[Matter]:
    for relay in relays.blocked(session, newsletter, now=now):
        may_mend = may_own and relays.OWN in relay.name
        yield Matter(
            words.gettext(
                "The relay %(name)s takes no mail just now: %(reason)s",
                name=relays.plain_name(relay.name),
                reason=words.error(relays.told(relay)),
            ),
            url_for("relay_settings.show", slug=newsletter.slug) if may_mend else "",
            words.gettext("Look at it") if may_mend else "",
        )
    seen = session.scalar(select(func.max(Worker.seen_at)))
    if seen is None or now - seen > WORKER_SILENT:
        yield Matter(
            words.gettext(
                "No worker is running, so no mail leaves. Whoever looks after the"
                " server starts one with the command “work”."
            )
        )


def _about_digests(
    session: Session, newsletter: Newsletter, words: Language, *, may_own: bool
) -> Iterator[Matter]:
    if newsletter.halted_at is not None:
        there = url_for("rhythm_settings.show", slug=newsletter.slug)
        yield Matter(
            words.gettext(calendar.N_HALTED),
            there if may_own else "",
            words.gettext("Look at it") if may_own else "",
        )
    query = select(Issue).where(
        Issue.newsletter_id == newsletter.id, Issue.state == IssueState.HELD
    )
    for issue in session.scalars(query.order_by(Issue.id).limit(HELD_SHOWN)):
        since = issue.scheduled_at or issue.created_at
        waits = words.gettext(
            "“%(subject)s” waits for your yes since %(moment)s.",
            subject=issue_form.subject_of(issue, newsletter),
            moment=words.moment(since, newsletter.timezone),
        )
        why = telling.held_because(issue, words)
        yield Matter(
            f"{waits} {why}".strip(),
            url_for("issues.show", slug=newsletter.slug, issue_id=issue.id),
            words.gettext("Read it"),
        )


def _about_held_posts(
    session: Session, newsletter: Newsletter, words: Language
) -> Iterator[Matter]:
    query = select(func.count(Post.id)).where(
        Post.newsletter_id == newsletter.id, Post.state == PostState.HELD
    )
    if held := session.scalar(query):
        yield Matter(
            words.ngettext(
                "%(num)s post from the feed waits for your yes.",
                "%(num)s posts from the feed wait for your yes.",
                held,
            ),
            url_for("posts.index", slug=newsletter.slug, state="held"),
            words.gettext("Look through"),
        )


def _about_feeds(
    session: Session, newsletter: Newsletter, words: Language, now: datetime
) -> Iterator[Matter]:
    failing = session.scalars(
        select(Feed).where(
            Feed.newsletter_id == newsletter.id,
            Feed.failing_since.is_not(None),
            Feed.paused.is_(False),
        )
    ).all()
    latest = health.last_posts(session, failing)
    for feed in failing:
        line = health.line(words, feed, newsletter.timezone, latest, now=now)
        yield Matter(
            words.gettext(
                "The feed %(name)s: %(health)s",
                name=feed.title or feed.url,
                health=line.text,
            ),
            url_for("feeds.index", slug=newsletter.slug, _anchor=f"feed-{feed.id}"),
            words.gettext("Open"),
        )


def _about_sender(
    session: Session, newsletter: Newsletter, words: Language, *, may_own: bool
) -> Iterator[Matter]:
    for flaw in probing.flaws(session, newsletter):
        yield Matter(
            words.gettext(
                "Others may not believe mail from %(domain)s. %(about)s: %(why)s",
                domain=flaw.domain,
                about=flaw.about,
                why=words.gettext(flaw.message, **flaw.message_values),
            ),
            url_for("settings.show", slug=newsletter.slug, _anchor="sender")
            if may_own
            else "",
            words.gettext("Check it") if may_own else "",
        )


def _about_settings(newsletter: Newsletter, words: Language) -> Iterator[Matter]:
    if not newsletter.postal_address:
        yield Matter(
            words.gettext(
                "The postal address is missing. The law in many countries wants it in"
                " every mail."
            ),
            url_for("settings.show", slug=newsletter.slug, _anchor="behind"),
            words.gettext("Write it"),
        )


def _about_editor(editor: Editor, words: Language) -> Iterator[Matter]:
    if not editor.password and not editor.webauthn:
        yield Matter(
            words.gettext("You have no password yet, so next time you cannot log in."),
            url_for("account.show"),
            words.gettext("Choose one"),
        )
