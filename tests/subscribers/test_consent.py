"""The consent record: wordings stored once, networks cut, nothing ever rewritten."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.models import Consent, Wording
from newsletter.subscribers import consent
from newsletter.subscribers.consent import Origin, cut_network
from tests.factories import NOW, make_newsletter, make_subscription


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1234:5678::1", "2001:db8:1234::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
        ("unknown", ""),
        ("192.0.2.77, 10.0.0.1", ""),
        ("'; DROP TABLE", ""),
    ],
)
def test_only_the_network_of_an_address_is_kept(address: str, kept: str) -> None:
    assert cut_network(address) == kept


def test_a_wording_is_stored_once_and_keeps_its_words(session: Session) -> None:
    newsletter = make_newsletter(session)
    for text in ("Ja, tack.", "Ja, tack.", "Ja, gärna."):
        reader = make_subscription(session, newsletter)
        origin = Origin("https://x.example/", "192.0.2.7", text)
        consent.record(session, reader, consent.REQUESTED, origin, now=NOW)
    session.flush()
    assert list(session.scalars(select(Wording.text))) == ["Ja, tack.", "Ja, gärna."]
    steps = session.scalars(select(Consent).order_by(Consent.id)).all()
    assert [step.wording_id for step in steps] == [1, 1, 2]
    assert {(step.at, step.page, step.network) for step in steps} == {
        (NOW, "https://x.example/", "192.0.2.0/24")
    }


def test_the_network_is_not_kept_where_that_is_switched_off(session: Session) -> None:
    newsletter = make_newsletter(session, record_network=False)
    reader = make_subscription(session, newsletter)
    origin = Origin(network="192.0.2.7")
    consent.record(session, reader, consent.LEFT, origin, now=NOW)
    session.flush()
    assert session.scalars(select(Consent.network)).one() == ""


def test_what_comes_from_outside_is_cut_to_length(session: Session) -> None:
    reader = make_subscription(session, make_newsletter(session))
    origin = Origin("https://x.example/" + "a" * 10_000, "x" * 10_000, "y" * 100_000)
    consent.record(session, reader, consent.REQUESTED, origin, now=NOW)
    session.flush()
    step = session.scalars(select(Consent)).one()
    assert len(step.page) == consent.MAX_PAGE_CHARACTERS
    assert step.network == ""
    text = session.scalars(select(Wording.text)).one()
    assert len(text) == consent.MAX_WORDING_CHARACTERS
