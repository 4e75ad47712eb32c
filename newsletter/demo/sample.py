"""Fill an empty demo with a newsletter, its posts and an editor; the rest is kept."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import editors, links, newsletters
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.demo import content
from newsletter.models import Editor, Newsletter, Role
from newsletter.posts import editing


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the demo can be looked at."""

    slug: str
    newsletter: str
    login: str  # works once
    mailbox: str


def prepare(database: Database, settings: Settings, *, now: datetime) -> Addresses:
    """Make the sample unless there are newsletters, and a new login link every time."""
    with database.transaction() as session:
        newsletter = session.scalar(select(Newsletter).order_by(Newsletter.id).limit(1))
        if newsletter is None:
            newsletter = make_newsletter(session, now)
        return Addresses(
            slug=newsletter.slug,
            newsletter=links.newsletter_url(settings, newsletter.slug),
            login=_login(session, settings, now),
            mailbox=f"{settings.base_url}/mailbox/",
        )


def make_newsletter(session: Session, now: datetime) -> Newsletter:
    """Create the sample newsletter with its posts."""
    newsletter = newsletters.create(session, content.SLUG, **content.NEWSLETTER)
    written = [
        editing.create(
            session,
            newsletter,
            title=sample.title,
            markdown=sample.markdown,
            author=sample.author,
            byline=content.BYLINES[sample.author],
            topic_names=sample.topics,
            published_at=sample.published_at(now),
            now=now,
        )
        for sample in content.samples()
    ]
    editing.publish_all(session, written, now=now)
    return newsletter


def _login(session: Session, settings: Settings, now: datetime) -> str:
    """Return a link for the demo's editor, with whatever role they have by now."""
    editor = session.scalar(select(Editor).where(Editor.email == content.EDITOR_EMAIL))
    if editor and editor.active and editor.roles:
        return editors.new_link(session, settings, editor)
    return editors.invite(session, settings, content.EDITOR_EMAIL, Role.OWNER, now=now)
