"""A reader's own page on the web, and the links it has mailed."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.models import (
    Consent,
    Delivery,
    Kind,
    Message,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    SubscriptionTopic,
    Topic,
)
from newsletter.subscribers import addresses
from tests.factories import make_newsletter, make_subscription

ANNA = "anna@bostaden.se"
STOCKHOLM = ZoneInfo("Europe/Stockholm")


@pytest.fixture
def anna(database: Database, settings: Settings) -> Subscription:
    """A reader of a newsletter with two topics."""
    with database.transaction() as session:
        labbet = make_newsletter(session)
        for slug in ("grannskap", "arbete"):
            topic = Topic(newsletter_id=labbet.id, slug=slug, name=slug.title())
            session.add(topic)
        made = make_subscription(session, labbet, ANNA)
        made.subscriber.address_hash = addresses.address_hash(settings, ANNA)
        return made


def post(
    client: FlaskClient, anna: Subscription, what: str = "", **data: Any
) -> TestResponse:
    """Press a button as a browser does on a page that forbids referrers."""
    path = f"/preferences/{anna.preferences_token}{what and '/' + what}"
    return client.post(path, data=data, headers={"Origin": "null"})


def followed(client: FlaskClient, answer: TestResponse) -> str:
    assert answer.status_code == 303, answer.text
    return client.get(answer.headers["Location"]).text


def now_of(database: Database, anna: Subscription) -> Subscription:
    with database.reading() as session:
        return session.get_one(Subscription, anna.id)


def mails(database: Database) -> list[tuple[Kind, str]]:
    with database.reading() as session:
        rows = session.execute(
            select(Message.kind, Delivery.address).join(
                Delivery, Delivery.message_id == Message.id
            )
        )
        return [(kind, address) for kind, address in rows]


def mailed_path(database: Database, kind: Kind) -> str:
    """Return where the link in the one mail of a kind leads."""
    with database.reading() as session:
        text = session.scalars(select(Message.text).where(Message.kind == kind)).one()
    found = re.search(rf"http://localhost(/{kind.value}/\S+)", text)
    assert found is not None, text
    return found[1]


def test_the_page_shows_what_is_chosen(client: FlaskClient, anna: Subscription) -> None:
    page = client.get(f"/preferences/{anna.preferences_token}").text
    checked = re.findall(r'name="(\w+)" value="([^"]+)" checked', page)
    assert checked == [
        ("rhythm", "weekly:mon@08:00"),
        ("which", "all"),
        ("language", "sv"),
    ]
    assert "Varje vecka, på måndagar" in page
    assert ANNA in page


def test_choices_are_changed_and_recorded(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    answer = post(
        client,
        anna,
        rhythm="monthly:first-mon@08:00",
        which="some",
        topics="grannskap",
        language="en",
    )
    page = followed(client, answer)
    assert "Saved. It applies from the next email." in page
    now = now_of(database, anna)
    assert (now.rhythm, now.language) == ("monthly:first-mon@08:00", "en")
    assert not now.all_topics
    with database.reading() as session:
        assert len(session.scalars(select(SubscriptionTopic)).all()) == 1
        step = session.scalars(select(Consent)).one()
    assert step.event == "changed"
    assert anna.preferences_token not in step.page
    followed(client, post(client, anna, which="all"))
    assert now_of(database, anna).all_topics


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"rhythm": "hourly"}, "takt"),
        ({"language": "xx"}, "språk"),
        ({"which": "some"}, "Välj minst ett ämne"),
        ({"which": "some", "topics": "fotboll"}, "ämne"),
    ],
)
def test_what_is_not_offered_comes_back_with_the_reason(
    client: FlaskClient,
    database: Database,
    anna: Subscription,
    data: dict[str, str],
    said: str,
) -> None:
    answer = post(client, anna, **data)
    assert answer.status_code == 400
    error = re.search(r'<p class="error"[^>]*>([^<]+)', answer.text)
    assert error is not None
    assert said in error[1]
    now = now_of(database, anna)
    assert (now.rhythm, now.language, now.all_topics) == (
        "weekly:mon@08:00",
        "sv",
        True,
    )


def test_a_pause_ends_when_its_day_begins_where_the_newsletter_lives(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    day = utcnow().astimezone(STOCKHOLM).date() + timedelta(days=30)
    page = followed(client, post(client, anna, "pause", until=day.isoformat()))
    assert "Vi skickar inget förrän dess" in page
    assert "Pausad till den" in page
    now = now_of(database, anna)
    assert now.status is Status.PAUSED
    midnight = datetime(day.year, day.month, day.day, tzinfo=STOCKHOLM)
    assert now.paused_until == midnight.astimezone(UTC)
    page = followed(client, post(client, anna, "resume"))
    assert "Välkommen tillbaka." in page
    assert now_of(database, anna).status is Status.ACTIVE


@pytest.mark.parametrize(
    "until", ["", "soon", "2001-01-01", "9999-12-31", "2026-02-30", "0001-01-01"]
)
def test_an_impossible_pause_is_refused_beside_its_field(
    client: FlaskClient, database: Database, anna: Subscription, until: str
) -> None:
    answer = post(client, anna, "pause", until=until)
    assert answer.status_code == 400
    assert 'id="until-error"' in answer.text
    assert '<details class="matter" open>' in answer.text
    assert now_of(database, anna).status is Status.ACTIVE


def test_a_new_address_is_asked_first(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    page = followed(client, post(client, anna, "address", email="anna@nytt.se"))
    assert "Vi har skickat ett mejl till den nya adressen." in page
    assert mails(database) == [(Kind.ADDRESS, "anna@nytt.se")]
    assert now_of(database, anna).subscriber.email == ANNA
    path = mailed_path(database, Kind.ADDRESS)
    assert "Är det här din nya adress?" in client.get(path).text
    assert now_of(database, anna).subscriber.email == ANNA
    for _twice in range(2):
        done = client.post(path, headers={"Origin": "null"})
        assert "Din adress är bytt" in done.text
    assert now_of(database, anna).subscriber.email == "anna@nytt.se"


def test_a_wrong_new_address_is_kept_and_explained(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    answer = post(client, anna, "address", email="anna@gmial.com")
    assert answer.status_code == 400
    assert 'value="anna@gmial.com" aria-invalid="true"' in answer.text
    assert "Ja, använd anna@gmail.com" in answer.text
    same = post(client, anna, "address", email=ANNA)
    assert same.status_code == 400
    assert mails(database) == []


def test_data_comes_by_a_fresh_link_as_a_file(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    page = followed(client, post(client, anna, "data"))
    assert "Vi har mejlat dig en länk till dina uppgifter." in page
    assert mails(database) == [(Kind.DATA, ANNA)]
    path = mailed_path(database, Kind.DATA)
    assert "Hämta filen" in client.get(path).text
    answer = client.post(path, headers={"Origin": "null"})
    assert answer.mimetype == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="labbet.json"'
    found = json.loads(answer.text)
    assert found["email"] == ANNA
    assert anna.leave_token not in answer.text
    assert anna.preferences_token not in answer.text


def test_erasing_takes_a_fresh_link_and_a_button(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    page = followed(client, post(client, anna, "erase"))
    assert "en länk som raderar dig" in page
    assert mails(database) == [(Kind.ERASE, ANNA)]
    path = mailed_path(database, Kind.ERASE)
    assert ANNA in client.get(path).text
    with database.reading() as session:
        assert session.scalar(select(Subscriber.id)) is not None
    done = client.post(path, headers={"Origin": "null"})
    assert "Du är raderad" in done.text
    assert ANNA not in done.text
    with database.reading() as session:
        assert session.scalar(select(Subscriber.id)) is None
    assert client.post(path).status_code == 404
    assert client.get(f"/preferences/{anna.preferences_token}").status_code == 404


def test_a_data_link_does_not_erase_nor_the_other_way(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    post(client, anna, "data")
    post(client, anna, "erase")
    data, erase = (mailed_path(database, kind) for kind in (Kind.DATA, Kind.ERASE))
    assert client.post(data.replace("/data/", "/erase/")).status_code == 404
    assert client.post(erase.replace("/erase/", "/data/")).status_code == 404


def test_leaving_and_coming_back(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    page = followed(client, post(client, anna, "leave"))
    assert "Du har avslutat prenumerationen." in page
    assert 'name="rhythm"' not in page
    assert now_of(database, anna).status is Status.LEFT
    assert post(client, anna, "pause", until=str(date.max)).status_code == 400
    page = followed(client, post(client, anna, "undo"))
    assert "Kul att du är tillbaka." in page
    assert now_of(database, anna).status is Status.ACTIVE


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.PENDING, "Du har inte bekräftat än."),
        (Status.LEFT, "Du har avslutat prenumerationen."),
        (Status.SUPPRESSED, "Vi skickar inget till den här adressen"),
    ],
)
def test_who_does_not_read_sees_where_they_stand(
    client: FlaskClient,
    database: Database,
    anna: Subscription,
    status: Status,
    said: str,
) -> None:
    with database.transaction() as session:
        session.get_one(Subscription, anna.id).status = status
    path = f"/preferences/{anna.preferences_token}"
    page = client.get(f"{path}?said=confirmed").text
    assert said in page
    assert "Välkommen!" not in page
    assert 'name="rhythm"' not in page


def test_what_the_address_says_cannot_put_words_on_the_page(
    client: FlaskClient, anna: Subscription
) -> None:
    path = f"/preferences/{anna.preferences_token}"
    plain = client.get(path).text
    assert client.get(f"{path}?said=<script>").text == plain
    assert client.get(f"{path}?said=__class__").text == plain


def test_a_rhythm_no_longer_offered_stays_the_readers(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    with database.transaction() as session:
        session.get_one(Subscription, anna.id).rhythm = "daily@07:00"
        assert session.get_one(Newsletter, anna.newsletter_id).rhythms
    page = client.get(f"/preferences/{anna.preferences_token}").text
    assert 'value="daily@07:00" checked' in page
    assert post(client, anna, rhythm="daily@07:00").status_code == 303


def test_another_sites_page_cannot_use_the_readers_page(
    client: FlaskClient, database: Database, anna: Subscription
) -> None:
    answer = client.post(
        f"/preferences/{anna.preferences_token}/leave",
        headers={"Origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert now_of(database, anna).status is Status.ACTIVE
