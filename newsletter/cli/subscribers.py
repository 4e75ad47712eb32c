"""Commands about readers: import, export, show, explain, erase."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n, newsletters, serving
from newsletter.audit import recording
from newsletter.cli.common import (
    Installation,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.db import count_anew, utcnow
from newsletter.digests import explain
from newsletter.digests.explain import Explanation
from newsletter.errors import InvalidInput, NotFound
from newsletter.models import (
    ImportRun,
    Issue,
    Post,
    Status,
    Subscriber,
    Subscription,
)
from newsletter.subscribers import (
    columns,
    directory,
    exporting,
    histories,
    reckonings,
    rights,
    sheets,
    uploads,
)
from newsletter.subscribers.addresses import readable
from newsletter.subscribers.importing import (
    Importer,
    Lines,
    Outcome,
    Report,
    Source,
    ahead,
)
from newsletter.subscribers.sheets import Record

ASKED_AT_ONCE = 100  # by mail, in one transaction
LARGE_BYTES = 1_000_000  # of a file of readers
EXPLAINED = 5  # issues, where none is named
TRIAL_HEADING = ("file", "line", "email", "outcome", "reason")
WORDS = i18n.language(i18n.SOURCE)
STATUSES = click.Choice([status.value for status in Status])


@click.group()
def subscribers() -> None:
    """Import, export, look at and erase readers."""


@subscribers.command(
    "import",
    epilog=example(
        'subscribers import labbet readers.csv --status active --consent "old list"'
    ),
)
@click.argument("slug")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--status",
    type=click.Choice(["active", "pending"]),
    help="active: you have their consent. pending: each is sent a confirmation mail."
    " Left out: active if --consent says where it came from, else pending.",
)
@click.option("--consent", default="", help="Where their consent came from; recorded.")
@click.option(
    "--encoding",
    type=click.Choice([name for name in sheets.ENCODINGS if name]),
    help="Where the guess is wrong.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come of it, that is all.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --dry-run: every line that would bring nobody, and why, as CSV.",
)
@json_option
@with_installation
def import_(
    place: Installation,
    slug: str,
    file: Path,
    status: str | None,
    consent: str,
    encoding: str | None,
    dry_run: bool,
    report_file: Path | None,
    as_json: bool,
) -> None:
    """Import readers from a CSV FILE whose first line names the columns.

    Only `email` is needed; name, rhythm, language, topics, status and dates are read
    where they are there. The exports of Mailchimp, listmonk, Ghost, Substack,
    Buttondown and MailPoet are recognised, also as ZIP files. Whoever has left, or may
    not be mailed, is not brought back; who left or bounced there is not mailed here.
    """
    with place.database.reading() as session:
        newsletters.by_slug(session, slug)  # before a long file is read
    broken: list[InvalidInput] = []
    chosen = Status(status or ("active" if consent.strip() else "pending"))
    if report_file is not None and not dry_run:
        raise click.UsageError("--report goes with --dry-run.")
    if dry_run:
        tried = _try(place, slug, file, encoding or "", chosen, broken, report_file)
        _show_report(tried, as_json)
        if not as_json:
            click.echo("This was a trial: nothing has been changed.")
        _stop_if(broken)
        return
    if file.stat().st_size > LARGE_BYTES:
        serving.make_ready()  # as a worker does
    said = consent.strip()
    report = _bring_in(place, slug, file, encoding or "", chosen, broken, said)
    with place.database.transaction() as session:
        recording.note(
            session,
            "imported",
            "readers",
            newsletter_id=newsletters.by_slug(session, slug).id,
            label=file.name,
            after={"status": chosen.value, "consent": consent} | _figures(report),
        )
        count_anew(session, "subscriber", "subscription")
    _show_report(report, as_json)
    _stop_if(broken)


def _stop_if(broken: Sequence[InvalidInput]) -> None:
    """Tell of a line that cannot be read, once all before it has been seen to."""
    if broken:
        raise broken[0]


def _until_broken(
    pieces: Iterator[list[Record]], broken: list[InvalidInput]
) -> Iterator[list[Record]]:
    try:
        yield from pieces
    except InvalidInput as error:
        broken.append(error)


def _bring_in(
    place: Installation,
    slug: str,
    file: Path,
    encoding: str,
    status: Status,
    broken: list[InvalidInput],
    consent: str,
) -> Report:
    """Import a file, up to a line that cannot be read."""
    source, at, report = Source(consent), utcnow(), Report()
    size = sheets.BATCH_RECORDS if status == Status.ACTIVE else ASKED_AT_ONCE
    with file.open("rb") as opened, _progress(file) as advance:
        for sheet in sheets.read(opened, file.name, encoding):
            layout, told = columns.check(sheet.layout), len(report.problems)
            with place.database.reading() as session:
                here = newsletters.by_slug(session, slug)
                lines = Lines(session, place.settings, here, layout, status, at)
            pieces = _until_broken(sheets.pieces(sheet, size), broken)
            for batch in ahead(map(lines.look, pieces)):
                with place.database.transaction(much=True) as session:
                    Importer(
                        session,
                        place.settings,
                        newsletters.by_slug(session, slug),
                        layout,
                        status=status,
                        source=source,
                        at=at,
                        now=utcnow(),
                    ).run(batch, report)
                advance(opened)
            report.put_in_order(told)
            if broken:
                break
    return report


def _try(
    place: Installation,
    slug: str,
    file: Path,
    encoding: str,
    status: Status,
    broken: list[InvalidInput],
    report_file: Path | None,
) -> Report:
    """Do all but write, piece by piece, as the worker does for the browser."""
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        run = uploads.begin(
            session, newsletter, file.name, editor_id=None, now=utcnow()
        )
        run_id = run.id
    try:
        with file.open("rb") as opened, _progress(file) as advance:
            for number, sheet in enumerate(sheets.read(opened, file.name, encoding)):
                for batch in _until_broken(sheets.pieces(sheet), broken):
                    with place.database.transaction() as session:
                        uploads.add_piece(session, run_id, number, sheet, batch)
                    advance(opened)
                if broken:
                    break
        with place.database.transaction() as session:
            if broken and not session.get_one(ImportRun, run_id).lines:
                raise broken[0]  # nothing stands before it
            uploads.received(session, run_id)
        with place.database.transaction() as session:
            _start_trial(session, session.get_one(ImportRun, run_id), status)
        more = True
        while more:
            with place.database.transaction() as session:
                more = uploads.step(session, place.settings, run_id, now=utcnow())
        with place.database.reading() as session:
            return _tried(session, session.get_one(ImportRun, run_id), report_file)
    finally:
        with place.database.transaction() as session:
            run = session.get_one(ImportRun, run_id)
            uploads.cancel(session, run, now=utcnow())
            uploads.discard(session, run)


def _start_trial(session: Session, run: ImportRun, status: Status) -> None:
    layouts = [uploads.layout_of(sheet) for sheet in run.sheets]
    asks = status is Status.PENDING
    uploads.start(
        session, run, layouts, consent="", asks=asks, trial=True, now=utcnow()
    )


def _tried(session: Session, run: ImportRun, report_file: Path | None) -> Report:
    """Return what a trial found; write every line of it to a file, if one is named."""
    report = Report()
    report.counts.update(cast(dict[Outcome, int], run.counts))
    found = (one for _name, one in uploads.problems(session, run))
    refused = (one for one in found if one.outcome == "refused")
    report.problems = list(islice(refused, report.most))
    if report_file is not None:
        rows = (
            (name, str(one.line), one.email, one.outcome, str(one.error))
            for name, one in uploads.problems(session, run)
        )
        _write(exporting.table_lines(chain([TRIAL_HEADING], rows)), report_file)
    return report


@subscribers.command(epilog=example("subscribers export labbet > readers.csv"))
@click.argument("slug")
@click.option("--status", type=STATUSES, help="Only those who stand there.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file instead.",
)
@json_option
@with_installation
def export(
    place: Installation, slug: str, status: str | None, out: Path | None, as_json: bool
) -> None:
    """Write all readers of a newsletter as CSV, ordered by address.

    Cells that a spreadsheet would take for a formula begin with an apostrophe, which
    an import takes away again.
    """
    with place.database.reading(slowly=True) as session:
        newsletter = newsletters.by_slug(session, slug)
        only = Status(status) if status else None
        counts = reckonings.counts(session, newsletter)
        total = getattr(counts, status or "total")
        rows = exporting.export_rows(session, newsletter, only)
        lines = _json_lines(rows) if as_json else exporting.csv_lines(rows)
        with click.progressbar(
            lines, length=total, file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as shown:
            _write(shown, out)


@subscribers.command(epilog=example("subscribers show anna@example.org --json"))
@click.argument("email")
@json_option
@with_installation
def show(place: Installation, email: str, as_json: bool) -> None:
    """Show everything that is held about one reader."""
    with place.database.reading() as session:
        found = directory.find(session, email)
        if as_json:
            show_json(rights.everything_about(session, place.settings, found))
            return
        click.echo(readable(found.email))
        for subscription in _subscriptions(session, found):
            _show_subscription(session, subscription)


@subscribers.command(
    "explain", epilog=example("subscribers explain anna@example.org --issue 7")
)
@click.argument("email")
@click.option("--issue", "issue_id", type=int, help="Left out: the latest five.")
@click.option("--post", "post_id", type=int, help="When a post came, or will.")
@json_option
@with_installation
def explain_(
    place: Installation,
    email: str,
    issue_id: int | None,
    post_id: int | None,
    as_json: bool,
) -> None:
    """Say why a reader got an issue or a post, will get it, or will not."""
    if issue_id is not None and post_id is not None:
        raise click.UsageError("Ask about an issue or about a post, not about both.")
    with place.database.reading() as session:
        reader = directory.find(session, email)
        if post_id is not None:
            rows = list(_about_post(session, reader, post_id))
        else:
            rows = [
                _row("issue", subscription, issue, _why(session, subscription, issue))
                for subscription, issue in _asked_about(session, reader, issue_id)
            ]
    if as_json:
        show_json(rows)
        return
    what = "issue" if post_id is None else "post"
    for row in rows:
        click.echo(f"{row['newsletter']}, {what} {row[what]}: {row['explanation']}")
    if not rows:
        click.echo("No issue has been made yet.")


@subscribers.command(epilog=example("subscribers erase anna@example.org"))
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@with_installation
def erase(place: Installation, email: str, yes: bool) -> None:
    """Erase a reader from all newsletters; only a keyed hash stays."""
    with place.database.reading() as session:
        shown = readable(directory.find(session, email).email)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Erase {shown}? It cannot be undone.", abort=True)
    with place.database.transaction() as session:
        rights.erase_subscriber(session, directory.find(session, email), now=utcnow())
    click.echo(f"{shown} is erased.")


@contextmanager
def _progress(path: Path) -> Iterator[Any]:
    """Show how much of a file is read, on a terminal; give back how to move it on."""
    with click.progressbar(
        length=max(path.stat().st_size, 1),
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:

        def advance(file: IO[bytes]) -> None:
            bar.update(max(file.tell() - bar.pos, 0))

        yield advance


def _figures(report: Report) -> dict[str, int]:
    counts = report.counts
    return {
        "added": counts["added"],
        "already": counts["already"],
        "duplicates": counts["duplicate"],
        "left": counts["left"],
        "suppressed": counts["suppressed"],
        "stopped": counts["stopped"],
        "refused": counts["refused"],
    }


def _show_report(report: Report, as_json: bool) -> None:
    refused = [
        {"line": one.line, "email": one.email, "reason": str(one.error)}
        for one in report.problems
        if one.outcome == "refused"
    ]
    figures = _figures(report)
    if as_json:
        show_json({**figures, "refusals": refused})
        return
    for row in refused:
        click.echo(f"Line {row['line']}: {row['email']}: {row['reason']}", err=True)
    if (more := figures["refused"] - len(refused)) > 0:
        click.echo(f"And {more} lines more.", err=True)
    click.echo(
        "Added {added}, already there {already}, twice in the file {duplicates},"
        " had left {left}, not to be mailed {suppressed}, left or bounced elsewhere"
        " {stopped}, refused {refused}.".format(**figures)
    )


def _json_lines(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    """Write an array, an element at a time."""
    before = "["
    for row in rows:
        yield f"{before}\n  {json.dumps(row, ensure_ascii=False)}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _write(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            click.echo(line, nl=False)
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


def _why(session: Session, subscription: Subscription, issue: Issue) -> Explanation:
    return explain.of_issue(session, subscription, issue, words=WORDS, now=utcnow())


def _about_post(
    session: Session, reader: Subscriber, post_id: int
) -> Iterator[dict[str, Any]]:
    post = session.get(Post, post_id) if 0 < post_id < 2**31 else None
    if post is None:
        raise NotFound("There is no post %(id)s.", id=post_id)
    subscriptions = _subscriptions(session, reader)
    same = [s for s in subscriptions if s.newsletter_id == post.newsletter_id]
    for subscription in same or subscriptions[:1]:
        why = explain.of_post(session, subscription, post, words=WORDS, now=utcnow())
        yield _row("post", subscription, post, why)


def _row(
    kind: str, subscription: Subscription, about: Issue | Post, why: Explanation
) -> dict[str, Any]:
    """Return an explanation with the rows behind it."""
    row: dict[str, Any] = {
        "newsletter": subscription.newsletter.slug,
        kind: about.id,
        "explanation": why.sentence,
        "gets": why.gets,
        "posts": [{"id": post.id, "title": post.title} for post in why.posts],
        "delivery": None,
    }
    if why.issue is not None:
        row["issue"] = why.issue.id
    if delivery := why.delivery:
        names = ("id", "state", "attempts", "settled_at", "next_attempt_at")
        row["delivery"] = {
            name: getattr(delivery, name) for name in (*names, "reply", "reason")
        }
    return row


def _subscriptions(session: Session, reader: Subscriber) -> list[Subscription]:
    query = select(Subscription).where(Subscription.subscriber_id == reader.id)
    return list(session.scalars(query.order_by(Subscription.id)))


def _show_subscription(session: Session, subscription: Subscription) -> None:
    newsletter = subscription.newsletter
    click.echo(
        f"\n{newsletter.slug}: {subscription.status.value},"
        f" {subscription.rhythm}, {subscription.language}"
    )
    history = histories.history(session, subscription)
    for step in history.consents:
        when = WORDS.moment(step.step.at, newsletter.timezone)
        where = f" ({step.step.page})" if step.step.page else ""
        click.echo(f"  {when}  {step.message}{where}")
    for sending in history.deliveries:
        delivery = sending.delivery
        when = WORDS.moment(delivery.created_at, newsletter.timezone)
        click.echo(f"  {when}  {delivery.state.value}: {sending.subject}")


def _asked_about(
    session: Session, reader: Subscriber, issue_id: int | None
) -> Iterator[tuple[Subscription, Issue]]:
    """Yield which subscriptions and issues are to be explained."""
    subscriptions = _subscriptions(session, reader)
    if issue_id is not None:
        issue = session.get(Issue, issue_id)
        if issue is None:
            raise NotFound("There is no issue %(id)s.", id=issue_id)
        same = [s for s in subscriptions if s.newsletter_id == issue.newsletter_id]
        yield from ((s, issue) for s in same or subscriptions[:1])
        return
    for subscription in subscriptions:
        query = (
            select(Issue)
            .where(Issue.newsletter_id == subscription.newsletter_id)
            .order_by(Issue.id.desc())
            .limit(EXPLAINED)
        )
        yield from ((subscription, issue) for issue in session.scalars(query))


COMMANDS = (subscribers,)
