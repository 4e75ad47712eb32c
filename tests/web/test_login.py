"""Logging in: what gets in, what does not, and what ends a session."""

import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from newsletter import editors
from newsletter.db import Database, utcnow
from newsletter.mail import mime
from newsletter.models import Delivery, Editor, Message, Rate, Role
from newsletter.web import login
from newsletter.web.security import SETTINGS
from tests.factories import make_newsletter
from tests.web.at_work import as_editor, csrf_token

EMAIL = "asa@redaktion.example"
PASSWORD = "fyra fiskmåsar på en brygga"
OTHER_PASSWORD = "en helt annan mening om hav"
WRONG = "Det stämde inte"


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    """The one hash that all tests here share: making one takes its time."""
    return {}


@pytest.fixture
def asa(app: Flask, database: Database, hashes: dict[str, str]) -> Editor:
    """An editor with a password, who owns everything."""
    with app.app_context():
        hashed = hashes.get("asa") or login.hash_new_password(PASSWORD)
        hashes["asa"] = hashed
    with database.transaction() as session:
        make_newsletter(session)
        editor = editors.add(session, EMAIL, Role.OWNER, now=utcnow())
        editor.password = hashed
        editor.confirmed_at = utcnow()
        session.flush()
        return editor


def browser(app: Flask, network: str = "192.0.2.7") -> FlaskClient:
    client = app.test_client()
    client.environ_base |= {"REMOTE_ADDR": network, "HTTP_USER_AGENT": "Fågel/1"}
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = "sv"
    return client


def log_in(
    client: FlaskClient,
    password: str = PASSWORD,
    email: str = EMAIL,
    query: str = "",
) -> TestResponse:
    path = f"/editor/login{query}"
    token = csrf_token(client, "/editor/login")
    data = {"email": email, "password": password, "csrf_token": token}
    return client.post(path, data=data)


def is_in(client: FlaskClient) -> bool:
    return client.get("/editor/account/").status_code == 200


def test_the_right_password_gets_in_and_others_do_not(app: Flask, asa: Editor) -> None:
    client = browser(app)
    answer = log_in(client, OTHER_PASSWORD)
    assert answer.status_code == 200
    assert WRONG in answer.text
    assert not is_in(client)
    answer = log_in(client)
    assert (answer.status_code, answer.location) == (302, "/editor/")
    assert is_in(client)


def test_the_address_may_be_capitalised(app: Flask, asa: Editor) -> None:
    assert log_in(browser(app), email=EMAIL.upper()).status_code == 302


def test_known_and_unknown_addresses_get_the_same_answer(
    app: Flask, asa: Editor
) -> None:
    pages = [
        re.sub(
            r'name="csrf_token" value="[^"]+"|value="[^"]*@[^"]*"',
            "",
            log_in(browser(app), "fel lösenord här", email).text,
        )
        for email in (EMAIL, "okand@redaktion.example")
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("password", [True, 0, [], None, {"a": 1}, "x" * 1_000_000])
def test_a_password_is_a_text_of_reasonable_length(
    app: Flask, asa: Editor, password: object
) -> None:
    client = browser(app)
    token = csrf_token(client, "/editor/login")
    answer = client.post(
        "/editor/login",
        json={"email": EMAIL, "password": password},
        headers={"X-CSRFToken": token},
    )
    assert answer.status_code == 400
    assert not is_in(client)


def test_a_very_long_password_is_refused(app: Flask, asa: Editor) -> None:
    client = browser(app)
    assert log_in(client, "å" * 500_000).status_code in {200, 400, 413}
    assert not is_in(client)


def test_passwords_are_kept_as_argon2(database: Database, asa: Editor) -> None:
    with database.reading() as session:
        found = session.get_one(Editor, asa.id)
    assert str(found.password).startswith("$argon2id$")


def test_guessing_is_stopped_and_locks_nobody_out(app: Flask, asa: Editor) -> None:
    guesser = browser(app, "203.0.113.9")
    token = csrf_token(guesser, "/editor/login")
    answers = [
        guesser.post(
            "/editor/login",
            data={"email": EMAIL, "password": f"gissning {n}", "csrf_token": token},
        ).status_code
        for n in range(14)
    ]
    assert answers.count(200) == 10
    assert set(answers[10:]) == {429}
    assert log_in(guesser).status_code == 429, "even the right one waits"
    assert log_in(browser(app, "192.0.2.7")).status_code == 302
    assert log_in(browser(app, "203.0.113.200")).status_code == 429, "same network"


def test_a_walk_through_many_accounts_is_stopped(
    app: Flask, asa: Editor, database: Database
) -> None:
    guesser = browser(app, "203.0.113.9")
    token = csrf_token(guesser, "/editor/login")
    data = {"password": "", "csrf_token": token}
    answers = [
        guesser.post("/editor/login", data={**data, "email": f"a{n}@b.example"})
        for n in range(101)
    ]
    assert answers[99].status_code == 200
    assert answers[100].status_code == 429
    with database.reading() as session:
        keys = " ".join(session.scalars(select(Rate.key)))
    assert "203.0.113" not in keys
    assert "@" not in keys


def test_getting_in_wipes_the_count(app: Flask, asa: Editor) -> None:
    client = browser(app)
    for _ in range(9):
        log_in(client, "fel lösenord här")
    assert log_in(client).status_code == 302
    client.post("/editor/logout", data={"csrf_token": csrf_token(client)})
    for _ in range(9):
        assert log_in(client, "fel lösenord här").status_code == 200


def test_a_session_is_new_at_login(app: Flask, asa: Editor) -> None:
    client = browser(app)
    with client.session_transaction() as before:
        before["planted"] = "by a stranger"
    old_token = csrf_token(client, "/editor/login")
    log_in(client)
    with client.session_transaction() as after:
        assert "planted" not in after
        assert after["number"]
    assert csrf_token(client) != old_token


def test_a_copied_cookie_is_dead_after_logging_out(app: Flask, asa: Editor) -> None:
    client, thief = browser(app), browser(app)
    log_in(client)
    cookie = client.get_cookie("inkorg")
    assert cookie is not None
    thief.set_cookie("inkorg", cookie.value)
    assert is_in(thief)
    answer = client.post("/editor/logout", data={"csrf_token": csrf_token(client)})
    assert answer.location == "/editor/login"
    assert not is_in(client)
    assert not is_in(thief)


def test_logging_out_ends_only_this_session(app: Flask, asa: Editor) -> None:
    desk, phone = browser(app), browser(app)
    log_in(desk)
    log_in(phone)
    desk.post("/editor/logout", data={"csrf_token": csrf_token(desk)})
    assert not is_in(desk)
    assert is_in(phone)


def test_logging_out_is_a_post(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    answer = client.get("/editor/logout", follow_redirects=True)
    assert answer.status_code in {404, 405}
    assert client.post("/editor/logout").status_code == 400
    assert is_in(client)


def test_a_cookie_does_not_work_in_another_browser(app: Flask, asa: Editor) -> None:
    client, thief = browser(app), browser(app)
    thief.environ_base["HTTP_USER_AGENT"] = "En annan/2"
    log_in(client)
    cookie = client.get_cookie("inkorg")
    assert cookie is not None
    thief.set_cookie("inkorg", cookie.value)
    assert not is_in(thief)


def test_a_change_of_network_keeps_the_session(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    client.environ_base["REMOTE_ADDR"] = "198.51.100.4"
    assert is_in(client)


def test_a_session_has_an_end(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    with client.session_transaction() as session:
        session["since"] -= int(timedelta(days=7).total_seconds()) + 1
    assert not is_in(client)


def test_other_sessions_die_when_the_password_changes(
    app: Flask, asa: Editor, database: Database
) -> None:
    desk, phone = browser(app), browser(app)
    log_in(desk)
    log_in(phone)
    data = {
        "password": PASSWORD,
        "new_password": OTHER_PASSWORD,
        "new_password_confirm": OTHER_PASSWORD,
        "csrf_token": csrf_token(desk, "/editor/account/password"),
    }
    answer = desk.post("/editor/account/password", data=data)
    assert answer.location == "/editor/account/", answer.text
    assert is_in(desk)
    assert not is_in(phone)
    assert log_in(browser(app)).status_code == 200
    assert log_in(browser(app), OTHER_PASSWORD).status_code == 302
    assert subjects(database) == [(EMAIL, "Ditt lösenord är ändrat")]


def test_the_old_password_is_asked_for(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    data = {
        "password": "gissning",
        "new_password": OTHER_PASSWORD,
        "new_password_confirm": OTHER_PASSWORD,
        "csrf_token": csrf_token(client, "/editor/account/password"),
    }
    answer = client.post("/editor/account/password", data=data)
    assert "Det är inte ditt lösenord." in answer.text
    assert log_in(browser(app)).status_code == 302


def test_a_short_password_is_refused(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    data = {
        "password": PASSWORD,
        "new_password": "för kort",
        "new_password_confirm": "för kort",
        "csrf_token": csrf_token(client, "/editor/account/password"),
    }
    answer = client.post("/editor/account/password", data=data)
    assert "minst 12 tecken" in answer.text
    assert log_in(browser(app)).status_code == 302


def subjects(database: Database) -> list[tuple[str, str]]:
    with database.reading() as session:
        query = select(Delivery.address, Message.subject).join(
            Message, Message.id == Delivery.message_id
        )
        return [tuple(row) for row in session.execute(query.order_by(Delivery.id))]  # type: ignore[misc]


def mailed_link(database: Database) -> str:
    with database.reading() as session:
        message = session.scalars(select(Message).order_by(Message.id.desc())).first()
    assert message is not None
    frozen = mime.Frozen.unpack(message.frozen)
    body = b"".join(frozen.segments).replace(b"=\r\n", b"").replace(b"=3D", b"=")
    found = re.search(rb"http://localhost(/editor/login/forgotten/[\w.-]+)", body)
    assert found, body.decode()
    return found[1].decode()


def forget(client: FlaskClient, email: str) -> str:
    token = csrf_token(client, "/editor/login/forgotten")
    answer = client.post(
        "/editor/login/forgotten", data={"email": email, "csrf_token": token}
    )
    assert answer.status_code == 200
    page = answer.text.replace(email, "…")
    return re.sub(r'name="csrf_token" value="[^"]+"', "", page)


def test_a_forgotten_password_is_chosen_anew_by_mail(
    app: Flask, asa: Editor, database: Database
) -> None:
    phone = browser(app)
    log_in(phone)
    client = browser(app)
    forget(client, EMAIL)
    path = mailed_link(database)
    data = {
        "password": OTHER_PASSWORD,
        "password_confirm": OTHER_PASSWORD,
        "csrf_token": csrf_token(client, path),
    }
    assert client.post(path, data=data).location == "/editor/login"
    assert not is_in(client), "a link in a mail is not a login"
    assert not is_in(phone)
    assert log_in(client, OTHER_PASSWORD).status_code == 302
    again = browser(app)
    assert again.get(path).location == "/editor/login/forgotten", "the link is used up"


def test_asking_for_a_new_password_tells_nothing(
    app: Flask, asa: Editor, database: Database
) -> None:
    assert forget(browser(app), EMAIL) == forget(browser(app), "okand@b.example")
    assert [address for address, _ in subjects(database)] == [EMAIL]


def test_asking_often_sends_one_mail(
    app: Flask, asa: Editor, database: Database
) -> None:
    client = browser(app)
    for _ in range(5):
        forget(client, EMAIL)
    assert 1 <= len(subjects(database)) <= 2  # two if a window ended meanwhile


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "https:evil.example",
        "///evil.example",
        "/%0d%0aLocation: https://evil.example",
        "javascript:alert(1)",
        " //evil.example",
        "\t//evil.example",
        "http://localhost.evil.example/",
    ],
)
def test_next_leads_nowhere_else(app: Flask, asa: Editor, target: str) -> None:
    answer = log_in(browser(app), query=f"?next={quote(target)}")
    assert answer.status_code == 302
    assert answer.location == "/editor/"


def test_next_leads_back(app: Flask, asa: Editor) -> None:
    answer = log_in(browser(app), query="?next=/editor/labbet/%3Fa%3Db")
    assert answer.location == "/editor/labbet/?a=b"


def test_nobody_registers_and_no_code_comes_by_mail(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    rules = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert not {e for e in rules if "register" in e and "wan" not in e}
    token = csrf_token(client)
    answer = client.post("/editor/login/rescue", data={"csrf_token": token})
    assert answer.status_code == 404


def test_a_header_does_not_log_in(app: Flask, asa: Editor) -> None:
    with app.test_request_context():
        token = str(asa.get_auth_token())
    client = app.test_client()
    for kind in ({"headers": {"Authentication-Token": token}},):
        assert client.get("/editor/account/", **kind).status_code == 302
    assert client.get(f"/editor/account/?auth_token={token}").status_code == 302


def test_an_editor_who_was_put_out_is_out_at_once(
    app: Flask, asa: Editor, database: Database
) -> None:
    client = browser(app)
    log_in(client)
    with database.transaction() as session:
        session.get_one(Editor, asa.id).active = False
    assert not is_in(client)
    assert WRONG in log_in(browser(app)).text


def test_the_cookie_is_written_anew_now_and_then(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    client.get("/editor/account/")  # its forms have a token now
    assert "Set-Cookie" not in client.get("/editor/account/").headers
    with client.get("/static/tokens.css") as static:
        assert "Set-Cookie" not in static.headers
    with client.session_transaction() as session:
        session["seen"] -= 3600
    assert "Set-Cookie" in client.get("/editor/account/").headers
    assert "Set-Cookie" not in client.get("/editor/account/").headers


def test_an_idle_session_ends(app: Flask, asa: Editor) -> None:
    client = browser(app)
    log_in(client)
    assert app.permanent_session_lifetime == timedelta(hours=12)
    expires = client.get_cookie("inkorg")
    assert expires is not None and expires.expires is not None
    assert expires.expires - utcnow() < timedelta(hours=12, minutes=1)


def test_the_session_cookie_is_guarded(app: Flask, asa: Editor) -> None:
    client = browser(app)
    cookie = log_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_as_editor_uses_the_front_door(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
    assert is_in(as_editor(app, Role.VIEWER, labbet))
    assert app.extensions[SETTINGS].secret_keys
