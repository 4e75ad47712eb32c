"""What the clock does: small jobs, each on its own, each once however many clocks run.

A job is claimed by a conditional update of its row, which puts its next time a lease
ahead; whoever wins runs it and then sets the real next time. A clock that dies leaves a
job that falls due again when its lease is over. A job that fails is written to the log
and to its row, and stops no other.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from newsletter import editors, undoing
from newsletter.audit import reading
from newsletter.config import Settings
from newsletter.db import CHECKPOINT_AFTER, Database
from newsletter.digests import (
    drafts,
    forecast,
    planning,
    publish,
    reports,
    retrying,
    saved_segments,
    telling,
)
from newsletter.digests.planning import GRACE as GRACE
from newsletter.digests.preflight import addresses
from newsletter.errors import N_, InkorgError
from newsletter.mail import destinations, keyring, own_relays, probing
from newsletter.models import Issue, Job, Newsletter, SavedSegment, UsedLink
from newsletter.posts import editing, fetching, websub
from newsletter.subscribers import (
    finding,
    gate,
    notes,
    preferences,
    reckonings,
    signup,
    uploads,
)
from newsletter.subscribers.uploads import Piece

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
KEEP_USED_LINKS = timedelta(days=60)  # longer than any signed link lives
BATCH = 1000
MAX_BATCHES = 200
MAX_ERROR_CHARACTERS = 500
IMPORT_SECONDS = 5.0  # at a time, before a clock looks at its other jobs
IMPORT_LEASE = timedelta(seconds=30)  # a piece takes a fraction of a second


@dataclass(frozen=True, slots=True)
class Task:
    """A job: its name, how often it runs, and what it does."""

    name: str
    every: timedelta
    run: Callable[[Database, Settings, datetime], object]
    lease: timedelta = LEASE


def tick(
    database: Database,
    settings: Settings,
    *,
    now: datetime,
    tasks: tuple[Task, ...] | None = None,
) -> list[str]:
    """Run what is due and return the names of what ran here."""
    with database.reading() as session:
        due = {job.name: job.due_at for job in session.scalars(select(Job))}
    return [
        task.name
        for task in (TASKS if tasks is None else tasks)
        if due.get(task.name, now) <= now and _run(task, database, settings, now)
    ]


def ran_since(database: Database, moment: datetime) -> bool:
    """Tell whether any clock has run a job since `moment`."""
    with database.reading() as session:
        return session.scalar(select(Job.name).where(Job.ran_at >= moment)) is not None


def start_scheduled(database: Database, settings: Settings, now: datetime) -> int:
    """Send the issues whose moment has come; return how many.

    One that cannot be sent, or is much too late, is held until a person looks at it.
    """
    with database.reading() as session:
        due = [issue.id for issue in publish.due(session, now=now)]
    for issue_id in due:
        try:
            with database.transaction() as session:
                _start(session, settings, issue_id, now)
        except publish.Busy as reason:  # looked at again in a moment
            log.info("issue waits id=%d reason=%s", issue_id, reason)
        except InkorgError as reason:
            log.warning("issue held id=%d reason=%s", issue_id, reason)
            with database.transaction() as session:
                if issue := _still_due(session, issue_id, now):
                    _hold(session, settings, issue, reason, now)
    return len(due)


def _start(session: Session, settings: Settings, issue_id: int, now: datetime) -> None:
    issue = _still_due(session, issue_id, now)
    if issue is None or issue.scheduled_at is None:
        return
    if now - issue.scheduled_at > GRACE:
        log.warning("issue held id=%d reason=late", issue_id)
        _hold(session, settings, issue, InkorgError(planning.N_LATE), now)
        return
    publish.send(session, settings, issue, now=now)


def _hold(
    session: Session,
    settings: Settings,
    issue: Issue,
    why: InkorgError,
    now: datetime,
) -> None:
    publish.hold(session, issue, why)
    readers = publish.readers(session, issue, now=now)
    occasion = f"held:{issue.id}:{int(now.timestamp())}"
    telling.tell(session, settings, issue, readers, occasion, now=now)


def _still_due(session: Session, issue_id: int, now: datetime) -> Issue | None:
    """Return an issue, locked, unless it was taken back or put off meanwhile."""
    issue = session.get(Issue, issue_id)
    if issue is None:
        return None
    publish.hold_still(session, issue)
    return issue if publish.is_due(issue, now) else None


def plan_digests(database: Database, settings: Settings, now: datetime) -> int:
    """Make the digests that are due, each in a transaction; return how many.

    Also those that somebody gets late, since an earlier one was under way.
    """
    with database.reading() as session:
        follows = planning.needs_following(session)
    if follows:
        with database.transaction() as session:
            planning.follow(session, now=now)
    with database.reading() as session:
        late = publish.postponed(session)
    for issue_id in late:  # before the next one is planned for them too
        _top_up(database, settings, issue_id, now)
    with database.reading() as session:
        due = planning.due(session, now=now)
        beats = planning.needs_beat(session, now=now)
        under_way = publish.sending(session, {what.newsletter_id for what in due})
    for issue_id in under_way:
        _move_cursors(database, issue_id)
    made = sum(_plan_one(database, settings, what, now) for what in due)
    if beats:
        with database.transaction() as session:
            planning.beat(session, now=now)
    return made


def _plan_one(
    database: Database, settings: Settings, what: planning.Due, now: datetime
) -> bool:
    """Do what is due; what cannot be sent is held, and stops no other."""
    try:
        with database.transaction() as session:
            return planning.run(session, settings, what, now=now) is not None
    except InkorgError as reason:
        why = reason
    except Exception:
        log.exception("digest failed newsletter=%d", what.newsletter_id)
        why = InkorgError(N_("It could not be made. The log of the worker says more."))
    log.warning("digest held newsletter=%d reason=%s", what.newsletter_id, why)
    try:
        with database.transaction() as session:
            return planning.run(session, settings, what, now=now, why=why) is not None
    except Exception:
        log.exception("digest not held newsletter=%d", what.newsletter_id)
        return False


def _top_up(
    database: Database, settings: Settings, issue_id: int, now: datetime
) -> None:
    try:
        with database.transaction() as session:
            publish.top_up(session, settings, drafts.find(session, issue_id), now=now)
    except Exception:
        log.exception("top-up failed issue=%d", issue_id)


def finish_issues(database: Database, now: datetime) -> list[int]:
    """Close the issues whose readers are all settled; return their ids."""
    with database.reading() as session:
        settled = publish.settled(session)
    for issue_id in settled:
        _move_cursors(database, issue_id)
    if not settled:
        return []
    with database.transaction() as session:
        closed = publish.finish_settled(session, now=now, moved=settled)
        return [issue.id for issue in closed]


def _retry_failed(database: Database, _settings: Settings, now: datetime) -> int:
    """Queue what is left of the retries, in short transactions; return how many."""
    with database.reading() as session:
        unfinished = retrying.unfinished(session)
    for retry_id in unfinished:
        for _ in range(MAX_BATCHES):
            with database.transaction() as session:
                more = retrying.go_on(session, retry_id, now=now)
            if not more:
                break
    return len(unfinished)


def _finish_issues(database: Database, _settings: Settings, now: datetime) -> list[int]:
    return finish_issues(database, now)


def _move_cursors(database: Database, issue_id: int) -> None:
    """Write down whom an issue has reached, in short transactions."""
    after: int | None = 0
    while after is not None:
        with database.transaction() as session:
            after = publish.move_some_cursors(session, issue_id, after=after)


def _fetch_feeds(database: Database, settings: Settings, now: datetime) -> int:
    return len(fetching.fetch_due(database, settings, now=now))


def _publish_waiting(database: Database, _settings: Settings, now: datetime) -> int:
    return _in_batches(database, editing.publish_due, now)


def _ask_hubs(database: Database, settings: Settings, now: datetime) -> int:
    return websub.ask_hubs(database, settings, fetching.make_client(settings), now=now)


def _resume_pauses(database: Database, _settings: Settings, now: datetime) -> int:
    return _in_batches(database, preferences.resume_paused, now)


def _delete_unconfirmed(database: Database, _settings: Settings, now: datetime) -> int:
    return _in_batches(database, signup.delete_unconfirmed, now)


def _forget(database: Database, _settings: Settings, now: datetime) -> None:
    with database.transaction() as session:
        gate.purge_counts(session, now=now)
        destinations.forget_old(session, now=now)
        editors.forget_sessions(session, now=now)
        undoing.forget_old(session, now=now)
        notes.forget_removed(session, now=now)
        addresses.forget_old(session, now=now)
        session.execute(
            delete(UsedLink).where(UsedLink.used_at < now - KEEP_USED_LINKS)
        )


def _forget_changes(database: Database, settings: Settings, now: datetime) -> int:
    forget = functools.partial(reading.forget_old, days=settings.audit_days)
    return _in_batches(database, forget, now)


def reckon_readers(database: Database, _settings: Settings, now: datetime) -> int:
    """Reckon with large newsletters' readers, and for how many one digest would be.

    The long looks are outside the transactions that keep what they found.
    """
    with database.reading() as session:
        found = {
            newsletter.id: reckonings.count(session, newsletter, now=now)
            for newsletter in session.scalars(select(Newsletter)).all()
            if reckonings.are_due(session, newsletter, now=now)
        }
    for newsletter_id, numbers in found.items():
        with database.transaction() as session:
            reckonings.store(session, newsletter_id, numbers, now=now)
    with database.reading() as session:
        asked = forecast.questions(session, now=now)[:1]
        answers = [forecast.look(session, question, now=now) for question in asked]
    for question, readers in zip(asked, answers, strict=True):
        with database.transaction() as session:
            forecast.keep(session, question, readers, now=now)
    return len(found) + len(asked)


def _import_readers(database: Database, settings: Settings, now: datetime) -> int:
    """Go on with uploaded files, a piece in each transaction; return how many."""
    began, done = time.monotonic(), 0
    with database.reading() as session:
        waiting = uploads.under_way(session)
    for run_id in waiting:
        for piece in _look(database, settings, run_id, now):
            if time.monotonic() - began >= IMPORT_SECONDS:
                break
            more = _import_piece(database, settings, run_id, piece, now)
            done += more
            if not more:
                break
    return done


def _look(
    database: Database, settings: Settings, run_id: int, now: datetime
) -> Iterator[Piece | None]:
    """Understand some pieces, then the next ones, without end.

    None is one that the step shall see to by itself.
    """
    while True:
        pieces: list[Piece] = []
        while len(pieces) < CHECKPOINT_AFTER:  # for the time that the log is copied
            number = pieces[-1].number + 1 if pieces else None
            try:
                with database.reading() as session:
                    piece = uploads.look(session, settings, run_id, number, now=now)
            except Exception:  # the step meets it too, and says so
                break
            if piece is None:
                break
            pieces.append(piece)
        yield from pieces
        if not pieces:
            yield None


def _import_piece(
    database: Database,
    settings: Settings,
    run_id: int,
    piece: Piece | None,
    now: datetime,
) -> bool:
    try:
        with database.transaction(much=True) as session:
            return uploads.step(session, settings, run_id, piece=piece, now=now)
    except Exception:
        log.exception("import failed id=%d", run_id)
    with database.transaction() as session:
        uploads.fail(session, run_id, now=now)
    return False


def _forget_imports(database: Database, _settings: Settings, now: datetime) -> None:
    _in_batches(database, uploads.forget_old, now)
    more = True
    while more:
        with database.transaction() as session:
            more = uploads.forget_trials(session)


def look_at_senders(
    database: Database,
    _settings: Settings,
    now: datetime,
    lookup: probing.Lookup | None = None,
) -> int:
    """Look up what lets others believe each newsletter's mail; return how many lack it.

    The network is outside the transactions.
    """
    with database.reading() as session:
        senders = {
            newsletter.id: (domain, probing.signing_keys(session, newsletter, domain))
            for newsletter in session.scalars(select(Newsletter)).all()
            if (domain := keyring.domain_of(newsletter))
        }
    lacking = 0
    for newsletter_id, (domain, signing) in senders.items():
        asked = lookup or probing.txt_lookup()
        found = list(probing.domain_probes(domain, signing, asked))
        lacking += any(probe.state == probing.WRONG for probe in found)
        with database.transaction() as session:
            newsletter = session.get_one(Newsletter, newsletter_id)
            probing.keep_flaws(session, newsletter, found, now=now)
    return lacking


def count_issues(database: Database, _settings: Settings, now: datetime) -> int:
    """Count what became of issues, each kept as soon as it is counted."""
    with database.reading() as session:
        due = reports.due(session, now=now)
    for issue_id in due:
        with database.reading() as session:
            counted = reports.count(session, issue_id, now=now)
        with database.transaction() as session:
            reports.keep(session, counted)
    return len(due)


def _renew_keys(database: Database, settings: Settings, _now: datetime) -> int:
    with database.transaction() as session:
        return keyring.renew(session, settings) + own_relays.renew(session, settings)


def _index_addresses(database: Database, _settings: Settings, now: datetime) -> int:
    return _in_batches(database, finding.catch_up, now)


def _count_segments(database: Database, _settings: Settings, now: datetime) -> int:
    with database.reading() as session:
        saved = session.scalars(select(SavedSegment)).all()
        counted = [(one, saved_segments.count(session, one, now=now)) for one in saved]
    for one, readers in counted:
        with database.transaction() as session:
            saved_segments.keep_count(session, one, readers, now=now)
    return len(counted)


def _merge_addresses(database: Database, _settings: Settings, _now: datetime) -> None:
    """Write the index of addresses anew, in short transactions."""
    first = more = True
    while more:
        with database.transaction() as session:
            more = finding.merge(session, first=first)
        first = False


def _in_batches(database: Database, work: Callable[..., int], now: datetime) -> int:
    """Repeat `work` in short transactions until a batch is not full."""
    total = 0
    for _ in range(MAX_BATCHES):
        with database.transaction() as session:
            done = work(session, now=now, limit=BATCH)
        total += done
        if done < BATCH:
            break
    return total


TASKS = (
    Task("finish-issues", timedelta(seconds=2), _finish_issues),
    Task("start-scheduled", timedelta(seconds=2), start_scheduled),
    Task("retry-failed", timedelta(seconds=2), _retry_failed),
    Task("resume-pauses", timedelta(minutes=1), _resume_pauses),
    Task("publish-waiting", timedelta(seconds=15), _publish_waiting),
    Task("plan-digests", timedelta(seconds=10), plan_digests),
    # Often, for those that have been pinged; last, since it may take its time.
    Task("fetch-feeds", timedelta(seconds=5), _fetch_feeds),
    Task("ask-hubs", timedelta(seconds=30), _ask_hubs),
    Task("delete-unconfirmed", timedelta(hours=1), _delete_unconfirmed),
    Task("look-at-senders", timedelta(hours=3), look_at_senders),
    Task("reckon-readers", timedelta(seconds=20), reckon_readers),
    Task("count-issues", timedelta(seconds=15), count_issues),
    Task("index-addresses", timedelta(minutes=1), _index_addresses),
    Task("count-segments", timedelta(hours=1), _count_segments),
    Task("merge-addresses", timedelta(days=1), _merge_addresses),
    Task("forget", timedelta(hours=1), _forget),
    Task("forget-changes", timedelta(hours=1), _forget_changes),
    Task("import-readers", timedelta(seconds=1), _import_readers, IMPORT_LEASE),
    Task("forget-imports", timedelta(minutes=10), _forget_imports),
    Task("renew-keys", timedelta(hours=1), _renew_keys),
)


def _run(task: Task, database: Database, settings: Settings, now: datetime) -> bool:
    with database.transaction() as session:
        if not _claim(session, task, now):
            return False
    started = time.monotonic()
    error = ""
    try:
        if result := task.run(database, settings, now):
            seconds = time.monotonic() - started
            log.info("job name=%s result=%s s=%.2f", task.name, result, seconds)
    except Exception as failure:
        log.exception("job failed name=%s", task.name)
        error = f"{type(failure).__name__}: {failure}"[:MAX_ERROR_CHARACTERS]
    with database.transaction() as session:
        session.execute(
            update(Job)
            .where(Job.name == task.name, Job.due_at == now + task.lease)
            .values(due_at=now + task.every, ran_at=now, error=error)
        )
    return True


def _claim(session: Session, task: Task, now: datetime) -> bool:
    """Take the job for this clock, unless another has it or it is not due."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    insert = postgresql_insert if is_postgresql else sqlite_insert
    statement = (
        insert(Job)
        .values(name=task.name, due_at=now + task.lease, error="")
        .on_conflict_do_update(
            index_elements=["name"],
            set_={"due_at": now + task.lease},
            where=Job.due_at <= now,
        )
        .returning(Job.name)
    )
    return session.scalar(statement) is not None
