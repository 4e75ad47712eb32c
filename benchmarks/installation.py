"""Installations to measure on: a real database, real readers, a real issue of 30 kB.

A `Stock` makes each kind of database once and hands out copies, so that every run
begins with the very same rows: nothing is sent yet, nothing of an earlier run is left.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    String,
    cast,
    create_engine,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.orm import Session

from benchmarks.postgres import Cluster
from newsletter import config, migrate
from newsletter.config import Settings
from newsletter.db import Database, engine_options, prepare_engine, utcnow
from newsletter.demo import sample
from newsletter.digests import drafts, publish
from newsletter.mail import ledger, mime
from newsletter.mail.mime import Frozen
from newsletter.models import (
    Delivery,
    Issue,
    Message,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
)

SECRET = "benchmark" * 4
MAIL_BYTES = 30_000
OPENING = (
    "Nu är det höst på gårdarna. I det här brevet berättar vi om sådant som grannar har"
    " gjort tillsammans sedan sist, och om det som väntar under de mörka månaderna.\n\n"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A database of its own, as a child process is told of it."""

    url: str
    readers: int


def settings_for(url: str, smtp_url: str = "smtp://127.0.0.1") -> Settings:
    """Return settings as a small installation has them."""
    return config.load_settings(
        {
            **environ_for(url, smtp_url),
            "NEWSLETTER_SIGNUPS_PER_NETWORK_HOUR": "1000000",
            "NEWSLETTER_SIGNUPS_PER_HOUR": "1000000",
        }
    )


def relay_url(port: int, host: str = "127.0.0.1", **relay: object) -> str:
    """Return the address of a relay, as NEWSLETTER_SMTP_URL takes it."""
    options = "&".join(f"{k}={v}" for k, v in {"connections": 10, **relay}.items())
    return f"smtp://{host}:{port}?{options}"


def environ_for(url: str, smtp_url: str, folder: str = "") -> dict[str, str]:
    """Return the settings as a process of `python -m newsletter` takes them."""
    return {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": url,
        "NEWSLETTER_INSTANCE_DIR": folder or tempfile.gettempdir(),
        "NEWSLETTER_EHLO_NAME": "localhost",
        "NEWSLETTER_SMTP_URL": smtp_url,
    }


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a database as the worker does, and close it well."""
    engine = create_engine(url, **engine_options(url))
    prepare_engine(engine)
    try:
        yield Database(engine)
    finally:
        engine.dispose()


def make(url: str, readers: int, *, send: bool = True) -> None:
    """Fill an empty database: the newsletter, its readers, and the issue for them."""
    settings, now = settings_for(url), utcnow()
    with opened(url) as database:
        migrate.upgrade(database.engine)
        sample.prepare(database, settings, now=now)
        with database.transaction() as session:
            add_readers(session, readers, now)
        with database.transaction() as session:
            issue_id = write_issue(session, now)
        if send:
            start(database, settings, issue_id)
        if not database.is_sqlite:
            with database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                    text("VACUUM ANALYZE")
                )


def add_readers(session: Session, readers: int, now: datetime) -> None:
    """Add active readers: two statements, however many they are."""
    newsletter = session.get_one(Newsletter, 1)
    numbers, number, padded, token = words_of(session, readers)
    email = (
        literal("reader") + cast(number, String) + "@exempel"
        + cast(number % 997, String) + ".example"
    )  # fmt: skip
    people = select(email, email, padded, value_of(Subscriber.created_at, now))
    session.execute(
        insert(Subscriber).from_select(
            ["email", "email_key", "address_hash", "created_at"],
            people.select_from(numbers),
        )
    )
    bonds = select(
        literal(newsletter.id),
        Subscriber.id,
        value_of(Subscription.status, Status.ACTIVE),
        literal(newsletter.language),
        literal(newsletter.default_rhythm),
        token,
        token,
        value_of(Subscription.confirmed_at, now),
        value_of(Subscription.created_at, now),
    ).order_by(Subscriber.id)
    columns = ["newsletter_id", "subscriber_id", "status", "language", "rhythm"]
    columns += ["leave_token", "preferences_token", "confirmed_at", "created_at"]
    session.execute(insert(Subscription).from_select(columns, bonds))


def words_of(session: Session, readers: int) -> Any:
    """Return numbers from 1, the number, it with zeros, and a token, in its dialect."""
    if session.get_bind().dialect.name == "postgresql":
        series = func.generate_series(1, readers)
        numbers = series.table_valued("n").render_derived()
        number = cast(numbers.c.n, Integer)
        padded = func.lpad(func.to_hex(number), 64, "0")
        drawn = func.md5(cast(func.random(), String) + cast(Subscriber.id, String))
        return numbers, number, padded, func.substr(drawn, 1, 22)
    first = select(literal(1).label("n")).cte("numbers", recursive=True)
    counted = first.union_all(select(first.c.n + 1).where(first.c.n < readers))
    padded = func.printf("%064x", counted.c.n)
    token = func.lower(func.hex(func.randomblob(literal_column("11"))))
    return counted, counted.c.n, padded, token


def value_of(column: Any, value: object) -> ColumnElement[Any]:
    """Return a value as a column's type writes it."""
    return literal(value, column.type)


def write_issue(session: Session, now: datetime) -> int:
    """Draft an issue whose mail is about as long as MAIL_BYTES; return its id."""
    newsletter = session.get_one(Newsletter, 1)
    settings = settings_for("sqlite://")
    issue = drafts.draft(session, newsletter, now=now)

    def size() -> int:
        letter = replace(publish.sample_letter(settings, issue), leave_url="")
        return mime.freeze(letter).size

    posts = [entry.post_id for entry in issue.posts]
    for last in range(len(posts), 0, -1):
        if size() <= MAIL_BYTES:
            break
        drafts.edit(session, issue, hidden=posts[last - 1 :])
    for times in range(1, 60):
        if size() >= MAIL_BYTES:
            break
        drafts.edit(session, issue, opening=OPENING * times)
    return issue.id


def start(database: Database, settings: Settings, issue_id: int) -> int:
    """Queue an issue; return to how many readers."""
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        return publish.send(session, settings, issue, now=utcnow())


def sample_mail(url: str) -> bytes:
    """Return the mail of the first reader, as it goes over the wire."""
    with opened(url) as database, database.reading() as session:
        delivery = session.scalars(
            select(Delivery).where(Delivery.lane == ledger.BULK).order_by(Delivery.id)
        ).first()
        assert delivery
        message = session.get_one(Message, delivery.message_id)
        bond = session.get_one(Subscription, delivery.subscription_id)
        return Frozen.unpack(message.frozen).splice(
            address=delivery.address,
            delivery_id=delivery.id,
            nonce=message.nonce,
            leave_token=bond.leave_token,
            preferences_token=bond.preferences_token,
            at=utcnow(),
        )


def counts(url: str) -> ledger.Counts:
    """Return what the ledger says of the issues, added up."""
    with opened(url) as database, database.reading() as session:
        found = [
            ledger.counts(session, issue_id=n)
            for n in session.scalars(select(Issue.id))
        ]
    fields = ledger.Counts.__dataclass_fields__
    return ledger.Counts(**{k: sum(getattr(c, k) for c in found) for k in fields})


class Stock:
    """Databases with readers and an issue, made once, copied for each run."""

    def __init__(self) -> None:
        """Start with none; the cluster starts when it is first needed."""
        self._folder = tempfile.TemporaryDirectory(prefix="inkorg-bench-")
        self.folder = Path(self._folder.name)
        self._numbers = count(1)
        self._made: dict[tuple[str, int, bool], str] = {}
        self._cluster: Cluster | None = None

    def __enter__(self) -> "Stock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._cluster:
            self._cluster.__exit__(kind, error, trace)
        self._folder.cleanup()

    @property
    def cluster(self) -> Cluster:
        """Return the PostgreSQL cluster, started by the first who asks."""
        if self._cluster is None:
            self._cluster = Cluster().__enter__()
        return self._cluster

    def base(self, dialect: str, readers: int, *, send: bool = True) -> str:
        """Return the address of the database that copies are made from."""
        key = (dialect, readers, send)
        if key not in self._made:
            name = f"base{next(self._numbers)}"
            if dialect == "sqlite":
                url = f"sqlite:///{self.folder / name}.sqlite3"
            else:
                url = self.cluster.create(name)
            make(url, readers, send=send)
            self._made[key] = url
        return self._made[key]

    @contextmanager
    def place(
        self, dialect: str, readers: int, *, send: bool = True
    ) -> Iterator[Place]:
        """Lend a fresh copy; it is gone afterwards."""
        base, name = self.base(dialect, readers, send=send), f"run{next(self._numbers)}"
        if dialect == "sqlite":
            folder = self.folder / name
            folder.mkdir()
            shutil.copy(base.removeprefix("sqlite:///"), folder / "inkorg.sqlite3")
            try:
                yield Place(f"sqlite:///{folder / 'inkorg.sqlite3'}", readers)
            finally:
                shutil.rmtree(folder)
        else:
            url = self.cluster.copy(base.rpartition("/")[2], name)
            try:
                yield Place(url, readers)
            finally:
                self.cluster.drop(name)

    def forget(self, dialect: str, readers: int, *, send: bool = True) -> None:
        """Give back the room that a large one takes."""
        url = self._made.pop((dialect, readers, send), "")
        if url.startswith("sqlite"):
            Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)
        elif url:
            self.cluster.drop(url.rpartition("/")[2])
