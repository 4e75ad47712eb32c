"""Reports: what became of each issue, how they compare, and growth by the month."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import flask
from flask import Blueprint, Response, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from newsletter import rhythms
from newsletter.db import current_database, db, utcnow
from newsletter.digests import clicks, reports
from newsletter.errors import N_, InkorgError
from newsletter.mail import outcomes
from newsletter.models import Issue, IssueKind, IssueReport, Newsletter, Role
from newsletter.subscribers import reckonings
from newsletter.subscribers.exporting import neutral
from newsletter.web import rendering
from newsletter.web.workspace import charts, issue_form
from newsletter.web.workspace.access import needs, render
from newsletter.web.workspace.sending import STATE_WORDS, UNDER_WAY

bp = Blueprint("reports", __name__)

PAGE = 30
YEAR = timedelta(days=365)
BOM = "\ufeff"  # spreadsheets take it for a sign of UTF-8
MEASURE_WORDS = {
    "delivered": N_("Delivered"),
    "deferred": N_("Deferred"),
    "bounced": N_("Bounced"),
    "failed": N_("Failed"),
    "skipped": N_("Left out"),
    "complained": N_("Marked as spam"),
    "left": N_("Left within 7 days"),
}
ISSUE_COLUMNS = (
    *("number", "kind", "rhythm", "state", "subject", "started_at", "finished_at"),
    *("readers", *MEASURE_WORDS, "seconds", "per_second", "counted_at"),
    *("clicks", "machine_clicks"),  # empty where they are not counted
)


@bp.get("/editor/<slug>/reports/")
@needs(Role.VIEWER)
def index(newsletter: Newsletter) -> str:
    """Show the issues that have gone out side by side, and growth by the month."""
    session, now = db.session(), utcnow()
    before = request.args.get("before", type=int)
    known = before if before is not None and 0 <= before < 2**31 else None
    found = reports.page(session, newsletter, before=known, size=PAGE + 1)
    rows, older = found[:PAGE], len(found) > PAGE
    months, at = _months(session, newsletter, now)
    clicked = clicks.of_issues(session, [issue.id for issue, _ in rows])
    return render(
        "editor/reports.html",
        newsletter,
        rows=rows,
        subjects={
            issue.id: issue_form.subject_of(issue, newsletter) for issue, _ in rows
        },
        older=rows[-1][0].number if older else None,
        first_page=known is None,
        months=months,
        counted_at=at,
        readers_line=charts.line([(month.first, month.readers) for month in months]),
        delivered_line=charts.line(_delivered(rows)),
        clicks=clicked,
        clicks_line=charts.line(_clicked(rows, clicked)),
        share=reports.share,
        exact_percent=rendering.words().exact_percent,
        STATE_WORDS=STATE_WORDS,
    )


@bp.get("/editor/<slug>/reports/issues.csv")
@needs(Role.VIEWER)
def issues_csv(newsletter: Newsletter) -> Response:
    """Hand over the sums of all issues."""
    database, newsletter_id = current_database(), newsletter.id

    def rows() -> Iterator[Iterable[object]]:
        yield ISSUE_COLUMNS
        with database.reading(slowly=True) as session:
            here = session.get_one(Newsletter, newsletter_id)
            for issue, report in reports.every(session, here):
                clicked = clicks.of_issues(session, [issue.id]).get(issue.id)
                sums = (clicked.clicks, clicked.machines) if clicked else ("", "")
                yield [*_cells(issue, report), *sums]

    return _as_csv(rows(), f"{newsletter.slug}-issues.csv")


@bp.get("/editor/<slug>/reports/months.csv")
@needs(Role.VIEWER)
def months_csv(newsletter: Newsletter) -> Response:
    """Hand over the growth by the month."""
    found, _at = _months(db.session(), newsletter, utcnow())
    head = ("month", "joined", "left", "bounced", "subscribers_at_end")
    rows = [head, *((f"{month.first:%Y-%m}", *month[1:]) for month in found)]
    return _as_csv(iter(rows), f"{newsletter.slug}-months.csv")


@bp.get("/editor/<slug>/issues/<int:issue_id>/report")
@needs(Role.VIEWER)
def show(newsletter: Newsletter, issue_id: int) -> str | AnyResponse:
    """Show what became of an issue, beside those before it."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    if issue.started_at is None or issue.state in UNDER_WAY:
        address = flask.url_for("issues.show", slug=newsletter.slug, issue_id=issue_id)
        return flask.redirect(address)
    report = reports.of_issue(session, issue)
    return render(
        "editor/report.html",
        newsletter,
        issue=issue,
        subject=issue_form.subject_of(issue, newsletter),
        report=report,
        usual=reports.usual(session, issue),
        seconds=reports.seconds(report) if report else None,
        rate=reports.rate(report) if report else None,
        rhythm=_rhythm(issue),
        share=reports.share,
        exact_percent=rendering.words().exact_percent,
        why=outcomes.why,
        clicks=_clicks(session, issue, report),
        MEASURES=[(name, MEASURE_WORDS[name]) for name in reports.MEASURES],
        AFTERWARDS=[(name, MEASURE_WORDS[name]) for name in reports.AFTERWARDS],
        STATE_WORDS=STATE_WORDS,
    )


@bp.get("/editor/<slug>/issues/<int:issue_id>/report.csv")
@needs(Role.VIEWER)
def issue_csv(newsletter: Newsletter, issue_id: int) -> Response:
    """Hand over the sums of one issue, with each reason."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    report = reports.of_issue(session, issue)
    rows: list[Iterable[object]] = [("what", "why", "readers", "share", "usual_share")]
    if report:
        usual = reports.usual(session, issue)
        rows.append(("readers", "", report.readers, 1, 1 if usual else ""))
        for name in MEASURE_WORDS:
            before = round(usual.shares[name], 6) if usual else ""
            part = round(reports.share(report, name), 6)
            rows.append((name, "", getattr(report, name), part, before))
        for state, reason, readers in report.reasons:
            part = round(readers / (report.readers or 1), 6)
            rows.append((state, reason, readers, part, ""))
    return _as_csv(iter(rows), f"{newsletter.slug}-{issue.number or issue.id}.csv")


@bp.get("/editor/<slug>/issues/<int:issue_id>/clicks.csv")
@needs(Role.VIEWER)
def clicks_csv(newsletter: Newsletter, issue_id: int) -> Response:
    """Hand over how often each link of an issue was opened on each day."""
    session = db.session()
    issue = issue_form.issue_of(session, newsletter, issue_id)
    rows: list[Iterable[object]] = [
        ("place", "link", "words", "day", "clicks", "machine_clicks"),
        *clicks.by_link_and_day(session, issue),
    ]
    return _as_csv(
        iter(rows), f"{newsletter.slug}-{issue.number or issue.id}-clicks.csv"
    )


def _clicks(
    session: Session, issue: Issue, report: IssueReport | None
) -> dict[str, object]:
    """Return what the page says of an issue's clicks; no links: none are counted."""
    found = clicks.of_issue(session, issue)
    if not found:
        return {"links": []}
    days = clicks.by_day(session, issue)
    times = sum(link.clicks for link in found)
    delivered = report.delivered if report else 0
    return {
        "links": found,
        "clicks": times,
        "machines": sum(link.machines for link in found),
        "most": max(link.clicks for link in found),
        "delivered": delivered,
        "share": times / delivered if delivered else None,
        "usual": clicks.usual_share(session, issue),
        "days": days,
        "line": charts.line([(day, count) for day, count, _ in days]),
    }


def _months(
    session: Session, newsletter: Newsletter, now: datetime
) -> tuple[list[reports.Month], datetime | None]:
    """Return the months of a year in which there was a newsletter, and as of when."""
    since = max(now - YEAR, newsletter.created_at)
    found = reckonings.overview(session, newsletter, since=since, now=now)
    readers = found.counts.readers
    return reports.months(session, newsletter, found.months, readers), found.at


def _delivered(
    rows: list[tuple[Issue, IssueReport | None]],
) -> list[tuple[object, int]]:
    """Return how many each issue was delivered to, the oldest first."""
    return [
        (issue.number, report.delivered) for issue, report in reversed(rows) if report
    ]


def _clicked(
    rows: list[tuple[Issue, IssueReport | None]], clicked: dict[int, clicks.Sums]
) -> list[tuple[object, int]]:
    """Return the clicks of each issue, the oldest first; nothing if there are none."""
    found: list[tuple[object, int]] = [
        (issue.number, clicked[issue.id].clicks)
        for issue, _ in reversed(rows)
        if issue.id in clicked
    ]
    return found if any(number for _, number in found) else []


def _rhythm(issue: Issue) -> str:
    """Say which issues it is compared with."""
    words = rendering.words()
    if issue.kind is IssueKind.LETTER:
        return words.gettext("Letter")
    try:
        return rhythms.describe(issue.rhythm, words) if issue.rhythm else ""
    except InkorgError:  # of a rhythm that is offered no more
        return issue.rhythm


def _cells(issue: Issue, report: IssueReport | None) -> list[object]:
    sums: list[object] = [""] * (len(MEASURE_WORDS) + 4)
    if report:
        took, rate = reports.seconds(report), reports.rate(report)
        sums = [
            report.readers,
            *(getattr(report, name) for name in MEASURE_WORDS),
            "" if took is None else round(took),
            "" if rate is None else round(rate, 1),
            _moment(report.counted_at),
        ]
    return [
        issue.number,
        issue.kind.value,
        issue.rhythm,
        issue.state.value,
        issue_form.subject_of(issue, issue.newsletter),
        _moment(issue.started_at),
        _moment(issue.finished_at),
        *sums,
    ]


def _moment(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""


def _as_csv(rows: Iterator[Iterable[object]], name: str) -> Response:
    """Stream rows as CSV, line by line; no cell can become a formula."""

    def lines() -> Iterator[str]:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        yield BOM
        for row in rows:
            writer.writerow([neutral(str(cell)) for cell in row])
            yield out.getvalue()
            out.seek(0)
            out.truncate()

    return Response(
        lines(),
        mimetype="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )
