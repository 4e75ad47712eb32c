"""The first page of the workspace: what comes next, and what needs a person."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import flask
from flask import Blueprint, request
from sqlalchemy import select
from werkzeug.wrappers import Response

from newsletter import editors, i18n, newsletters, rhythms
from newsletter.db import db, transaction, utcnow
from newsletter.digests import calendar, compose, forecast, status
from newsletter.digests.calendar import Upcoming
from newsletter.errors import Forbidden, InkorgError
from newsletter.models import Editor, Issue, IssueState, Mode, Newsletter, Role
from newsletter.subscribers import reckonings
from newsletter.subscribers.directory import Growth
from newsletter.subscribers.reckonings import Overview
from newsletter.web import rendering
from newsletter.web.security import current_settings, status_of
from newsletter.web.workspace import attention, charts, issue_form
from newsletter.web.workspace.access import (
    needs,
    needs_login,
    render,
    this_editor,
)
from newsletter.web.workspace.people import ROLE_WORDS
from newsletter.web.workspace.sending import STATE_COLOURS, STATE_WORDS, UNDER_WAY

bp = Blueprint("overview", __name__)

MONTH = timedelta(days=30)
YEAR = timedelta(days=365)
POSTS_SHOWN = 6


@bp.get("/editor/")
@needs_login
def start(editor: Editor) -> Response | str:
    """List the editor's newsletters, or go to the only one."""
    found = editors.newsletters_of(db.session(), editor)
    if len(found) == 1 and "all" not in request.args:
        return flask.redirect(flask.url_for("overview.show", slug=found[0].slug))
    return render(
        "editor/start.html",
        None,
        newsletters=[(one, editors.role_of(editor, one)) for one in found],
        ROLE_WORDS=ROLE_WORDS,
        may_create=editors.may_create(editor),
    )


@bp.get("/editor/new")
@needs_login
def new(editor: Editor) -> str:
    """Show the form of a new newsletter."""
    return _new_page(editor)


@bp.post("/editor/new")
@needs_login
def create(editor: Editor) -> Response | tuple[str, int]:
    """Create a newsletter; its settings hold the rest."""
    if not editors.may_create(editor):
        raise Forbidden
    names = ("title", "from_name", "from_email", "language", "postal_address")
    slug = request.form.get("slug", "").strip()
    try:
        with transaction() as session:
            values = {name: request.form.get(name, "") for name in names}
            newsletters.create(session, slug, publisher=values["from_name"], **values)
    except InkorgError as error:
        return _new_page(editor, error), status_of(error)
    return flask.redirect(flask.url_for("overview.show", slug=slug))


@bp.get("/editor/<slug>/")
@needs(Role.VIEWER)
def show(newsletter: Newsletter) -> str:
    """Show how things stand."""
    session, now = db.session(), utcnow()
    readers = reckonings.overview(session, newsletter, since=now - YEAR, now=now)
    editor = this_editor()
    return render(
        "editor/overview.html",
        newsletter,
        **_next(newsletter, now),
        POSTS_SHOWN=POSTS_SHOWN,
        under_way=_under_way(newsletter, now),
        last=_last(newsletter, now),
        counts=readers.counts,
        counted_at=readers.at,
        line=_line(newsletter, readers, now),
        lately=_lately(newsletter, readers, now),
        attention=attention.find(
            session,
            newsletter,
            editor,
            rendering.words(),
            may_own=editors.may(editor, newsletter, Role.OWNER),
            now=now,
        ),
        STATE_WORDS=STATE_WORDS,
        STATE_COLOURS=STATE_COLOURS,
    )


@bp.get("/editor/<slug>/now")
@needs(Role.VIEWER)
def under_way(newsletter: Newsletter) -> str:
    """Show only what is being sent; the page fetches it while that goes on."""
    return render(
        "editor/_now.html", newsletter, under_way=_under_way(newsletter, utcnow())
    )


def _new_page(editor: Editor, error: InkorgError | None = None) -> str:
    if not editors.may_create(editor):
        raise Forbidden
    return render(
        "editor/new.html",
        None,
        form=request.form,
        field=getattr(error, "field", ""),
        error=rendering.words().error(error) if error else "",
        languages=[(code, i18n.language(code).name) for code in i18n.available()],
    )


def _next(newsletter: Newsletter, now: datetime) -> dict[str, object]:
    """Return what goes out next, the draft that is being written, and what is new."""
    session = db.session()
    digest = calendar.next_one(session, newsletter, now=now)
    if digest is not None and digest.issue_id is not None:
        issue = session.get(Issue, digest.issue_id)
    else:
        issue = session.scalar(
            select(Issue)
            .where(
                Issue.newsletter_id == newsletter.id, Issue.state == IssueState.DRAFT
            )
            .order_by(Issue.id.desc())
            .limit(1)
        )
    return {
        "issue": issue,
        "issue_subject": issue_form.subject_of(issue, newsletter) if issue else "",
        **_what_goes(newsletter, digest, issue, now),
        **attention.whether_new(session, newsletter),
    }


def _what_goes(
    newsletter: Newsletter, digest: Upcoming | None, issue: Issue | None, now: datetime
) -> dict[str, object]:
    """Return the next digest or issue with its posts, readers and time."""
    session, words = db.session(), rendering.words()
    if digest is not None:
        rhythm = rhythms.describe(digest.rhythm, words) if digest.rhythm else ""
        held = digest.state is calendar.State.HELD
        return {
            "digest": digest,
            "rhythm": rhythm,
            "why": words.gettext(digest.why) if digest.why and not held else "",
            "posts": digest.posts,
            "audience": digest.audience,
            "approves": newsletter.mode is Mode.HELD,
            "due": digest.due_at.isoformat(),
        }
    if issue is not None:
        return {
            "posts": [entry.post for entry in compose.shown(issue.posts)],
            "audience": forecast.of_issue(session, issue, now=now),
        }
    found = attention.new_posts(session, newsletter, POSTS_SHOWN)
    return {"posts": found, "audience": None}


def _under_way(newsletter: Newsletter, now: datetime) -> list[dict[str, object]]:
    session, places = db.session(), len(current_settings().relays)
    query = (
        select(Issue)
        .where(Issue.newsletter_id == newsletter.id, Issue.state.in_(UNDER_WAY))
        .order_by(Issue.id)
    )
    return [
        {
            "issue": issue,
            "subject": issue_form.subject_of(issue, newsletter),
            **status.status(session, issue, relay_count=places, now=now),
        }
        for issue in session.scalars(query)
    ]


def _last(newsletter: Newsletter, now: datetime) -> dict[str, object] | None:
    session = db.session()
    issue = session.scalar(
        select(Issue)
        .where(Issue.newsletter_id == newsletter.id, Issue.state == IssueState.SENT)
        .order_by(Issue.number.desc())
        .limit(1)
    )
    if issue is None:
        return None
    return {
        "issue": issue,
        "subject": issue_form.subject_of(issue, newsletter),
        **status.status(session, issue, now=now),
    }


def _line(
    newsletter: Newsletter, readers: Overview, now: datetime
) -> charts.Line | None:
    young = now - newsletter.created_at < 2 * MONTH
    steps = _last_month(newsletter, readers, now) if young else readers.months
    return charts.readers_over_time(steps, readers.counts.readers)


def _lately(newsletter: Newsletter, readers: Overview, now: datetime) -> int:
    return sum(step.net for step in _last_month(newsletter, readers, now))


def _last_month(
    newsletter: Newsletter, readers: Overview, now: datetime
) -> list[Growth]:
    first = (now - MONTH).astimezone(ZoneInfo(newsletter.timezone)).date()
    return [day for day in readers.days if day.since >= first]
