"""Readers as editors see them: pages, counts, growth."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from newsletter.errors import InvalidInput, NotFound
from newsletter.models import Newsletter, Status
from newsletter.subscribers import directory, exporting
from newsletter.subscribers.directory import Counts
from tests.factories import NOW, make_newsletter, make_subscription


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    return make_newsletter(session)


@pytest.fixture(params=["few", "many"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search as in a small newsletter, and as in a large one."""
    if request.param == "many":
        monkeypatch.setattr(directory, "MANY", 0)


def everyone(
    session: Session, newsletter: Newsletter, text: str = "", limit: int = 2
) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = directory.search(
            session, newsletter, text=text, after=after, limit=limit
        )
        assert len(page.subscriptions) <= limit
        found += [s.subscriber.email for s in page.subscriptions]
        after = page.next_after
    return found


@pytest.mark.usefixtures("size")
def test_pages_follow_each_other_without_gap_or_repeat(
    session: Session, newsletter: Newsletter
) -> None:
    other = make_newsletter(session, "annat")
    emails = [f"r{n:02}@example.org" for n in range(11)]
    for email in reversed(emails):
        make_subscription(session, newsletter, email)
    make_subscription(session, other, "elsewhere@example.org")
    for limit in (1, 2, 11, 12):
        assert everyone(session, newsletter, limit=limit) == emails


@pytest.mark.usefixtures("size")
def test_search_finds_a_part_of_the_address_whatever_its_case(
    session: Session, newsletter: Newsletter
) -> None:
    for email in ("Anna@example.org", "bo@Allmanna.example", "100%@example.org"):
        make_subscription(session, newsletter, email)
    assert everyone(session, newsletter, "ANNA") == [
        "Anna@example.org",
        "bo@Allmanna.example",
    ]
    assert everyone(session, newsletter, "0%@") == ["100%@example.org"]
    assert everyone(session, newsletter, "a_na") == []
    make_subscription(session, newsletter, "å.b@xn--rksmrgs-5wao1o.se")
    for text in ("räksmörgås.se", "@Räksmörgås.se", "å.b", "rksmrgs"):
        found = everyone(session, newsletter, text)
        assert found == ["å.b@xn--rksmrgs-5wao1o.se"], text
    for odd in ("'", "%", "\\", ")", "{0}", "%s"):
        everyone(session, newsletter, odd)


@pytest.mark.usefixtures("size")
def test_search_keeps_to_a_status(session: Session, newsletter: Newsletter) -> None:
    make_subscription(session, newsletter, "a@example.org")
    make_subscription(session, newsletter, "b@example.org", status=Status.LEFT)
    page = directory.search(session, newsletter, status=Status.LEFT)
    assert [s.subscriber.email for s in page.subscriptions] == ["b@example.org"]


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
