"""Undoing from the page that follows: everything is as it was, once, for who did it."""

import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from newsletter import editors, jobs
from newsletter.config import Settings
from newsletter.db import Base, Database, utcnow
from newsletter.digests import (
    calendar,
    design,
    drafts,
    letters,
    planning,
    publish,
    saved_segments,
    versions,
)
from newsletter.errors import InkorgError
from newsletter.models import (
    AuditEntry,
    Category,
    Delivery,
    Design,
    Feed,
    Issue,
    IssueState,
    Newsletter,
    Note,
    Post,
    Role,
    SavedSegment,
    Schedule,
    Undo,
)
from newsletter.posts import topics
from newsletter.subscribers import notes
from tests.digests.weeks import WEEKLY, Weeks
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor, csrf_token

HERE = "/editor/labbet/"
# What undoing need not set back: when it was touched, what the clock keeps up.
LOOSE = {
    *("updated_at", "next_check_at", "round", "offered_at", "last_position"),
    *("position", "last_design", "last_number", "id"),
}
LEFT_OUT = {
    *("undo", "audit", "consent", "design", "used_link", "editor_session", "editor"),
}
BUTTON = re.compile(r'class="said [^"]*said-undo"[^>]*action="([^"]+)"')


def contents(database: Database) -> dict[str, list[str]]:
    """Return every row that an editor's work consists of."""
    with database.reading() as session:
        return {
            table.name: sorted(
                repr({k: v for k, v in row.items() if k not in LOOSE})
                for row in session.execute(select(table)).mappings()
            )
            for table in Base.metadata.sorted_tables
            if table.name not in LEFT_OUT
        }


def press(client: FlaskClient, path: str, data: dict[str, Any]) -> str:
    """Press a button; return the page that follows."""
    token = csrf_token(client)
    answer = client.post(path, data={"csrf_token": token, **data})
    assert answer.status_code == 302, (path, answer.status_code)
    return client.get(answer.headers["Location"], follow_redirects=True).text


@pytest.fixture
def world(app: Flask, database: Database) -> dict[str, str]:
    """One of everything that can be removed: what to press for it."""
    with database.transaction() as session:
        labbet = make_newsletter(session)
        topic = topics.create(session, labbet, "Klimat")
        category = Category(
            newsletter_id=labbet.id, name="klimat", slug="klimat", topic_id=topic.id
        )
        feed = Feed(newsletter_id=labbet.id, url="https://blogg.example/feed/")
        session.add_all([category, feed])
        session.flush()
        post = make_post(session, labbet, title="Åtta bostäder", feed_id=feed.id)
        saved = saved_segments.save(
            session, labbet, None, "Engelska", "language:en", now=NOW
        )
        issue = drafts.draft(session, labbet, now=NOW)
        issue.subject = "Ett utkast"
        versions.note(session, issue, now=NOW)
        letter = letters.write(session, labbet, now=NOW)
        reader = make_subscription(session, labbet)
        note = notes.add(
            session, reader, "Ringde", by="owner@redaktion.example", now=NOW
        )
        editors.add(session, "elin@redaktion.example", Role.VIEWER, labbet, now=NOW)
        for colour in ("#112233", "#445566"):
            draft = design.Draft(accent=colour)
            design.save(session, labbet, draft, editor=None, now=NOW)
        member = next(
            one.id
            for one in editors.members(session, labbet)
            if one.editor.email.startswith("elin")
        )
        return {
            "topic": f"topics/{topic.id}/remove",
            "segment": f"segments/{saved.id}/remove",
            "feed": f"feeds/{feed.id}/remove",
            "paused": f"feeds/{feed.id}/pause",
            "letter": f"letters/{letter.id}/discard",
            "draft": f"issues/{issue.id}/discard",
            "withdrawn": f"posts/{post.id}/withdraw",
            "reader": f"subscribers/{reader.id}/stop",
            "note": f"subscribers/{reader.id}/notes/{note.id}/remove",
            "role": f"settings/people/{member}/role",
            "person": f"settings/people/{member}/remove",
            "design": "design/versions/1/restore",
        }


def test_what_was_removed_is_back_as_it_was(
    app: Flask, database: Database, world: dict[str, str]
) -> None:
    owner = as_editor(app)
    forms = {"reader": {"reason": "never"}, "role": {"role": "editor"}}
    for name, path in world.items():
        before = contents(database)
        page = press(owner, HERE + path, forms.get(name, {}))
        found = BUTTON.search(page)
        assert found, name
        if name != "design":
            assert contents(database) != before, name
        assert "Nu är det som förut." in press(owner, found[1], {}), name
        assert contents(database) == before, name
        # The second press finds it undone, and changes nothing.
        assert "redan ångrat" in press(owner, found[1], {}), name
        assert contents(database) == before, name
    with database.reading() as session:
        newest = session.scalars(
            select(Design.accent).order_by(Design.number.desc())
        ).first()
        assert newest == "#445566"
        told = set(
            session.scalars(
                select(AuditEntry.kind).where(AuditEntry.what == "restored")
            )
        )
        assert told == {"topic", "segment", "feed", "issue", "membership"}


def test_only_who_did_it_may_undo_within_the_hour_and_where_there_is_room(
    app: Flask, database: Database, settings: Settings, world: dict[str, str]
) -> None:
    owner, other = as_editor(app), as_editor(app, Role.EDITOR)
    viewer = as_editor(app, Role.VIEWER)
    page = press(owner, HERE + world["segment"], {})
    found = BUTTON.search(page)
    assert found
    removed = contents(database)
    assert owner.post(found[1]).status_code == 400  # no token
    theirs = {"csrf_token": csrf_token(other)}
    assert other.post(found[1], data=theirs).status_code == 404
    data = {"csrf_token": csrf_token(viewer)}
    assert viewer.post(found[1], data=data).status_code == 403
    assert contents(database) == removed
    # Somebody has given its name to another one meanwhile, then gives it back.
    with database.transaction() as session:
        labbet = session.scalars(select(Newsletter)).one()
        taken = saved_segments.save(
            session, labbet, None, "Engelska", "language:sv", now=NOW
        )
        number = taken.id
    assert "kan inte komma tillbaka" in press(owner, found[1], {})
    with database.transaction() as session:
        session.get_one(SavedSegment, number).name = "Svenska"
    assert "som förut" in press(owner, found[1], {})
    # A note that was removed is gone for good when the hour is over.
    found = BUTTON.search(press(owner, HERE + world["note"], {}))
    assert found
    assert "Ringde" not in owner.get(f"{HERE}subscribers/1/").text
    with database.transaction() as session:
        session.execute(update(Undo).values(offered_at=utcnow() - timedelta(hours=2)))
    assert "redan ångrat" in press(owner, found[1], {})
    jobs.tick(database, settings, now=utcnow() + timedelta(hours=2))
    with database.reading() as session:
        assert session.scalars(select(Note)).all() == []
        assert session.scalars(select(Undo)).all() == []


@pytest.fixture
def weeks(database: Database, settings: Settings) -> Weeks:
    """A newsletter of the present, whose weekly digest has a post to come."""
    weeks = Weeks(database, settings, rhythms=[WEEKLY], undo_seconds=60)
    with database.transaction() as session:
        session.execute(update(Schedule).values(until=utcnow()))
    weeks.reader("anna")
    weeks.post("Nya grannar", utcnow() - timedelta(hours=1))
    return weeks


def test_the_calendar_is_as_it_was(
    app: Flask, database: Database, settings: Settings, weeks: Weeks
) -> None:
    editor = as_editor(app, Role.EDITOR)

    def seen() -> list[tuple[object, ...]]:
        with database.reading() as session:
            here = weeks.newsletter(session)
            found = calendar.upcoming(session, here, now=utcnow())
            return [(one.due_at, one.at, one.state, one.moved) for one in found]

    with database.reading() as session:
        here = weeks.newsletter(session)
        one = calendar.next_one(session, here, now=utcnow())
        assert one is not None
        due, at = one.due_at, one.at
    named = {"rhythm": WEEKLY, "due": due.isoformat()}
    before = seen()
    for what, data in (
        ("skip", {}),
        ("move", {"to": (at + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")}),
    ):
        found = BUTTON.search(
            press(editor, f"{HERE}calendar/{what}", {**named, **data})
        )
        assert found
        assert seen() != before
        press(editor, found[1], {})
        assert seen() == before, what
    # Sent now, it leaves in a minute; undone, its rhythm has it again.
    with database.reading() as session:
        post_id = session.scalars(select(Post.id)).one()
    sent = {**named, "posts": str(post_id), "readers": "1"}
    page = press(editor, f"{HERE}calendar/send", sent)
    assert re.search(r"Går om \d+ sekunder", page)
    with database.reading() as session:
        assert session.scalars(select(Delivery)).all() == []
        issue_id = session.scalars(select(Issue.id)).one()
    assert "Ingen har fått något" in press(editor, f"{HERE}issues/{issue_id}/undo", {})
    assert seen() == before
    discarded = press(editor, f"{HERE}issues/{issue_id}/discard", {})
    assert BUTTON.search(discarded)
    page = press(editor, f"{HERE}calendar/send", sent)
    jobs.start_scheduled(database, settings, utcnow() + timedelta(seconds=61))
    with database.reading() as session:
        assert len(session.scalars(select(Delivery)).all()) == 1
        assert due not in [one[0] for one in seen()]


def test_a_digest_that_waits_is_skipped_and_waits_again(
    app: Flask, database: Database, weeks: Weeks
) -> None:
    with database.transaction() as session:
        here = weeks.newsletter(session)
        moments = calendar.openings(session, here, now=utcnow())
        issue = drafts.of_rhythm(session, here, WEEKLY, now=utcnow())
        assert issue is not None
        session.add(issue)
        session.flush()
        planning.give(session, here, moments[0], issue)
        publish.hold(session, issue, InkorgError(planning.N_YOURS))
        issue_id = issue.id
    editor = as_editor(app, Role.EDITOR)
    before = contents(database)
    found = BUTTON.search(press(editor, f"{HERE}issues/{issue_id}/skip", {}))
    assert found
    press(editor, found[1], {})
    assert contents(database) == before
    # Not if another one has come to wait meanwhile.
    found = BUTTON.search(press(editor, f"{HERE}issues/{issue_id}/discard", {}))
    assert found
    with database.transaction() as session:
        here = weeks.newsletter(session)
        other = drafts.draft(session, here, now=utcnow())
        other.rhythm = WEEKLY
    assert "väntar redan" in press(editor, found[1], {})
    with database.reading() as session:
        assert session.scalars(select(Issue.state)).all() == [IssueState.DRAFT]
