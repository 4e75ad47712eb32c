"""Notices to editors: a few words, at most one button. Plain, without tracking."""

from collections.abc import Sequence
from dataclasses import dataclass

from newsletter import colours, templating
from newsletter.i18n import Language
from newsletter.mail.mime import Letter
from newsletter.models import Kind

ACCENT = "#8b2e24"


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be said, in the reader's own language already."""

    subject: str
    paragraphs: Sequence[str]
    footer: str
    button: str = ""
    url: str = ""


def notice_letter(
    words: Language, notice: Notice, *, from_name: str, from_email: str
) -> Letter:
    """Write a notice as a mail."""
    values = {
        "subject": notice.subject,
        "notice": notice,
        "accent": colours.accent(ACCENT),
    }
    return Letter(
        kind=Kind.NOTICE,
        language=words.code,
        subject=notice.subject,
        from_name=from_name,
        from_email=from_email,
        text=templating.render("notice/notice.txt", words, values),
        html=templating.render("notice/notice.mjml", words, values),
    )
