"""Composing an issue: drafting, changing, two editors at once, sending, following."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.digests import drafts, publish
from newsletter.mail import ledger
from newsletter.mail.ledger import Outcome
from newsletter.models import (
    Delivery,
    DeliveryState,
    Issue,
    IssueState,
    Kind,
    Message,
    Role,
)
from tests.factories import make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import (
    TITLES,
    contents,
    form_of,
    make_draft,
    order_of,
    post,
    state_of,
)

ISSUES = "/editor/labbet/issues/"


@pytest.fixture
def issue_id(database: Database) -> int:
    return make_draft(database)


@pytest.fixture
def editor(app: Flask, issue_id: int) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def question(client: FlaskClient, issue_id: int) -> dict[str, str]:
    """Return the fields of the page that asks whether to send."""
    page = client.get(f"{ISSUES}{issue_id}/send").text
    names = ("fingerprint", "readers")
    found = [re.search(rf'name="{name}" value="([^"]*)"', page) for name in names]
    return {n: match[1] for n, match in zip(names, found, strict=True) if match}


def deliveries(database: Database) -> int:
    with database.reading() as session:
        digests = select(Message.id).where(Message.kind == Kind.DIGEST)
        return (
            session.scalar(select(func.count()).where(Delivery.message_id.in_(digests)))
            or 0
        )


def settle(database: Database, issue_id: int, outcomes: list[tuple[str, str]]) -> None:
    """Claim some deliveries and write (state, reply) for each, as a worker does."""
    now = utcnow()
    with database.transaction() as session:
        message_id = session.scalars(
            select(Message.id).where(Message.issue_id == issue_id)
        ).one()
        claimed = ledger.claim(
            session, worker="w", limit=len(outcomes), now=now, message_id=message_id
        )
        ledger.settle(
            session,
            "w",
            [
                Outcome(claim.id, message_id, DeliveryState(state), reply, reason)
                for claim, (state, reply), reason in zip(
                    claimed.claims,
                    outcomes,
                    ["unknown_mailbox" if s == "bounced" else "" for s, _ in outcomes],
                    strict=True,
                )
            ],
            now=now,
        )


def test_a_new_issue_gathers_what_is_new(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session)
        make_post(session, labbet, title="Kören sjunger vidare")
    editor = as_editor(app, Role.EDITOR)
    answer = post(editor, ISSUES + "new", {})
    assert answer.status_code == 302
    page = editor.get(answer.location)
    assert "Kören sjunger vidare" in page.text


def test_nothing_new_is_said_and_posts_are_offered(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        publish.send(session, settings, issue, now=utcnow())
    answer = post(editor, ISSUES + "new", {})
    page = editor.get(answer.location).text
    assert "inget nytt" in page
    assert all(title in page for title in TITLES)
    with database.reading() as session:
        picked = session.scalars(select(Issue)).one().posts[0].post_id
    answer = post(editor, ISSUES + "new", {"post": str(picked)})
    assert editor.get(answer.location).status_code == 200
    assert int(answer.location.rstrip("/").rpartition("/")[2]) != issue_id


def test_posts_that_have_gone_out_are_marked_wherever_they_can_be_sent_again(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    assert "Skickat i utskick" not in editor.get(f"{ISSUES}new").text
    with database.transaction() as session:
        first = session.get_one(Issue, issue_id)
        old = first.posts[0].post_id
        publish.send(session, settings, first, now=utcnow())

    assert editor.get(f"{ISSUES}new").text.count("Skickat i utskick 1") == len(TITLES)
    answer = post(editor, f"{ISSUES}new", {"post": [str(old)]})
    page = editor.get(answer.location).text
    assert page.count("Skickades i utskick 1 och skickas nu igen.") == 1
    assert page.count("Skickat i utskick 1") == len(TITLES) - 1  # may be added
    assert "1 inlägg har redan skickats" in editor.get(f"{answer.location}send").text


def test_words_order_and_hiding_are_saved(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, subject="Fyra nya inlägg", opening="Hej!")
    first, second, third = form["post"]
    form["post"] = [third, first, second]
    form[f"title-{third}"] = "En annan rubrik"
    del form[f"show-{second}"]
    assert post(editor, f"{ISSUES}{issue_id}/", form).status_code == 302
    with database.reading() as session:
        issue = session.get_one(Issue, issue_id)
        assert (issue.subject, issue.opening) == ("Fyra nya inlägg", "Hej!")
        assert [str(e.post_id) for e in issue.posts] == [third, first, second]
        assert [e.hidden for e in issue.posts] == [False, False, True]
        assert issue.posts[0].title == "En annan rubrik"


def test_what_is_changed_for_one_issue_goes_out_and_stays_in_that_issue(
    app: Flask,
    editor: FlaskClient,
    settings: Settings,
    database: Database,
    issue_id: int,
) -> None:
    form = form_of(database, issue_id)
    first, second, third = form["post"]
    form |= {"featured": [second], f"title-{third}": "Omskriven rubrik"}
    form[f"excerpt-{third}"] = "Omskriven ingress."
    assert post(editor, f"{ISSUES}{issue_id}/", form).status_code == 302
    # Of two ticks the new one counts; without any, none does.
    form = {**form, "fingerprint": form_of(database, issue_id)["fingerprint"]}
    form |= {"featured": [second, third]}
    del form[f"show-{first}"]
    assert post(editor, f"{ISSUES}{issue_id}/", form).status_code == 302
    with database.transaction() as session:
        issue = session.get_one(Issue, issue_id)
        assert [str(e.post_id) for e in issue.posts if e.featured] == [third]
        publish.send(session, settings, issue, now=utcnow())
        message = session.scalars(select(Message)).one()
        posts = {str(e.post_id): e.post.title for e in issue.posts}
        view = f"/labbet/view/{message.view_token}/"
    public = app.test_client()
    pages = [public.get("/labbet/issues/1/").text, message.html, message.text]
    seen = public.get(view)
    pages += [seen.text] if seen.status_code == 200 else []
    for page in pages:
        assert page.rindex("Omskriven rubrik") < page.rindex(posts[second])
        assert "Omskriven ingress." in page
        assert posts[first] not in page
        assert posts[third] not in page
    assert "Omskriven rubrik\n===" in message.text
    with database.transaction() as session:
        again = drafts.draft(
            session, issue.newsletter, post_ids=[int(third)], now=utcnow()
        )
        assert not again.posts[0].featured
        assert again.posts[0].title == ""


def test_the_arrows_work_without_javascript_and_lose_nothing(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    before = order_of(database, issue_id)
    form = form_of(database, issue_id, opening="Redan skrivet")
    form["action"] = f"up-{form['post'][2]}"
    answer = post(editor, f"{ISSUES}{issue_id}/", form)
    assert answer.location.endswith(f"#post-{form['post'][2]}")
    assert order_of(database, issue_id) == [before[0], before[2], before[1]]
    assert "Redan skrivet" in editor.get(f"{ISSUES}{issue_id}/").text


def test_posts_can_be_added(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        late = make_post(session, issue.newsletter, title="Kom i sista stund").id
    assert "Kom i sista stund" in editor.get(f"{ISSUES}{issue_id}/").text
    post(editor, f"{ISSUES}{issue_id}/", form_of(database, issue_id, add=str(late)))
    assert order_of(database, issue_id)[-1] == "Kom i sista stund"


def test_whoever_saves_second_is_told_and_loses_nothing(
    app: Flask, editor: FlaskClient, database: Database, issue_id: int
) -> None:
    mine = form_of(database, issue_id, opening="Mina ord")
    theirs = form_of(database, issue_id, opening="Deras ord")
    other = as_editor(app, Role.EDITOR, email="bo@redaktion.example")
    assert post(other, f"{ISSUES}{issue_id}/", theirs).status_code == 302
    answer = post(editor, f"{ISSUES}{issue_id}/", mine)
    assert answer.status_code == 409
    assert "Någon annan ändrade" in answer.text
    assert "Mina ord" in answer.text
    with database.reading() as session:
        assert session.get_one(Issue, issue_id).opening == "Deras ord"
    # The form that came back knows theirs: saving it again is a choice, and works.
    fresh = re.search(r'name="fingerprint" value="([^"]*)"', answer.text)
    assert fresh
    again = post(editor, f"{ISSUES}{issue_id}/", {**mine, "fingerprint": fresh[1]})
    assert again.status_code == 302


def test_an_error_keeps_what_was_typed_and_names_the_field(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, subject="å" * 250, opening="Långt arbete")
    answer = post(editor, f"{ISSUES}{issue_id}/", form)
    assert answer.status_code == 400
    assert "Långt arbete" in answer.text
    assert 'id="subject-error"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_a_test_mail_goes_to_one_address_with_what_was_just_typed(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, subject="Provläs", action="test")
    form["test_to"] = "anna@allmannyttan.se"
    assert post(editor, f"{ISSUES}{issue_id}/", form).status_code == 302
    with database.reading() as session:
        test = session.scalars(select(Message).where(Message.kind == Kind.TEST)).one()
        assert test.subject.endswith("Provläs")
        row = session.scalars(select(Delivery)).one()
        assert row.address == "anna@allmannyttan.se"


def test_a_mistyped_test_address_is_explained(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, action="test", opening="Kvar")
    eleven = " ".join(f"a{n}@allmannyttan.se" for n in range(11))
    for typed, said in (
        ("anna(at)b", "test_to-error"),
        ("anna@allmannyttan.se, bo(at)b", "”bo(at)b” är ingen adress"),
        (eleven, "högst 10 adresser"),
        ("a" * 3000, "högst 10 adresser"),
    ):
        answer = post(editor, f"{ISSUES}{issue_id}/", {**form, "test_to": typed})
        assert answer.status_code == 400
        assert said in answer.text
        assert 'id="test_to-error"' in answer.text
        assert "Kvar" in answer.text
    assert deliveries(database) == 0


def test_a_test_goes_to_several_who_are_remembered(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    form = form_of(database, issue_id, action="test")
    form["test_to"] = "anna@allmannyttan.se; Bo@allmannyttan.se, bo@allmannyttan.se"
    assert post(editor, f"{ISSUES}{issue_id}/", form).status_code == 302
    page = editor.get(f"{ISSUES}{issue_id}/").text
    both = ("anna@allmannyttan.se", "Bo@allmannyttan.se")
    assert f"på väg till {both[0]} och {both[1]}" in page
    assert f'value="{both[0]}, {both[1]}"' in page
    with database.reading() as session:
        assert set(session.scalars(select(Delivery.address))) == {*both}


def test_sending_asks_once_and_says_to_how_many(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        make_subscription(session, issue.newsletter, language="en")
    page = editor.get(f"{ISSUES}{issue_id}/send").text
    assert "Skicka till 4 läsare?" in page
    assert "på 2 språk" in page
    assert TITLES[0] in page
    assert deliveries(database) == 0


def test_sending_twice_sends_once(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    asked = question(editor, issue_id)
    assert asked["readers"] == "3"
    for _ in range(2):
        answer = post(editor, f"{ISSUES}{issue_id}/send", asked)
        assert answer.location == f"{ISSUES}{issue_id}/"
    assert deliveries(database) == 3
    assert state_of(database, issue_id) is IssueState.SENDING


def test_another_number_of_readers_is_asked_about_again(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    asked = question(editor, issue_id)
    with database.transaction() as session:
        issue = drafts.find(session, issue_id)
        for _ in range(20):
            make_subscription(session, issue.newsletter)
    answer = post(editor, f"{ISSUES}{issue_id}/send", asked)
    assert answer.status_code == 409
    assert "23" in answer.text
    assert deliveries(database) == 0


def test_what_changed_after_the_question_is_not_sent(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    asked = question(editor, issue_id)
    with database.transaction() as session:
        drafts.edit(session, drafts.find(session, issue_id), subject="Ett skämt")
    answer = post(editor, f"{ISSUES}{issue_id}/send", asked)
    assert answer.status_code == 409
    assert "Ett skämt" in answer.text
    assert deliveries(database) == 0


def test_without_readers_there_is_no_button_to_send(
    app: Flask, database: Database
) -> None:
    issue_id = make_draft(database, readers=0)
    editor = as_editor(app, Role.EDITOR)
    page = editor.get(f"{ISSUES}{issue_id}/send").text
    assert "Ingen skulle få" in page
    assert "readers" not in question(editor, issue_id)


def test_what_the_law_asks_for_is_asked_for_before_sending(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    asked = question(editor, issue_id)
    with database.transaction() as session:
        drafts.find(session, issue_id).newsletter.postal_address = ""
    page = editor.get(f"{ISSUES}{issue_id}/send").text
    assert "postadress" in page
    assert 'href="/editor/labbet/settings/"' in page
    assert "readers" not in question(editor, issue_id)
    assert post(editor, f"{ISSUES}{issue_id}/send", asked).status_code == 400
    assert deliveries(database) == 0


def test_an_issue_is_scheduled_in_the_newsletters_own_time(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    asked = question(editor, issue_id)
    form = {**asked, "at": "2190-07-01T08:00"}
    assert post(editor, f"{ISSUES}{issue_id}/schedule", form).status_code == 302
    with database.reading() as session:
        at = session.get_one(Issue, issue_id).scheduled_at
    assert at
    assert at.isoformat() == "2190-07-01T06:00:00+00:00"
    page = editor.get(f"{ISSUES}{issue_id}/").text
    assert "1 juli 2190" in page
    post(editor, f"{ISSUES}{issue_id}/unschedule", {})
    assert state_of(database, issue_id) is IssueState.DRAFT


@pytest.mark.parametrize(
    "at", ["", "i morgon", "2001-01-01T08:00", "99999-01-01T08:00"]
)
def test_a_moment_that_cannot_be_is_explained(
    editor: FlaskClient, database: Database, issue_id: int, at: str
) -> None:
    form = {**question(editor, issue_id), "at": at}
    answer = post(editor, f"{ISSUES}{issue_id}/schedule", form)
    assert answer.status_code == 400
    assert 'id="at-error"' in answer.text
    assert state_of(database, issue_id) is IssueState.DRAFT


def test_the_progress_is_the_ledgers(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    post(editor, f"{ISSUES}{issue_id}/send", question(editor, issue_id))
    first = editor.get(f"{ISSUES}{issue_id}/progress")
    assert first.headers["X-Issue-State"] == "sending"
    assert "<b>0</b> av 3 skickade" in first.text
    settle(database, issue_id, [("sent", "250 ok"), ("bounced", "550 5.1.1 Nobody")])
    with database.reading() as session:
        counts = ledger.counts(session, issue_id=issue_id)
    assert (counts.sent, counts.bounced, counts.left) == (1, 1, 1)
    now = editor.get(f"{ISSUES}{issue_id}/progress").text
    assert f"<b>{counts.sent}</b> av {counts.total} skickade" in now
    assert re.search(rf"<dt>Studsade</dt><dd>{counts.bounced}</dd>", now)
    assert f'value="{counts.total - counts.left}"' in now


def test_an_issue_can_be_paused_resumed_and_cancelled(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    post(editor, f"{ISSUES}{issue_id}/send", question(editor, issue_id))
    for action, state in [
        ("pause", IssueState.PAUSED),
        ("pause", IssueState.PAUSED),
        ("resume", IssueState.SENDING),
    ]:
        assert post(editor, f"{ISSUES}{issue_id}/{action}", {}).status_code == 302
        assert state_of(database, issue_id) is state
    settle(database, issue_id, [("sent", "250 ok")])
    page = editor.get(f"{ISSUES}{issue_id}/cancel").text
    assert "1 läsare har fått det" in page
    assert "2 läsare återstår" in page
    for _ in range(2):
        post(editor, f"{ISSUES}{issue_id}/cancel", {})
    assert state_of(database, issue_id) is IssueState.CANCELLED
    assert "1 av 3" in editor.get(f"{ISSUES}{issue_id}/").text


def test_the_outcome_tells_who_was_not_reached_and_why(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    post(editor, f"{ISSUES}{issue_id}/send", question(editor, issue_id))
    settle(
        database,
        issue_id,
        [
            ("sent", "250 ok"),
            ("sent", "250 ok"),
            ("bounced", "550 5.1.1 <b>Nobody</b>"),
        ],
    )
    with database.transaction() as session:
        publish.finish_settled(session, now=utcnow())
        session.execute(
            Delivery.__table__.update()  # type: ignore[attr-defined]
            .where(Delivery.__table__.c.state == "sent")
            .values(resent=True)
        )
    page = editor.get(f"{ISSUES}{issue_id}/").text
    assert "2 av 3" in page
    assert "Brevlådan finns inte" in page
    assert "550 5.1.1 &lt;b&gt;Nobody&lt;/b&gt;" in page
    assert "2 läsare kan ha fått det två gånger" in page
    with database.reading() as session:
        addresses = {
            row.address: row.state for row in session.scalars(select(Delivery))
        }
    bounced = editor.get(f"{ISSUES}{issue_id}/readers?which=bounced").text
    twice = editor.get(f"{ISSUES}{issue_id}/readers?which=resent").text
    for address, state in addresses.items():
        assert (address in bounced) is (state is DeliveryState.BOUNCED)
        assert (address in twice) is (state is DeliveryState.SENT)


def test_looking_changes_nothing(
    editor: FlaskClient, database: Database, settings: Settings, issue_id: int
) -> None:
    before = contents(database)
    for path in ("", "new", f"{issue_id}/", f"{issue_id}/send", f"{issue_id}/preview"):
        assert editor.get(ISSUES + path).status_code == 200
    form = form_of(database, issue_id, subject="Bara på prov")
    answer = post(editor, f"{ISSUES}{issue_id}/preview", form)
    assert answer.status_code == 200
    assert contents(database) == before


WRITES = (
    *("new", "{id}/", "{id}/send", "{id}/schedule", "{id}/unschedule", "{id}/pause"),
    *("{id}/resume", "{id}/cancel", "{id}/discard", "{id}/undo"),
    "{id}/retry",
)


@pytest.mark.parametrize("path", WRITES)
def test_a_viewer_cannot_write(
    app: Flask, database: Database, issue_id: int, path: str
) -> None:
    viewer = as_editor(app, Role.VIEWER)
    before = contents(database)
    form = form_of(database, issue_id, subject="Inte jag")
    answer = post(viewer, ISSUES + path.format(id=issue_id), form)
    assert answer.status_code == 403
    assert contents(database) == before


@pytest.mark.parametrize("path", WRITES)
def test_nothing_is_written_without_the_forms_token(
    editor: FlaskClient, database: Database, issue_id: int, path: str
) -> None:
    before = contents(database)
    form = form_of(database, issue_id, subject="Inte härifrån")
    answer = editor.post(ISSUES + path.format(id=issue_id), data=form)
    assert answer.status_code == 400
    assert contents(database) == before


def test_a_viewer_sees_the_issue_but_no_form(app: Flask, issue_id: int) -> None:
    page = as_editor(app, Role.VIEWER).get(f"{ISSUES}{issue_id}/").text
    assert all(title in page for title in TITLES)
    assert 'name="subject"' not in page


def test_another_newsletters_issue_is_not_there(
    app: Flask, database: Database, issue_id: int
) -> None:
    with database.transaction() as session:
        annat = make_newsletter(session, slug="annat")
    editor = as_editor(app, Role.EDITOR, annat)
    for path in ("", "send", "progress", "preview", "readers", "cancel"):
        assert editor.get(f"/editor/annat/issues/{issue_id}/{path}").status_code == 404


def test_an_empty_list_tells_the_first_step(app: Flask, database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session)
    page = as_editor(app, Role.EDITOR).get(ISSUES).text
    assert "Inget har skickats än" in page
    assert "Gör ett utskick av det nya" in page


def test_a_draft_can_be_thrown_away(
    editor: FlaskClient, database: Database, issue_id: int
) -> None:
    assert post(editor, f"{ISSUES}{issue_id}/discard", {}).location == ISSUES
    assert editor.get(f"{ISSUES}{issue_id}/").status_code == 404
