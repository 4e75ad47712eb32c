"""People of a newsletter: invitations, second factors, sessions; who may end whose."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter import editors
from newsletter.db import Database
from newsletter.models import (
    AuditEntry,
    Delivery,
    Editor,
    EditorSession,
    Membership,
    Message,
    Newsletter,
    Role,
)
from newsletter.web.browsers import described
from tests.factories import NOW, make_newsletter
from tests.web.at_work import as_editor, csrf_token
from tests.web.workspace.test_account import SECOND, code, switch_on

PEOPLE = "/editor/labbet/settings/people/"
BO = "bo@redaktion.example"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


@pytest.fixture
def owner(app: Flask, labbet: Newsletter) -> FlaskClient:
    return as_editor(app, Role.OWNER, labbet)


def post(client: FlaskClient, path: str, **data: str) -> int:
    return client.post(
        path, data={"csrf_token": csrf_token(client), **data}
    ).status_code


def membership(database: Database, email: str = BO) -> Membership:
    with database.reading() as session:
        query = select(Membership).join(Editor).where(Editor.email == email)
        return session.scalars(query).one()


def acts(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(AuditEntry.what).order_by(AuditEntry.id)))


def subjects(database: Database, address: str = BO) -> list[str]:
    with database.reading() as session:
        query = (
            select(Message.subject)
            .join(Delivery, Delivery.message_id == Message.id)
            .where(Delivery.address == address)
        )
        return list(session.scalars(query))


def is_in(client: FlaskClient) -> bool:
    return client.get("/editor/account/").status_code == 200


def test_an_invitation_is_sent_again_or_withdrawn(
    app: Flask, database: Database, owner: FlaskClient
) -> None:
    post(owner, PEOPLE, email=BO, role="editor")
    place = f"{PEOPLE}{membership(database).id}"
    with database.reading() as session:
        first = editors.by_email(session, BO)
    assert post(owner, f"{place}/resend") == 302
    with database.reading() as session:
        second = editors.by_email(session, BO)
    assert first and second and first.invite_nonce != second.invite_nonce
    assert acts(database).count("invited") == 2
    assert post(owner, f"{place}/remove") == 302
    with database.reading() as session:
        gone = editors.by_email(session, BO)
    assert gone and gone.invite_nonce == ""
    as_editor(app, Role.VIEWER, labbet_of(database), BO)
    again = f"{PEOPLE}{membership(database).id}/resend"
    assert post(owner, again) == 409  # has been here: nothing to accept


def labbet_of(database: Database) -> Newsletter:
    with database.reading() as session:
        return session.scalars(select(Newsletter)).one()


def test_an_owner_who_never_came_is_not_the_last_one(
    app: Flask, database: Database, owner: FlaskClient
) -> None:
    post(owner, PEOPLE, email=BO, role="owner")
    me = membership(database, "owner@redaktion.example").id
    assert post(owner, f"{PEOPLE}{me}/remove") == 409
    as_editor(app, Role.OWNER, labbet_of(database), BO)
    assert post(owner, f"{PEOPLE}{me}/remove") == 302


def test_without_a_second_factor_one_is_led_to_set_it_up(
    app: Flask, database: Database, owner: FlaskClient, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        make_newsletter(session, "annat", title="Annat")
    bo = as_editor(app, Role.EDITOR, labbet, BO)
    assert bo.get("/editor/labbet/posts/").status_code == 200
    post(owner, f"{PEOPLE}factor", needs_factor="1")
    for path in ("/editor/labbet/", "/editor/labbet/posts/"):
        assert bo.get(path).location == SECOND
    page = bo.get(SECOND).text
    assert page.count("kräver tvåstegsinloggning") == 1
    assert post(bo, "/editor/labbet/posts/fetch") == 403
    assert bo.get("/editor/annat/").status_code == 404  # no word of its rules
    switch_on(bo)
    codes = "/editor/account/recovery-codes"
    assert bo.get("/editor/account/").location == codes
    made = bo.post(
        codes, data={"csrf_token": csrf_token(bo, codes), "generate_new_codes": "1"}
    ).text
    first = re.findall(r"<code>([0-9a-f-]{14})</code>", made)
    assert len(first) == 8
    assert first[0] not in bo.get(f"{codes}?show_codes=1").text  # once and no more
    assert is_in(bo)
    assert bo.get("/editor/labbet/posts/").status_code == 200
    assert owner.get(PEOPLE).location == SECOND  # owners too


def test_a_lost_factor_is_reset_by_an_owner_of_all_it_guards(
    app: Flask, database: Database, owner: FlaskClient, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        annat = make_newsletter(session, "annat")
    bo = as_editor(app, Role.EDITOR, labbet, BO)
    with database.transaction() as session:
        editors.add(session, BO, Role.VIEWER, annat, now=NOW)
    phone = switch_on(bo)
    assert code(phone)
    with database.reading() as session:
        query = select(Membership.id).where(Membership.newsletter_id == labbet.id)
        ours = session.scalars(query.join(Editor).where(Editor.email == BO)).one()
    assert "Nollställ" not in owner.get(PEOPLE).text
    assert post(owner, f"{PEOPLE}{ours}/reset") == 403
    boss = as_editor(app, Role.OWNER, None, "chef@redaktion.example")
    assert "Nollställ" in boss.get(PEOPLE).text
    assert post(boss, f"{PEOPLE}{ours}/reset") == 302
    assert not is_in(bo)
    with database.reading() as session:
        found = editors.by_email(session, BO)
        assert found and not editors.has_second_factor(found)
    assert "Din tvåstegsinloggning är nollställd" in subjects(database)
    assert "reset" in acts(database)


def test_sessions_are_seen_and_ended(
    app: Flask, database: Database, owner: FlaskClient, labbet: Newsletter
) -> None:
    desk = as_editor(app, Role.EDITOR, labbet, BO)
    phone = as_editor(app, Role.EDITOR, labbet, BO)
    tablet = as_editor(app, Role.EDITOR, labbet, BO)
    page = desk.get("/editor/account/").text
    ids = [int(n) for n in re.findall(r"/account/sessions/(\d+)/end", page)]
    assert len(ids) == 2  # this one is ended by logging out
    assert post(owner, f"/editor/account/sessions/{ids[0]}/end") == 302
    assert is_in(phone) and is_in(tablet), "somebody else's is not mine to end"
    post(desk, f"/editor/account/sessions/{ids[0]}/end")
    assert sorted([is_in(phone), is_in(tablet)]) == [False, True]
    post(desk, "/editor/account/sessions/end")
    assert (is_in(desk), is_in(phone), is_in(tablet)) == (True, False, False)
    post(owner, f"{PEOPLE}{membership(database).id}/log-out")
    assert not is_in(desk)
    assert is_in(owner)
    assert "ended" in acts(database)


def test_a_session_is_seen_by_posting_and_not_by_looking(
    app: Flask, database: Database, owner: FlaskClient
) -> None:
    assert "data-seen" not in owner.get("/editor/account/").text
    with database.transaction() as session:
        session.scalars(select(EditorSession)).one().seen_at = NOW
    with owner.session_transaction() as cookie:
        cookie["told"] -= 601
    assert 'data-seen="/editor/account/seen"' in owner.get("/editor/account/").text
    with database.reading() as session:
        assert session.scalars(select(EditorSession.seen_at)).one() == NOW
    assert post(owner, "/editor/account/seen") == 204
    with database.reading() as session:
        assert session.scalars(select(EditorSession.seen_at)).one() > NOW
    assert "data-seen" not in owner.get("/editor/account/").text


def test_browsers_have_names() -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
    assert described(agent) == "Firefox, Linux"
    agent = (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605"
        " (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
    )
    assert described(agent) == "Safari, iPhone"
    assert described("Werkzeug/3") == ""


def test_one_person_has_a_role_in_each_newsletter_and_goes_between_them(
    app: Flask, database: Database, labbet: Newsletter
) -> None:
    with database.transaction() as session:
        annat = make_newsletter(session, "annat", title="Annat brev")
        make_newsletter(session, "tredje", title="Tredje brevet")
        annat.listed = False
    bo = as_editor(app, Role.OWNER, labbet, BO)
    assert "Andra nyhetsbrev" not in bo.get("/editor/labbet/").text
    with database.transaction() as session:
        editors.add(session, BO, Role.VIEWER, annat, now=NOW)
    page = bo.get("/editor/labbet/").text
    assert '<a href="/editor/annat/">Annat brev</a>' in page
    assert "Tredje" not in page
    start = bo.get("/editor/?all=1").text
    assert "/annat/ · Läsbehörig · inte på startsidan" in start
    assert bo.get(PEOPLE).status_code == 200
    assert bo.get("/editor/annat/").status_code == 200
    assert bo.get("/editor/annat/settings/people/").status_code == 403
    assert bo.get("/editor/tredje/").status_code == 404
