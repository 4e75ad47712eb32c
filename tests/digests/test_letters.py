"""Letters: words to all readers or to some, beside the digests and out of their way."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import compose, drafts, explain, letters, publish
from newsletter.digests.look import Look
from newsletter.errors import Conflict, InkorgError, InvalidInput
from newsletter.models import (
    Delivery,
    Issue,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Status,
    Subscription,
    SubscriptionTopic,
    Suppression,
    Topic,
)
from newsletter.subscribers import consent, starting
from tests.delivering import deliver
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.smtp_server import SmtpServer

LATER = NOW + timedelta(hours=1)
BODY = """Vi flyttar till **Slakthusområdet**.

![Huset vid Hallvägen](http://localhost/labbet/pictures/{digest}-1040x620.jpeg)
""".format(digest="a" * 64)


@pytest.fixture
def newsletter(session: Session) -> Newsletter:
    """A newsletter with a topic and readers of every kind."""
    made = make_newsletter(session)
    topic = Topic(newsletter_id=made.id, slug="klimat", name="Klimat")
    session.add(topic)
    session.flush()
    make_subscription(session, made, "all@x.example")
    make_subscription(session, made, "english@x.example", language="en")
    make_subscription(session, made, "finnish@x.example", language="fi")
    make_subscription(session, made, "gone@x.example", status=Status.LEFT)
    make_subscription(session, made, "paused@x.example", status=Status.PAUSED)
    barred = make_subscription(session, made, "barred@x.example")
    session.add(
        Suppression(
            address_hash=barred.subscriber.address_hash,
            newsletter_id=None,
            reason="never",
        )
    )
    make_subscription(session, made, "none@x.example", all_topics=False)
    chooser = make_subscription(
        session, made, "klimat@x.example", all_topics=False, language="en"
    )
    session.add(SubscriptionTopic(subscription_id=chooser.id, topic_id=topic.id))
    session.flush()
    return made


def letter(session: Session, newsletter: Newsletter, **over: Any) -> Issue:
    values: dict[str, Any] = {"subject": "Vi flyttar", "body": BODY, **over}
    return letters.write(session, newsletter, now=NOW, **values)


def test_a_letter_goes_to_its_segment_in_editions_by_language(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    issue = letter(session, newsletter, segment="topic:KLIMAT")
    assert issue.segment == "topic:klimat"
    found = letters.audience_of(session, newsletter, issue.segment, now=NOW)
    assert (found.readers, found.of) == (4, 5)

    assert publish.send(session, settings, issue, now=NOW) == 4

    assert (issue.state, issue.number) == (IssueState.SENDING, 1)
    rows = session.execute(
        select(Message.edition, Delivery.address).join(
            Delivery, Delivery.message_id == Message.id
        )
    ).all()
    assert {tuple(row) for row in rows} == {
        ("sv", "all@x.example"),
        ("sv", "finnish@x.example"),
        ("en", "english@x.example"),
        ("en", "klimat@x.example"),
    }


def test_a_letter_wears_the_frame_of_a_digest(
    settings: Settings, newsletter: Newsletter, session: Session
) -> None:
    issue = letter(session, newsletter, subject="Vi {{ newsletter }} & flyttar")
    english = compose.compose(
        settings, issue, newsletter, issue.posts, i18n.language("en")
    )
    assert english.subject == "Vi Allmännyttans innovationslabb & flyttar"
    html, text = english.html, english.text
    assert '<h1 lang="sv"' in html
    assert '<div lang="sv"><p>Vi flyttar till <strong>' in html
    assert 'width="520"' in html
    assert "Unsubscribe" in html
    assert "Box 474" in html
    assert "/unsubscribe/" in text
    assert "Vi flyttar till Slakthusområdet." in text
    assert "Huset vid Hallvägen" in text
    assert "new post" not in html + text
    assert ":letter:" in english.feedback_id
    # What stands after the subject in the inbox is the letter's beginning.
    assert html.index("Vi flyttar till Slakthusområdet") < html.index("<h1")
    swedish = compose.compose(
        settings, issue, newsletter, issue.posts, i18n.language("sv")
    )
    assert 'lang="sv">V' not in swedish.html


@pytest.mark.parametrize("theme", ["calm", "headlines", "pictures"])
def test_a_letter_is_whole_in_every_theme_whatever_digests_show(
    settings: Settings, newsletter: Newsletter, session: Session, theme: str
) -> None:
    said = {"greeting": "Nytt på bloggen!", "closing": "Läs mer", "note": "Egen rad"}
    look = Look(theme=theme, parts=("posts", "closing"), words={"sv": said})
    words, issue = i18n.language("sv"), letter(session, newsletter)
    made = compose.compose(settings, issue, newsletter, [], words, look=look)
    for part in (made.html, made.text):
        assert "Slakthusområdet" in part
        assert "Egen rad" in part
        assert "Nytt på bloggen" not in part
        assert "Läs mer" not in part


def test_a_letter_leaves_posts_and_cursors_alone(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    post = make_post(session, newsletter)
    publish.send(session, settings, letter(session, newsletter), now=NOW)
    session.execute(update(Delivery).values(state="sent", settled_at=LATER))
    assert [i.state for i in publish.finish_settled(session, now=LATER)] == ["sent"]

    assert set(session.scalars(select(Subscription.cursor))) == {0}
    assert starting.starting_position(session, newsletter, "") == 0
    assert drafts.last_gone_out(session, newsletter) is None
    digest = drafts.draft(session, newsletter, now=LATER)
    assert [entry.post_id for entry in digest.posts] == [post.id]
    # A letter that is still on its way keeps nobody from their digest.
    publish.send(session, settings, letter(session, newsletter), now=LATER)
    assert publish.send(session, settings, digest, now=LATER) == 5
    assert digest.number == 3
    # And a letter after a digest does not hide where that one ended.
    publish.send(session, settings, letter(session, newsletter), now=LATER)
    assert drafts.last_gone_out(session, newsletter) == digest
    assert starting.starting_position(session, newsletter, "") == digest.last_position


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"subject": " "}, "no subject"),
        ({"body": "\n"}, "letter is empty"),
        ({"body": "![ ](https://x.example/a.png)"}, "says nothing to those who cannot"),
        ({"segment": "language:en since:2100-01-01"}, "No reader is among those"),
    ],
)
def test_what_is_missing_is_said_before_anything_leaves(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    over: dict[str, str],
    said: str,
) -> None:
    issue = letter(session, newsletter, **over)
    with pytest.raises(InkorgError, match=said):
        publish.send(session, settings, issue, now=NOW)
    assert session.scalars(select(Delivery)).all() == []
    assert issue.state is IssueState.DRAFT


def test_what_cannot_be_written_is_refused(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    issue = letter(session, newsletter)
    for change, said in (
        ({"segment": "topic:sport"}, "There are: klimat"),
        ({"language": "de"}, "languages on the page"),
        ({"body": "x" * 30_001}, "30000 fit"),
    ):
        with pytest.raises(InvalidInput, match=said):
            letters.edit(session, issue, **change)
    too_long = letter(session, newsletter, body="ö" * 29_000)
    with pytest.raises(InvalidInput, match="too long"):
        publish.send(session, settings, too_long, now=NOW)
    sent = letter(session, newsletter)
    publish.send(session, settings, sent, now=NOW)
    with pytest.raises(Conflict):
        letters.edit(session, sent, body="Ett annat")


def test_a_letter_to_a_topic_that_is_no_more_waits_for_a_person(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    issue = letter(session, newsletter, segment="topic:klimat")
    publish.schedule(session, issue, LATER, now=NOW)
    session.execute(delete(SubscriptionTopic))
    session.execute(delete(Topic))
    with pytest.raises(InvalidInput, match="no topic"):
        publish.send(session, settings, issue, now=LATER)
    assert letters.describe(session, issue, i18n.language("sv")) == "topic:klimat"


def test_who_did_not_get_a_letter_is_told_why(
    session: Session, settings: Settings, newsletter: Newsletter
) -> None:
    issue = letter(session, newsletter, segment="language:en")
    publish.send(session, settings, issue, now=NOW)
    swede = session.scalars(
        select(Subscription).where(
            Subscription.language == "sv", Subscription.all_topics.is_(False)
        )
    ).one()
    consent.record(
        session, swede, "confirmed", consent.Origin(), now=NOW - timedelta(days=1)
    )
    session.flush()
    words = i18n.language("en")
    said = explain.of_issue(session, swede, issue, words=words, now=NOW).sentence
    assert said == "Not sent: they were not among the readers the letter was for."


def test_a_letter_is_tried_and_sent_through_a_real_relay(
    database: Database, settings: Settings, smtp_server: SmtpServer
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        for name, language in (("a", "sv"), ("b", "en"), ("c", "sv")):
            make_subscription(session, labbet, f"{name}@x.example", language=language)
        issue = letter(session, labbet, segment="language:sv")
        publish.send_test(session, settings, issue, "me@x.example", now=NOW)
        publish.send(session, settings, issue, now=NOW)
    deliver(database, settings, smtp_server)
    assert sorted(mail.to for mail in smtp_server.received) == [
        *("a@x.example", "c@x.example", "me@x.example")
    ]
    (mail,) = smtp_server.to("a@x.example")
    message = mail.message
    assert message["Subject"] == "Vi flyttar"
    assert "labbet.localhost" in message["List-Id"]
    assert "/unsubscribe/" in message["List-Unsubscribe"]
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text = message.get_body(("plain",))
    assert text is not None
    assert "http://localhost/labbet/view/" in text.get_content()
    (test,) = smtp_server.to("me@x.example")
    assert test.message["Subject"] == "[Test] Vi flyttar"
    with database.transaction() as session:
        publish.finish_settled(session, now=LATER)
        assert session.scalars(select(Issue.state)).one() is IssueState.SENT
        kinds = set(session.scalars(select(Message.kind)))
        assert kinds == {Kind.DIGEST, Kind.TEST}
