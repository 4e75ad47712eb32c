"""Commands that copy the database out and back in."""

import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from sqlalchemy import exists, func, select, update
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from newsletter import migrate
from newsletter.cli.common import Installation, example, with_installation
from newsletter.db import utcnow
from newsletter.errors import N_, Conflict, InkorgError, InvalidInput, NotFound
from newsletter.mail import ledger, own_relays
from newsletter.models import (
    Delivery,
    Editor,
    Issue,
    IssueState,
    Message,
    MessageState,
    Mode,
    Newsletter,
)
from newsletter.subscribers import farewells
from newsletter.subscribers.farewells import Farewell

PAGES_A_STEP = 1000  # of SQLite: writers get in between
POSTGRESQL_MAGIC = b"PGDMP"
SQLITE_MAGIC = b"SQLite format 3\0"
N_RESTORED = N_(
    "A backup was restored. Nobody knows what went out after it was made: look first."
)


@click.command(epilog=example("backup /var/backups/inkorg-2026-11-22.backup"))
@click.argument("file", type=click.Path(path_type=Path))
@with_installation
def backup(place: Installation, file: Path) -> None:
    """Copy the whole database to FILE, while everything runs.

    FILE holds addresses and secrets: only its owner may read it.
    """
    if file.exists():
        raise Conflict(
            N_("%(file)s exists already. Choose another name, or remove it."), file=file
        )
    if not file.parent.is_dir():
        raise NotFound(N_("There is no folder %(folder)s."), folder=file.parent)
    unfinished = file.with_name(f"{file.name}.part")
    unfinished.touch(mode=0o600)
    try:
        _dump(place.database.engine.url, unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


@click.command(epilog=example("restore /var/backups/inkorg-2026-11-22.backup"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a database that is not empty.")
@with_installation
def restore(place: Installation, file: Path, force: bool) -> None:
    """Put a backup in the database's place. Stop `serve` and `work` first.

    A restored copy sends nothing by itself: scheduled issues are held, issues that were
    being sent are paused, and single mails that were waiting are dropped. Whoever left
    according to the database that is replaced stays away.
    """
    _check_file(file, is_sqlite=place.database.is_sqlite)
    if _has_content(place) and not force:
        raise Conflict(
            N_(
                "This database is not empty. To replace all that is in it, say"
                " --force; make a backup of it first."
            )
        )
    said = _farewells(place)
    place.database.engine.dispose()
    _load(place.database.engine.url, file)
    migrate.upgrade(place.database.engine)
    with place.database.transaction() as session:
        held, paused, dropped = _silence(session)
        halted = _halt(session, utcnow())
        gone = farewells.repeat(session, said)
        closed = own_relays.unopened(session, place.settings)
    click.echo(
        f"Restored. Held: {held} issues, paused: {paused} issues, dropped: {dropped}"
        f" single mails. Left again: {gone} readers who had left since the backup."
    )
    for slug in halted:
        click.echo(
            f"No digest of {slug} goes by itself before you say:"
            f" python -m newsletter newsletter go-ahead {slug}"
        )
    for slug, why in closed:
        click.echo(f"{slug}: no mail of it leaves. {why}", err=True)


def _farewells(place: Installation) -> list[Farewell]:
    """Return who has left, as far as the database that is to be replaced knows."""
    current, newest = migrate.revisions(place.database.engine)
    if current is None or current != newest:
        return []
    with place.database.reading() as session:
        return farewells.collect(session)


def _silence(session: Session) -> tuple[int, int, int]:
    """Make sure that nothing leaves before a person says so."""
    scheduled = _move_issues(session, IssueState.SCHEDULED, IssueState.HELD)
    sending = _move_issues(session, IssueState.SENDING, IssueState.PAUSED)
    waiting = exists().where(
        Delivery.message_id == Message.id, Delivery.state.in_(ledger.UNSETTLED)
    )
    open_ones = (Message.state == MessageState.OPEN, waiting)
    single = select(Message.id).where(*open_ones, Message.lane == 0)
    dropped = len(session.scalars(single).all())
    for lane, state in ((0, MessageState.CANCELLED), (1, MessageState.PAUSED)):
        session.execute(
            update(Message).where(*open_ones, Message.lane == lane).values(state=state),
            execution_options={"synchronize_session": False},
        )
    return scheduled, sending, dropped


def _halt(session: Session, now: datetime) -> list[str]:
    """Let no digest go by itself; return the newsletters that did."""
    query = select(Newsletter).where(Newsletter.mode != Mode.HAND)
    found = list(session.scalars(query.order_by(Newsletter.slug)))
    for newsletter in found:
        newsletter.halted_at = now
    session.flush()
    return [newsletter.slug for newsletter in found]


def _move_issues(session: Session, old: IssueState, new: IssueState) -> int:
    issues = session.scalars(select(Issue).where(Issue.state == old)).all()
    for issue in issues:
        issue.state = new
        issue.held_reason = N_RESTORED
    session.flush()
    return len(issues)


def _has_content(place: Installation) -> bool:
    current, _newest = migrate.revisions(place.database.engine)
    if current is None:
        return False
    with place.database.reading() as session:
        return any(
            session.scalar(select(func.count()).select_from(model))
            for model in (Newsletter, Editor)
        )


def _check_file(file: Path, *, is_sqlite: bool) -> None:
    if not file.is_file():
        raise NotFound(N_("There is no file %(file)s."), file=file)
    with file.open("rb") as opened:
        head = opened.read(len(SQLITE_MAGIC))
    wanted = SQLITE_MAGIC if is_sqlite else POSTGRESQL_MAGIC
    if not head.startswith(wanted):
        raise InvalidInput(
            N_("%(file)s is not a backup of %(kind)s, which this installation uses."),
            file=file,
            kind="SQLite" if is_sqlite else "PostgreSQL",
        )


def _dump(url: URL, target: Path) -> None:
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(Path(str(url.database)), target)
        return
    _run(url, "pg_dump", "--format=custom", "--no-owner", "--file", str(target))


def _load(url: URL, source: Path) -> None:
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(source, Path(str(url.database)))
        return
    options = ("--clean", "--if-exists", "--no-owner", "--single-transaction")
    _run(url, "pg_restore", *options, "--exit-on-error", str(source))


def _copy_sqlite(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
    new = sqlite3.connect(target, timeout=30)
    try:
        old.backup(new, pages=PAGES_A_STEP)
        found = new.execute("PRAGMA quick_check").fetchone()
        if found != ("ok",):
            raise InkorgError(N_("The copy is damaged: %(why)s"), why=found)
    except sqlite3.Error as error:
        raise InkorgError(
            N_("The database could not be copied: %(why)s."), why=error
        ) from None
    finally:
        new.close()
        old.close()


def _run(url: URL, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs on the database."""
    program = _find(name)
    if program is None:
        raise InkorgError(
            N_("%(name)s is missing. Install PostgreSQL's client programs first."),
            name=name,
        )
    done = subprocess.run(  # noqa: S603  (PostgreSQL's own program)
        [program, *_connection(url), *arguments],
        env={"PGPASSWORD": str(url.password or ""), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise InkorgError(N_("%(name)s failed: %(why)s"), name=name, why=lines[0])


def _find(name: str) -> str | None:
    # Debian's own `pg_dump` chooses by cluster; the newest real one knows them all.
    real = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(real[0]) if real else shutil.which(name)


def _connection(url: URL) -> Sequence[str]:
    given = (
        ("--host", url.host or url.query.get("host")),
        ("--port", url.port),
        ("--username", url.username),
        ("--dbname", url.database),
    )
    return [f"{option}={value}" for option, value in given if value]


COMMANDS = (backup, restore)
