"""What became of an issue: whom it has not reached and why, and trying those again."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter.db import db, utcnow
from newsletter.digests import explain, retrying
from newsletter.errors import N_, InkorgError
from newsletter.mail import outcomes
from newsletter.mail.replies import Verdict
from newsletter.models import DeliveryState, Issue, Newsletter, Role
from newsletter.subscribers import directory
from newsletter.web import rendering
from newsletter.web.security import status_of
from newsletter.web.workspace import issue_form
from newsletter.web.workspace.access import needs, render, say, this_editor, writing
from newsletter.web.workspace.sending import refuse_other_number

bp = Blueprint("outcome", __name__)

REFUSED = "refused"  # bounced or failed, in links
HOPELESS = (Verdict.UNKNOWN_MAILBOX, Verdict.DOMAIN_DEAD)  # not ticked beforehand
LONGEST = 320


@bp.get("/editor/<slug>/issues/<int:issue_id>/readers")
@needs(Role.EDITOR)  # it names addresses
def readers(newsletter: Newsletter, issue_id: int) -> str:
    """List those whom the issue has not reached, or those it may have reached twice."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    which = request.args.get("which", "")
    asked = request.args.get("who", "").strip()[:LONGEST]
    reason, domain = request.args.get("reason"), request.args.get("domain", "")
    if which == "resent":
        after = request.args.get("after", 0, type=int)
        page = outcomes.resent(session, issue_id=issue.id, after=after)
    else:
        page = outcomes.listed(
            session,
            issue_id=issue.id,
            states=_states(which),
            reason=reason,
            domain=domain[:LONGEST],
            after=request.args.get("after", "")[:LONGEST],
        )
    return render(
        "editor/issue_readers.html",
        newsletter,
        issue=issue,
        page=page,
        which=which,
        reason=reason,
        domain=domain,
        why=outcomes.why,
        asked=asked,
        explanation=_explained(newsletter, issue, asked),
    )


def _states(which: str) -> tuple[DeliveryState, ...]:
    if which == REFUSED:
        return retrying.STATES
    known = tuple(state for state in outcomes.LISTED if state == which)
    return known or outcomes.UNREACHED


def _explained(newsletter: Newsletter, issue: Issue, email: str) -> str:
    """Say why the reader with an address did or did not get an issue."""
    if not email:
        return ""
    session, words = db.session(), rendering.words()
    found = directory.by_email(session, newsletter, email)
    if found is None:
        return words.gettext("Nobody with that address subscribes to this newsletter.")
    why = explain.of_issue(session, found, issue, words=words, now=utcnow())
    return why.sentence


@bp.get("/editor/<slug>/issues/<int:issue_id>/retry")
@needs(Role.EDITOR)
def ask_retry(newsletter: Newsletter, issue_id: int) -> str | AnyResponse:
    """Say why readers were not reached and how many can be tried again, and ask."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if issue.state not in retrying.AGAIN:
        return redirect(_page_of(newsletter, issue_id))
    return _retry_page(newsletter, issue)


@bp.post("/editor/<slug>/issues/<int:issue_id>/retry")
@needs(Role.EDITOR)
def retry(newsletter: Newsletter, issue_id: int) -> AnyResponse | tuple[str, int]:
    """Try those again whom the issue did not reach for the chosen reasons."""
    chosen = request.form.getlist("reason")
    seen = sum(request.form.get(f"readers-{one}", 0, type=int) for one in chosen)
    editor = this_editor()
    try:
        issue = issue_form.issue_of(db.session(), newsletter, issue_id)
        choices = retrying.choices(db.session(), issue)  # may take a while: not below
        possible = sum(one.possible for one in choices if one.reason in chosen)
        refuse_other_number(possible, seen)
        with writing(newsletter) as (session, here):
            issue = issue_form.issue_of(session, here, issue_id)
            retrying.begin(
                session, issue, chosen, who=editor.name or editor.email, now=utcnow()
            )
    except InkorgError as error:
        issue = issue_form.issue_of(db.session(), newsletter, issue_id)
        return _retry_page(newsletter, issue, error), status_of(error)
    say(N_("They are being tried again."))
    return redirect(_page_of(newsletter, issue_id))


def _retry_page(
    newsletter: Newsletter, issue: Issue, error: InkorgError | None = None
) -> str:
    choices = retrying.choices(db.session(), issue)
    return render(
        "editor/issue_retry.html",
        newsletter,
        issue=issue,
        subject=issue_form.subject_of(issue, newsletter),
        choices=choices,
        hopeful=[one.reason for one in choices if one.reason not in HOPELESS],
        chosen=request.form.getlist("reason") if error else None,
        errors={"form": rendering.words().error(error)} if error else {},
        why=outcomes.why,
    )


def _page_of(newsletter: Newsletter, issue_id: int) -> str:
    return url_for("issues.show", slug=newsletter.slug, issue_id=issue_id)
