"""One's own account: one-time links, the second factor, recovery codes."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from passlib.totp import TOTP
from sqlalchemy import select

from newsletter import editors
from newsletter.db import Database, utcnow
from newsletter.models import Editor, Role, UsedLink
from newsletter.web import login
from newsletter.web.login import LOGIN, NEEDS
from newsletter.web.security import SETTINGS
from tests.factories import make_newsletter
from tests.web.at_work import as_editor, csrf_token

EMAIL = "owner@redaktion.example"
PASSWORD = "fyra fiskmåsar på en brygga"
SECOND = "/editor/account/second-factor"


def own(database: Database) -> Editor:
    with database.reading() as session:
        editor = editors.by_email(session, EMAIL)
    assert editor is not None
    return editor


@pytest.fixture
def client(app: Flask, database: Database) -> FlaskClient:
    """An owner without a password, just logged in by a link."""
    with database.transaction() as session:
        make_newsletter(session)
    return as_editor(app, Role.OWNER)


def set_password(app: Flask, database: Database) -> None:
    with app.app_context():
        hashed = login.hash_new_password(PASSWORD)
    with database.transaction() as session:
        session.get_one(Editor, own(database).id).password = hashed


def switch_on(client: FlaskClient) -> TOTP:
    """Switch the second factor on; return what the phone holds."""
    data = {"csrf_token": csrf_token(client, SECOND), "setup": "authenticator"}
    page = client.post(SECOND, data=data).text
    key = re.search(r'class="key">([A-Z0-9 -]+)<', page)
    action = re.search(rf'action="({SECOND}/[^"]+)"', page)
    assert key and action, page
    phone = TOTP(key[1].replace(" ", "").replace("-", ""), issuer="Inkorg")
    wrong = client.post(action[1], data={**data, "code": "000000"})
    assert wrong.location == SECOND
    data = {"csrf_token": data["csrf_token"], "code": code(phone)}
    answer = client.post(action[1], data=data)
    assert answer.location == "/editor/account/", answer.text
    return phone


def code(phone: TOTP, *, later: int = 0) -> str:
    return str(phone.generate(utcnow() + timedelta(seconds=later)).token)


def pass_password(app: Flask) -> FlaskClient:
    """Return a browser that has passed the password and nothing more."""
    client = app.test_client()
    data = {
        "email": EMAIL,
        "password": PASSWORD,
        "csrf_token": csrf_token(client, "/editor/login"),
    }
    answer = client.post("/editor/login", data=data)
    assert answer.location.startswith("/editor/login/code"), answer.text
    return client


def enter(client: FlaskClient, text: str) -> int:
    path = "/editor/login/code"
    data = {"code": text, "csrf_token": csrf_token(client, path)}
    return client.post(path, data=data).status_code


def is_in(client: FlaskClient) -> bool:
    return client.get("/editor/account/").status_code == 200


def test_name_and_language_are_kept(client: FlaskClient, database: Database) -> None:
    data = {"name": " Åsa  Öberg", "language": "en", "csrf_token": csrf_token(client)}
    assert client.post("/editor/account/", data=data).status_code == 302
    page = client.get("/editor/account/").text
    assert 'value="Åsa Öberg"' in page
    assert "Your account" in page
    data["language"] = "tlh"
    client.post("/editor/account/", data=data)
    assert own(database).language == "en"


def test_a_name_that_cannot_be_shown_is_refused(client: FlaskClient) -> None:
    data = {"name": "x" * 300, "language": "sv", "csrf_token": csrf_token(client)}
    answer = client.post("/editor/account/", data=data)
    assert answer.status_code == 400
    assert "200 tecken" in answer.text


def test_a_link_logs_in_once_and_looking_does_not_use_it(
    app: Flask, database: Database
) -> None:
    with database.transaction() as session:
        url = editors.invite(
            session, app.extensions[SETTINGS], EMAIL, Role.OWNER, now=utcnow()
        )
    path = urlsplit(url).path
    scanner, person, thief = app.test_client(), app.test_client(), app.test_client()
    assert scanner.get(path).status_code == 200
    assert not is_in(scanner)
    token = csrf_token(person, path)
    late = csrf_token(thief, path)
    answer = person.post(path, data={"csrf_token": token, "name": "Åsa"})
    assert answer.location == "/editor/"
    assert is_in(person)
    assert thief.post(path, data={"csrf_token": late}).status_code == 404
    assert not is_in(thief)


def test_a_link_takes_a_password_along(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        url = editors.invite(
            session, app.extensions[SETTINGS], EMAIL, Role.OWNER, now=utcnow()
        )
    path = urlsplit(url).path
    client = app.test_client()
    data = {"csrf_token": csrf_token(client, path), "password": "för kort"}
    answer = client.post(path, data=data)
    assert answer.status_code == 400
    assert "mellan 12 och 200" in answer.text
    assert own(database).password is None
    assert client.post(path, data={**data, "password": PASSWORD}).status_code == 302
    assert is_in(client)
    other = app.test_client()
    data = {"email": EMAIL, "password": PASSWORD}
    data["csrf_token"] = csrf_token(other, "/editor/login")
    assert other.post("/editor/login", data=data).location == "/editor/"


def test_without_a_password_the_account_says_so(client: FlaskClient) -> None:
    assert "utan lösenord behöver du en ny länk" in client.get("/editor/account/").text


def test_a_first_password_is_chosen_without_an_old_one(
    client: FlaskClient, database: Database
) -> None:
    path = "/editor/account/password"
    data = {
        "new_password": PASSWORD,
        "new_password_confirm": PASSWORD,
        "csrf_token": csrf_token(client, path),
    }
    assert client.post(path, data=data).location == "/editor/account/"
    assert str(own(database).password).startswith("$argon2id$")


def test_half_way_in_is_not_in(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    switch_on(client)
    half = pass_password(app)
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if getattr(view, NEEDS, None) not in {LOGIN, *Role} or rule.arguments - {
            "slug"
        }:
            continue
        if "GET" in (rule.methods or ()):
            path = rule.rule.replace("<slug>", "labbet")
            answer = half.get(path)
            assert answer.status_code == 302, path
            assert answer.location.startswith("/editor/login"), path


def test_the_right_code_gets_in_and_only_once(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    phone = switch_on(client)
    first, second = pass_password(app), pass_password(app)
    assert enter(first, "123456") == 200
    assert not is_in(first)
    # The code of the set-up is used up: take the next.
    following = code(phone, later=30)
    assert enter(first, following) == 302
    assert is_in(first)
    assert enter(second, following) == 200, "someone who looked on"
    assert not is_in(second)


def test_guessing_codes_is_stopped(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    phone = switch_on(client)
    guesser = pass_password(app)
    statuses = [enter_raw(guesser, f"{n:06}") for n in range(12)]
    assert statuses[-1] == 429
    other = pass_password(app)
    other.environ_base["REMOTE_ADDR"] = "203.0.113.77"
    assert enter_raw(other, code(phone, later=30)) == 429, (
        "the account, not the network"
    )


def enter_raw(client: FlaskClient, text: str) -> int:
    with client.session_transaction() as session:
        assert "tf_user_id" in session
    token = csrf_token(client, "/editor/login/code")
    data = {"code": text, "csrf_token": token}
    return client.post("/editor/login/code", data=data).status_code


def test_a_link_is_no_second_factor(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    switch_on(client)
    with database.transaction() as session:
        url = editors.invite(
            session, app.extensions[SETTINGS], EMAIL, Role.OWNER, now=utcnow()
        )
    path = urlsplit(url).path
    other = app.test_client()
    answer = other.post(path, data={"csrf_token": csrf_token(other, path)})
    assert answer.location == "/editor/login"
    assert not is_in(other)


def test_a_recovery_code_gets_in_once(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    switch_on(client)
    path = "/editor/account/recovery-codes"
    data = {"csrf_token": csrf_token(client, path), "generate_new_codes": "1"}
    codes = re.findall(
        r"<code>([0-9a-f-]{14})</code>", client.post(path, data=data).text
    )
    assert len(codes) == 8
    stored = own(database).mf_recovery_codes or []
    assert not set(codes) & set(stored), "they are kept encrypted"

    def use(text: str) -> FlaskClient:
        half = pass_password(app)
        data = {"code": text}
        data["csrf_token"] = csrf_token(half, "/editor/login/recovery-code")
        half.post("/editor/login/recovery-code", data=data)
        return half

    assert is_in(use(codes[0]))
    assert not is_in(use(codes[0]))
    assert not is_in(use("aaaa-bbbb-cccc"))
    assert is_in(use(codes[7]))


def test_switching_off_takes_the_second_step_away(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    set_password(app, database)
    switch_on(client)
    data = {"csrf_token": csrf_token(client, SECOND), "setup": "disable"}
    assert client.post(SECOND, data=data).location == "/editor/account/"
    assert own(database).tf_primary_method is None


def test_the_secret_is_kept_encrypted_under_a_key_that_can_rotate(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    switch_on(client)
    stored = str(own(database).tf_totp_secret)
    assert '"enckey"' in stored
    tags = list(app.config["SECURITY_TOTP_SECRETS"])
    assert f'"t":"{tags[0]}"' in stored


def test_used_codes_are_written_down(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    switch_on(client)
    with database.reading() as session:
        nonces = session.scalars(select(UsedLink.nonce)).all()
    assert any(nonce.startswith("totp:") for nonce in nonces)
