"""Links that are counted: which, alike for all, and nothing changed where it is off."""

import re
from email import message_from_bytes, policy

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.digests import compose, drafts, letters, publish
from newsletter.mail import mime
from newsletter.models import Author, CountedLink, Issue, IssuePost, Message, Newsletter
from tests.factories import NOW, make_newsletter, make_post, make_subscription

OURS = re.compile(r"http://localhost/l/([\w-]{12})")
HREF = re.compile(r'href="([^"]*)"')
A, HOME = "https://a.example/", "http://localhost"


def parts_of(message: Message, leave: str = mime.NOBODY) -> tuple[str, str]:
    """Return the text and the HTML that a reader gets."""
    mail = mime.Frozen.unpack(message.frozen).splice(
        address="anna@exempel.example",
        delivery_id=1,
        nonce=message.nonce,
        leave_token=leave,
        preferences_token=leave,
        at=NOW,
    )
    parsed = message_from_bytes(mail, policy=policy.default)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert text
    assert html
    return text.get_content(), html.get_content()


def editions_of(session: Session, issue: Issue) -> list[Message]:
    query = select(Message).where(Message.issue_id == issue.id).order_by(Message.id)
    return list(session.scalars(query))


def links_of(session: Session, issue: Issue) -> dict[str, CountedLink]:
    query = select(CountedLink).where(CountedLink.issue_id == issue.id)
    return {link.token: link for link in session.scalars(query)}


def a_newsletter(session: Session, slug: str = "labbet", **over: object) -> Newsletter:
    made = make_newsletter(session, slug, **over)
    for number, link in enumerate(
        ("https://blogg.example/a?x=1&y=2", "https://blogg.example/å/", "")
    ):
        make_post(session, made, title=f"Inlägg {number} & mer", link=link)
    make_subscription(session, made)
    make_subscription(session, made, language="en")
    return made


def test_links_of_posts_lead_through_us_and_the_readers_own_do_not(
    session: Session, settings: Settings
) -> None:
    labbet = a_newsletter(session, count_clicks=True)
    issue = drafts.draft(session, labbet, now=NOW)
    publish.send(session, settings, issue, now=NOW)
    swedish, english = editions_of(session, issue)
    found = links_of(session, issue)
    post = session.scalars(select(IssuePost.post_id).order_by(IssuePost.place)).all()
    assert {link.url for link in found.values()} == {
        "https://blogg.example/a?x=1&y=2",
        "https://blogg.example/å/",
        f"http://localhost/labbet/posts/{max(post)}/",
    }
    assert "Inlägg 0 & mer" in {link.words for link in found.values()}
    for message in (swedish, english):  # alike in each, so they tell no edition apart
        text, html = parts_of(message)
        assert set(OURS.findall(html)) == set(found)
        assert "blogg.example" not in html
        others = {url for url in HREF.findall(html) if "/l/" not in url}
        assert {re.sub(r"[\w-]{22}", "T", url) for url in others} == {
            "http://localhost/preferences/T",
            "http://localhost/unsubscribe/T",
            next(u for u in others if "/issues/" in u or "/view/" in u),
            "mailto:labbet@allmannyttan.example",
        }
        # The text part and what is shown on the web have the real ones.
        assert "https://blogg.example/a?x=1&y=2" in text
        assert "/l/" not in text + message.text + message.html
        assert "https://blogg.example/a?x=1&amp;y=2" in message.html
    one, other = parts_of(swedish, "a" * 22), parts_of(swedish, "b" * 22)
    assert one[1].replace("a" * 22, "") == other[1].replace("b" * 22, "")


def test_off_nothing_is_other_than_it_was(session: Session, settings: Settings) -> None:
    frozen = []
    for slug, switch in (("labbet", False), ("tyst", True)):
        made = a_newsletter(session, slug)
        issue = drafts.draft(session, made, now=NOW)
        made.count_clicks = switch
        test = publish.send_test(session, settings, issue, "red@x.example", now=NOW)
        assert test
        preview = publish.sample_letter(settings, issue).html
        publish.send(session, settings, issue, now=NOW)
        message = editions_of(session, issue)[0]
        frozen.append(bytes(message.frozen))
        tried = session.scalars(select(Message).where(Message.kind == "test")).all()
        assert "/l/" not in preview + "".join(str(one.frozen) for one in tried)
        assert bool(links_of(session, issue)) is switch
    assert b"/l/" not in frozen[0].replace(b"=\r\n", b"")
    assert b"/l/" in frozen[1].replace(b"=\r\n", b"")


LETTERS: list[tuple[str, list[str]]] = [
    ("[Läs](https://a.example/)", [A]),
    ("[Läs](<https://a.example/x y>)", [f"{A}x%20y"]),
    # Words that are an address must lead where they say.
    ("<https://a.example/>", []),
    ("[a.example/priser](https://a.example/)", []),
    ("[www.a.example](https://a.example/b) [Priser](https://a.example/)", [A]),
    ("[Ring](tel:+468123) [Skriv](mailto:a@a.example)", []),
    ("[Klick](javascript:alert(1)) [Data](data:text/html,x)", []),
    ("[Lämna](http://localhost/unsubscribe/AAAAAAAAAAAAAAAAAAAAAA)", []),
    ("[Ja](http://localhost/confirm/x.y.z) [L](http://localhost/l/abc)", []),
    ("[Arkivet](http://localhost/labbet/issues/)", [f"{HOME}/labbet/issues/"]),
    ("[Annan](http://localhost.evil.example/l/x)", [f"{HOME}.evil.example/l/x"]),
    ("[Lång](https://a.example/" + "x" * 2000 + ")", []),
]


def test_of_a_letter_only_what_is_of_the_web_is_counted(
    session: Session, settings: Settings
) -> None:
    labbet = make_newsletter(session, count_clicks=True)
    make_subscription(session, labbet)
    for body, counted in LETTERS:
        issue = letters.write(session, labbet, subject="Hej", body=body, now=NOW)
        publish.send(session, settings, issue, now=NOW)
        found = [link.url for link in links_of(session, issue).values()]
        assert found == counted, body
        _, html = parts_of(editions_of(session, issue)[0])
        assert len(set(OURS.findall(html))) == len(counted), body
        assert "unsubscribe/" + mime.NOBODY in html


def test_the_size_is_that_of_what_is_sent(session: Session, settings: Settings) -> None:
    labbet = make_newsletter(session, count_clicks=True)
    make_subscription(session, labbet)
    words = "från långt borta och hem igen " * 20
    asa = Author(newsletter_id=labbet.id, name=words[:190], byline=words[:190])
    session.add(asa)
    session.flush()
    for number in range(99):
        make_post(
            session,
            labbet,
            link=f"http://x.se/{number}",
            title=words[:200],
            excerpt=words,
            author=asa,
        )
    issue = drafts.draft(session, labbet, now=NOW)
    publish.send(session, settings, issue, now=NOW)
    message = editions_of(session, issue)[0]
    _, html = parts_of(message)
    assert len(html) > len(message.html)  # these links are longer than the real ones
    assert 95_000 < compose.encoded_size(html) <= compose.ENCODED_BYTES
