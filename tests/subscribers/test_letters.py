"""The mails to readers: the same in text and HTML, in both languages, escaped."""

import re
from email import policy
from email.parser import BytesParser
from html.parser import HTMLParser

import pytest
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.mail import mime
from newsletter.mail.mime import Letter
from newsletter.models import Author, Subscription
from newsletter.subscribers import letters
from tests.factories import NOW, make_newsletter, make_post, make_subscription

URL = "http://localhost/confirm/WzEsMCwiZWVk.aSJ2Fw.7SmcCq0v3b9w-XW2Y1_N6H0hQe3Y8"
EVIL = '<script>alert("x")</script> & {{ config }} åäö'


class Links(HTMLParser):
    """Collect the addresses of links and the language of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.tags: list[str] = []
        self.lang: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag == "a":
            self.found.add(values["href"] or "")
        if tag == "html":
            self.lang = values.get("lang")


def every_letter(
    session: Session, settings: Settings, reader: Subscription, language: str
) -> dict[str, Letter]:
    newsletter = reader.newsletter
    reader.language = language
    other = URL.replace("confirm", "never")
    return {
        "confirm": letters.confirmation(
            settings, newsletter, language, confirm_url=URL, never_url=other
        ),
        "already": letters.already(settings, newsletter, language),
        "welcome": letters.welcome(session, settings, reader),
        "address": letters.address_change(newsletter, language, url=URL),
        "data": letters.data_link(newsletter, language, url=URL),
        "erase": letters.erase_link(newsletter, language, url=URL),
    }


@pytest.fixture
def reader(session: Session) -> Subscription:
    newsletter = make_newsletter(session)
    for _ in range(4):
        make_post(session, newsletter)
    return make_subscription(session, newsletter)


@pytest.mark.parametrize("language", i18n.available())
def test_both_parts_carry_the_same_links_and_nothing_else(
    session: Session, settings: Settings, reader: Subscription, language: str
) -> None:
    for name, letter in every_letter(session, settings, reader, language).items():
        page = Links(letter.html)
        in_text = set(re.findall(r"https?://\S+", letter.text))
        assert page.found == in_text, name
        assert page.found, name
        assert page.lang == language
        assert page.tags.count("h1") == 1
        assert "first.invalid" not in letter.html + letter.text
        assert "second.invalid" not in letter.html + letter.text
        assert len(letter.html.encode()) < 30_000
        assert reader.newsletter.postal_address in letter.text
        assert reader.newsletter.postal_address in letter.html
        assert max(map(len, letter.text.splitlines())) < 160


def test_languages_differ(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    swedish = every_letter(session, settings, reader, "sv")
    english = every_letter(session, settings, reader, "en")
    for name, letter in swedish.items():
        assert letter.subject != english[name].subject
        assert letter.text != english[name].text


def test_single_mails_say_they_are_automatic_and_offer_no_list_header(
    session: Session, settings: Settings, reader: Subscription
) -> None:
    for letter in every_letter(session, settings, reader, "sv").values():
        sent = mime.freeze(letter).splice(
            address="anna@example.org",
            delivery_id=1,
            nonce="n",
            leave_token=reader.leave_token,
            preferences_token=reader.preferences_token,
            at=NOW,
        )
        parsed = BytesParser(policy=policy.default).parsebytes(sent)
        assert parsed["Auto-Submitted"] == "auto-generated"
        assert parsed["List-Unsubscribe"] is None
        assert parsed["Subject"] == letter.subject
        body = parsed.get_body(("plain",))
        assert body
        assert body.get_content().replace("\r\n", "\n").strip() == (
            letter.text.replace(mime.LEAVE, reader.leave_token)
            .replace(mime.PREFERENCES, reader.preferences_token)
            .strip()
        )


def test_what_editors_and_feeds_wrote_is_escaped_and_never_a_template(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(
        session, title=EVIL, publisher=EVIL, postal_address=EVIL
    )
    author = Author(newsletter_id=newsletter.id, name=EVIL, byline=EVIL)
    session.add(author)
    session.flush()
    make_post(
        session,
        newsletter,
        title=EVIL,
        excerpt=EVIL,
        author=author,
        link='javascript:alert("x")',
    )
    reader = make_subscription(session, newsletter)
    for letter in every_letter(session, settings, reader, "sv").values():
        page = Links(letter.html)
        assert "script" not in page.tags
        assert "javascript:" not in letter.html + letter.text
        assert "{{ config }}" in letter.html
        assert "\n" not in letter.subject
        mime.freeze(letter)


def test_a_welcome_without_posts_offers_none(
    session: Session, settings: Settings
) -> None:
    reader = make_subscription(session, make_newsletter(session))
    letter = letters.welcome(session, settings, reader)
    assert "Något att läsa" not in letter.text + letter.html
    assert Links(letter.html).tags.count("h2") == 0


def test_a_changed_newsletter_is_not_rendered_from_memory(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    before = letters.already(settings, newsletter, "sv")
    newsletter.title = "Nytt namn"
    newsletter.accent = "#005b99"
    after = letters.already(settings, newsletter, "sv")
    assert "Nytt namn" in after.subject
    assert "#005b99" in after.html
    assert "#005b99" not in before.html
