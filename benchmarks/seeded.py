"""A newsletter after some years: 1,000,000 subscribers, 500 issues, a full ledger.

    python -m benchmarks.seeded sqlite:////tmp/large.sqlite3
    python -m benchmarks.seeded postgresql+psycopg://inkorg@localhost/large

Made in an empty database, in a few minutes. The issues are made by the program itself
while three people read them; then a few statements add the million. Every delivery of
500 issues would be 350,000,000 rows. Three issues have theirs in full, one for each
reader there was: two digests, and a letter that is half sent. The others have some
thousands, and their totals say so. Two runs give the same rows, but for the tokens.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session

from benchmarks.installation import opened, settings_for, value_of, words_of
from newsletter import editors, jobs, migrate, newsletters
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.demo import content
from newsletter.digests import design, drafts, letters, publish, versions
from newsletter.mail import ledger
from newsletter.models import (
    ClaimMark,
    Consent,
    Delivery,
    DeliveryState,
    Feed,
    Issue,
    IssueState,
    Message,
    MessageState,
    Mode,
    Newsletter,
    Role,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
)
from newsletter.posts import editing
from newsletter.subscribers import consent, finding

READERS, ISSUES, IN_FULL, SOME = 1_000_000, 500, 3, 2_000
SLUG, NEIGHBOUR = content.SLUG, "grannen"
OWNER = "owner@bench.example"
WEEKLY = "weekly:mon@08:00"
RHYTHMS = ("each", "daily@07:00", WEEKLY, "monthly:first-mon@08:00")
LANGUAGES = ("sv", "en")
POSTS_EACH, NEW_POSTS, LACKING = 3, 9, 40
TOPICS = 12
YEARS = 4
DAY = 24 * 60  # minutes
GIVEN = ("Anna", "Åsa", "Björn", "Cecilia", "Erik", "Fatima", "Göran", "Hanna", "Ivar",
         "Jasmin", "Karl", "Lena", "Mohammed", "Nils", "Olga", "Örjan", "Per", "Sara",
         "Tova", "Ulf")  # fmt: skip
FAMILY = ("Andersson", "Berg", "Ceder", "Dahl", "Ek", "Forsberg", "Gren", "Holm",
          "Isaksson", "Johansson", "Karlsson", "Lindqvist", "Malm", "Nyberg", "Öberg",
          "Persson", "Rahimi", "Sandahl", "Wikström", "Åkesson")  # fmt: skip
HOSTS = ("posten", "brev", "exempel", "hemma", "kontoret")
# Of a hundred subscriptions.
STATUSES = ((Status.ACTIVE, 70), (Status.PENDING, 5), (Status.PAUSED, 5),
            (Status.LEFT, 15), (Status.SUPPRESSED, 5))  # fmt: skip
MIXED = 1_000_003


@dataclass(frozen=True, slots=True)
class Seeded:
    """What stands in the database, for pages that name it."""

    newsletter_id: int
    large: tuple[int, ...]  # issues whose deliveries are there in full
    sending: int  # the letter that is half sent
    draft: int
    letter: int


def seed(url: str, readers: int = READERS, issues: int = ISSUES) -> Seeded:
    """Fill an empty database."""
    settings, now = settings_for(url), utcnow()
    with opened(url) as database:
        migrate.upgrade(database.engine)
        steps: tuple[tuple[str, Callable[[Session], Any]], ...] = (
            ("newsletters and editors", lambda s: found(s, settings, now)),
            ("posts and issues", lambda s: write_issues(s, settings, issues, now)),
            ("subscribers", lambda s: add_people(s, readers, now)),
            ("subscriptions", lambda s: add_subscriptions(s, now)),
            ("topics chosen", choose_topics),
            ("consents", add_consents),
            ("suppressions", suppress),
            ("deliveries", deliver),
        )
        for name, step in steps:
            began = time.monotonic()
            with database.transaction() as session:
                if database.is_sqlite:  # room for the indexes of what is drawn
                    session.execute(text("PRAGMA cache_size=-1000000"))
                else:  # Python may be busy for long
                    session.execute(
                        text("SET LOCAL idle_in_transaction_session_timeout = 0")
                    )
                step(session)
            print(f"  {name}: {time.monotonic() - began:.1f} s", flush=True)
        tidy(database, settings_for(url))
        with database.transaction() as session:
            return about(session, now)


def about(session: Session, now: datetime) -> Seeded:
    """Write the drafts that wait, and say what stands where."""
    newsletter = newsletters.by_slug(session, SLUG)
    large = session.scalars(
        select(Issue.id)
        .where(Issue.newsletter_id == newsletter.id, Issue.number.is_not(None))
        .order_by(Issue.number.desc())
        .limit(IN_FULL)
    ).all()
    letter = letters.write(
        session, newsletter, subject="Enkät", body="Hej, vad tycker du?", now=now
    )
    draft = drafts.draft(session, newsletter, now=now)
    versions.note(session, draft, now=now)
    return Seeded(
        newsletter_id=newsletter.id,
        large=tuple(large),
        sending=large[0],
        draft=draft.id,
        letter=letter.id,
    )


def found(session: Session, settings: Settings, now: datetime) -> None:
    """Create two newsletters, their owner, topics, feeds and designs."""
    editors.invite(session, settings, OWNER, Role.OWNER, now=now)
    neighbour = {**content.NEWSLETTER, "title": "Grannens brev"}
    newsletters.create(session, NEIGHBOUR, **neighbour)
    newsletter = newsletters.create(session, SLUG, **content.NEWSLETTER)
    newsletters.change(
        newsletter,
        rhythms=list(RHYTHMS),
        default_rhythm=WEEKLY,
        languages=list(LANGUAGES),
        mode=Mode.AUTOMATIC,
    )
    newsletter.created_at = now - timedelta(days=365 * YEARS)
    session.flush()
    for n in range(TOPICS):
        session.add(
            Topic(newsletter_id=newsletter.id, slug=f"amne-{n}", name=f"Ämne {n}")
        )
    for n in range(2):
        session.add(
            Feed(
                newsletter_id=newsletter.id,
                url=f"https://blogg{n}.example/feed/",
                title=f"Blogg {n}",
                checked_at=now,
                next_check_at=now + timedelta(days=1),
            )
        )
    for accent in ("#8b2e24", "#245c8b", "#2e6b2e"):
        draft = design.Draft(accent=accent)
        design.save(session, newsletter, draft, editor=None, now=now)


def write_issues(
    session: Session, settings: Settings, issues: int, now: datetime
) -> None:
    """Publish posts and send issues of them, as the years went, to three people."""
    newsletter = newsletters.by_slug(session, SLUG)
    for n in range(3):
        add_reader(session, newsletter, n, now)
    step = timedelta(days=365 * YEARS) / (issues + 1)
    for number in range(1, issues + 1):
        at = now - step * (issues + 1 - number)
        if number == issues:  # its mail is on its way
            at = now - timedelta(minutes=2)
            issue = letters.write(
                session, newsletter, subject="Till alla", body="Hej alla.", now=at
            )
        else:
            write_posts(session, newsletter, number, POSTS_EACH, at)
            issue = drafts.draft(session, newsletter, now=at)
        publish.send(session, settings, issue, now=at)
        if number != issues:
            finish(session, issue, at)
        session.flush()
        session.expunge_all()
        newsletter = newsletters.by_slug(session, SLUG)
    write_posts(session, newsletter, issues + 1, NEW_POSTS, now - timedelta(hours=30))


def finish(session: Session, issue: Issue, at: datetime) -> None:
    """Say of an issue that it has gone out."""
    session.execute(
        update(Message)
        .where(Message.issue_id == issue.id)
        .values(state=MessageState.DONE)
    )
    session.execute(update(Subscription).values(cursor=issue.last_position))
    issue.state, issue.finished_at = IssueState.SENT, at + timedelta(hours=1)


def add_reader(session: Session, newsletter: Newsletter, n: int, now: datetime) -> None:
    """Add one of the first three: active, by each language."""
    email = f"forst{n}@exempel.example"
    person = Subscriber(email=email, email_key=email, address_hash=f"{n:064x}")
    session.add(person)
    session.flush()
    session.add(
        Subscription(
            newsletter_id=newsletter.id,
            subscriber_id=person.id,
            status=Status.ACTIVE,
            language=LANGUAGES[n % 2],
            rhythm=WEEKLY,
            leave_token=f"leave-{n}-{'0' * 14}",
            preferences_token=f"prefer-{n}-{'0' * 13}",
            requested_at=now - timedelta(days=365 * YEARS),
            confirmed_at=now - timedelta(days=365 * YEARS),
            created_at=now - timedelta(days=365 * YEARS),
        )
    )
    session.flush()


def write_posts(
    session: Session, newsletter: Newsletter, number: int, count: int, at: datetime
) -> None:
    """Publish some posts by twenty authors about twelve topics."""
    made = [
        editing.create(
            session,
            newsletter,
            title=f"Vad grannarna gjorde den {number * 10 + n}:e gången",
            markdown="De träffades på gården och bestämde sig för att odla. " * 12,
            author=f"{GIVEN[(number + n) % len(GIVEN)]} {FAMILY[n]}",
            topic_names=[f"Ämne {m % TOPICS}" for m in (number + n, number * 5)],
            published_at=at - timedelta(hours=n + 1),
            now=at - timedelta(minutes=1),
        )
        for n in range(count)
    ]
    editing.publish_all(session, made, now=at - timedelta(minutes=1))


def add_people(session: Session, readers: int, now: datetime) -> None:
    """Add everybody's address: one statement."""
    numbers, n, padded, _token = words_of(session, readers)
    mixed = cast(n, BigInteger) * 7919 % MIXED
    given, family = _one_of(GIVEN, mixed), _one_of(FAMILY, mixed // 20)
    plain = [_one_of(tuple(map(_ascii, words)), mixed // by)
             for words, by in ((GIVEN, 1), (FAMILY, 20), (HOSTS, 400))]  # fmt: skip
    email = (
        plain[0] + literal(".") + plain[1] + cast(n, String) + "@" + plain[2]
        + cast(n % 97, String) + ".example"
    )  # fmt: skip
    session.execute(
        insert(Subscriber).from_select(
            ["email", "email_key", "address_hash", "name", "created_at"],
            select(
                email,
                email,
                padded,
                case((mixed % 3 == 0, given + literal(" ") + family), else_=""),
                value_of(Subscriber.created_at, now),
            ).select_from(numbers),
        )
    )


def add_subscriptions(session: Session, now: datetime) -> None:
    """Subscribe everybody, over the years and in all states, a thousand to both."""
    first = session.scalars(select(func.min(Subscription.id))).one()
    for slug, among in ((NEIGHBOUR, 1_000), (SLUG, 10**9)):
        newsletter = newsletters.by_slug(session, slug)
        _numbers, _n, _padded, token = words_of(session, 0)
        status = _status(_mixed(Subscriber.id) // 3 % 100)
        joined = _mixed(Subscriber.id) * 2 % (YEARS * 365 * DAY) + 30
        asked = case((status == "pending", _mixed(Subscriber.id) % 4000), else_=joined)
        gone = joined * (_mixed(Subscriber.id) % 90 + 2) // 100
        nothing, end = null(), newsletter.last_position - NEW_POSTS
        behind = _mixed(Subscriber.id) // 7 % LACKING
        values: dict[str, Any] = {
            "newsletter_id": literal(newsletter.id),
            "subscriber_id": Subscriber.id,
            "status": status,
            "language": _one_of(("sv", "sv", "sv", "en"), _mixed(Subscriber.id) // 4),
            "rhythm": _one_of((*RHYTHMS, *(WEEKLY,) * 4), _mixed(Subscriber.id)),
            "all_topics": _mixed(Subscriber.id) // 16 % 10 != 0,
            "cursor": max(end, 0)
            - case((_mixed(Subscriber.id) % 100 == 0, behind), else_=0),
            "leave_token": token,
            "preferences_token": token,
            "source": _one_of(("form", "import", "embed"), _mixed(Subscriber.id) // 9),
            "requested_at": ago(session, now, asked),
            "confirmed_at": case(
                (status == "pending", nothing), else_=ago(session, now, joined)
            ),
            "left_at": case(
                (status.in_(("left", "suppressed")), ago(session, now, gone)),
                else_=nothing,
            ),
            "paused_until": case(
                (status == "paused", ago(session, now, literal(-30 * DAY))),
                else_=nothing,
            ),
            "created_at": ago(session, now, asked),
            "had_until": literal(0),
            "round": literal(0),
        }
        if slug == NEIGHBOUR:
            values["cursor"] = literal(0)
        people = (
            select(*values.values())
            .where(Subscriber.id > first + 2, Subscriber.id <= first + 2 + among)
            .order_by(Subscriber.id)
        )
        session.execute(insert(Subscription).from_select(list(values), people))


def choose_topics(session: Session) -> None:
    """Let one reader in ten have chosen one to three topics."""
    first = session.scalars(select(func.min(Topic.id))).one()
    for nth in range(3):
        topic = (_mixed(Subscription.id) // 11 % TOPICS + 5 * nth) % TOPICS + first
        chosen = select(Subscription.id, cast(topic, Integer)).where(
            Subscription.all_topics.is_(False), _mixed(Subscription.id) // 13 % 3 >= nth
        )
        columns = ["subscription_id", "topic_id"]
        session.execute(insert(SubscriptionTopic).from_select(columns, chosen))


def add_consents(session: Session) -> None:
    """Write down how everybody came, and how some went."""
    words = consent.store_wording(session, "Ja, jag vill ha brevet.", "sv")
    steps = (
        (consent.REQUESTED, Subscription.requested_at, true()),
        (consent.CONFIRMED, Subscription.confirmed_at,
         Subscription.confirmed_at.is_not(None)),
        (consent.LEFT, Subscription.left_at, Subscription.status == Status.LEFT),
        (consent.SUPPRESSED, Subscription.left_at,
         Subscription.status == Status.SUPPRESSED),
    )  # fmt: skip
    columns = ["subscription_id", "event", "at", "wording_id", "page", "network"]
    columns += ["detail"]
    for event, at, which in steps:
        query = select(
            Subscription.id, literal(event), at, literal(words), literal(""),
            literal("192.0.2.0/24"), value_of(Consent.detail, {}),
        ).where(which)  # fmt: skip
        session.execute(insert(Consent).from_select(columns, query))


def suppress(session: Session) -> None:
    """Keep the suppressed from being mailed."""
    newsletter = newsletters.by_slug(session, SLUG)
    query = (
        select(
            Subscriber.address_hash,
            literal(newsletter.id),
            literal("bounced"),
            literal(""),
            Subscription.left_at,
        )
        .join(Subscription, Subscription.subscriber_id == Subscriber.id)
        .where(
            Subscription.newsletter_id == newsletter.id,
            Subscription.status == Status.SUPPRESSED,
        )
    )
    columns = ["address_hash", "newsletter_id", "reason", "note", "created_at"]
    session.execute(insert(Suppression).from_select(columns, query))


def deliver(session: Session) -> None:
    """Write the deliveries: of three issues in full, of the others some."""
    newsletter = newsletters.by_slug(session, SLUG)
    query = select(Issue).where(Issue.newsletter_id == newsletter.id)
    issues = session.scalars(query.order_by(Issue.number.desc())).all()
    for place, issue in enumerate(issues):
        message = _largest(session, issue)
        some = place >= IN_FULL
        step = 1 if not some else 1 + place % 97
        bonds = (
            select(Subscription.id, Subscriber.email)
            .join(Subscriber, Subscriber.id == Subscription.subscriber_id)
            .where(
                Subscription.newsletter_id == newsletter.id,
                Subscription.status.in_((Status.ACTIVE, Status.LEFT))
                if not some
                else Subscription.id.between(step * SOME, step * SOME + SOME - 1),
                Subscription.confirmed_at.is_not(None),
                ~exists().where(
                    Delivery.occasion == f"issue:{issue.id}",
                    Delivery.address == Subscriber.email,
                ),
            )
            .order_by(Subscription.id)
            .subquery()
        )
        _lines(session, issue, message, bonds)
    session.flush()


def _lines(session: Session, issue: Issue, message: Message, bonds: Any) -> None:
    """Write one line of the ledger for each of some readers, most of them settled."""
    mixed = _mixed(bonds.c.id) // 5 % 1000
    sent = DeliveryState.SENT
    ends = ((8, DeliveryState.BOUNCED), (10, DeliveryState.FAILED),
            (16, DeliveryState.SKIPPED), (17, DeliveryState.COMPLAINED))  # fmt: skip
    state = case(*((mixed < most, s.value) for most, s in ends), else_=sent.value)
    reply = case(
        *((and_(mixed < 8, mixed % 4 == n), said) for n, said in enumerate(REPLIES)),
        (mixed < 10, "554 5.7.1 Refused"),
        else_=None,
    )
    reason = case(
        *((and_(mixed < 8, mixed % 4 == n), why) for n, why in enumerate(REASONS)),
        (mixed < 10, "refused"),
        (mixed < 16, "left"),
        else_=None,
    )
    unsent = issue.finished_at is None
    last = session.scalar(select(func.max(Subscription.id))) or 0
    waiting = bonds.c.id > (last // 2 if unsent else last)
    values: dict[str, Any] = {
        "message_id": literal(message.id),
        "subscription_id": bonds.c.id,
        "occasion": literal(f"issue:{issue.id}"),
        "address": bonds.c.email,
        "lane": literal(ledger.BULK),
        "state": case((waiting, "queued"), else_=state),
        "attempts": case((waiting, 0), else_=1),
        "resent": value_of(Delivery.resent, False),
        "settled_at": case(
            (waiting, null()), else_=value_of(Delivery.settled_at, issue.started_at)
        ),
        "reply": case((waiting, null()), else_=reply),
        "reason": case((waiting, null()), else_=reason),
        "created_at": value_of(Delivery.created_at, issue.started_at),
    }
    session.execute(
        insert(Delivery).from_select(
            list(values), select(*values.values()).order_by(bonds.c.id)
        )
    )
    _settle_first(session, issue, unsent=unsent)
    _mark(session, issue, message, unsent=unsent)


def _settle_first(session: Session, issue: Issue, *, unsent: bool) -> None:
    """Settle what the first three were sent, and set the issue's total."""
    ids = select(Message.id).where(Message.issue_id == issue.id)
    lines = Delivery.message_id.in_(ids)
    if not unsent:
        session.execute(
            update(Delivery)
            .where(lines, Delivery.state == DeliveryState.QUEUED)
            .values(state=DeliveryState.SENT, attempts=1, settled_at=issue.started_at)
            .execution_options(synchronize_session=False)
        )
    count = select(func.count()).select_from(Delivery).where(lines)
    issue.total = session.scalar(count) or 0


def _mark(session: Session, issue: Issue, message: Message, *, unsent: bool) -> None:
    """Say up to where each message has been claimed."""
    ids = session.scalars(select(Message.id).where(Message.issue_id == issue.id)).all()
    for message_id in ids:
        through = select(func.max(Delivery.id)).where(Delivery.message_id == message_id)
        if unsent and message_id == message.id:
            through = through.where(Delivery.state != DeliveryState.QUEUED)
        last = session.scalar(through) or 0
        of_message = Delivery.message_id == message_id
        below = select(func.count()).where(of_message, Delivery.id <= last)
        passed = session.scalar(below) or 0
        session.merge(ClaimMark(message_id=message_id, last_id=last, passed=passed))
    session.flush()


REPLIES = ("550 5.1.1 No such user", "552 5.2.2 Mailbox full",
           "550 5.1.2 No such host", "550 5.7.1 Blocked")  # fmt: skip
REASONS = ("no_mailbox", "mailbox_full", "no_host", "blocked")


def tidy(database: Database, settings: Settings) -> None:
    """Let the clock and the database catch up, as they do by themselves in time."""
    now, added = utcnow() + finding.SETTLED, 1
    while added:
        with database.transaction() as session:
            added = finding.catch_up(session, now=now, limit=20_000)
    while jobs.count_issues(database, settings, now):
        pass
    reckon(database, settings)
    with database.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))


def reckon(database: Database, settings: Settings) -> None:
    """Count the readers as the clock does every few minutes."""
    while jobs.reckon_readers(database, settings, utcnow()):
        pass


def ago(session: Session, now: datetime, minutes: ColumnElement[Any]) -> Any:
    """Return a moment some minutes before `now`, in the database's own words."""
    if session.get_bind().dialect.name == "postgresql":
        moment = literal(now, DateTime(timezone=True))
        return moment - func.make_interval(0, 0, 0, 0, 0, cast(minutes, Integer))
    back = cast(-minutes, String) + " minutes"
    there = now.strftime("%Y-%m-%d %H:%M:%S")
    return func.strftime("%Y-%m-%d %H:%M:%S.000000", there, back)


def _largest(session: Session, issue: Issue) -> Message:
    query = select(Message).where(Message.issue_id == issue.id)
    return session.scalars(query.order_by(Message.id).limit(1)).one()


def _mixed(column: Any) -> ColumnElement[int]:
    """Return a number that looks drawn, and is the same in every run."""
    return cast(column, BigInteger) * 7919 % MIXED


def _one_of(values: tuple[str, ...], number: ColumnElement[int]) -> ColumnElement[str]:
    words = {n: literal(value) for n, value in enumerate(values)}
    return case(words, value=number % len(values))


def _status(number: ColumnElement[int]) -> ColumnElement[str]:
    steps, most = [], 0
    for status, share in STATUSES:
        most += share
        steps.append((number < most, status.value))
    return case(*steps, else_=Status.ACTIVE.value)


def _ascii(name: str) -> str:
    return name.lower().translate(str.maketrans("åäöé", "aaoe"))


def main() -> None:
    """Seed the database that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seeded",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", help="of an empty database")
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--issues", type=int, default=ISSUES)
    given = parser.parse_args()
    began = time.monotonic()
    print(seed(given.url, given.readers, given.issues))
    print(f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
