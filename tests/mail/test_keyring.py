"""Which keys sign a newsletter's mail, and what becomes of them over the years."""

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.errors import ConfigError, Conflict, InvalidInput, NotFound
from newsletter.mail import keyring
from newsletter.models import Algorithm, DkimKey, Newsletter
from tests.conftest import SECRET
from tests.factories import NOW, make_newsletter

NEW = "new-secret-" * 4


def make_key(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    algorithm: Algorithm = Algorithm.ED25519,
    *,
    on: bool = True,
    **over: str,
) -> DkimKey:
    row = keyring.create(session, settings, newsletter, algorithm, now=NOW, **over)
    if on:
        keyring.switch_on(session, newsletter, row)
    session.flush()
    return row


def names(session: Session, settings: Settings, newsletter: Newsletter) -> list[str]:
    return [key.selector for key in keyring.keys_of(session, settings, newsletter.id)]


def test_a_key_signs_when_it_has_been_switched_on(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    row = make_key(session, settings, newsletter, on=False)
    assert not row.active
    assert names(session, settings, newsletter) == []
    keyring.switch_on(session, newsletter, row)
    (key,) = keyring.keys_of(session, settings, newsletter.id)
    assert (key.domain, key.algorithm) == ("allmannyttan.example", Algorithm.ED25519)
    assert key.public == row.public
    assert keyring.keys_of(session, settings, None) == []


def test_a_newsletter_signs_with_its_own_keys_alone(
    session: Session, settings: Settings
) -> None:
    one, other = make_newsletter(session), make_newsletter(session, "annat")
    make_key(session, settings, one)
    assert names(session, settings, other) == []
    assert names(session, settings, one) == ["labbet-202611-ed"]


def test_keys_are_named_after_the_month_and_never_twice(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session, "x" * 63)
    made = [make_key(session, settings, newsletter) for _ in range(3)]
    assert [row.selector for row in made] == [
        "x" * 40 + "-202611-ed",
        "x" * 40 + "-202611-ed-2",
        "x" * 40 + "-202611-ed-3",
    ]
    with pytest.raises(Conflict):
        make_key(session, settings, newsletter, selector=made[0].selector.upper())


def test_a_newer_key_takes_the_place_of_the_older_of_its_kind(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    old = make_key(session, settings, newsletter, selector="old")
    make_key(session, settings, newsletter, Algorithm.RSA, selector="rsa")
    new = make_key(session, settings, newsletter, on=False, selector="new")
    assert keyring.switch_on(session, newsletter, new) == [old]
    assert names(session, settings, newsletter) == ["rsa", "new"]
    assert keyring.switch_on(session, newsletter, new) == []


def test_keys_are_found_by_name_and_by_age(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session, from_email="brev@nytt.blogg.se")
    for find in (keyring.named, keyring.newest):
        with pytest.raises(NotFound):
            find(session, newsletter)
    old = make_key(session, settings, newsletter, selector="old")
    rsa = make_key(session, settings, newsletter, Algorithm.RSA, selector="rsa")
    up = make_key(session, settings, newsletter, selector="up", domain="blogg.se")
    new = make_key(session, settings, newsletter, selector="new")
    assert {*keyring.newest(session, newsletter)} == {new, rsa}
    assert keyring.named(session, newsletter) == [old, rsa, up, new]
    assert keyring.named(session, newsletter, "OLD") == [old]
    with pytest.raises(NotFound):
        keyring.named(session, newsletter, "nobody")
    newsletter.from_email = "brev@blogg.se"
    assert keyring.newest(session, newsletter) == [up]
    newsletter.from_email = "brev@annan.se"
    with pytest.raises(NotFound, match=r"is for annan\.se"):
        keyring.newest(session, newsletter)


def test_a_key_signs_for_its_domain_and_those_below(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session, from_email="brev@nytt.blogg.se")
    row = make_key(session, settings, newsletter, domain="Blogg.se", selector="up")
    make_key(session, settings, newsletter, Algorithm.RSA, selector="own")
    assert names(session, settings, newsletter) == ["up", "own"]
    newsletter.from_email = "brev@blogg.se"
    session.flush()
    assert names(session, settings, newsletter) == ["up"]
    newsletter.from_email = "brev@enblogg.se"
    session.flush()
    assert names(session, settings, newsletter) == []
    with pytest.raises(Conflict):
        keyring.switch_on(session, newsletter, row)


@pytest.mark.parametrize("domain", ["annan.se", "x.blogg.se", "se", "", "logg.se"])
def test_no_key_is_made_for_a_domain_the_sender_is_not_in(
    session: Session, settings: Settings, domain: str
) -> None:
    newsletter = make_newsletter(session, from_email="brev@blogg.se")
    if domain:
        with pytest.raises(InvalidInput):
            make_key(session, settings, newsletter, domain=domain)
    else:
        assert make_key(session, settings, newsletter).domain == "blogg.se"


def test_keys_outlive_the_secret_keys_that_encrypted_them(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    row = make_key(session, settings, newsletter)
    both = replace(settings, secret_keys=(NEW, SECRET))
    only_new = replace(settings, secret_keys=(NEW,))
    assert len(keyring.keys_of(session, both, newsletter.id)) == 1
    with pytest.raises(ConfigError):
        keyring.keys_of(session, only_new, newsletter.id)
    assert keyring.renew(session, both) == 1
    assert keyring.renew(session, both) == 0
    session.flush()
    (key,) = keyring.keys_of(session, only_new, newsletter.id)
    assert key.public == row.public


def test_a_key_that_cannot_be_opened_holds_up_no_other(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    lost = make_key(session, settings, newsletter, selector="lost")
    lost.private = b"lost"
    make_key(session, settings, newsletter, selector="kept")
    both = replace(settings, secret_keys=(NEW, SECRET))
    assert keyring.renew(session, both) == 1
    assert lost.private == b"lost"
