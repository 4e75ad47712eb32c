"""Commands about issues: draft, look at, try, send, follow and stop them."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n, moments, newsletters
from newsletter.cli import following
from newsletter.cli.common import (
    Installation,
    counted,
    example,
    json_option,
    show_json,
    with_installation,
)
from newsletter.db import utcnow
from newsletter.digests import (
    compose,
    drafts,
    letters,
    publish,
    retrying,
    telling,
)
from newsletter.digests.preflight import outside
from newsletter.digests.preflight import report as preflight
from newsletter.digests.preflight.findings import Finding, Level
from newsletter.digests.status import status as figures_of
from newsletter.errors import InkorgError, InvalidInput, ThemeError
from newsletter.mail import destinations, mime, outcomes, own_relays
from newsletter.models import Issue, IssueState, Newsletter

LISTED = 50
PATIENCE = 20.0  # seconds that others have to answer
MARKS = {
    Level.ERROR: "✗",
    Level.WARNING: "!",
    Level.UNKNOWN: "?",
    Level.PASSED: "✓",
}
MOST_TESTS = 10
NO_REASON = "none"
issue_id = click.argument("issue_id", metavar="ID", type=int)


@click.group()
def issue() -> None:
    """Draft, preview, test, send and follow issues: digests and letters."""


@issue.command(epilog=example("issue draft labbet --subject 'Höstens första'"))
@click.argument("slug")
@click.option(
    "--post", "post_ids", metavar="ID", type=int, multiple=True, help="Pick this post."
)
@click.option("--subject", default="", help="Left out, it is made of the posts.")
@click.option(
    "--opening", default="", metavar="FILE|TEXT", help="Opening words in Markdown."
)
@with_installation
def draft(
    place: Installation, slug: str, post_ids: list[int], subject: str, opening: str
) -> None:
    """Gather the posts since the last issue, or those picked; print the new id."""
    words = _file_or_text(opening)
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        try:
            made = drafts.draft(
                session,
                newsletter,
                post_ids=post_ids,
                subject=subject,
                opening=words,
                now=utcnow(),
            )
        except drafts.NothingNew as nothing:
            raise InkorgError(f"{nothing} Use --post ID.") from None
        click.echo(str(made.id))


@issue.command(
    epilog=example("issue letter labbet --subject 'Vi flyttar' --body brev.md")
)
@click.argument("slug")
@click.option("--subject", required=True, help="What the inbox and the top show.")
@click.option(
    "--body", required=True, metavar="FILE", help="The letter in Markdown; - reads it."
)
@click.option(
    "--to",
    "segment",
    default="",
    metavar="SEGMENT",
    help="Some of the readers, such as 'topic:klimat language:sv'. Left out: all.",
)
@click.option("--preview-text", default="", help="Left out, the letter's beginning.")
@click.option(
    "--language", default="", help="The letter's. Left out: the newsletter's."
)
@with_installation
def letter(
    place: Installation,
    slug: str,
    subject: str,
    body: str,
    segment: str,
    preview_text: str,
    language: str,
) -> None:
    """Write a letter, words without posts; print the new id. Send it as any issue."""
    text = _read_file(body)
    with place.database.transaction() as session:
        newsletter = newsletters.by_slug(session, slug)
        made = letters.write(
            session,
            newsletter,
            subject=subject,
            preview_text=preview_text,
            body=text,
            segment=segment,
            language=_known(language),
            now=utcnow(),
        )
        letters.check(made)
        click.echo(str(made.id))


@issue.command("list", epilog=example("issue list labbet"))
@click.argument("slug", required=False)
@json_option
@with_installation
def list_(place: Installation, slug: str | None, as_json: bool) -> None:
    """List the latest issues, the newest first."""
    query = select(Issue, Newsletter.slug).join(Newsletter)
    with place.database.reading() as session:
        if slug:
            query = query.where(
                Issue.newsletter_id == newsletters.by_slug(session, slug).id
            )
        found = session.execute(query.order_by(Issue.id.desc()).limit(LISTED))
        rows = [_row(one, its_slug) for one, its_slug in found]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        number = "-" if row["number"] is None else row["number"]
        columns = (row["id"], row["newsletter"], number, row["state"], row["total"])
        what = " · ".join(filter(None, (row["rhythm"], row["subject"])))
        click.echo("\t".join(map(str, (*columns, what))).rstrip())


@issue.command(epilog=example("issue preview 12 --out /tmp/digest"))
@issue_id
@click.option(
    "--out",
    "folder",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where digest.html, digest.txt and digest.eml are written.",
)
@click.option("--language", default="", help="Left out: the newsletter's.")
@with_installation
def preview(place: Installation, issue_id: int, folder: Path, language: str) -> None:
    """Write the issue as readers would get it now to files."""
    with place.database.reading() as session:
        found = drafts.find(session, issue_id)
        words = i18n.language(_known(language) or found.newsletter.language)
        letter = compose.compose(
            place.settings, found, found.newsletter, found.posts, words
        )
    sample = compose.sample(letter)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "digest.html").write_text(sample.html, encoding="utf-8")
        (folder / "digest.txt").write_text(sample.text, encoding="utf-8")
        (folder / "digest.eml").write_bytes(_as_file(letter, utcnow()))
    except OSError as error:
        raise InkorgError(f"{folder} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote digest.html, digest.txt and digest.eml to {folder}.")


@issue.command(epilog=example("issue test 12 --to me@example.org"))
@issue_id
@click.option(
    "--to",
    "addresses",
    required=True,
    multiple=True,
    metavar="EMAIL",
    help="Who gets it; up to ten times.",
)
@click.option("--language", default="", help="Left out: the newsletter's.")
@with_installation
def test(
    place: Installation, issue_id: int, addresses: list[str], language: str
) -> None:
    """Mail the issue as it stands to one address or some, marked as a test."""
    if len(addresses) > MOST_TESTS:
        raise click.UsageError(f"A test goes to at most {MOST_TESTS} addresses.")
    with place.database.transaction() as session:
        found = drafts.find(session, issue_id)
        for address in dict.fromkeys(addresses):
            publish.send_test(
                session,
                place.settings,
                found,
                address,
                language=_known(language),
                now=utcnow(),
            )
            click.echo(f"A test of issue {issue_id} is on its way to {address}.")
        _mention_workers(session)


@issue.command(epilog=example("issue check 12"))
@issue_id
@json_option
@with_installation
def check(place: Installation, issue_id: int, as_json: bool) -> None:
    """Look for what is wrong with an issue before it is sent. Exits 1 on errors.

    Its links are tried, and the DNS and SpamAssassin asked; that takes some seconds.
    """
    _ask_outside(place, issue_id)
    with place.database.reading() as session:
        found = drafts.find(session, issue_id)
        readers = publish.readers(session, found, now=utcnow())
        report = preflight.of(session, place.settings, found, readers=readers)
    if as_json:
        show_json([_finding(finding) for finding in report.findings])
    else:
        _show_findings(report.findings)
    if report.errors:
        raise SystemExit(1)


@issue.command(epilog=example("issue send 12 --wait"))
@issue_id
@click.option("--wait", is_flag=True, help="Follow it until everyone is settled.")
@click.option(
    "--after",
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    help="Leave so much later; until then `issue undo` takes it back.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Such as 2026-11-30T08:00, in the newsletter's time zone.",
)
@click.option("--yes", is_flag=True, help="Do not ask about warnings.")
@with_installation
def send(
    place: Installation,
    issue_id: int,
    wait: bool,
    after: int | None,
    at: str | None,
    yes: bool,
) -> None:
    """Send an issue to everyone who is to get it. Twice sends it once.

    What `issue check` calls an error stops it. Warnings ask on a terminal, and are
    only printed elsewhere.

    With --wait the exit status is 0 when the issue is sent. Where no worker runs, this
    command does the sending itself. With --after or --at a worker sends it then.
    """
    if bool(wait) + bool(after) + bool(at) > 1:
        raise click.UsageError("--wait, --after and --at exclude each other.")
    _preflight(place, issue_id, yes)
    if after or at:
        _send_later(place, issue_id, after, at)
        return
    with place.database.transaction() as session:
        found = drafts.find(session, issue_id)
        if not (wait and found.state in (IssueState.SENDING, IssueState.SENT)):
            total = publish.send(session, place.settings, found, now=utcnow())
            click.echo(f"Issue {found.number} goes to {counted(total, 'reader')}.")
        if not wait:
            _mention_workers(session)
            click.echo(f"Follow it: python -m newsletter issue status {issue_id}")
    if wait:
        sys.exit(following.follow(place, issue_id))


def _send_later(
    place: Installation, issue_id: int, after: int | None, at: str | None
) -> None:
    now = utcnow()
    with place.database.transaction() as session:
        found = drafts.find(session, issue_id)
        zone = found.newsletter.timezone
        if after:
            expected = publish.readers(session, found, now=now)
            publish.send_soon(
                session,
                place.settings,
                found,
                seconds=after,
                expected=expected,
                now=now,
            )
            click.echo(f"Leaves in {after} s, to {counted(expected, 'reader')}.")
        else:
            moment = moments.read(at or "", zone, field="at")
            publish.schedule(session, found, moment, now=now)
            click.echo(f"Leaves at {moments.write(moment, zone)} ({zone}).")
        click.echo(f"Take it back: python -m newsletter issue undo {issue_id}")
        _mention_workers(session)


@issue.command(epilog=example("issue undo 12"))
@issue_id
@with_installation
def undo(place: Installation, issue_id: int) -> None:
    """Take back an issue that has not left yet: it is a draft again."""
    with place.database.transaction() as session:
        found = drafts.find(session, issue_id)
        if drafts.is_leaving(found):
            publish.undo(session, found, now=utcnow())
        else:
            publish.unschedule(session, found, now=utcnow())
    click.echo("Taken back. Nobody has got anything.")


@issue.command(epilog=example("issue status 12 --json"))
@issue_id
@json_option
@with_installation
def status(place: Installation, issue_id: int, as_json: bool) -> None:
    """Show how far an issue has come."""
    with place.database.reading() as session:
        found = drafts.find(session, issue_id)
        figures = figures_of(session, found, now=utcnow())
        names = own_relays.names_of(session, place.settings, found.newsletter)
        slowed = destinations.describe(session, relays=names, now=utcnow())
        again = outcomes.resent(session, issue_id=issue_id)
    if as_json:
        addresses = [delivery.address for delivery in again.deliveries]
        show_json({**figures, "resent_addresses": addresses})
        return
    click.echo(f"{figures['state']}: {following.in_words(figures)}")
    _tell_of_rhythm(figures)
    if again.deliveries:
        click.echo("Sent again, since a crash left it unknown whether they had it:")
        for delivery in again.deliveries:
            click.echo(f"  {delivery.address}")
    if again.after:
        click.echo(f"  and {figures['resent'] - len(again.deliveries)} more")
    if found.state is IssueState.SENDING:
        for one in slowed:
            click.echo(
                f"{one.domain} asked us to slow down; next try {one.until:%H:%M} UTC."
            )


@issue.command(epilog=example("issue pause 12"))
@issue_id
@with_installation
def pause(place: Installation, issue_id: int) -> None:
    """Stop handing over mail until `resume`."""
    with place.database.transaction() as session:
        publish.pause(session, drafts.find(session, issue_id))
    click.echo(f"Paused. Go on with: python -m newsletter issue resume {issue_id}")


@issue.command(epilog=example("issue resume 12"))
@issue_id
@with_installation
def resume(place: Installation, issue_id: int) -> None:
    """Go on with a paused issue."""
    with place.database.transaction() as session:
        publish.resume(session, drafts.find(session, issue_id))
        _mention_workers(session)
    click.echo("Going on.")


@issue.command(epilog=example("issue cancel 12"))
@issue_id
@with_installation
def cancel(place: Installation, issue_id: int) -> None:
    """Send the issue to nobody else. What has left has left."""
    with place.database.transaction() as session:
        publish.cancel(session, drafts.find(session, issue_id), now=utcnow())
    click.echo("Cancelled. Its posts are new again for those who did not get it.")


def _ask_outside(place: Installation, issue_id: int) -> None:
    """Ask others about an issue; where there is no mail, the report says why."""
    try:
        with place.database.reading() as session:
            found = drafts.find(session, issue_id)
            about = preflight.questions(session, place.settings, found, now=utcnow())
    except (InvalidInput, ThemeError):
        return
    answers = outside.ask(place.settings, about, seconds=PATIENCE)
    with place.database.transaction() as session:
        drafts.find(session, issue_id)
        outside.store(session, answers, now=utcnow())


def _preflight(place: Installation, issue_id: int, yes: bool) -> None:
    """Stop at errors, and ask about warnings where somebody can answer."""
    with place.database.reading() as session:
        found = drafts.find(session, issue_id)
        if found.state not in drafts.EDITABLE:
            return
        readers = publish.readers(session, found, now=utcnow())
        report = preflight.of(session, place.settings, found, readers=readers)
    preflight.refuse(report, report.mark)
    _show_findings(report.warnings, err=True)
    if report.warnings and not yes and sys.stdin.isatty():
        click.confirm("Send it all the same?", abort=True, err=True)


def _show_findings(findings: Sequence[Finding], *, err: bool = False) -> None:
    words = i18n.language(i18n.SOURCE)
    for finding in findings:
        line = f"{finding.sentence(words)} {finding.what_to_do(words)}".rstrip()
        click.echo(f"{MARKS[finding.level]} {line}", err=err)
        for place in finding.where:
            click.echo(f"    {place}", err=err)


def _finding(finding: Finding) -> dict[str, Any]:
    words = i18n.language(i18n.SOURCE)
    return {
        "code": finding.code,
        "level": finding.level.value,
        "what": finding.sentence(words),
        "what_to_do": finding.what_to_do(words),
        "where": list(finding.where),
    }


@issue.command(epilog=example("issue retry 12 --reason mailbox_soft --yes"))
@issue_id
@click.option(
    "--reason",
    "reasons",
    metavar="REASON",
    multiple=True,
    help="As the command lists them; left out, all of them.",
)
@click.option("--yes", is_flag=True, help="Do not only list them, try them again.")
@json_option
@with_installation
def retry(
    place: Installation, issue_id: int, reasons: list[str], yes: bool, as_json: bool
) -> None:
    """Try again those whom an issue did not reach, for some reasons or all.

    Without --yes it says for which reasons and how many that would be. The mails keep
    their Message-ID. Who has left, is suppressed, or has had the posts since is left
    out.
    """
    now = utcnow()
    with place.database.transaction() as session:
        found = drafts.find(session, issue_id)
        choices = [
            one
            for one in retrying.choices(session, found)
            if not reasons or (one.reason or NO_REASON) in reasons
        ]
        done = None
        if yes:
            wanted = [one.reason for one in choices]
            done = retrying.begin(session, found, wanted, now=now)
        possible = sum(one.possible for one in choices)
        if as_json:
            show_json(
                {
                    "reasons": [_choice(one) for one in choices],
                    "possible": possible,
                    "queued": done.readers if done else 0,
                }
            )
            return
        for one in choices:
            reason = one.reason or NO_REASON
            click.echo(
                f"{reason}\t{one.possible} of {one.readers}\t{one.reply}".rstrip()
            )
        if done is None:
            click.echo(f"{counted(possible, 'reader')} can be tried again; --yes does.")
            return
        click.echo(f"{counted(possible, 'reader')} tried again.")
        _mention_workers(session)


def _choice(one: retrying.Choice) -> dict[str, Any]:
    return {
        "reason": one.reason or NO_REASON,
        "readers": one.readers,
        "possible": one.possible,
        "reply": one.reply,
    }


def _tell_of_rhythm(figures: dict[str, Any]) -> None:
    if figures["rhythm"]:
        click.echo(f"To those who read {figures['rhythm']}.")
    if figures["held_because"] and figures["state"] == "paused":
        click.echo(figures["held_because"])
    elif figures["held_because"]:
        click.echo(f"It waits for you: {figures['held_because']}")


def _file_or_text(value: str) -> str:
    """Return what a file holds where `value` names one, else `value` itself."""
    try:
        path = Path(value)
        return path.read_text(encoding="utf-8") if value and path.is_file() else value
    except UnicodeDecodeError:
        raise InvalidInput("%(file)s is not UTF-8 text.", file=value) from None
    except OSError:  # a text too long for a name
        return value


def _read_file(name: str) -> str:
    """Return what a file holds; `-` is standard input."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("%(file)s is not UTF-8 text.", file=name) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no file's name"
        raise InkorgError(f"{name[:200]} cannot be read: {why}.") from None


def _known(language: str) -> str:
    if language and language not in i18n.available():
        raise InvalidInput(
            "Inkorg speaks %(languages)s. Choose one of them.",
            languages=", ".join(i18n.available()),
        )
    return language


def _row(issue: Issue, slug: str) -> dict[str, Any]:
    return {
        "id": issue.id,
        "newsletter": slug,
        "kind": issue.kind.value,
        "number": issue.number,
        "state": issue.state.value,
        "rhythm": issue.rhythm,
        "held_because": telling.held_because(issue, i18n.language(i18n.SOURCE)),
        "total": issue.total,
        "subject": issue.subject,
        "created_at": issue.created_at,
    }


def _as_file(letter: mime.Letter, now: datetime) -> bytes:
    return mime.freeze(letter).splice(
        address="reader@example.org",
        delivery_id=0,
        nonce="preview",
        leave_token=mime.NOBODY,
        preferences_token=mime.NOBODY,
        at=now,
    )


def _mention_workers(session: Session) -> None:
    if not following.worker_is_alive(session, utcnow()):
        click.echo(
            "No worker is running, so nothing leaves yet. Start one:"
            " python -m newsletter work",
            err=True,
        )


COMMANDS = (issue,)
