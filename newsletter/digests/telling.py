"""Telling the editors that an issue waits for them, by mail."""

from datetime import datetime

from sqlalchemy.orm import Session

from newsletter import editors, i18n, links, markup, plaintext, rhythms
from newsletter.config import Settings
from newsletter.digests import compose, wording
from newsletter.i18n import Language
from newsletter.mail import outbox
from newsletter.mail.notices import Notice, notice_letter
from newsletter.models import Editor, Issue, IssuePost, Role

TITLES = 8  # of posts, in the mail
EXCERPT_CHARACTERS = 160
OPENING_CHARACTERS = 600


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
            for part in (
                what,
                held_because(issue, words),
                whom,
                _opening(issue),
                *_list(entries, words),
            )
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


def _opening(issue: Issue) -> str:
    """Return how an editor's words begin, a letter's too."""
    return markup.excerpt(markup.from_markdown(issue.opening), OPENING_CHARACTERS)


def _list(entries: list[IssuePost], words: Language) -> list[str]:
    lines = [_line(entry) for entry in entries[:TITLES]]
    rest = len(entries) - TITLES
    if rest > 0:
        lines.append(words.ngettext("• and %(num)s more", "• and %(num)s more", rest))
    return lines


def _line(entry: IssuePost) -> str:
    """Return a post as the mail shows it, in a line."""
    post = entry.post
    said = [f"• {entry.title or post.title}"]
    if post.author:
        said.append(post.author.shown_name)
    if excerpt := plaintext.squeeze(entry.excerpt or post.excerpt):
        said.append(plaintext.begin(excerpt, EXCERPT_CHARACTERS))
    return " – ".join(said)
