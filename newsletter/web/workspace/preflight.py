"""The preflight of an issue, on the pages where it is written, approved and sent."""

from flask import Blueprint, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import current_database, utcnow
from newsletter.digests.drafts import EDITABLE
from newsletter.digests.preflight import outside
from newsletter.digests.preflight import report as preflight
from newsletter.digests.preflight.findings import Level
from newsletter.digests.preflight.report import Report
from newsletter.errors import InkorgError
from newsletter.mail.mime import Letter
from newsletter.models import Issue, Newsletter, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace import issue_form
from newsletter.web.workspace.access import needs, say, writing

bp = Blueprint("preflight", __name__)

ACTIONS = ("review", "preflight")  # of the forms that write an issue
COLOURS = {Level.ERROR: "bad", Level.WARNING: "warn", Level.UNKNOWN: ""}


@bp.post("/editor/<slug>/issues/<int:issue_id>/preflight")
@needs(Role.EDITOR)
def ask(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Ask the links, the DNS and SpamAssassin about an issue, then show the page."""
    ask_outside(newsletter, issue_id)
    page = "sending.ask" if request.form.get("back") == "send" else "issues.show"
    return redirect(_result(page, newsletter, issue_id))


def go_on(newsletter: Newsletter, issue_id: int, action: str) -> AnyResponse:
    """Go on from a form that has been saved: to sending, or to what others say."""
    if action == "review":
        url = url_for("sending.ask", slug=newsletter.slug, issue_id=issue_id)
        return redirect(url)
    ask_outside(newsletter, issue_id)
    return redirect(_result("issues.show", newsletter, issue_id))


def _result(page: str, newsletter: Newsletter, issue_id: int) -> str:
    """Return where a page shows what was found: unfolded, and the focus comes there."""
    return url_for(
        page,
        slug=newsletter.slug,
        issue_id=issue_id,
        looked=1,
        edit=1 if "edit" in request.args else None,
        _anchor="preflight-result",
    )


def ask_outside(newsletter: Newsletter, issue_id: int) -> None:
    """Ask others about an issue for some seconds, and keep what they say.

    The database is left alone while they think.
    """
    settings = current_settings()
    with current_database().reading() as session:
        issue = issue_form.issue_of(session, newsletter, issue_id)
        if issue.state not in EDITABLE:
            return
        try:
            about = preflight.questions(session, settings, issue, now=utcnow())
        except InkorgError as error:  # there is no mail to ask about: it says why
            say(error.message, "warn", **error.values)
            return
    answers = outside.ask(settings, about)
    with writing(newsletter) as (session, here):
        issue_form.issue_of(session, here, issue_id)
        outside.store(session, answers, now=utcnow())


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
        "asked": words.ago(report.asked_at, utcnow()) if report.asked_at else "",
        "blocked": bool(report.errors),
        "mark": report.mark,
    }
