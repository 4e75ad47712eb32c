"""An issue that waits for an editor: read it, then send it, change it or let it go by.

Made for a phone first: the mail that calls for it is read there.
"""

from flask import Blueprint, redirect, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter import rhythms
from newsletter.db import db, utcnow
from newsletter.digests import compose, forecast, publish, telling
from newsletter.errors import N_
from newsletter.models import Issue, Newsletter, Role
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace import issue_form, preflight
from newsletter.web.workspace.access import (
    needs,
    render,
    say_done,
    undoable,
    writing,
)

bp = Blueprint("approval", __name__)

SENDER_FIELDS = ("postal_address", "from_email")  # put right in the settings


def page(newsletter: Newsletter, issue: Issue) -> str:
    """Return the page of an issue that waits."""
    session, words = db.session(), rendering.words()
    counted = forecast.of_issue(session, issue, now=utcnow())
    report = preflight.look(session, issue, readers=counted.readers)
    return render(
        "editor/issue_held.html",
        newsletter,
        issue=issue,
        subject=publish.sample_letter(current_settings(), issue).subject,
        why=telling.held_because(issue, words),
        since=issue.scheduled_at or issue.created_at,
        rhythm=rhythms.describe(issue.rhythm, words) if issue.rhythm else "",
        readers=counted.readers,
        counted=counted,
        posts=compose.shown(issue.posts),
        fingerprint=issue_form.fingerprint(issue),
        problem=words.error(report.refusal) if report.refusal else "",
        in_settings=getattr(report.refusal, "field", "") in SENDER_FIELDS,
        preflight=preflight.panel(report, says_refusal=False),
    )


@bp.post("/editor/<slug>/issues/<int:issue_id>/skip")
@needs(Role.EDITOR)
def skip(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Let an issue go by; its posts come in the next one. Safe to press twice."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        publish.skip(session, issue)
        undo = undoable(session, here, "issue-skipped", {"issue": issue.id})
    say_done(N_("Skipped. Its posts come with the next digest."), undo)
    return redirect(url_for("calendar.index", slug=newsletter.slug))
