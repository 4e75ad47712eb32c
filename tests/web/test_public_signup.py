"""Signing up on the web: the form's answer, confirming, asking again, "never again"."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from newsletter import config, links
from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.db import EXTENSION, Database
from newsletter.models import (
    Consent,
    Delivery,
    Message,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    Wording,
)
from newsletter.subscribers import addresses, asking, gate
from tests.conftest import SECRET
from tests.factories import make_newsletter, make_subscription

ANNA = "anna@bostaden.se"
EVERY_STATE = [None, *Status]


@pytest.fixture
def labbet(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


def subscribe(client: FlaskClient, email: str = ANNA, **more: Any) -> TestResponse:
    headers = more.pop("headers", {})
    return client.post(
        "/labbet/subscribe", data={"email": email, **more}, headers=headers
    )


def reader(
    database: Database, settings: Settings, email: str = ANNA, **over: Any
) -> Subscription:
    """Make a subscription whose links work."""
    with database.transaction() as session:
        newsletter = session.scalars(select(Newsletter)).one()
        made = make_subscription(session, newsletter, email, **over)
        made.subscriber.address_hash = addresses.address_hash(settings, email)
        return made


def pending(database: Database, settings: Settings, **over: Any) -> Subscription:
    return reader(database, settings, status=Status.PENDING, confirmed_at=None, **over)


def confirm_path(settings: Settings, subscription: Subscription) -> str:
    payload = asking.confirmation_payload(subscription)
    return f"/confirm/{links.sign(settings, links.CONFIRM, payload)}"


def status_of(database: Database, email: str = ANNA) -> Status | None:
    with database.reading() as session:
        return session.scalar(
            select(Subscription.status)
            .join(Subscriber)
            .where(Subscriber.email == email)
        )


def count(database: Database, model: Any) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


# The form


def test_a_sign_up_is_recorded_with_its_mail(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    answer = subscribe(client)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/labbet/sent/"
    page = client.get(answer.headers["Location"]).text
    assert "Titta i din inkorg" in page
    assert "labbet@allmannyttan.example" in page
    with database.reading() as session:
        subscription = session.scalars(select(Subscription)).one()
        assert subscription.status is Status.PENDING
        assert subscription.subscriber.email == ANNA
        assert session.scalars(select(Delivery.address)).all() == [ANNA]


def test_the_consent_record_holds_the_very_words_on_the_page(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    for lang in ("sv", "en"):
        page = re.sub(r"\s+", " ", client.get(f"/labbet/?lang={lang}").text)
        subscribe(
            client,
            f"{lang}@bostaden.se",
            language=lang,
            headers={"Referer": "https://blogg.example/prenumerera?email=x#y"},
        )
        with database.reading() as session:
            text = session.scalars(
                select(Wording.text).where(Wording.language == lang)
            ).one()
        lines = text.splitlines()
        assert len(lines) == 5
        for line in lines:
            assert line in page
    with database.reading() as session:
        steps = session.scalars(select(Consent)).all()
    assert {step.page for step in steps} == {"https://blogg.example/prenumerera"}
    assert {step.network for step in steps} == {"127.0.0.0/24"}


def test_language_rhythm_and_topics_may_come_with_the_form(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    subscribe(client, language="en", rhythm="monthly:first-mon@08:00")
    subscribe(client, "bo@bostaden.se", language="xx", rhythm="never", topics="no")
    with database.reading() as session:
        found = {s.subscriber.email: s for s in session.scalars(select(Subscription))}
    assert found[ANNA].language == "en"
    assert found[ANNA].rhythm == "monthly:first-mon@08:00"
    assert found["bo@bostaden.se"].language == "sv"
    assert found["bo@bostaden.se"].rhythm == labbet.default_rhythm


def test_the_answer_is_the_same_for_every_state_of_an_address(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    answers = set()
    for number, status in enumerate(EVERY_STATE):
        email = f"reader{number}@bostaden.se"
        if status is not None:
            reader(database, settings, email, status=status)
        for _twice in range(2):
            answer = subscribe(client, email)
            headers = sorted(answer.headers.items())
            answers.add((answer.status_code, answer.data, str(headers)))
    assert len(answers) == 1


def test_the_same_form_works_from_another_sites_page(
    client: FlaskClient, database: Database, labbet: Newsletter, app: Flask
) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    for origin in ("https://blogg.example", "null"):
        answer = subscribe(client, headers={"Origin": origin})
        assert answer.status_code == 303
    assert status_of(database) is Status.PENDING


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "Skriv din e-postadress."),
        ("anna", "Det saknas ett @ i adressen."),
        ("anna@bostaden", "ska ha en ändelse"),
        ("<script>@x.se", "skrivfel"),
    ],
)
def test_what_cannot_be_an_address_comes_back_with_help(
    client: FlaskClient, database: Database, labbet: Newsletter, typed: str, said: str
) -> None:
    answer = subscribe(client, typed)
    assert answer.status_code == 400
    assert said in answer.text
    field = re.search(r'<input id="email"[^>]*>', answer.text)
    assert field is not None
    assert 'aria-invalid="true"' in field[0]
    assert 'aria-describedby="email-error"' in field[0]
    assert '<p class="error" id="email-error" role="alert">' in answer.text
    assert "<script>@" not in answer.text
    assert typed.startswith("<") or f'value="{typed}"' in field[0]
    assert count(database, Subscription) == 0


def test_a_likely_slip_of_the_finger_gets_a_suggestion_to_press(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    answer = subscribe(client, "anna@gmial.com")
    assert answer.status_code == 400
    assert "Menade du anna@gmail.com?" in answer.text
    assert 'name="suggested" value="anna@gmail.com"' in answer.text
    answer = subscribe(client, "anna@gmial.com", suggested="anna@gmail.com")
    assert answer.status_code == 303
    assert status_of(database, "anna@gmail.com") is Status.PENDING


def test_who_falls_into_the_trap_hears_nothing_of_it(
    client: FlaskClient, database: Database, labbet: Newsletter
) -> None:
    honest = subscribe(client)
    trapped = subscribe(client, "robot@bostaden.se", **{gate.TRAP_FIELD: "buy"})
    assert trapped.data == honest.data
    assert trapped.status_code == honest.status_code
    assert status_of(database, "robot@bostaden.se") is None


def test_the_trap_is_hidden_from_people_and_their_tools(
    client: FlaskClient, labbet: Newsletter
) -> None:
    """A11Y-04."""
    trap = re.search(r'<div class="trap".*?</div>', client.get("/labbet/").text)
    assert trap is not None
    assert 'aria-hidden="true"' in trap[0]
    assert 'tabindex="-1"' in trap[0]
    assert 'autocomplete="off"' in trap[0]


def test_too_many_from_one_network_get_a_page_that_says_so(
    settings: Settings, database_url: str
) -> None:
    strict = config.load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": SECRET,
            "NEWSLETTER_DATABASE_URL": database_url,
            "NEWSLETTER_BASE_URL": "http://localhost",
            "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
            "NEWSLETTER_SIGNUPS_PER_NETWORK_HOUR": "2",
        }
    )
    app = create_app(strict)
    database: Database = app.extensions[EXTENSION]
    with database.transaction() as session:
        make_newsletter(session)
    client = app.test_client()
    seen = [subscribe(client, f"r{n}@bostaden.se").status_code for n in range(3)]
    assert seen == [303, 303, 429]
    database.engine.dispose()


def test_a_stray_visit_to_the_forms_address_finds_the_form(
    client: FlaskClient, labbet: Newsletter
) -> None:
    answer = client.get("/labbet/subscribe")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/labbet/")
    assert client.post("/nowhere/subscribe").status_code == 404


# Confirming


def test_looking_at_the_link_changes_nothing_pressing_the_button_does(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    subscription = pending(database, settings)
    path = confirm_path(settings, subscription)
    page = client.get(path)
    assert "Ja, skicka nya inlägg till mig" in page.text
    assert ANNA in page.text
    assert status_of(database) is Status.PENDING
    answer = client.post(path, headers={"Origin": "null"})
    assert answer.status_code == 303
    assert status_of(database) is Status.ACTIVE
    welcome = client.get(answer.headers["Location"]).text
    assert "Nu är du med. Välkommen!" in welcome
    assert 'name="rhythm"' in welcome
    assert 'name="language"' in welcome


def test_a_confirmation_is_recorded_without_the_secret_of_its_link(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    subscription = pending(database, settings)
    path = confirm_path(settings, subscription)
    page = client.get(path).text
    client.post(path, headers={"Referer": f"http://localhost{path}"})
    with database.reading() as session:
        step, wording = session.execute(
            select(Consent, Wording).join(Wording, Wording.id == Consent.wording_id)
        ).one()
    assert step.event == "confirmed"
    assert step.page == "http://localhost/confirm/"
    assert ANNA not in wording.text
    for line in wording.text.replace("…", ANNA).splitlines():
        assert line in page


def test_confirming_twice_is_harmless_and_opens_no_other_door(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    path = confirm_path(settings, pending(database, settings))
    client.post(path)
    again = client.post(path)
    assert again.status_code == 200
    assert "Du är redan med" in again.text
    assert "/preferences/" not in again.text
    assert count(database, Consent) == 1
    assert count(database, Message) == 1  # one welcome


def test_the_confirmation_speaks_the_readers_language(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    path = confirm_path(settings, pending(database, settings, language="en"))
    page = client.get(path, headers={"Accept-Language": "sv"}).text
    assert '<html lang="en">' in page
    assert "Yes, send me new posts" in page


def test_an_expired_link_offers_a_new_mail(
    client: FlaskClient,
    database: Database,
    settings: Settings,
    labbet: Newsletter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as past:
        past.setattr("itsdangerous.timed.time.time", lambda: 1_600_000_000)
        path = confirm_path(settings, pending(database, settings))
    page = client.get(path)
    assert page.status_code == 200
    assert "Länken har blivit för gammal" in page.text
    assert f"Skicka ett nytt mejl till {ANNA}" in page.text
    assert "blivit för gammal" in client.post(path).text
    assert status_of(database) is Status.PENDING
    answer = client.post(f"{path}/again")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/labbet/sent/")
    assert count(database, Delivery) == 1


def test_a_link_from_before_leaving_is_void(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    subscription = pending(database, settings)
    path = confirm_path(settings, subscription)
    client.post(f"/unsubscribe/{subscription.leave_token}")
    for page in (client.get(path), client.post(path)):
        assert page.status_code == 200
        assert "Länken gäller inte längre" in page.text
        assert 'href="/labbet/"' in page.text
    assert status_of(database) is Status.LEFT


@pytest.mark.parametrize("token", ["x", "a.b.c", "%2e%2e", "ö" * 50])
def test_a_forged_link_gets_a_kind_page(
    client: FlaskClient, labbet: Newsletter, token: str
) -> None:
    for answer in (client.get(f"/confirm/{token}"), client.post(f"/confirm/{token}")):
        assert answer.status_code == 404
        assert "avhuggen på vägen" in answer.text
    answer = client.post(f"/confirm/{token}/again")
    assert answer.status_code == 404


# Never again


def test_never_again_is_a_button_that_deletes_and_remembers(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    pending(database, settings)
    hashed = addresses.address_hash(settings, ANNA)
    path = f"/never/{links.sign(settings, links.NEVER, [hashed])}"
    swedish = {"Accept-Language": "sv"}
    assert "Skriv aldrig till mig igen" in client.get(path, headers=swedish).text
    assert status_of(database) is Status.PENDING
    for _twice in range(2):
        page = client.post(path, headers={**swedish, "Origin": "null"})
        assert "Vi skriver aldrig mer till dig" in page.text
    assert status_of(database) is None
    subscribe(client)
    assert count(database, Delivery) == 0


def test_pages_behind_secret_links_keep_them_secret(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    """SEC-06."""
    subscription = pending(database, settings)
    hashed = addresses.address_hash(settings, ANNA)
    paths = [
        confirm_path(settings, subscription),
        "/confirm/forged",
        f"/never/{links.sign(settings, links.NEVER, [hashed])}",
        "/never/forged",
        f"/unsubscribe/{subscription.leave_token}",
        "/unsubscribe/forged",
        f"/preferences/{subscription.preferences_token}",
        "/preferences/forged",
        "/address/forged",
        "/data/forged",
        "/erase/forged",
    ]
    for path in paths:
        for answer in (client.get(path), client.post(path)):
            assert answer.headers["Referrer-Policy"] == "no-referrer", path
            assert answer.headers["Cache-Control"] == "no-store", path
            assert "noindex" in answer.headers["X-Robots-Tag"], path
            assert "Set-Cookie" not in answer.headers, path


def test_another_sites_page_cannot_press_the_confirm_button(
    client: FlaskClient, database: Database, settings: Settings, labbet: Newsletter
) -> None:
    path = confirm_path(settings, pending(database, settings))
    answer = client.post(path, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert status_of(database) is Status.PENDING
