"""Reports: sums that the clock keeps, compared, over time, and as CSV."""

import csv
import io
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import clicks, reports
from newsletter.digests.machines import Clicks, Opened
from newsletter.models import (
    CountedLink,
    Delivery,
    DeliveryState,
    Issue,
    IssueReport,
    IssueState,
    Kind,
    Message,
    MessageState,
    Newsletter,
    Role,
    Status,
    Subscription,
)
from tests.factories import make_newsletter, make_subscription
from tests.web.at_work import as_editor

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
HOME = "/editor/labbet/reports/"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet", created_at=NOW - 90 * DAY)


def make_issue(
    session: Session,
    newsletter: Newsletter,
    number: int,
    outcome: Sequence[tuple[Subscription | None, DeliveryState, str]],
    *,
    at: datetime,
    subject: str = "Fyra nya inlägg",
    rhythm: str = "",
    state: IssueState = IssueState.SENT,
) -> Issue:
    """Create an issue that began at a moment, took 20 seconds and is done."""
    issue = Issue(
        newsletter_id=newsletter.id,
        state=state,
        number=number,
        subject=subject,
        rhythm=rhythm,
        total=len(outcome),
        started_at=at,
        finished_at=at + timedelta(seconds=30),
    )
    session.add(issue)
    session.flush()
    message = Message(
        kind=Kind.DIGEST,
        state=MessageState.DONE,
        newsletter_id=newsletter.id,
        issue_id=issue.id,
        lane=1,
        language="sv",
        subject=subject,
        sender="labbet@allmannyttan.example",
        nonce=f"n{number}",
        frozen=b"",
    )
    session.add(message)
    session.flush()
    for place, (reader, became, reason) in enumerate(outcome):
        session.add(
            Delivery(
                message_id=message.id,
                subscription_id=reader.id if reader else None,
                occasion=f"issue:{issue.id}",
                address=f"l{place}@exempel.example",
                lane=1,
                state=became,
                attempts=1,
                reason=reason or None,
                settled_at=at + timedelta(seconds=20),
            )
        )
    session.flush()
    return issue


def sums(database: Database, issue_id: int) -> IssueReport | None:
    with database.reading() as session:
        return session.get(IssueReport, issue_id)


def text_of(app: Flask, path: str) -> str:
    answer = as_editor(app, Role.VIEWER).get(path)
    assert answer.status_code == 200
    main = answer.text.partition("<main")[2]
    return " ".join(re.sub(r"<[^>]+>", " ", main).replace("\xa0", " ").split())


def table(app: Flask, path: str) -> list[dict[str, str]]:
    answer = as_editor(app, Role.VIEWER).get(path)
    assert answer.mimetype == "text/csv"
    assert answer.data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.data.decode("utf-8-sig"))))


SENT, BOUNCED = DeliveryState.SENT, DeliveryState.BOUNCED


def test_the_clock_counts_what_is_done_and_counts_again(
    database: Database, settings: Settings, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        readers = [make_subscription(session, labbet) for _ in range(3)]
        at = NOW - timedelta(hours=3)
        outcome = [
            *((reader, SENT, "") for reader in readers),
            (None, DeliveryState.COMPLAINED, ""),
            (None, BOUNCED, "unknown_mailbox"),
            (None, BOUNCED, "unknown_mailbox"),
            (None, BOUNCED, "mailbox_soft"),
            (None, DeliveryState.FAILED, "content"),
            (None, DeliveryState.SKIPPED, "left"),
        ]
        issue_id = make_issue(session, labbet, 1, outcome, at=at).id
        under_way = make_issue(
            session, labbet, 2, [], at=at, state=IssueState.SENDING
        ).id
    assert jobs.count_issues(database, settings, NOW) == 1
    assert sums(database, under_way) is None
    found = sums(database, issue_id)
    assert found
    assert (found.readers, found.delivered, found.bounced) == (9, 4, 3)
    assert (found.failed, found.skipped, found.complained) == (1, 1, 1)
    assert found.reasons[0] == ["bounced", "unknown_mailbox", 2]
    assert found.next_at == NOW + timedelta(hours=1)
    # Not before its time; then what has come meanwhile is in it.
    with database.transaction() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.subscription_id == readers[0].id)
            .values(state=BOUNCED)
        )
    assert jobs.count_issues(database, settings, NOW + timedelta(minutes=59)) == 0
    assert jobs.count_issues(database, settings, NOW + timedelta(hours=1)) == 1
    again = sums(database, issue_id)
    assert again
    assert (again.delivered, again.bounced) == (3, 4)
    # What was tried again is counted at once, what is a month old no more.
    with database.transaction() as session:
        finished = NOW + timedelta(hours=1, minutes=1)
        session.get_one(Issue, issue_id).finished_at = finished
    assert jobs.count_issues(database, settings, NOW + timedelta(hours=1.1)) == 1
    assert jobs.count_issues(database, settings, NOW + 40 * DAY) == 1
    assert jobs.count_issues(database, settings, NOW + 400 * DAY) == 0


def test_who_leaves_counts_for_the_last_issue_they_got(
    session: Session,
) -> None:
    labbet = make_newsletter(session, "labbet")
    first, second = NOW - 20 * DAY, NOW - 18 * DAY

    def gone(at: datetime) -> Subscription:
        return make_subscription(session, labbet, status=Status.LEFT, left_at=at)

    between, after, late = gone(first + DAY), gone(second + DAY), gone(NOW)
    before, bounced = gone(first - DAY), gone(second + DAY)
    stays = make_subscription(session, labbet)
    everyone = [between, after, late, before, bounced, stays]
    old = make_issue(session, labbet, 1, [(r, SENT, "") for r in everyone], at=first)
    got = [(r, SENT, "") for r in (after, late, stays)]
    new = make_issue(session, labbet, 2, [*got, (bounced, BOUNCED, "")], at=second)
    # Of the two who left after the second, one never got it: the first was their last.
    assert reports.count(session, old.id, now=NOW).left == 2
    assert reports.count(session, new.id, now=NOW).left == 1


def test_a_report_stands_beside_the_issues_of_its_kind(
    app: Flask, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        for number in range(1, 13):  # the first two are too long ago
            lost = 4 if number < 3 else 1
            outcome = [(None, SENT, "")] * (4 - lost) + [(None, BOUNCED, "")] * lost
            at = NOW - (20 - number) * DAY
            make_issue(session, labbet, number, outcome, at=at)
        make_issue(
            session, labbet, 13, [(None, BOUNCED, "")] * 9, at=NOW - DAY, rhythm="each"
        )
        outcome = [(None, SENT, "")] * 40 + [(None, BOUNCED, "domain_dead")] * 10
        last = make_issue(session, labbet, 14, outcome, at=NOW - DAY).id
        alone = make_issue(
            session, labbet, 15, [], at=NOW - timedelta(minutes=1), rhythm="daily@07:00"
        ).id
    path = f"/editor/labbet/issues/{last}/report"
    assert "Räknas" in text_of(app, path)
    while jobs.count_issues(database, settings, NOW):
        pass
    text = text_of(app, path)
    assert "medelvärdet av de 10 utskicken" in text
    assert "Levererade 40 80 % 3 75 %" in text
    assert "Studsade 10 20 % 1 25 %" in text
    assert "Domänen tar inte emot mejl 10 20 %" in text
    assert "Levererade per sekund 2 " in text
    rows = {row["what"]: row for row in table(app, f"{path}.csv") if not row["why"]}
    assert rows["delivered"]["readers"] == "40"
    assert rows["bounced"]["usual_share"] == "0.25"
    assert "det första i sitt slag" in text_of(
        app, f"/editor/labbet/issues/{alone}/report"
    )
    listed = text_of(app, "/editor/labbet/issues/")
    assert "Rapporter" in listed
    assert "Rapport" in text_of(app, f"/editor/labbet/issues/{last}/")
    assert "Alla rapporter" in text_of(app, "/editor/labbet/")


def test_reports_over_time_page_by_page_and_as_csv(
    app: Flask, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    evil = '=HYPERLINK("https://evil.example")<script>å'
    with database.transaction() as session:
        make_subscription(session, labbet, confirmed_at=NOW)
        make_subscription(session, labbet, confirmed_at=NOW - 60 * DAY)
        make_subscription(
            session,
            labbet,
            confirmed_at=NOW - 60 * DAY,
            status=Status.LEFT,
            left_at=NOW,
        )
        outcome = [(None, SENT, "")] * 3 + [(None, BOUNCED, "")]
        for number in range(1, 33):
            at = NOW - timedelta(minutes=33 - number)
            make_issue(session, labbet, number, outcome, at=at, subject=evil)
    while jobs.count_issues(database, settings, NOW):
        pass
    answer = as_editor(app, Role.VIEWER).get(HOME)
    assert "<script>å" not in answer.text
    assert answer.text.count('class="chart"') == 2
    assert re.findall(r'rowheader">(\w+ \d{4})<', answer.text)[0] == "november 2026"
    assert re.findall(r"/issues/(\d+)/report", answer.text) == [
        str(key) for key in reversed(numbers(database)[2:])
    ]
    older = re.search(r'href="([^"]+before=\d+)"', answer.text)
    assert older
    assert "3 75 %" in text_of(app, older[1])
    assert "Det finns inga äldre utskick." in text_of(app, f"{HOME}?before=1")

    rows = table(app, f"{HOME}issues.csv")
    assert [row["number"] for row in rows] == [str(n) for n in range(32, 0, -1)]
    assert rows[0]["subject"] == f"'{evil}"
    assert (rows[0]["bounced"], rows[0]["seconds"]) == ("1", "20")
    months = table(app, f"{HOME}months.csv")
    last = months[-1]
    assert last["month"] == f"{NOW.astimezone(ZoneInfo(labbet.timezone)):%Y-%m}"
    assert (last["joined"], last["left"]) == ("1", "1")
    assert sum(int(month["bounced"]) for month in months) == 32
    assert [months[0]["subscribers_at_end"], last["subscribers_at_end"]] == ["0", "2"]


def test_clicks_beside_those_before_them_by_link_over_time_and_as_csv(
    app: Flask, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    evil = "=1+1<script>å"
    with database.transaction() as session:
        issues = [
            make_issue(
                session, labbet, n, [(None, SENT, "")] * 10, at=NOW - (9 - n) * DAY
            )
            for n in (1, 2, 3)
        ]
        keys = [issue.id for issue in issues]
        for issue, times in zip(issues[1:], (5, 3), strict=True):
            for place, words in enumerate(("Först", evil, "Aldrig")):
                url = f"https://x.example/{place}"
                token = f"{issue.id:06}{place:06}"
                link = CountedLink(
                    issue_id=issue.id, place=place, token=token, url=url, words=words
                )
                session.add(link)
                session.flush()
                opened = Opened(link.id, date(2026, 11, 20 + 2 * place))
                clicks.keep(
                    session, {opened: Clicks(times * (place % 2), 1 - place // 2)}
                )
                clicks.keep(session, {opened: Clicks(place % 2, 0)})
    while jobs.count_issues(database, settings, NOW):
        pass
    off, first, second = (f"/editor/labbet/issues/{key}/report" for key in keys)
    said = text_of(app, off)
    assert "Klick räknas inte." in said
    assert "Visa inställningen" not in said  # a viewer may not change it
    text = text_of(app, second)
    assert "4 klick · 40 % av de levererade mejlen · vanligen 60 %" in text
    assert "2 till var troligen maskiners" in text
    assert "mejlen · vanligen" not in text_of(app, first)
    page = as_editor(app, Role.VIEWER).get(second).text
    assert "<script>å" not in page
    assert re.findall(r'<rect width="([\d.]+)"', page) == ["100.0", "0.0", "0.0"]
    days = re.findall(r"<tr><td>([^<]*)</td><td class=\"number\">(\d+)</td>", page)
    assert [number for _, number in days] == ["0", "0", "4", "0", "0"]
    rows = table(app, f"/editor/labbet/issues/{keys[2]}/clicks.csv")
    assert [(r["day"], r["clicks"], r["machine_clicks"]) for r in rows] == [
        ("2026-11-20", "0", "1"),
        ("2026-11-22", "4", "1"),
        ("2026-11-24", "0", "0"),
    ]
    assert rows[1]["words"] == f"'{evil}"
    overall = table(app, f"{HOME}issues.csv")
    assert [(r["clicks"], r["machine_clicks"]) for r in overall] == [
        ("4", "2"),
        ("6", "2"),
        ("", ""),
    ]
    with database.transaction() as session:
        make_newsletter(session, "annat")
    other = f"/editor/annat/issues/{keys[2]}/clicks.csv"
    assert as_editor(app, Role.OWNER).get(other).status_code == 404
    assert "6 60 %" in text_of(app, HOME)
    assert "Klick, från 6 på utskick 2 till 4 på utskick 3" in (
        as_editor(app, Role.VIEWER).get(HOME).text
    )


def test_before_the_first_issue_reports_say_what_will_be_there(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    assert "Inget utskick har gått ut än" in text_of(app, HOME)
    assert table(app, f"{HOME}issues.csv") == []
    with database.transaction() as session:
        draft = Issue(newsletter_id=labbet.id, state=IssueState.DRAFT)
        session.add(draft)
        session.flush()
        path = f"/editor/labbet/issues/{draft.id}/report"
    assert as_editor(app, Role.VIEWER).get(path).status_code == 302


def numbers(database: Database) -> list[int]:
    """Return the issues' ids, oldest first."""
    with database.reading() as session:
        return list(session.scalars(select(Issue.id).order_by(Issue.number)))
