"""The whole preflight of an issue: everything looked at, the worst first. Only looks.

    errors    nobody can send the issue until they are gone
    warnings  whoever sends it has to say yes to them, once
    unknown   nobody has looked yet, or could: that stands in nobody's way

The clock asks for no yes: of its issues it holds what must not leave at all
(`wayout.py`, `publish.check`), and mails the editors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from newsletter import i18n, newsletters
from newsletter.config import Settings
from newsletter.digests import compose, look, publish, wording
from newsletter.digests.preflight import audience, content, outside, page
from newsletter.digests.preflight.findings import Finding, Level, mark, ordered
from newsletter.errors import Conflict, InkorgError
from newsletter.mail.mime import Letter
from newsletter.models import Issue


class Blocked(Conflict):
    """The issue cannot be sent as it is."""


class Unconfirmed(Conflict):
    """There are warnings. Read them, and say that you send it all the same."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, the worst first."""

    findings: Sequence[Finding]
    refusal: InkorgError | None = None  # why it cannot be sent, where we cannot at all
    asked_at: datetime | None = None  # when others were asked about it

    def of_level(self, level: str) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def errors(self) -> list[Finding]:
        """Return what stands in the way."""
        return self.of_level(Level.ERROR)

    @property
    def warnings(self) -> list[Finding]:
        """Return what asks."""
        return self.of_level(Level.WARNING)

    @property
    def mark(self) -> str:
        """Return what a yes to these warnings carries; nothing if there are none."""
        return mark(self.findings)


def of(
    session: Session,
    settings: Settings,
    issue: Issue,
    *,
    readers: int = 0,
    letter: Letter | None = None,
) -> Report:
    """Look at an issue as it stands, in the newsletter's language.

    `readers` is how many would get it, where the caller has counted; `letter` is the
    mail, where it has been composed already.
    """
    found: list[Finding] = []
    refusals: list[InkorgError] = []
    try:
        publish.check(session, issue)
    except InkorgError as error:
        refusals.append(error)
    try:
        letter = letter or _letter(settings, issue)
    except InkorgError as error:
        refusals.append(error)
    else:
        sent = compose.as_sent(settings, issue.newsletter, letter.html)
        mail = replace(read(issue, letter), sent_html=sent)
        found += content.check(mail)
        found += outside.findings(session, settings, issue, mail.page)
    if readers:
        found.append(audience.check(readers, audience.last_time(session, issue)))
    found += map(Finding.of_error, refusals)
    return Report(
        findings=ordered(found),
        refusal=refusals[0] if refusals else None,
        asked_at=outside.looked_at(session, issue),
    )


def read(issue: Issue, letter: Letter) -> content.Mail:
    """Take an issue's mail apart for looking at it."""
    fields = dict.fromkeys(look.EVERYWHERE, "")
    own = {
        name: wording.merge(text, fields)
        for name, text in (
            ("subject", issue.subject),
            ("preview_text", issue.preview_text),
            ("opening", issue.opening),
        )
    }
    texts = []
    for entry in compose.shown(issue.posts):
        texts.append(entry.title or entry.post.title)
        texts.append(entry.excerpt or entry.post.excerpt)
    return content.Mail(
        letter=letter,
        page=page.read(letter.html),
        own=own,
        posts="\n".join(texts),
        sender_line=newsletters.sender_line(issue.newsletter),
        made_subject=not issue.subject.strip(),
    )


def refuse(report: Report, seen: str | None) -> None:
    """Make sure that a person may send it: nothing blocks, and they have said yes.

    `seen` is the mark of the warnings they said yes to. Raises Blocked or Unconfirmed,
    or what refuses the issue as it is.
    """
    if report.refusal:
        raise report.refusal
    for finding in report.errors:
        raise Blocked(finding.what, **finding.values)
    if report.warnings and seen != report.mark:
        raise Unconfirmed


def questions(
    session: Session, settings: Settings, issue: Issue, *, now: datetime
) -> outside.Questions:
    """Gather what others are to be asked about an issue. Raises InkorgError."""
    return outside.questions(
        session, settings, issue, _letter(settings, issue), now=now
    )


def summary(report: Report, words: i18n.Language) -> str:
    """Say in a few words what came of it."""
    if errors := len(report.errors):
        return words.ngettext(
            "%(num)s thing must be put right before it can be sent",
            "%(num)s things must be put right before it can be sent",
            errors,
        )
    if warnings := len(report.warnings):
        return words.ngettext(
            "%(num)s thing to look at before you send it",
            "%(num)s things to look at before you send it",
            warnings,
        )
    return words.gettext("Nothing stands in the way")


def _letter(settings: Settings, issue: Issue) -> Letter:
    words = i18n.language(issue.newsletter.language)
    return compose.compose(settings, issue, issue.newsletter, issue.posts, words)
