"""Sending an issue: ask once, follow it, stop it, and see what became of it."""

from flask import Blueprint, Response, make_response, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from newsletter import i18n, moments, rhythms
from newsletter.db import db, utcnow
from newsletter.digests import (
    archive,
    calendar,
    compose,
    drafts,
    forecast,
    letters,
    publish,
    retrying,
    telling,
)
from newsletter.digests.drafts import EDITABLE
from newsletter.digests.preflight import audience
from newsletter.errors import N_, Conflict, InkorgError, InvalidInput
from newsletter.i18n import Language
from newsletter.mail import destinations, ledger, outcomes, own_relays, relays
from newsletter.mail.relays import Progress
from newsletter.models import Issue, IssueKind, IssueState, Newsletter, Role
from newsletter.subscribers import reckonings
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace import issue_form, preflight
from newsletter.web.workspace.access import needs, render, say, this_editor, writing

bp = Blueprint("sending", __name__)

STATE_WORDS = {
    IssueState.DRAFT: N_("Draft"),
    IssueState.SCHEDULED: N_("Scheduled"),
    IssueState.HELD: N_("Waits for you"),
    IssueState.SENDING: N_("Being sent"),
    IssueState.PAUSED: N_("Sending is paused"),
    IssueState.SENT: N_("Sent"),
    IssueState.CANCELLED: N_("Cancelled"),
}
STATE_COLOURS = {
    IssueState.HELD: "warn",
    IssueState.SENDING: "good",
    IssueState.PAUSED: "warn",
    IssueState.CANCELLED: "bad",
}
UNDER_WAY = (IssueState.SENDING, IssueState.PAUSED)
# People sign up and leave while an editor reads: that much is no reason to ask again.
DRIFT_READERS = 5
DRIFT_SHARE = 0.01
NEAR_LIMIT = 0.9
MOST_SLOWED = 3
LATE_SECONDS = 10  # after its time, until it is told that nothing sends
SENDER_FIELDS = ("postal_address", "from_email")  # put right in the settings


class Changed(Conflict):
    """This issue has changed since you looked."""


@bp.get("/editor/<slug>/issues/<int:issue_id>/send")
@needs(Role.EDITOR)
def ask(newsletter: Newsletter, issue_id: int) -> str | AnyResponse:
    """Say what would be sent, to how many, and ask."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if issue.state not in EDITABLE or drafts.is_leaving(issue):
        return redirect(_page_of(newsletter, issue_id))
    return _ask_page(newsletter, issue)


@bp.post("/editor/<slug>/issues/<int:issue_id>/send")
@needs(Role.EDITOR)
def send(newsletter: Newsletter, issue_id: int) -> AnyResponse | tuple[str, int]:
    """Send the issue in a moment, so that it can be undone. Safe to press twice."""
    try:
        with writing(newsletter) as (session, here):
            issue = issue_form.issue_of(session, here, issue_id)
            if issue.state in EDITABLE and not drafts.is_leaving(issue):
                expected = publish.readers(session, issue, now=utcnow())
                _refuse_other(issue, expected)
                preflight.refuse(session, issue, expected)
                publish.send_soon(
                    session,
                    current_settings(),
                    issue,
                    seconds=here.undo_seconds,
                    expected=expected,
                    now=utcnow(),
                )
    except InkorgError as error:
        return _ask_again(newsletter, issue_id, error)
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/undo")
@needs(Role.EDITOR)
def undo(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Take back what was sent a moment ago. Safe to press twice."""
    try:
        with writing(newsletter) as (session, here):
            issue = issue_form.issue_of(session, here, issue_id)
            if issue.state not in (IssueState.DRAFT, IssueState.HELD):
                publish.undo(session, issue, now=utcnow())
    except Conflict as error:  # it was too late
        say(error.message, "warn", **error.values)
    else:
        say(N_("Undone. Nobody has got anything, and you can change it again."))
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/archive")
@needs(Role.EDITOR)
def list_in_archive(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Say whether the public archive is to have the issue."""
    listed = request.form.get("listed") == "1"
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        drafts.edit(session, issue, listed=listed)
    say(
        N_("The archive will have it.")
        if listed
        else N_("It stays out of the archive.")
    )
    return redirect(url_for("sending.ask", slug=newsletter.slug, issue_id=issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/schedule")
@needs(Role.EDITOR)
def schedule(newsletter: Newsletter, issue_id: int) -> AnyResponse | tuple[str, int]:
    """Let the clock send the issue."""
    try:
        at = moments.read(request.form.get("at", ""), newsletter.timezone, field="at")
        with writing(newsletter) as (session, here):
            issue = issue_form.issue_of(session, here, issue_id)
            _refuse_other(issue, None)
            count = publish.readers(session, issue, now=utcnow())
            preflight.refuse(session, issue, count)
            publish.schedule(session, issue, at, now=utcnow())
    except InkorgError as error:
        return _ask_again(newsletter, issue_id, error)
    if moments.comes_twice(at, newsletter.timezone):
        say(N_("Clocks go back that night: it goes the first time it is that late."))
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/rhythm")
@needs(Role.EDITOR)
def put_in_rhythm(
    newsletter: Newsletter, issue_id: int
) -> AnyResponse | tuple[str, int]:
    """Let the issue go out as the next digest of a rhythm."""
    try:
        with writing(newsletter) as (session, here):
            issue = issue_form.issue_of(session, here, issue_id)
            _refuse_other(issue, None)
            count = publish.readers(session, issue, now=utcnow())
            preflight.refuse(session, issue, count)
            rhythm = request.form.get("rhythm", "")[:40]
            calendar.put_in(session, issue, rhythm, now=utcnow())
    except InkorgError as error:
        return _ask_again(newsletter, issue_id, error)
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/unschedule")
@needs(Role.EDITOR)
def unschedule(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Take a scheduled issue back among the drafts."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        publish.unschedule(session, issue, now=utcnow())
    say(N_("The schedule is cancelled. The issue is a draft again."))
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/pause")
@needs(Role.EDITOR)
def pause(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Hold the rest back until it is resumed."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        if issue.state is not IssueState.PAUSED:
            editor = this_editor()
            publish.pause(session, issue, who=editor.name or editor.email)
    return redirect(_page_of(newsletter, issue_id))


@bp.post("/editor/<slug>/issues/<int:issue_id>/resume")
@needs(Role.EDITOR)
def resume(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Go on where it stopped."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        if issue.state is not IssueState.SENDING:
            publish.resume(session, issue)
    return redirect(_page_of(newsletter, issue_id))


@bp.get("/editor/<slug>/issues/<int:issue_id>/cancel")
@needs(Role.EDITOR)
def ask_cancel(newsletter: Newsletter, issue_id: int) -> str | AnyResponse:
    """Say whom cancelling leaves without the issue, and ask."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if issue.state not in UNDER_WAY:
        return redirect(_page_of(newsletter, issue_id))
    return render("editor/issue_cancel.html", newsletter, **_figures(newsletter, issue))


@bp.post("/editor/<slug>/issues/<int:issue_id>/cancel")
@needs(Role.EDITOR)
def cancel(newsletter: Newsletter, issue_id: int) -> AnyResponse:
    """Send the issue to no one else."""
    with writing(newsletter) as (session, here):
        issue = issue_form.issue_of(session, here, issue_id)
        if issue.state is not IssueState.CANCELLED:
            publish.cancel(session, issue, now=utcnow())
    return redirect(_page_of(newsletter, issue_id))


@bp.get("/editor/<slug>/issues/<int:issue_id>/progress")
@needs(Role.VIEWER)
def progress(newsletter: Newsletter, issue_id: int) -> Response:
    """Show how far the issue has come: a part of the page that follows it."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if drafts.is_leaving(issue):
        part = render("editor/_issue_leaving.html", newsletter, **_leaving(issue))
    else:
        part = render(
            "editor/_issue_progress.html", newsletter, **_figures(newsletter, issue)
        )
    response = make_response(part)
    response.headers["X-Issue-State"] = issue.state
    response.headers["Cache-Control"] = "no-store"
    return response


def leaving_page(newsletter: Newsletter, issue: Issue) -> str:
    """Return the page of an issue that leaves in a moment, with its one button."""
    return render(
        "editor/issue_leaving.html",
        newsletter,
        subject=issue_form.subject_of(issue, newsletter),
        **_leaving(issue),
    )


def _leaving(issue: Issue) -> dict[str, object]:
    """Say how long an issue can be undone; and if nobody is there to send it."""
    now = utcnow()
    at = issue.scheduled_at or now
    late = int((now - at).total_seconds())
    return {
        "issue": issue,
        "at": at,
        "seconds": max(-late, 0),
        "of": issue.newsletter.undo_seconds or 1,
        "unattended": late > LATE_SECONDS
        and not relays.live_workers(db.session(), now=now),
    }


def follow_page(newsletter: Newsletter, issue: Issue) -> str:
    """Return the page of an issue that has left: on its way, or what became of it."""
    session = db.session()
    reasons = outcomes.reasons(session, issue_id=issue.id, states=outcomes.LISTED)
    return render(
        "editor/issue_follow.html",
        newsletter,
        reasons=reasons,
        domains=outcomes.domains(session, issue_id=issue.id) if reasons else None,
        why=outcomes.why,
        STATES=outcomes.STATE_WORDS,
        retries=retrying.of_issue(session, issue),
        **_figures(newsletter, issue),
    )


def _figures(newsletter: Newsletter, issue: Issue) -> dict[str, object]:
    """Return how far an issue has come, from the ledger."""
    session = db.session()
    settings = current_settings()
    count = len(settings.relays)
    now = relays.progress(session, issue.id, utcnow(), relays=count)
    under_way = issue.state in UNDER_WAY
    places = own_relays.relays_of(session, settings, newsletter)
    rates = [relay.rate_per_second for relay in places if relay.weight]
    limit = sum(rates) if all(rates) else 0.0
    words = rendering.words()
    return {
        "issue": issue,
        "subject": issue_form.subject_of(issue, newsletter),
        "progress": now,
        "waiting": _waiting(issue, now, words),
        "waits": _waits(newsletter, issue, now, words),
        "at_limit": bool(limit) and now.rate_per_second >= NEAR_LIMIT * limit,
        "counts": now.counts,
        "under_way": under_way,
        "STATE_WORDS": STATE_WORDS,
        "STATE_COLOURS": STATE_COLOURS,
    }


def _waiting(issue: Issue, now: Progress, words: Language) -> str:
    """Say why nothing at all is being handed over; "" if something is."""
    if issue.state is IssueState.PAUSED:
        return telling.held_because(issue, words) or words.gettext(
            "Paused until you resume it"
        )
    return words.error(now.waiting) if now.waiting else ""


def _waits(
    newsletter: Newsletter, issue: Issue, now: Progress, words: Language
) -> list[str]:
    """Say in sentences why some readers wait."""
    if issue.state is not IssueState.SENDING or not now.counts.left:
        return []
    session, zone = db.session(), newsletter.timezone
    names = own_relays.names_of(session, current_settings(), newsletter)
    slowed = destinations.describe(session, relays=names, now=utcnow())
    said = [one.words(words, zone) for one in slowed[:MOST_SLOWED]]
    if more := len(slowed) - len(said):
        said.append(
            words.ngettext("So did %(num)s more.", "So did %(num)s more.", more)
        )
    at = now.counts.deferred and ledger.next_attempt(session, issue_id=issue.id)
    if at:
        sentence = words.ngettext(
            "%(num)s was put off by their server and is tried again from %(time)s.",
            "%(num)s were put off by their servers and are tried again from %(time)s.",
            now.counts.deferred,
            time=words.clock(at, zone),
        )
        said.append(sentence)
    return said


def _ask_page(
    newsletter: Newsletter, issue: Issue, errors: dict[str, str] | None = None
) -> str:
    session = db.session()
    refusal: InkorgError | None = None
    found, counted = [], forecast.Audience(0)
    try:
        if request.method == "POST" or not reckonings.is_large(session, newsletter):
            found = publish.planned(session, issue, now=utcnow())
            counted = forecast.Audience(sum(edition.readers for edition in found))
        else:
            counted = forecast.of_issue(session, issue, now=utcnow())
    except InkorgError as error:
        refusal = error
    readers = counted.readers
    report = preflight.look(session, issue, readers=readers)
    refusal = refusal or report.refusal
    letter = publish.sample_letter(current_settings(), issue)
    readers_of: dict[str, int] = {}
    for edition in found:
        readers_of[edition.language] = (
            readers_of.get(edition.language, 0) + edition.readers
        )
    return render(
        "editor/issue_send.html",
        newsletter,
        issue=issue,
        subject=letter.subject,
        readers=readers,
        counted=counted,
        against=audience.against(
            rendering.words(), readers, audience.last_time(session, issue)
        ),
        preflight=preflight.panel(report, says_refusal=False),
        by_language=[
            (i18n.language(code).name, count) for code, count in readers_of.items()
        ],
        editions=len(found),
        titles=issue_form.titles_of(issue),
        again=_sent_again(newsletter, issue),
        fingerprint=issue_form.fingerprint(issue),
        problem=rendering.words().error(refusal) if refusal else "",
        in_settings=getattr(refusal, "field", "") in SENDER_FIELDS,
        letter=_letter(issue),
        for_archive=newsletter.public_archive and archive.is_for_all(issue),
        errors=errors or {},
        at=request.form.get("at", "") or _moment_of(issue),
        earliest=moments.write(utcnow(), newsletter.timezone),
        openings=_openings(newsletter, issue),
    )


def _openings(newsletter: Newsletter, issue: Issue) -> list[tuple[str, str]]:
    """Return the rhythms a draft can go in, each with when that is, in words."""
    if issue.kind is not IssueKind.DIGEST or issue.rhythm:
        return []
    words, zone = rendering.words(), newsletter.timezone
    return [
        (
            one.rhythm,
            f"{rhythms.describe(one.rhythm, words)}: {words.moment(one.at, zone)}",
        )
        for one in calendar.openings(db.session(), newsletter, now=utcnow())
    ]


def _moment_of(issue: Issue) -> str:
    """Return when an issue is scheduled, for the form that changes it."""
    at = issue.scheduled_at if issue.state is IssueState.SCHEDULED else None
    return moments.write(at, issue.newsletter.timezone) if at else ""


def _letter(issue: Issue) -> dict[str, object]:
    """Say whom a letter is for; nothing about a digest."""
    if issue.kind is not IssueKind.LETTER:
        return {}
    session, now = db.session(), utcnow()
    described = letters.describe(session, issue, rendering.words())
    try:
        counted, every = forecast.of_letter(session, issue, now=now)
    except InvalidInput:
        return {"described": described, "readers": 0, "of": 0}
    every = 0 if counted.at_most else every
    return {"described": described, "readers": counted.readers, "of": every}


def _ask_again(
    newsletter: Newsletter, issue_id: int, error: InkorgError
) -> AnyResponse | tuple[str, int]:
    """Ask once more and say why, or follow the issue if it has left meanwhile."""
    issue = issue_form.issue_of(db.session(), newsletter, issue_id)
    if issue.state not in EDITABLE or drafts.is_leaving(issue):
        return redirect(_page_of(newsletter, issue_id))
    field = error.field if isinstance(error, InvalidInput) else "form"
    errors = {field or "form": rendering.words().error(error)}
    return _ask_page(newsletter, issue, errors), status_of(error)


def _sent_again(newsletter: Newsletter, issue: Issue) -> int:
    """Return how many of the issue's posts are sent once more, also to who had them."""
    posts = [
        entry.post
        for entry in compose.shown(issue.posts)
        if (entry.post.position or 0) <= issue.after_position
    ]
    return len(drafts.sent_before(db.session(), newsletter, posts))


def _refuse_other(issue: Issue, readers: int | None) -> None:
    """Raise Changed if this is not what the editor said yes to."""
    if request.form.get("fingerprint") != issue_form.fingerprint(issue):
        raise Changed(
            N_("This issue has changed since you looked. Read it before you send it.")
        )
    if readers is not None:
        refuse_other_number(readers)


def refuse_other_number(readers: int, seen: int | None = None) -> None:
    """Raise Changed if many more or fewer get it than the editor was told."""
    if seen is None:
        seen = request.form.get("readers", -1, type=int)
    if abs(readers - seen) > max(DRIFT_READERS, seen * DRIFT_SHARE):
        raise Changed(
            N_("Meanwhile the number of readers became %(now)s. Is that right?"),
            now=readers,
        )


def _page_of(newsletter: Newsletter, issue_id: int) -> str:
    return url_for("issues.show", slug=newsletter.slug, issue_id=issue_id)
