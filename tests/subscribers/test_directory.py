"""Readers as editors see them: pages, counts, growth."""

import functools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from newsletter.db import count_anew
from newsletter.errors import InvalidInput, NotFound
from newsletter.models import Newsletter, Status, Subscription
from newsletter.subscribers import (
    directory,
    exporting,
    finding,
    rights,
    signup,
    suppression,
)
from newsletter.subscribers.directory import Counts
from tests.factories import NOW, make_newsletter, make_subscription

LATER = datetime(2100, 1, 1, tzinfo=UTC)  # than anything else


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture(params=["few", "many", "indexed"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Search as in a small newsletter, and as in a large one without and with index."""
    size: str = request.param
    if size != "few":
        monkeypatch.setattr(directory, "FEW", 0)
        monkeypatch.setattr(directory, "STEPS", (1, 2, 3))
        monkeypatch.setattr(finding, "NEWER", 2)
    return size


def everyone(
    session: Session,
    newsletter: Newsletter,
    text: str = "",
    *,
    size: str = "few",
    limit: int = 2,
    **given: Any,
) -> list[str]:
    """Turn every page, the index as far as it goes in a newsletter of that size."""
    while size == "indexed" and finding.catch_up(session, now=LATER, limit=3):
        pass
    found: list[str] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        page = directory.search(
            session, newsletter, text=text, after=after, limit=limit, **given
        )
        assert len(page.subscriptions) <= limit
        # What is not full either ends, or says how far it went.
        short = len(page.subscriptions) < limit and page.next_after is not None
        assert page.unfinished == short
        found += [s.subscriber.email for s in page.subscriptions]
        after, pages = page.next_after, pages + 1
    return found


def test_pages_follow_each_other_without_gap_or_repeat(
    session: Session, newsletter: Newsletter, size: str
) -> None:
    other = make_newsletter(session, "annat")
    emails = [f"r{number:02}@example.org" for number in range(11)]
    for email in emails:
        make_subscription(session, newsletter, email)
        make_subscription(session, other, f"else-{email}")
    newest_first = emails[::-1]
    for limit in (1, 2, 11, 12):
        found = everyone(session, newsletter, size=size, limit=limit)
        assert found == newest_first
        found = everyone(session, newsletter, "EXAMPLE", size=size, limit=limit)
        assert found == newest_first
    assert everyone(session, newsletter, "r07@", size=size) == ["r07@example.org"]
    assert everyone(session, newsletter, "else", size=size) == []


def test_search_finds_a_part_of_the_address_whatever_its_case(
    session: Session, newsletter: Newsletter, size: str
) -> None:
    search = functools.partial(everyone, session, newsletter, size=size)
    for email in ("Anna@example.org", "bo@Allmanna.example", '100%"@example.org'):
        make_subscription(session, newsletter, email)
    assert search("ANNA") == ["bo@Allmanna.example", "Anna@example.org"]
    assert search('0%"@') == ['100%"@example.org']
    assert search("b") == ["bo@Allmanna.example"]
    for nobody in ("a_na", "annax", "'''", "%%%", "\\\\", ")", "{0}", "%s", "x" * 254):
        assert search(nobody) == [], nobody
    make_subscription(session, newsletter, "å.b@xn--rksmrgs-5wao1o.se")
    for part in ("räksmörgås.se", "@Räksmörgås.se", "å.b", "Å", "rksmrgs"):
        assert search(part) == ["å.b@xn--rksmrgs-5wao1o.se"], part


def test_search_keeps_to_a_status_and_to_conditions(
    session: Session, newsletter: Newsletter, size: str
) -> None:
    make_subscription(session, newsletter, "a@example.org", language="en")
    make_subscription(session, newsletter, "b@example.org", status=Status.LEFT)
    search = functools.partial(everyone, session, newsletter, size=size)
    assert search(status=Status.LEFT) == ["b@example.org"]
    assert search("example", status=Status.LEFT) == ["b@example.org"]
    english = [Subscription.language == "en"]
    assert search(conditions=english) == ["a@example.org"]
    assert search("example", conditions=english) == ["a@example.org"]
    assert search("example", status=Status.LEFT, conditions=english) == []


@pytest.mark.parametrize("size", ["many"], indirect=True)
def test_a_search_looks_at_some_and_says_how_far_it_came(
    session: Session, newsletter: Newsletter, size: str
) -> None:
    for days in range(9):
        make_subscription(session, newsletter, created_at=NOW - timedelta(9 - days))
    page = directory.search(session, newsletter, text="zz")
    assert page.subscriptions == []
    assert page.looked_back_to == NOW - timedelta(6)
    assert everyone(session, newsletter, "zz", size=size) == []


def test_the_index_forgets_who_is_erased_and_follows_who_moves(
    session: Session, newsletter: Newsletter
) -> None:
    anna, bo, cia = (
        make_subscription(session, newsletter, f"{name}@{name}zqx.example")
        for name in ("anna", "bobo", "cilla")
    )
    assert finding.catch_up(session, now=LATER, limit=2) == 2
    assert finding.catch_up(session, now=LATER, limit=2) == 1
    assert finding.catch_up(session, now=LATER, limit=2) == 0

    def found(text: str) -> list[int]:
        return finding.look_up(session, [text], before=cia.id + 1, limit=9).ids

    mine = [s.subscriber_id for s in (cia, bo, anna)]
    assert found("zqx.") == mine
    anna.subscriber.email_key = "anna@moved.example"
    session.flush()
    rights.erase_subscriber(session, bo.subscriber, now=NOW)
    assert (found("annazqx"), found("moved.")) == ([], [mine[2]])
    assert found("zqx.") == [mine[0]]
    rights.erase_subscriber(session, cia.subscriber, now=NOW)
    # On SQLite the number of the last one is given away again.
    again = make_subscription(session, newsletter, "dora@dorazqx.example")
    finding.catch_up(session, now=LATER, limit=9)
    assert finding.look_up(
        session, ["zqx."], before=again.subscriber_id + 1, limit=9
    ).ids == [again.subscriber_id]


def test_the_index_is_asked(session: Session) -> None:
    asked: list[str] = []

    @event.listens_for(session.connection(), "before_cursor_execute")
    def explain(*given: Any) -> None:
        connection, cursor, statement, parameters = given[:4]
        if "address_search" not in statement or "max(" in statement:
            return
        if "sqlite" in connection.dialect.name:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        else:
            # What suits a table that is empty is out of the way until the end.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(
                "ALTER TABLE address_search"
                " DROP CONSTRAINT IF EXISTS address_search_pkey"
            )
            cursor.execute(f"EXPLAIN {statement}", parameters)
        asked.extend(str(row) for row in cursor.fetchall())

    finding.look_up(session, ["anna"], before=1, limit=9)
    session.rollback()
    plan = "\n".join(asked)
    assert "ix_address_search_parts" in plan or "VIRTUAL TABLE INDEX" in plan, plan


def test_indexes_of_a_few_rows_are_asked(
    session: Session, newsletter: Newsletter
) -> None:
    """What an import of a million need not write must still serve who asks for it."""
    plans: dict[str, str] = {}
    # Else PostgreSQL plans for what lay in its tables when it last looked.
    for number in range(300):
        make_subscription(session, newsletter, f"reader{number}@example.org")
    session.flush()
    count_anew(session, "subscriber", "subscription")

    @event.listens_for(session.connection(), "before_cursor_execute")
    def explain(*given: Any) -> None:
        connection, cursor, statement, parameters = given[:4]
        if not statement.startswith("SELECT"):
            return
        query = "EXPLAIN QUERY PLAN" if "sqlite" in connection.dialect.name else None
        if query is None:
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"{query or 'EXPLAIN'} {statement}", parameters)
        plans[statement] = "\n".join(str(row) for row in cursor.fetchall())

    def asked_for(sign: str) -> str:
        return "\n".join(plan for query, plan in plans.items() if sign in query)

    signup.delete_unconfirmed(session, now=NOW)
    assert "ix_subscription_requested" in asked_for("requested_at <=")
    directory.growth(session, newsletter, since=NOW - timedelta(days=9), until=NOW)
    assert "ix_subscription_gone" in asked_for("left_at >=")
    suppression.suppress(session, "0" * 64, reason=suppression.BOUNCED, now=NOW)
    assert "ix_subscriber_hash" in asked_for("address_hash =")
    session.rollback()


def test_nothing_of_an_erased_address_stays_in_the_index(
    session: Session, newsletter: Newsletter
) -> None:
    stays, goes = (
        make_subscription(session, newsletter, email)
        for email in ("ulla@example.org", "wqzwqz@example.org")
    )
    finding.catch_up(session, now=LATER, limit=9)
    rights.erase_subscriber(session, goes.subscriber, now=NOW)
    first = True
    while finding.merge(session, first=first):
        first = False
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    kept = (
        "block FROM address_search_data"
        if is_sqlite
        else "email_key FROM address_search"
    )
    cells = session.scalars(text(f"SELECT {kept}")).all()
    held = b"".join(c if isinstance(c, bytes) else c.encode() for c in cells)
    assert b"ull" in held
    assert b"wqz" not in held
    assert everyone(session, newsletter, "ulla") == [stays.subscriber.email]


@pytest.mark.parametrize("size", ["many"], indirect=True)
def test_search_works_where_no_index_can_be_kept(
    session: Session, newsletter: Newsletter, size: str
) -> None:
    if session.get_bind().dialect.name == "sqlite":
        for what in ("TRIGGER subscriber_erased", "TRIGGER subscriber_moved"):
            session.execute(text(f"DROP {what}"))
        session.execute(text("DROP TABLE address_search"))
        assert finding.catch_up(session, now=LATER, limit=9) == 0
        assert not finding.merge(session, first=True)
    for number in range(9):
        make_subscription(session, newsletter, f"r{number}@example.org")
    assert everyone(session, newsletter, "r3@", size=size) == ["r3@example.org"]


def test_counts_stand_for_every_status(
    session: Session, newsletter: Newsletter
) -> None:
    assert directory.counts(session, newsletter) == Counts()
    for number, status in enumerate(Status, start=1):
        for _ in range(number):
            make_subscription(session, newsletter, status=status)
    counts = directory.counts(session, newsletter)
    assert counts == Counts(pending=1, active=2, paused=3, left=4, suppressed=5)
    assert (counts.total, counts.readers) == (15, 5)


def test_growth_counts_the_newsletters_own_days(
    session: Session, newsletter: Newsletter
) -> None:
    late = datetime(2026, 11, 1, 23, 30, tzinfo=UTC)  # the second, in Stockholm
    make_subscription(session, newsletter, confirmed_at=late)
    make_subscription(
        session,
        newsletter,
        confirmed_at=late + timedelta(hours=2),
        status=Status.LEFT,
        left_at=late + timedelta(days=2),
    )
    make_subscription(session, newsletter, status=Status.PENDING, confirmed_at=None)
    since = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
    found = directory.growth(
        session, newsletter, since=since, until=since + timedelta(days=5)
    )
    assert [(g.since.day, g.joined, g.left, g.net) for g in found] == [
        (1, 0, 0, 0),
        (2, 2, 0, 2),
        (3, 0, 0, 0),
        (4, 0, 1, -1),
        (5, 0, 0, 0),
        (6, 0, 0, 0),
    ]
    months = directory.growth(
        session,
        newsletter,
        since=datetime(2026, 1, 5, tzinfo=UTC),
        until=datetime(2026, 12, 5, tzinfo=UTC),
        by="month",
    )
    assert len(months) == 12
    assert [g for g in months if g.joined or g.left] == [
        directory.Growth(date(2026, 11, 1), 2, 1)
    ]


def test_the_newest_readers_come_first(
    session: Session, newsletter: Newsletter
) -> None:
    for days in (3, 1, 2):
        make_subscription(
            session,
            newsletter,
            f"d{days}@example.org",
            confirmed_at=NOW - timedelta(days=days),
        )
    found = directory.newest(session, newsletter, limit=2)
    emails = [s.subscriber.email for s in found]
    assert emails == ["d1@example.org", "d2@example.org"]


def test_one_reader_is_found_by_address_and_by_number(
    session: Session, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, "anna@example.org")
    assert directory.find(session, " ANNA@example.org ").id == reader.subscriber_id
    assert directory.subscription(session, newsletter, reader.id) is reader
    with pytest.raises(NotFound):
        directory.find(session, "bo@example.org")
    with pytest.raises(InvalidInput):
        directory.find(session, "bo")
    with pytest.raises(NotFound):
        other = make_newsletter(session, "annat")
        directory.subscription(session, other, reader.id)


def test_an_export_forgets_what_it_has_written(
    session: Session, newsletter: Newsletter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        make_subscription(session, newsletter, f"r{number}@example.org")
    session.expunge_all()
    monkeypatch.setattr(directory, "STREAM_BATCH", 3)
    most = 0
    emails = []
    for row in exporting.export_rows(session, newsletter):
        emails.append(row["email"])
        most = max(most, len(session.identity_map))
    assert emails == [f"r{number}@example.org" for number in range(7)]
    assert most <= 2 * 3 + 1
