"""The preflight of an issue, on the pages where it is written, approved and sent."""

from flask import request
from sqlalchemy.orm import Session

from newsletter.digests.preflight import report as preflight
from newsletter.digests.preflight.findings import Level
from newsletter.digests.preflight.report import Report
from newsletter.mail.mime import Letter
from newsletter.models import Issue
from newsletter.web import rendering
from newsletter.web.security import current_settings

COLOURS = {Level.ERROR: "bad", Level.WARNING: "warn", Level.UNKNOWN: ""}


def look(
    session: Session, issue: Issue, *, readers: int = 0, letter: Letter | None = None
) -> Report:
    """Look an issue over, as it is stored."""
    return preflight.of(
        session, current_settings(), issue, readers=readers, letter=letter
    )


def refuse(session: Session, issue: Issue, readers: int) -> None:
    """Make sure that the editor may send what they looked at.

    Raises Blocked or Unconfirmed, or what refuses the issue as it is.
    """
    report = look(session, issue, readers=readers)
    preflight.refuse(report, request.form.get("seen"))


def panel(report: Report, *, says_refusal: bool = True) -> dict[str, object]:
    """Return what `_preflight.html` shows.

    Without `says_refusal` the page itself says why the issue cannot be sent at all.
    """
    words = rendering.words()
    lines = [
        {
            "level": finding.level.value,
            "what": finding.sentence(words),
            "what_to_do": finding.what_to_do(words),
            "where": finding.where,
        }
        for finding in report.findings
        if says_refusal or not finding.code.startswith("cannot.")
    ]
    worst = report.findings[0].level if report.findings else Level.PASSED
    return {
        "summary": preflight.summary(report, words),
        "colour": COLOURS.get(worst, "good"),
        "lines": [line for line in lines if line["level"] != Level.PASSED],
        "passed": [line for line in lines if line["level"] == Level.PASSED],
        "blocked": bool(report.errors),
        "mark": report.mark,
    }
