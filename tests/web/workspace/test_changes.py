"""The page of changes: what the workspace, the command line and a login leave there."""

import csv
import io

from click.testing import CliRunner
from flask import Flask
from sqlalchemy import select

from newsletter.audit import recording
from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import AuditEntry, Newsletter, Role
from tests.conftest import SECRET
from tests.factories import make_newsletter, make_subscription
from tests.web.at_work import as_editor, csrf_token

PAGE = "/editor/labbet/settings/changes/"


def make(database: Database, slug: str = "labbet") -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, slug)


def test_an_editors_change_stands_there_with_their_name(
    app: Flask, database: Database
) -> None:
    labbet, annat = make(database), make(database, "annat")
    owner = as_editor(app, Role.OWNER, labbet, "asa@redaktion.example")
    empty = owner.get(PAGE)
    assert "Anna" not in empty.text
    token = csrf_token(owner)
    name = "<script>alert(1)</script>"
    people = "/editor/labbet/settings/people/"
    owner.post(
        people, data={"csrf_token": token, "email": "bo@b.example", "role": "viewer"}
    )
    owner.post("/editor/labbet/topics/", data={"csrf_token": token, "name": name})
    page = owner.get(PAGE).text
    assert "asa@redaktion.example" in page
    assert "bo@b.example" in page
    assert name not in page
    found = owner.get(f"{PAGE}?kind=membership").text
    assert "Roll · bo@b.example" in found
    assert "Läsbehörig" in found
    assert "Inget sådant" in owner.get(f"{PAGE}?until=2020-01-01").text
    for odd in ("person=x&before=-1", "person=99999999999&since=13"):
        assert owner.get(f"{PAGE}?{odd}").status_code == 200
    rows = list(csv.DictReader(io.StringIO(owner.get(f"{PAGE[:-1]}.csv").text)))
    assert {"editor", "membership"} <= {row["kind"] for row in rows}
    other = as_editor(app, Role.OWNER, annat, "cia@redaktion.example")
    assert "bo@b.example" not in other.get("/editor/annat/settings/changes/").text


def test_pages_follow_each_other(app: Flask, database: Database) -> None:
    labbet = make(database)
    with database.transaction() as session:
        for number in range(51):
            session.add(
                AuditEntry(
                    newsletter_id=labbet.id,
                    who="=cmd",
                    what="changed",
                    kind="topic",
                    label=f"Ämne {number}",
                )
            )
    owner = as_editor(app, Role.OWNER, labbet)
    first = owner.get(f"{PAGE}?kind=topic&person=command").text
    assert "Ämne 50" in first
    assert "Ämne 0</span>" not in first
    link = first.partition('rel="next" href="')[2].partition('"')[0]
    second = owner.get(link.replace("&amp;", "&")).text
    assert "Ämne 0</span>" in second
    assert "'=cmd" in owner.get(f"{PAGE[:-1]}.csv?kind=topic").text


def test_a_command_stands_there_by_its_name(
    app: Flask, database: Database, settings: Settings
) -> None:
    labbet = make(database)
    environment = {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": settings.database_url,
        "NEWSLETTER_BASE_URL": settings.base_url,
        "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
    }
    words = ["newsletter", "set", "labbet", "--at-least", "3"]
    assert CliRunner().invoke(cli, words, env=environment).exit_code == 0
    with database.reading() as session:
        entry = session.scalars(select(AuditEntry)).one()
    assert (entry.who, entry.editor_id) == ("newsletter set", None)
    assert (entry.newsletter_id, entry.after) == (labbet.id, {"at_least": 3})


def test_who_is_being_let_in_changes_their_own_account(
    app: Flask, database: Database
) -> None:
    labbet = make(database)
    as_editor(app, Role.VIEWER, labbet, "bo@redaktion.example")
    with database.reading() as session:
        entry = session.scalars(select(AuditEntry)).one()
    assert (entry.who, entry.kind) == ("bo@redaktion.example", "editor")
    assert set(entry.after) == {"confirmed_at"}


def test_readers_own_acts_are_not_an_editors(app: Flask, database: Database) -> None:
    labbet = make(database)
    with database.transaction() as session:
        reader = make_subscription(session, labbet)
    owner = as_editor(app, Role.OWNER, labbet)
    answer = owner.post(
        f"/unsubscribe/{reader.leave_token}", data={"List-Unsubscribe": "One-Click"}
    )
    assert answer.status_code == 200
    owner.post("/labbet/subscribe", data={"email": "ny@exempel.example"})
    with database.reading() as session:
        kinds = set(session.scalars(select(AuditEntry.kind)))
    assert kinds == {"editor"}


def test_a_password_is_told_without_itself(app: Flask, database: Database) -> None:
    labbet = make(database)
    owner = as_editor(app, Role.OWNER, labbet, "asa@redaktion.example")
    page = "/editor/account/password"
    token = csrf_token(owner, page)
    new = "fyra-hästar-i-regn"
    answer = owner.post(
        page,
        data={"csrf_token": token, "new_password": new, "new_password_confirm": new},
    )
    assert answer.status_code == 302
    with database.reading() as session:
        entry = session.scalars(
            select(AuditEntry).order_by(AuditEntry.id.desc())
        ).first()
    assert entry is not None
    assert entry.after == {"password": recording.HIDDEN}
    assert entry.who == "asa@redaktion.example"
    assert "asa@redaktion.example" in owner.get(f"{PAGE}?kind=editor").text
