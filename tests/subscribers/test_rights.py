"""Everything we hold, handed over; everything we hold, gone."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import Base
from newsletter.errors import ExpiredLink, InvalidLink
from newsletter.mail import outbox
from newsletter.models import (
    Delivery,
    Kind,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    Suppression,
)
from newsletter.subscribers import (
    importing,
    moving,
    preferences,
    rights,
    signup,
)
from newsletter.subscribers.addresses import address_hash
from newsletter.subscribers.columns import Layout
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.mail.letters import make_letter
from tests.subscribers.letterbox import FORM, last, mails

EMAIL = "Anna.Berg@example.org"
HOUR = timedelta(hours=1)

# Tables that hold nothing about readers; a new table must be put here, or be handed
# over by `rights.everything_about`.
NOT_ABOUT_READERS = {
    *("alembic_version", "newsletter", "feed", "author", "topic", "post_topic", "post"),
    *("issue", "issue_post", "relay_health", "worker", "job", "editor", "membership"),
    *("webauthn", "used_link", "wording", "message", "dkim_key", "relay_budget"),
    *("destination", "relay_trust", "feed_push", "author_spelling", "portrait"),
    *("schedule", "occurrence", "message_post"),
    *("category", "post_category", "picture", "design", "logo"),
    *("link_check", "outside_check"),
    *("claim_mark", "lease", "hub_parting"),
    "editor_session",
    "audit",  # knows readers by their number alone
    *("reckoning", "sender_flaw", "segment"),
    "draft_version",
    # Uploaded lists and their reports, gone within a week; see docs/decisions.md.
    *("import_run", "import_chunk", "import_key"),
    "retry",
    "undo",  # what editors removed; of readers numbers alone
    "issue_report",  # sums
    *("counted_link", "link_clicks"),  # sums too: no reader stands in them
    "newsletter_relay",
}
HANDED_OVER = {
    *("subscriber", "subscription", "subscription_topic", "consent", "delivery"),
    *("former_token", "suppression", "rate", "postponed", "note"),
}


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    made = make_newsletter(session)
    make_post(session, made)
    return made


@pytest.fixture
def reader(
    session: Session, settings: Settings, newsletter: Newsletter
) -> Subscription:
    """A reader who came by the form, chose, paused, and asked for their links."""
    signup.request_subscription(
        session, settings, newsletter, EMAIL, origin=FORM, now=NOW
    )
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    found = signup.confirm(session, settings, token, origin=FORM, now=NOW)
    preferences.change(session, found, language="en", origin=FORM, now=NOW)
    until = NOW + timedelta(days=2)
    preferences.pause(session, found, until, origin=FORM, now=NOW)
    rights.request_data_link(session, settings, found, now=NOW)
    rights.request_erase_link(session, settings, found, now=NOW)
    moving.request_address_change(
        session, settings, found, "annas-other@example.net", origin=FORM, now=NOW
    )
    return found


def send_digest(session: Session, newsletter: Newsletter) -> None:
    message = outbox.store_edition(
        session,
        make_letter(Kind.DIGEST),
        issue_id=None,  # type: ignore[arg-type]
        newsletter_id=newsletter.id,
        edition="sv",
        now=NOW,
    )
    audience = (
        select(
            Subscription.id.label("subscription_id"), Subscriber.email.label("address")
        )
        .join(Subscriber)
        .where(Subscription.newsletter_id == newsletter.id)
    )
    outbox.queue_readers(session, message, audience, occasion="issue:1", now=NOW)


def readable(cell: object) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def dump(session: Session) -> str:
    """Return every cell of the database as text."""
    session.flush()
    found = []
    for table in Base.metadata.sorted_tables:
        for row in session.execute(text(f'SELECT * FROM "{table.name}"')):
            cells = (
                c.decode(errors="replace") if isinstance(c, bytes) else str(c)
                for c in row
            )
            found.append(" ".join(cells))
    return "\n".join(found).casefold()


def test_every_table_is_known_to_hold_readers_or_not() -> None:
    tables = {table.name for table in Base.metadata.sorted_tables}
    assert tables - NOT_ABOUT_READERS == HANDED_OVER
    linked = {
        table.name
        for table in Base.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name in {"subscriber", "subscription"}
    }
    assert linked <= HANDED_OVER


def test_a_reader_gets_every_column_about_them(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    token = last(session, Kind.DATA).token(links.DATA)
    data = rights.collect_data(session, settings, token)
    json.dumps(data, default=str)
    places = {
        "subscriber": data,
        "subscription": data["subscriptions"][0],
        "consent": data["consents"][0],
        "delivery": data["deliveries"][0],
        "rate": data["limits"][0],
    }
    for name, given in places.items():
        columns = {c.name for c in Base.metadata.tables[name].columns}
        withheld = {c for c in columns if f"{name}.{c}" in rights.WITHHELD}
        assert columns - withheld <= set(given), name
    assert data["email"] == EMAIL
    assert data["subscriptions"][0]["newsletter"] == newsletter.slug
    steps = [step["event"] for step in data["consents"]]
    assert steps == ["requested", "confirmed", "changed", "paused"]
    assert data["consents"][0]["wording"] == FORM.wording
    kinds = {row["kind"] for row in data["deliveries"]}
    assert kinds == {"confirm", "welcome", "data", "erase", "address"}
    assert {row["key"].partition(":")[0] for row in data["limits"]} == {
        "mailbox",
        "gap",
    }


def test_the_file_holds_no_key_to_any_door(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    data = rights.everything_about(session, settings, reader.subscriber)
    written = json.dumps(data, default=str)
    assert reader.leave_token not in written
    assert reader.preferences_token not in written


def test_nothing_of_another_reader_is_in_it(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    make_subscription(session, newsletter, "somebody.else@example.org")
    data = rights.everything_about(session, settings, reader.subscriber)
    assert "somebody" not in json.dumps(data, default=str)
    assert len(data["subscriptions"]) == 1


def test_after_erasure_the_address_is_nowhere(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    send_digest(session, newsletter)
    outbox.queue_single(
        session, make_letter(Kind.TEST), address=EMAIL, occasion="test:1", now=NOW
    )
    session.execute(
        text("UPDATE delivery SET reply = '550 <anna.berg@example.org> unknown'")
    )
    other = make_subscription(session, newsletter, "other@example.org")
    tokens = (reader.leave_token, reader.preferences_token)
    assert EMAIL.casefold() in dump(session)
    token = last(session, Kind.ERASE).token(links.ERASE)
    assert rights.look_at_link(session, settings, links.ERASE, token) is reader
    rights.erase(session, settings, token, now=NOW)
    left = dump(session)
    for trace in ("anna", "berg@", "annas-other", *map(str.casefold, tokens)):
        assert trace not in left, trace
    assert session.scalars(select(Subscriber.email)).all() == ["other@example.org"]
    assert other.status == Status.ACTIVE
    row = session.scalars(select(Suppression)).one()
    assert row.address_hash == address_hash(settings, EMAIL.casefold())
    assert (row.reason, row.newsletter_id) == ("erased", None)
    kept = session.scalars(select(Delivery)).one()
    assert kept.occasion == "issue:1"
    assert kept.address == f"erased:{kept.id}"
    assert (kept.state.value, kept.reason) == ("skipped", "erased")


def test_an_import_does_not_bring_the_erased_back_but_they_can_come_themselves(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    rights.erase_subscriber(session, reader.subscriber, now=NOW)
    report = importing.Report()
    importing.Importer(
        session,
        settings,
        newsletter,
        Layout(("email",)),
        status=Status.ACTIVE,
        source=importing.Source("an old list"),
        at=NOW,
        now=NOW,
    ).run([(2, [EMAIL])], report)
    assert report.counts == {"added": 0, "suppressed": 1}
    later = NOW + timedelta(days=1)
    signup.request_subscription(
        session, settings, newsletter, EMAIL, origin=FORM, now=later
    )
    token = last(session, Kind.CONFIRM).token(links.CONFIRM)
    back = signup.confirm(session, settings, token, origin=FORM, now=later)
    assert back.status == Status.ACTIVE
    assert session.scalars(select(Suppression)).all() == []


def test_links_die_with_the_person_and_in_a_day(
    session: Session,
    settings: Settings,
    reader: Subscription,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = last(session, Kind.DATA).token(links.DATA)
    erase = last(session, Kind.ERASE).token(links.ERASE)
    issued = links.read(settings, links.DATA, data).issued_at
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: (issued + 25 * HOUR).timestamp())
        with pytest.raises(ExpiredLink):
            rights.collect_data(session, settings, data)
        with pytest.raises(ExpiredLink):
            rights.erase(session, settings, erase, now=NOW)
    rights.erase(session, settings, erase, now=NOW)
    for act in (
        lambda: rights.erase(session, settings, erase, now=NOW),
        lambda: rights.collect_data(session, settings, data),
    ):
        with pytest.raises(InvalidLink):
            act()


def test_an_old_link_never_shows_who_got_the_number_next(
    session: Session, settings: Settings, newsletter: Newsletter, reader: Subscription
) -> None:
    data = last(session, Kind.DATA).token(links.DATA)
    number = reader.id
    rights.erase_subscriber(session, reader.subscriber, now=NOW)
    other = make_subscription(session, newsletter, "other@example.org")
    other.subscriber.address_hash = address_hash(settings, "other@example.org")
    if session.get_bind().dialect.name == "sqlite":
        assert other.id == number  # SQLite gives it away again
    with pytest.raises(InvalidLink):
        rights.collect_data(session, settings, data)


def test_links_are_mailed_to_the_address_and_not_too_often(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, "bo@example.org")
    for minutes in range(0, 60, 5):
        at = NOW + timedelta(minutes=minutes)
        rights.request_erase_link(session, settings, reader, now=at)
    sent = mails(session, Kind.ERASE)
    assert len(sent) == 3
    assert {mail.address for mail in sent} == {"bo@example.org"}


def test_strangers_cannot_use_up_a_readers_own_links(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    reader = make_subscription(session, newsletter, "bo@example.org")
    for hours in range(6):
        signup.request_subscription(
            session,
            settings,
            newsletter,
            "bo@example.org",
            origin=FORM,
            now=NOW + hours * HOUR,
        )
    assert len(mails(session, Kind.CONFIRM)) == 3
    rights.request_data_link(session, settings, reader, now=NOW + 6 * HOUR)
    assert len(mails(session, Kind.DATA)) == 1
