"""What becomes an entry of the audit log, and what never does."""

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from newsletter import editors, newsletters
from newsletter.audit import reading, recording, watched
from newsletter.audit.recording import Actor
from newsletter.config import Settings
from newsletter.db import Base, Database
from newsletter.models import (
    AuditEntry,
    Editor,
    Feed,
    Issue,
    IssuePost,
    IssueState,
    Membership,
    Newsletter,
    PostTopic,
    Role,
    Status,
    Subscriber,
    Subscription,
)
from newsletter.posts import topics
from newsletter.subscribers import rights, signup, suppression
from newsletter.subscribers.columns import Layout
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.importing import Importer, Report, Source
from tests.factories import NOW, make_newsletter, make_post, make_subscription

TOLD_OF_READERS = {
    *("status", "language", "rhythm", "all_topics", "requested_at", "confirmed_at"),
    *("left_at", "paused_until"),
}
EMAIL = "anna.secret@exempel.example"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


@pytest.fixture
def asa(database: Database, labbet: Newsletter) -> Editor:
    with database.transaction() as session:
        return editors.add(session, "asa@redaktion.example", Role.OWNER, now=NOW)


def as_asa(database: Database, asa: Editor) -> Database:
    """The database as it is when Åsa works on it."""
    found = Database(database.engine)
    found.on_begin = lambda s: recording.watch(s, lambda: Actor(asa.email, asa.id))
    return found


def entries(database: Database) -> list[AuditEntry]:
    with database.reading() as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def last(database: Database) -> AuditEntry:
    return entries(database)[-1]


def test_every_table_is_watched_or_left_out_with_a_reason() -> None:
    tables = {table.name for table in Base.metadata.sorted_tables}
    watched_tables = {model.__tablename__ for model in watched.WATCHED}
    assert watched_tables & set(watched.NOT_WATCHED) == set()
    assert tables == watched_tables | set(watched.NOT_WATCHED)
    for model, how in watched.WATCHED.items():
        columns = {column.key for column in model.__mapper__.column_attrs}
        named = how.quiet | how.private | how.writing | {how.about}
        if how.kind == "reader":  # what is not private of readers is listed here
            told = columns - how.untold - how.private
            assert {c for c in told if not recording.is_secret(c)} <= TOLD_OF_READERS
        assert named | ({how.label, how.part} - {""}) <= columns, model


def test_a_change_is_told_with_what_was_before(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    with as_asa(database, asa).transaction() as session:
        here = session.get_one(Newsletter, labbet.id)
        newsletters.change(here, tagline="Nytt.", about="Ord " * 1000, at_least=1)
        here.ping_token = "a-secret-token"
        session.add(Feed(newsletter_id=here.id, url="https://u:pw@feed.example/"))
    feed, newsletter = sorted(entries(database), key=lambda entry: entry.kind)
    assert (newsletter.who, newsletter.editor_id) == (asa.email, asa.id)
    assert (newsletter.kind, newsletter.what) == ("newsletter", "changed")
    assert (newsletter.subject_id, newsletter.newsletter_id) == (labbet.id, labbet.id)
    assert newsletter.label == labbet.title
    assert newsletter.before["tagline"] == ""
    assert newsletter.after["tagline"] == "Nytt."
    assert newsletter.after["about"].endswith("… (3,999)")  # a text is not kept whole
    assert "at_least" not in newsletter.after  # it stayed
    assert newsletter.after["ping_token"] == recording.HIDDEN
    assert (feed.kind, feed.what, feed.before) == ("feed", "created", {})
    assert "pw" not in f"{feed.label}{feed.after}"


def test_nobodys_changes_and_those_taken_back_are_not_told(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    with database.transaction() as session:
        session.get_one(Newsletter, labbet.id).tagline = "Klockan."
    watched_by = as_asa(database, asa)
    with pytest.raises(RuntimeError), watched_by.transaction() as session:
        session.get_one(Newsletter, labbet.id).tagline = "Ångrat."
        session.flush()
        raise RuntimeError
    with watched_by.transaction() as session:
        savepoint = session.begin_nested()
        session.get_one(Newsletter, labbet.id).tagline = "Ångrat."
        session.flush()
        savepoint.rollback()
        session.get_one(Newsletter, labbet.id).phone = ""  # as it was
    assert entries(database) == []


def test_statements_are_told_like_objects(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    with database.transaction() as session:
        post = make_post(session, labbet)
        topic = topics.create(session, labbet, "Klimat")
        issue = Issue(newsletter_id=labbet.id, state=IssueState.DRAFT, subject="Hej")
        session.add_all([issue, PostTopic(post_id=post.id, topic_id=topic.id)])
    with as_asa(database, asa).transaction() as session:
        session.execute(
            update(Issue).where(Issue.id == issue.id).values(state=IssueState.SENDING)
        )
        session.execute(delete(PostTopic).where(PostTopic.post_id == post.id))
        session.execute(
            update(Newsletter)
            .where(Newsletter.id == labbet.id)
            .values(last_number=Newsletter.last_number + 1)
        )
    sent, about = entries(database)
    assert (sent.kind, sent.label, sent.newsletter_id) == ("issue", "Hej", labbet.id)
    assert (sent.before, sent.after) == ({"state": "draft"}, {"state": "sending"})
    assert (about.kind, about.subject_id) == ("post", post.id)
    assert about.before == {f"topic {topic.id}": True}
    assert (about.label, about.newsletter_id) == (post.title, labbet.id)


def test_of_many_rows_only_the_number_is_told(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    count = recording.MAX_ROWS_OF_A_STATEMENT + 1
    with database.transaction() as session:
        for number in range(count):
            session.add(
                Feed(newsletter_id=labbet.id, url=f"https://f.example/{number}")
            )
    with as_asa(database, asa).transaction() as session:
        session.execute(update(Feed).values(paused=True))
    entry = last(database)
    assert (entry.kind, entry.subject_id, entry.after) == (
        "feed",
        None,
        {"rows": count},
    )


def test_writing_makes_one_entry_and_sending_another(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    with database.transaction() as session:
        posts = [make_post(session, labbet) for _ in range(2)]
        issue = Issue(newsletter_id=labbet.id, state=IssueState.DRAFT)
        issue.posts = [
            IssuePost(post_id=post.id, place=place) for place, post in enumerate(posts)
        ]
        session.add(issue)
    mine = as_asa(database, asa)
    for words in ("H", "Hej", "Hej alla"):
        with mine.transaction() as session:
            draft = session.get_one(Issue, issue.id)
            draft.subject = words
            draft.posts[0].excerpt = f"{words}!"
    saved = last(database)
    assert len(entries(database)) == 1
    assert saved.before["subject"] == ""
    assert saved.after == {
        "subject": "Hej alla",
        f"post {posts[0].id}.excerpt": "Hej alla!",
    }
    with mine.transaction() as session:
        session.get_one(Issue, issue.id).state = IssueState.SCHEDULED
    assert last(database).after == {"state": "scheduled"}
    with mine.transaction() as session:
        session.get_one(Issue, issue.id).subject = "Hej igen"
    assert len(entries(database)) == 3  # something lay between


def test_people_are_named_and_their_secrets_are_not(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    mine = as_asa(database, asa)
    with mine.transaction() as session:
        bo = editors.add(session, "bo@redaktion.example", Role.VIEWER, labbet, now=NOW)
        bo.password, bo.tf_totp_secret = "argon2-hash", "the-secret"
    with mine.transaction() as session:
        membership = session.scalars(
            select(Membership).where(Membership.editor_id == bo.id)
        ).one()
        editors.change_role(session, labbet, membership, Role.EDITOR)
        editors.remove(session, labbet, membership)
    account, given, removed = entries(database)
    assert (account.kind, account.label) == ("editor", bo.email)
    assert account.after["password"] == recording.HIDDEN
    assert "secret" not in json.dumps(account.after).replace("tf_totp_secret", "")
    assert (given.kind, given.label, given.after) == (
        "membership",
        bo.email,
        {"name": "viewer"},
    )
    assert (removed.what, removed.subject_id) == ("removed", bo.id)
    assert removed.before == {"name": "viewer"}


def test_readers_are_numbers_and_stay_erased(
    database: Database, settings: Settings, labbet: Newsletter, asa: Editor
) -> None:
    origin = Origin("/editor", "192.0.2.1", f"asked by {EMAIL}")
    mine = as_asa(database, asa)
    with mine.transaction() as session:
        recording.of_newsletter(session, labbet.id)
        signup.request_subscription(
            session, settings, labbet, EMAIL, origin=origin, now=NOW
        )
    with mine.transaction() as session:
        reader = session.scalars(select(Subscriber)).one()
        number = reader.id
        suppression.suppress(
            session,
            reader.address_hash,
            reason=suppression.LEFT,
            newsletter_id=labbet.id,
            note=f"{EMAIL} called",
            now=NOW,
        )
    with mine.transaction() as session:
        recording.of_newsletter(session, labbet.id)
        rights.erase_subscriber(session, session.get_one(Subscriber, number), now=NOW)
    found = entries(database)
    about = [e for e in found if e.kind == "reader"]
    assert [e.what for e in about] == ["created", "changed", "removed"]
    assert {e.subject_id for e in about} == {number}
    assert about[1].after["status"] == "suppressed"
    assert {e.newsletter_id for e in about} == {labbet.id}
    with database.reading() as session:
        everything = "".join(
            repr(tuple(row)) for row in session.execute(select(AuditEntry.__table__))
        )
    assert "anna.secret" not in everything
    assert "hash-of" not in everything


def test_an_import_is_told_once(
    database: Database, settings: Settings, labbet: Newsletter, asa: Editor
) -> None:
    with as_asa(database, asa).transaction() as session:
        Importer(
            session,
            settings,
            session.get_one(Newsletter, labbet.id),
            Layout(("email", "status")),
            status=Status.ACTIVE,
            source=Source("a list"),
            at=NOW,
            now=NOW,
        ).run([(2, [EMAIL]), (3, ["bo@exempel.example", "unsubscribed"])], Report())
        recording.note(
            session, "imported", "readers", newsletter_id=labbet.id, after={"added": 2}
        )
    (entry,) = entries(database)
    assert (entry.what, entry.kind, entry.after) == (
        "imported",
        "readers",
        {"added": 2},
    )


def test_sending_to_many_writes_one_entry(
    database: Database, labbet: Newsletter, asa: Editor
) -> None:
    """Cursors follow from sending: that they move is not told, nor read twice."""
    with database.transaction() as session:
        make_subscription(session, labbet)
    statements: list[Any] = []
    with as_asa(database, asa).transaction() as session:
        session.execute(update(Subscription).values(cursor=7))
        session.execute(
            insert(Subscriber),
            [
                {
                    "email": "x@y.se",
                    "email_key": "x@y.se",
                    "address_hash": "h",
                    "name": "",
                }
            ],
        )
        statements.append(session.info)
    assert entries(database) == []


def test_old_entries_are_forgotten_and_young_ones_kept(
    database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        for age in (31, 30, 29):
            session.add(_entry(labbet, at=NOW - timedelta(days=age, seconds=1)))
        session.flush()
        assert reading.forget_old(session, now=NOW, days=30, limit=1) == 1
        assert reading.forget_old(session, now=NOW, days=30) == 1
        assert reading.forget_old(session, now=NOW, days=30) == 0
    assert len(entries(database)) == 1


def _entry(newsletter: Newsletter, **over: Any) -> AuditEntry:
    values: dict[str, Any] = {
        "newsletter_id": newsletter.id,
        "who": "issue send",
        "what": "changed",
        "kind": "issue",
        "before": {},
        "after": {"subject": "Hej"},
    }
    return AuditEntry(**{**values, **over})


def test_the_log_is_read_a_page_at_a_time(session: Session) -> None:
    labbet, annat = make_newsletter(session), make_newsletter(session, "annat")
    asa = editors.add(session, "asa@redaktion.example", Role.OWNER, labbet, now=NOW)
    for number in range(5):
        session.add(
            _entry(
                labbet,
                at=NOW + timedelta(days=number),
                kind="post" if number % 2 else "issue",
                editor_id=asa.id if number == 4 else None,
            )
        )
        session.flush()
    session.add(_entry(annat))
    session.add(_entry(labbet, newsletter_id=None, kind="editor", subject_id=asa.id))
    session.add(_entry(labbet, newsletter_id=None, kind="editor", subject_id=999))
    session.flush()

    def read(wanted: reading.Filter | None = None, **over: Any) -> list[AuditEntry]:
        values: dict[str, Any] = {"everything": False, **over}
        return reading.entries(session, labbet, wanted or reading.Filter(), **values)

    everything = read(everything=True)
    mine = read()
    assert len(everything) == 7
    assert len(mine) == 6
    assert [e.id for e in mine] == sorted((e.id for e in mine), reverse=True)
    first = read(limit=4)
    rest = read(limit=4, before=first[-1].id)
    assert [*first, *rest] == mine
    assert len(read(reading.Filter(kind="post"))) == 2
    assert len(read(reading.Filter(editor_id=asa.id))) == 1
    assert reading.people(session, labbet) == [asa]
    days = reading.Filter(
        since=NOW + timedelta(days=1), until=NOW + timedelta(days=3), kind="issue"
    )
    assert [e.at for e in read(days)] == [NOW + timedelta(days=2)]
    assert len(list(reading.all_entries(session, labbet, days, everything=True))) == 1
