"""A newsletter's settings: checked, cleaned, and safe in a mail's headers."""

import pytest
from sqlalchemy.orm import Session

from newsletter import newsletters
from newsletter.errors import InvalidInput, NotFound
from newsletter.models import Newsletter


@pytest.fixture
def newsletter() -> Newsletter:
    """A newsletter that no database has seen: checking needs none."""
    return Newsletter(
        language="sv",
        languages=["sv", "en"],
        rhythms=["weekly:mon@08:00"],
        default_rhythm="weekly:mon@08:00",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", ""),
        ("title", "x" * 201),
        ("from_name", "\r\n"),
        ("from_name", "=?utf-8?q?Hej=0D=0ABcc:_evil@x.se?="),
        ("from_email", "a@b.se\r\nBcc: evil@x.se"),
        ("from_email", "=?utf-8?q?a=40b.se?=@b.se"),
        ("from_email", '"a b"@b.se'),
        ("from_email", "a..b@b.se"),
        ("from_email", "a@b"),
        ("from_email", "a@@b.se"),
        ("from_email", "å@b.se"),
        ("from_email", "x" * 65 + "@b.se"),
        ("reply_to", "nej"),
        ("website", "javascript:alert(1)"),
        ("social", [{"name": "x", "url": "data:x"}]),
        ("language", "tlh"),
        ("languages", ["sv", "tlh"]),
        ("timezone", "Mars/Olympus"),
        ("accent", "#12345"),
        ("accent", "red; background: url(x)"),
        ("rhythms", []),
        ("rhythms", ["sometimes"]),
        ("default_rhythm", "daily@07:00"),
        ("postal_address", "x" * 501),
        ("posts_on_page", 51),
    ],
)
def test_what_cannot_be_is_refused_by_field(
    newsletter: Newsletter, name: str, value: object
) -> None:
    with pytest.raises(InvalidInput) as caught:
        newsletters.change(newsletter, **{name: value})
    assert caught.value.field in {name, "rhythm", "language"}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("title", "  Kören\n sjunger \x00", "Kören sjunger"),
        ("from_name", "Anna\r\nBcc: evil@x.se", "Anna Bcc: evil@x.se"),
        ("from_email", "info@Allmännyttan.SE", "info@xn--allmnnyttan-o8a.se"),
        ("from_email", "demo@localhost", "demo@localhost"),
        ("reply_to", "", ""),
        ("postal_address", "Box 1\r\n101 29 Stockholm\x07", "Box 1\n101 29 Stockholm"),
        ("accent", " #ABCDEF", "#abcdef"),
        ("social", [{"name": "", "url": ""}], []),
        ("languages", ["sv", "sv", "en"], ["sv", "en"]),
    ],
)
def test_what_is_kept_is_clean(
    newsletter: Newsletter, name: str, value: object, kept: object
) -> None:
    newsletters.change(newsletter, **{name: value})
    assert getattr(newsletter, name) == kept


def test_a_newsletters_own_language_is_always_offered(newsletter: Newsletter) -> None:
    newsletters.change(newsletter, language="en", languages=["sv"])
    assert newsletter.languages == ["en", "sv"]


def test_readers_begin_with_a_rhythm_they_can_choose(newsletter: Newsletter) -> None:
    newsletters.change(newsletter, rhythms=["daily@07:00"])
    assert newsletter.default_rhythm == "daily@07:00"


def test_an_unknown_setting_is_a_mistake_of_ours(newsletter: Newsletter) -> None:
    with pytest.raises(KeyError):
        newsletters.change(newsletter, colour="red")


def test_an_unknown_slug_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound):
        newsletters.by_slug(session, "nej")
