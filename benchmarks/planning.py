"""Planning one weekly issue for a million subscriptions: how long, how much memory.

Readers of four rhythms, with topics and languages of their own, who are not all equally
far. Planning is what the clock does when the rhythm falls due: looking at everybody,
sorting them into editions, freezing those, writing a line of the ledger for each
reader. It runs in a process of its own, so that its peak memory is its own too.
"""

import json
import sys
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from benchmarks import postgres
from benchmarks.contenders import Bench, Child
from benchmarks.inkorg import measured
from benchmarks.installation import Place, opened, settings_for
from benchmarks.report import Goal, Section, Spread, figure
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import planning, publish
from newsletter.models import (
    Issue,
    IssueState,
    Message,
    Mode,
    Newsletter,
    Post,
    PostState,
    PostTopic,
    Subscription,
    SubscriptionTopic,
    Topic,
)

MANY, QUICK_MANY, FEW = 1_000_000, 100_000, 10_000
WEEKLY = "weekly:mon@08:00"
RHYTHMS = ("each", "daily@07:00", WEEKLY, "monthly:first-mon@08:00")
TOPICS = 12
LANGUAGES = ("sv", "en")
OLD_POSTS, NEW_POSTS = 40, 10
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def measure(bench: Bench, *, rounds: int) -> Section:
    """Plan the same issue a few times on either database."""
    readers = QUICK_MANY if bench.quick else MANY
    section = Section(
        "planning",
        f"A weekly issue planned for {readers:,} subscriptions",
        ("", "readers", "editions", "planning, s", "its processor, s", "peak, MB"),
    )
    dialects = ["sqlite", "postgresql"]
    if not postgres.available():
        dialects.remove("postgresql")
        section.notes.append(f"Left out, PostgreSQL: {postgres.MISSING}.")
    for dialect in dialects:
        on(bench, section, dialect, readers, rounds)
        bench.stock.forget(dialect, readers, send=False)
    section.notes.append(
        f"Rhythms: {', '.join(RHYTHMS)}. One reader in ten has chosen one to three of"
        f" {TOPICS} topics, one in four reads English; most have had all but the"
        f" {NEW_POSTS} newest posts, one in a hundred lacks up to {OLD_POSTS} more."
    )
    return section


def on(bench: Bench, section: Section, dialect: str, readers: int, rounds: int) -> None:
    """Measure on one database."""
    with bench.stock.place(dialect, FEW, send=False) as place:
        few = planned(place)
    bench.stock.forget(dialect, FEW, send=False)
    found = []
    for _ in range(rounds):
        with bench.stock.place(dialect, readers, send=False) as place:
            found.append(planned(place))
        print(f"  {NAMES[dialect]}: {found[-1]['seconds']:.1f} s", flush=True)
    seconds = Spread.of([one["seconds"] for one in found])
    memory = Spread.of([one["peak_mb"] for one in found])
    last = found[-1]
    section.rows.append(
        [
            NAMES[dialect],
            f"{last['sent']:,}",
            str(last["editions"]),
            seconds.show(figure),
            Spread.of([one["cpu"] for one in found]).show(figure),
            memory.show(figure),
        ]
    )
    section.data[dialect] = {"few": few, "many": found}
    what = f"{readers:,} subscriptions, {NAMES[dialect]}: planning a weekly issue"
    section.goals.append(Goal(what, seconds, at_most=30.0, unit="s"))
    ratio = Spread.of([one["peak_mb"] / few["peak_mb"] for one in found])
    what = f"peak memory of planning, {readers:,} against {FEW:,}, {NAMES[dialect]}"
    section.goals.append(Goal(what, ratio, at_most=1.2))


def planned(place: Place) -> dict[str, Any]:
    """Spread the readers out, then plan in a process of its own."""
    with opened(place.url) as database:
        with database.transaction() as session:
            prepare(session, place.readers)
        if not database.is_sqlite:
            with database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                    text("VACUUM ANALYZE")
                )
    child = Child("benchmarks.planning", place.url)
    child.go()
    found = child.result()
    return {**found, "seconds": (found["ended"] - found["began"]) / 1e9}


def prepare(session: Session, readers: int) -> None:
    """Give the newsletter rhythms, topics and posts, and the readers their choices."""
    newsletter, now = session.get_one(Newsletter, 1), utcnow()
    for draft in session.scalars(select(Issue)):
        session.delete(draft)
    newsletter.rhythms, newsletter.default_rhythm = list(RHYTHMS), WEEKLY
    newsletter.languages, newsletter.by_language = list(LANGUAGES), True
    newsletter.mode = Mode.AUTOMATIC
    session.flush()
    write_posts(session, newsletter, now)
    session.execute(
        update(Subscription)
        .values(
            rhythm=one_of((*RHYTHMS, WEEKLY, WEEKLY, WEEKLY, RHYTHMS[-1]), 1),
            language=one_of(("sv", "sv", "sv", "en"), 4),
            all_topics=case((number(16, 10) == 0, False), else_=True),
            cursor=case((number(160, 100) == 0, number(7, OLD_POSTS)), else_=OLD_POSTS),
        )
        .execution_options(synchronize_session=False)
    )
    first = session.scalars(select(func.max(Topic.id))).one() - TOPICS + 1
    for nth in range(3):  # each has chosen one to three
        topic = (number(11, TOPICS) + 5 * nth) % TOPICS + first
        chosen = select(Subscription.id, topic).where(
            Subscription.all_topics.is_(False), number(13, 3) >= nth
        )
        session.execute(
            insert(SubscriptionTopic).from_select(
                ["subscription_id", "topic_id"], chosen
            )
        )
    session.add(
        Issue(
            newsletter_id=newsletter.id,
            number=1,
            state=IssueState.SENT,
            last_position=OLD_POSTS,
            started_at=now - timedelta(days=7),
            finished_at=now - timedelta(days=7),
        )
    )
    newsletter.last_number = 1


def number(step: int, among: int) -> ColumnElement[int]:
    """Return a number from 0 that looks drawn, and is the same in every run."""
    mixed = cast(Subscription.id, BigInteger) * 7919 % 1_000_003
    return cast(mixed // step % among, Integer)


def one_of(values: tuple[str, ...], step: int) -> ColumnElement[str]:
    """Return one of some words."""
    words = {n: literal(value) for n, value in enumerate(values)}
    return case(words, value=number(step, len(values)))


def write_posts(session: Session, newsletter: Newsletter, now: datetime) -> None:
    """Publish posts about topics, in either language."""
    session.execute(update(Post).values(position=None, state=PostState.DRAFT))
    topics = [
        Topic(newsletter_id=newsletter.id, slug=f"amne-{n}", name=f"Ämne {n}")
        for n in range(TOPICS)
    ]
    session.add_all(topics)
    session.flush()
    for n in range(1, OLD_POSTS + NEW_POSTS + 1):
        post = Post(
            newsletter_id=newsletter.id,
            state=PostState.PUBLISHED,
            position=n,
            guid=f"bench-{n}",
            link=f"https://blogg.example/{n}/",
            title=f"Vad grannarna gjorde den {n}:e gången",
            excerpt="De träffades på gården och bestämde sig för att odla. " * 4,
            language=LANGUAGES[n % 4 == 0],
            published_at=now - timedelta(hours=60 - n),
            created_at=now - timedelta(hours=60 - n),
        )
        session.add(post)
        session.flush()
        for topic in {topics[n % TOPICS], topics[n * 5 % TOPICS]}:
            session.add(PostTopic(post_id=post.id, topic_id=topic.id))
    newsletter.last_position = OLD_POSTS + NEW_POSTS
    session.flush()


def plan(database: Database, settings: Settings) -> int:
    """Do what the clock does when the weekly rhythm falls due; return for how many."""
    now = utcnow()
    with database.transaction() as session:
        newsletter = session.get_one(Newsletter, 1)
        prepared = planning.prepare(session, newsletter, WEEKLY, now=now)
        if prepared is None:
            raise RuntimeError("there is nothing to plan")
        session.add(prepared.plan.issue)
        session.flush()
        return publish.send(
            session, settings, prepared.plan.issue, now=now, prepared=prepared
        )


def editions(database: Database) -> int:
    """Return how many editions the planned issue has."""
    query = select(func.count()).select_from(Message).where(Message.issue_id > 1)
    with database.reading() as session:
        return session.scalar(query) or 0


def main() -> None:
    """Plan once, when told to."""
    url = sys.argv[1]
    settings = settings_for(url)
    with opened(url) as database:
        found = measured(lambda: plan(database, settings))
        print(json.dumps({**found, "editions": editions(database)}))


if __name__ == "__main__":
    main()
