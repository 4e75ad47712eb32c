"""Telling the editors that an issue waits for them, by mail."""

from datetime import datetime

from sqlalchemy.orm import Session

from newsletter import editors, i18n, links, rhythms
from newsletter.config import Settings
from newsletter.digests import compose, wording
from newsletter.i18n import Language
from newsletter.mail import outbox
from newsletter.mail.notices import Notice, notice_letter
from newsletter.models import Editor, Issue, Role

TITLES = 8  # of posts, in the mail


def tell(
    session: Session,
    settings: Settings,
    issue: Issue,
    readers: int,
    occasion: str,
    *,
    now: datetime,
) -> None:
    """Queue a mail to everyone who may send the issue. Safe to repeat."""
    newsletter = issue.newsletter
    for editor in _who(session, issue):
        words = i18n.language(editor.language)
        letter = notice_letter(
            words,
            _notice(settings, issue, readers, words),
            from_name=newsletter.from_name,
            from_email=newsletter.from_email,
        )
        outbox.queue_single(
            session,
            letter,
            address=editor.email,
            occasion=occasion,
            now=now,
            newsletter_id=newsletter.id,
        )


def held_because(issue: Issue, words: Language) -> str:
    """Return why an issue waits, in a language; "" if it does not say."""
    if not issue.held_reason:
        return ""
    return words.gettext(issue.held_reason, **issue.held_values)


def _who(session: Session, issue: Issue) -> list[Editor]:
    found = {
        membership.editor.id: membership.editor
        for membership in editors.members(session, issue.newsletter)
        if membership.editor.active
        and editors.may(membership.editor, issue.newsletter, Role.EDITOR)
    }
    return list(found.values())


def _notice(settings: Settings, issue: Issue, readers: int, words: Language) -> Notice:
    newsletter = issue.newsletter
    entries = compose.shown(issue.posts)
    titles = [entry.title or entry.post.title for entry in entries]
    subject = issue.subject or wording.subject(
        titles, i18n.language(newsletter.language)
    )
    what = words.gettext(
        "An issue of %(newsletter)s (%(rhythm)s) is ready: “%(subject)s”.",
        newsletter=newsletter.title,
        rhythm=_rhythm(issue, words),
        subject=subject,
    )
    whom = words.ngettext(
        "It would go to %(num)s reader, and nothing is sent before you say so.",
        "It would go to %(num)s readers, and nothing is sent before you say so.",
        readers,
    )
    return Notice(
        subject=words.gettext("An issue of %(title)s waits", title=newsletter.title),
        paragraphs=[
            part
            for part in (what, held_because(issue, words), whom, *_list(titles, words))
            if part
        ],
        button=words.gettext("Look at it"),
        url=links.issue_follow_url(settings, newsletter.slug, issue.id),
        footer=words.gettext(
            "There you read it as readers would, change it, send it or skip it. Log in"
            " as usual."
        ),
    )


def _rhythm(issue: Issue, words: Language) -> str:
    if not issue.rhythm:
        return words.gettext("by hand")
    text = rhythms.describe(issue.rhythm, words)
    return text[:1].lower() + text[1:]


def _list(titles: list[str], words: Language) -> list[str]:
    lines = [f"• {title}" for title in titles[:TITLES]]
    rest = len(titles) - TITLES
    if rest > 0:
        lines.append(words.ngettext("• and %(num)s more", "• and %(num)s more", rest))
    return lines
