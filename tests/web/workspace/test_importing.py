"""A file of readers in the browser: uploaded, looked at, tried, imported, reported."""

import csv
import io
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from newsletter import jobs
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import (
    Consent,
    ImportChunk,
    ImportKey,
    ImportRun,
    ImportState,
    Kind,
    Newsletter,
    Role,
    Status,
    Subscription,
    Suppression,
    Wording,
)
from newsletter.subscribers import sheets, uploads
from tests.factories import make_newsletter, make_subscription
from tests.subscribers.letterbox import mails
from tests.web.at_work import as_editor, csrf_token

PATH = "/editor/labbet/subscribers/import/"
FILE = (
    "id,email,name,note,subscribed_to_emails,complimentary_plan,created_at,labels\n"
    "1,asa@example.org,<b>Åsa</b>,,true,false,2020-05-01T10:00:00Z,\n"
    "2,bo@example.org,Bo,,false,false,2020-05-01T10:00:00Z,\n"
    "3,=cmd(1)@,Carin,,true,false,,\n"
    "4,här@example.org,Dan,,true,false,,\n"
    "5,HÄR@example.org,Dan,,true,false,,\n"
)


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session, "labbet")


@pytest.fixture
def client(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.EDITOR, labbet)


def upload(client: FlaskClient, data: bytes, name: str = "members.csv") -> str:
    """Upload a file; return the import's page."""
    answer = client.post(
        PATH,
        data={
            "csrf_token": csrf_token(client, PATH),
            "file": (io.BytesIO(data), name),
        },
    )
    assert answer.status_code == 302, answer.text
    return answer.location


def press(
    client: FlaskClient,
    path: str,
    action: str,
    form: dict[str, str] | None = None,
    *,
    status: int = 302,
) -> str:
    form = {"csrf_token": csrf_token(client, path), "action": action, **(form or {})}
    answer = client.post(path, data=form)
    assert answer.status_code == status, answer.text
    return answer.text


def columns(*fields: str) -> dict[str, str]:
    return {f"column-0-{place}": field for place, field in enumerate(fields)}


GHOST = columns("", "email", "name", "", "wants", "", "requested_at", "topics")


def work(database: Database, settings: Settings, hours: int = 1) -> None:
    """Let the worker's clock come by."""
    names = {"import-readers", "forget-imports"}
    tasks = tuple(task for task in jobs.TASKS if task.name in names)
    assert len(tasks) == 2
    now = utcnow() + timedelta(hours=hours)
    assert set(jobs.tick(database, settings, now=now, tasks=tasks)) == names


def test_a_file_is_looked_at_tried_imported_and_reported(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    path = upload(client, FILE.encode("cp1252"))
    page = client.get(path).text
    assert "Ghost" in page
    assert "&lt;b&gt;Åsa&lt;/b&gt;" in page
    assert '<option value="wants" selected>' in page
    press(client, path, "import", GHOST, status=400)  # where from? not said
    wrong = press(client, path, "try", columns(*["name"] * 8), status=400)
    assert 'role="alert"' in wrong
    press(client, path, "try", GHOST)
    assert "data-follow" in client.get(path).text
    now = utcnow()
    with database.transaction() as session:
        assert uploads.step(session, settings, 1, now=now)
    with database.transaction() as session:
        assert not uploads.step(session, settings, 1, now=now)
        assert session.get_one(ImportRun, 1).state == ImportState.CHECKED
        tried = dict(session.get_one(ImportRun, 1).counts)
        assert session.scalar(select(func.count()).select_from(ImportKey)) == 3
        assert session.scalars(select(Subscription)).all() == []
        assert session.scalars(select(Suppression)).all() == []
    press(client, path, "import", {"consent": "the blog <3", **GHOST})
    press(client, path, "delete", status=409)
    work(database, settings)
    page = client.get(path).text
    assert "data-follow" not in page
    with database.reading() as session:
        run = session.get_one(ImportRun, 1)
        assert (run.state, run.done, run.lines) == (ImportState.DONE, 5, 5)
        assert run.counts == tried
        assert tried == {"added": 2, "stopped": 1, "refused": 1, "duplicate": 1}
        found = {s.subscriber.email: s for s in session.scalars(select(Subscription))}
        assert set(found) == {"asa@example.org", "här@example.org"}
        assert {s.status for s in found.values()} == {Status.ACTIVE}
        step, wording = session.execute(
            select(Consent, Wording.text).join(Wording).order_by(Consent.id).limit(1)
        ).one()
        assert step.detail["source"] == "the blog <3"
        assert step.detail["requested_at"] == "2020-05-01T10:00:00+00:00"
        for said in ("editor@redaktion.example", "members.csv", "the blog <3"):
            assert said in wording
        # What has been imported is not kept twice.
        assert session.scalars(select(ImportChunk.data)).all() == [None]
        assert session.scalars(select(ImportKey)).all() == []
    answer = client.get(f"{path}/report.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["line"], row["email"]) for row in rows] == [
        ("4", "'=cmd(1)@"),
        ("6", "HÄR@example.org"),
    ]
    assert all(row["reason"] for row in rows)
    press(client, path, "delete")
    assert client.get(path).status_code == 404


def test_a_worker_that_is_killed_goes_on_where_it_was(
    client: FlaskClient, database: Database, settings: Settings
) -> None:
    many = sheets.BATCH_RECORDS + 50
    lines = "".join(f"reader{number}@example.org\n" for number in range(many))
    data = f"email\n{lines}reader0@example.org\n".encode()
    path = upload(client, data, "många.csv")
    press(client, path, "try", columns("email"))
    work(database, settings)
    assert client.get(path).status_code == 200
    press(client, path, "import", {"consent": "mässan", **columns("email")})
    with database.transaction() as session:
        uploads.step(session, settings, 1, now=utcnow())
    with pytest.raises(RuntimeError), database.transaction() as session:
        uploads.step(session, settings, 1, now=utcnow())
        raise RuntimeError("killed")
    with database.reading() as session:
        run = session.get_one(ImportRun, 1)
        assert (run.done, run.counts) == (many - 50, {"added": many - 50})
    work(database, settings, hours=2)
    with database.reading() as session:
        run = session.get_one(ImportRun, 1)
        assert run.state == ImportState.DONE
        assert run.counts == {"added": many, "duplicate": 1}
        assert session.scalar(select(func.count()).select_from(Subscription)) == many
        assert session.scalar(select(func.count()).select_from(Consent)) == many


def test_an_import_is_stopped_or_asks_each_by_mail_and_is_forgotten(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    data = b"email\n" + b"".join(b"r%d@example.org\n" % n for n in range(103))
    path = upload(client, data)
    said = {"how": "ask", "consent": "a fair", **columns("email")}
    press(client, path, "import", said)
    with database.transaction() as session:
        uploads.step(session, settings, 1, now=utcnow())
    press(client, path, "stop")
    work(database, settings)
    with database.reading() as session:
        run = session.get_one(ImportRun, 1)
        assert (run.state, run.done) == (ImportState.CANCELLED, 100)
        statuses = session.scalars(select(Subscription.status)).all()
        assert statuses == [Status.PENDING] * 100
        assert len(mails(session, Kind.CONFIRM)) == 100
    later = utcnow() + uploads.KEPT
    with database.transaction() as session:
        while uploads.forget_old(session, now=later, limit=1):
            pass
        assert session.scalars(select(ImportRun)).all() == []
        assert session.scalars(select(ImportChunk)).all() == []


def test_what_is_no_file_of_readers_leaves_nothing_behind(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    for data, name in (
        (b"\x00\x01\x02\x03", "x.xls"),
        (b"email\n", "x.csv"),
        (b"", ""),
    ):
        answer = client.post(
            PATH,
            data={
                "csrf_token": csrf_token(client, PATH),
                "file": (io.BytesIO(data), name),
            },
        )
        assert answer.status_code == 400
        assert 'class="error"' in answer.text or 'role="alert"' in answer.text
    with database.transaction() as session:
        assert session.scalars(select(ImportRun)).all() == []
        other = make_newsletter(session, "annat")
        make_subscription(session, other)
        run = uploads.begin(session, other, "x.csv", editor_id=None, now=utcnow())
    for rest in ("", "/progress", "/report.csv"):
        assert client.get(f"{PATH}{run.id}{rest}").status_code == 404


def test_suppressions_and_consents_are_handed_over(
    app: Flask, client: FlaskClient, database: Database, settings: Settings
) -> None:
    path = upload(client, FILE.encode())
    press(client, path, "import", {"consent": "=1+1", **GHOST})
    work(database, settings)
    owner = as_editor(app, Role.OWNER)
    found = {}
    for what in ("suppressions", "consents"):
        data = {"csrf_token": csrf_token(owner, PATH), "what": what}
        answer = owner.post("/editor/labbet/subscribers/export", data=data)
        found[what] = list(csv.DictReader(io.StringIO(answer.text)))
    (stopped,) = found["suppressions"]
    assert (stopped["reason"], stopped["email"]) == ("left", "")
    assert (len(stopped["hash"]), stopped["note"]) == (64, "'=1+1")
    assert [row["email"] for row in found["consents"]] == [
        "asa@example.org",
        "här@example.org",
    ]
    assert {row["step"] for row in found["consents"]} == {"imported"}
    assert "members.csv" in found["consents"][0]["wording"]
