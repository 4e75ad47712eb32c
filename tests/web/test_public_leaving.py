"""Leaving on the web: RFC 8058's one click, the page's button, fewer mails, undo."""

import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter import links
from newsletter.db import Database, utcnow
from newsletter.models import Consent, Newsletter, Status, Subscription
from tests.factories import make_newsletter, make_subscription

MONTHLY = "monthly:first-mon@08:00"


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


def reader(database: Database, **over: Any) -> Subscription:
    with database.transaction() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        return make_subscription(session, newsletter, "anna@bostaden.se", **over)


def now_of(database: Database, subscription: Subscription) -> Subscription:
    with database.reading() as session:
        return session.scalars(
            select(Subscription).where(Subscription.id == subscription.id)
        ).one()


def how_they_left(database: Database) -> list[Any]:
    with database.reading() as session:
        steps = session.scalars(select(Consent).order_by(Consent.id))
        return [step.detail.get("how") for step in steps if step.event == "left"]


@pytest.mark.parametrize("encoding", [None, "multipart/form-data"])
@pytest.mark.parametrize("origin", [{}, {"Origin": "https://mail.example"}])
def test_one_click_leaves_at_once_without_redirect_cookie_or_csrf_token(
    app: Flask,
    client: FlaskClient,
    database: Database,
    labbet: Newsletter,
    encoding: str | None,
    origin: dict[str, str],
) -> None:
    """RFC 8058 §3.2, STD on one-click."""
    app.config["WTF_CSRF_ENABLED"] = True
    subscription = reader(database)
    answer = client.post(
        f"/unsubscribe/{subscription.leave_token}",
        data={"List-Unsubscribe": "One-Click"},
        content_type=encoding,
        headers=origin,
    )
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert now_of(database, subscription).status is Status.LEFT
    assert how_they_left(database) == ["one-click"]


def test_the_page_asks_and_its_button_leaves(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    subscription = reader(database)
    path = f"/unsubscribe/{subscription.leave_token}"
    page = client.get(path)
    assert "Vill du avsluta prenumerationen?" in page.text
    assert "anna@bostaden.se" in page.text
    assert now_of(database, subscription).status is Status.ACTIVE
    answer = client.post(path, headers={"Origin": "null"})
    assert (answer.status_code, answer.location) == (303, path)
    answer = client.get(answer.location)
    assert "Du har avslutat prenumerationen" in answer.text
    assert "Det var ett misstag, jag vill vara kvar" in answer.text
    assert client.post(path, follow_redirects=True).text == answer.text
    assert how_they_left(database) == ["page"]


def test_a_paused_and_a_pending_reader_can_leave_too(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    for status in (Status.PAUSED, Status.PENDING):
        with database.transaction() as session:
            newsletter = session.get_one(Newsletter, labbet.id)
            one = make_subscription(session, newsletter, status=status)
        client.post(f"/unsubscribe/{one.leave_token}")
        assert now_of(database, one).status is Status.LEFT


def test_leaving_can_be_undone(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    subscription = reader(database)
    path = f"/unsubscribe/{subscription.leave_token}"
    client.post(path)
    answer = client.post(f"{path}/undo", headers={"Origin": "null"})
    assert answer.status_code == 303
    answer = client.get(answer.location)
    assert "Kul att du stannar" in answer.text
    assert now_of(database, subscription).status is Status.ACTIVE
    assert "Vill du avsluta prenumerationen?" in client.get(path).text


def test_an_old_address_claims_nothing_that_is_no_longer_so(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    path = f"/unsubscribe/{reader(database).leave_token}"
    client.post(path)
    for said in ("undone", "fewer", "anything"):
        page = client.get(path, query_string={"said": said})
        assert "Du har avslutat prenumerationen" in page.text
        assert "Kul att du stannar" not in page.text


def test_fewer_mails_instead_before_and_after_leaving(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    subscription = reader(database)
    path = f"/unsubscribe/{subscription.leave_token}"
    assert "Varje månad, första måndagen" in client.get(path).text
    assert (
        "Varje månad, första måndagen" in client.post(path, follow_redirects=True).text
    )
    answer = client.post(f"{path}/fewer", data={"rhythm": MONTHLY})
    answer = client.get(answer.location)
    assert "Då blir det färre mejl" in answer.text
    assert "varje månad, första måndagen" in answer.text
    now = now_of(database, subscription)
    assert (now.status, now.rhythm) == (Status.ACTIVE, MONTHLY)
    refused = client.post(f"{path}/fewer", data={"rhythm": "each"})
    assert refused.status_code == 400


def test_who_left_long_ago_is_offered_the_form_instead(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    long_ago = utcnow() - timedelta(days=30)
    subscription = reader(database, status=Status.LEFT, left_at=long_ago)
    path = f"/unsubscribe/{subscription.leave_token}"
    page = client.get(path).text
    assert "/undo" not in page
    assert "/fewer" not in page
    assert 'href="/labbet/">Anmäl dig igen' in page
    late = client.post(f"{path}/undo")
    assert late.status_code == 409
    assert now_of(database, subscription).status is Status.LEFT


def test_an_unknown_link_leaves_nothing_to_end_and_says_so(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    for token in (links.new_token(), "x", "a" * 500):
        for answer in (
            client.get(f"/unsubscribe/{token}"),
            client.post(
                f"/unsubscribe/{token}", data={"List-Unsubscribe": "One-Click"}
            ),
        ):
            assert answer.status_code == 200
            assert "ingen prenumeration bakom länken" in answer.text


def test_the_page_speaks_the_readers_language(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    subscription = reader(database, language="en")
    swedish = {"Accept-Language": "sv"}
    page = client.get(f"/unsubscribe/{subscription.leave_token}", headers=swedish)
    assert '<html lang="en">' in page.text
    assert "Unsubscribe?" in page.text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("Labbet AB\nBox 1, 111 11 Stockholm", "Labbet AB, Box 1, 111 11 Stockholm"),
        ("Box 1\n111 11 Stockholm", "Labbet AB, Box 1, 111 11 Stockholm"),
        ("", "Labbet AB"),
    ],
)
def test_who_is_behind_it_is_named_once(
    client: FlaskClient, database: Database, address: str, shown: str
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, publisher="Labbet AB", postal_address=address)
        subscription = make_subscription(session, labbet)
    page = client.get(f"/unsubscribe/{subscription.leave_token}").text
    foot = re.sub("<[^>]+>", "", page.partition('class="foot">')[2])
    assert " ".join(foot.split()) == f"{shown} Så hanterar vi din adress"


def test_a_leave_link_opens_no_other_door(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    """SEC-04: only the diagonal works."""
    subscription = reader(database)
    leave, own = subscription.leave_token, subscription.preferences_token
    assert client.get(f"/preferences/{leave}").status_code == 404
    assert client.post(f"/preferences/{leave}/leave").status_code == 404
    for door in ("confirm", "never", "address", "data", "erase"):
        for token in (leave, own):
            assert client.get(f"/{door}/{token}").status_code == 404
    client.post(f"/unsubscribe/{own}")
    assert now_of(database, subscription).status is Status.ACTIVE
    page = client.get(f"/unsubscribe/{leave}").text
    assert own not in page
