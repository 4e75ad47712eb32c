"""Posts in the workspace: the list, writing, a flood, authors, fetching."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from newsletter.config import Settings
from newsletter.db import Database
from newsletter.models import Author, Feed, Newsletter, Post, PostState, Role
from tests.factories import make_newsletter, make_post
from tests.feed_server import FeedServer
from tests.web.at_work import as_editor
from tests.web.workspace.compose_world import contents, post

POSTS = "/editor/labbet/posts/"


@pytest.fixture
def newsletter(database: Database) -> Newsletter:
    with database.transaction() as session:
        return make_newsletter(session)


@pytest.fixture
def editor(app: Flask, newsletter: Newsletter) -> FlaskClient:
    return as_editor(app, Role.EDITOR)


def only_post(database: Database) -> Post:
    with database.reading() as session:
        return session.scalars(select(Post)).one()


def written(database: Database, editor: FlaskClient, **fields: str) -> Post:
    """Write a post in the browser and return it."""
    form = {"title": "En egen kväll", "markdown": "Hej *alla*.", **fields}
    answer = post(editor, POSTS + "new", form)
    assert answer.status_code == 302, answer.text
    return only_post(database)


def test_an_empty_list_tells_the_first_step(editor: FlaskClient) -> None:
    page = editor.get(POSTS).text
    assert "Här finns inga inlägg än" in page
    assert "Skriv det första inlägget" in page


def test_a_post_is_written_as_a_draft(editor: FlaskClient, database: Database) -> None:
    found = written(
        database, editor, author="Åsa Öberg", byline="strateg", topics="Bo, Språk"
    )
    assert found.state is PostState.DRAFT
    assert found.html == "<p>Hej <em>alla</em>.</p>"
    assert found.excerpt == "Hej alla."
    assert found.author
    assert (found.author.name, found.author.byline) == ("Åsa Öberg", "strateg")
    page = editor.get(f"{POSTS}{found.id}/").text
    assert 'value="Bo, Språk"' in page
    assert "Hej *alla*." in page


def test_a_post_is_published_when_the_button_says_so(
    editor: FlaskClient, database: Database
) -> None:
    found = written(database, editor, action="publish")
    assert (found.state, found.position) == (PostState.PUBLISHED, 1)


def test_an_error_keeps_what_was_typed(editor: FlaskClient, database: Database) -> None:
    form = {"title": " ", "markdown": "En timmes arbete", "link": "https://a.example/"}
    answer = post(editor, POSTS + "new", form)
    assert answer.status_code == 400
    assert "En timmes arbete" in answer.text
    assert 'id="title-error"' in answer.text
    found = written(database, editor)
    answer = post(
        editor,
        f"{POSTS}{found.id}/",
        {"title": "Ny", "link": "inte en adress", "seen": found.updated_at.isoformat()},
    )
    assert answer.status_code == 400
    assert 'id="link-error"' in answer.text
    assert "inte en adress" in answer.text


def test_saving_unchanged_changes_no_words(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        before = make_post(session, newsletter, title="Från flödet")
    page = editor.get(f"{POSTS}{before.id}/")
    form = fields_of(page.text)
    assert post(editor, f"{POSTS}{before.id}/", form).status_code == 302
    after = only_post(database)
    for name in ("title", "html", "excerpt", "link", "author_id", "published_at"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.markdown is None


def fields_of(page: str) -> dict[str, str]:
    """Read a post's form as a browser does."""
    form = page.partition('<form method="post" id="compose"')[2]
    form = form.partition("</form>")[0]
    found: dict[str, str] = {}
    for tag in form.split("<input")[1:]:
        if 'name="' in tag:
            name = tag.partition('name="')[2].partition('"')[0]
            found[name] = tag.partition('value="')[2].partition('"')[0]
    for tag in form.split("<textarea")[1:]:
        name = tag.partition('name="')[2].partition('"')[0]
        found[name] = tag.partition(">")[2].partition("</textarea>")[0]
    return {name: value for name, value in found.items() if name != "csrf_token"}


def test_whoever_saves_second_is_told_and_loses_nothing(
    editor: FlaskClient, database: Database
) -> None:
    found = written(database, editor)
    seen = found.updated_at.isoformat()
    mine = {"title": "Min rubrik", "markdown": "Mitt", "seen": seen}
    theirs = {"title": "Deras rubrik", "markdown": "Deras", "seen": seen}
    assert post(editor, f"{POSTS}{found.id}/", theirs).status_code == 302
    answer = post(editor, f"{POSTS}{found.id}/", mine)
    assert answer.status_code == 409
    assert "Någon annan ändrade inlägget" in answer.text
    assert "Min rubrik" in answer.text
    assert only_post(database).title == "Deras rubrik"
    again = {**mine, "seen": fields_of(answer.text)["seen"]}
    assert post(editor, f"{POSTS}{found.id}/", again).status_code == 302
    assert only_post(database).title == "Min rubrik"


def test_choosing_another_author_keeps_both_bylines(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        asa = Author(newsletter_id=newsletter.id, name="Åsa", byline="strateg")
        bo = Author(
            newsletter_id=newsletter.id,
            name="bo b",
            display_name="Bo Berg",
            byline="jurist",
        )
        session.add_all([asa, bo])
        session.flush()
        found = make_post(session, newsletter, author=asa)
    form = fields_of(editor.get(f"{POSTS}{found.id}/").text)
    post(editor, f"{POSTS}{found.id}/", {**form, "author": "Bo Berg"})
    with database.reading() as session:
        people = {a.name: a.byline for a in session.scalars(select(Author))}
    assert people == {"Åsa": "strateg", "bo b": "jurist"}
    assert only_post(database).author_id == bo.id


def test_the_list_filters_searches_and_pages(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        for number in range(60):
            make_post(session, newsletter, title=f"Rapport nr {number:03}")
        make_post(session, newsletter, title="Östersund sjunger 100 %")
        make_post(
            session, newsletter, title="Inte klar", state=PostState.DRAFT, position=None
        )
    first = editor.get(POSTS).text
    assert "Inte klar" in first
    older = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    second = editor.get(older.replace("&amp;", "&")).text
    titles = [f"Rapport nr {number:03}" for number in range(60)]
    assert all((title in first) != (title in second) for title in titles)
    assert "Inte klar" in editor.get(POSTS + "?state=draft").text
    assert "Inte klar" not in editor.get(POSTS + "?state=published").text
    for words in ("östersund", "ÖSTERSUND", "100 %"):
        found = editor.get(POSTS, query_string={"q": words}).text
        assert "Östersund sjunger" in found
        assert "Rapport nr" not in found
    nothing = editor.get(POSTS, query_string={"q": "<b>finns inte"}).text
    assert "Ingen rubrik innehåller ”&lt;b&gt;finns inte”" in nothing


@pytest.mark.parametrize(
    "before", ["x", "9_9_9", "-1_", "1" * 59, "99999999999999999_1"]
)
def test_a_broken_page_link_shows_the_first_page(
    editor: FlaskClient, database: Database, newsletter: Newsletter, before: str
) -> None:
    with database.transaction() as session:
        make_post(session, newsletter, title="Först")
    assert editor.get(POSTS, query_string={"before": before}).status_code == 200


def hold(database: Database, newsletter: Newsletter, count: int = 3) -> list[int]:
    with database.transaction() as session:
        return [
            make_post(
                session,
                newsletter,
                title=f"Ur arkivet {number}",
                state=PostState.HELD,
                position=None,
            ).id
            for number in range(count)
        ]


def test_a_flood_waits_for_a_decision(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    first, second, third = hold(database, newsletter)
    page = editor.get(POSTS + "?state=held").text
    assert "De väntar här" in page
    post(editor, f"{POSTS}{first}/publish", {"back": "held"})
    post(editor, f"{POSTS}{second}/withdraw", {"back": "held"})
    with database.reading() as session:
        states = {p.id: p.state for p in session.scalars(select(Post))}
    assert states == {
        first: PostState.PUBLISHED,
        second: PostState.WITHDRAWN,
        third: PostState.HELD,
    }


@pytest.mark.parametrize(
    ("decision", "state", "sent"),
    [
        ("publish", PostState.PUBLISHED, True),
        ("page", PostState.PUBLISHED, False),
        ("withdraw", PostState.WITHDRAWN, False),
    ],
)
def test_all_that_wait_are_decided_at_once(
    editor: FlaskClient,
    database: Database,
    newsletter: Newsletter,
    decision: str,
    state: PostState,
    sent: bool,
) -> None:
    hold(database, newsletter)
    answer = post(editor, POSTS + "held", {"decision": decision})
    assert answer.status_code == 302
    with database.reading() as session:
        posts = list(session.scalars(select(Post)))
    assert {p.state for p in posts} == {state}
    assert all((p.position is not None) is sent for p in posts)


def test_a_correction_of_an_author_holds_for_all_their_posts(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        anna = Author(newsletter_id=newsletter.id, name="A. Kanervo", byline="")
        session.add(anna)
        session.flush()
        ids = [make_post(session, newsletter, author=anna).id for _ in range(2)]
    form = {"display_name": "Anna Kanervo", "byline": "projektansvarig"}
    answer = post(editor, f"/editor/labbet/authors/{anna.id}/", form)
    assert answer.status_code == 302
    for post_id in ids:
        page = editor.get(f"{POSTS}{post_id}/").text
        assert "Anna Kanervo" in page
        assert "projektansvarig" in page
    wrong = {**form, "portrait_url": "javascript:alert(1)", "byline": "Kvar"}
    answer = post(editor, f"/editor/labbet/authors/{anna.id}/", wrong)
    assert answer.status_code == 400
    assert "Kvar" in answer.text


@pytest.fixture
def blog() -> Iterator[FeedServer]:
    """A web server with a feed, on a port of its own."""
    with FeedServer() as server:
        yield server


class TestFetching:
    """With a blog on this machine, which the settings allow."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, fetch_allow=("*",))

    def test_fetching_now_says_what_came(
        self,
        editor: FlaskClient,
        database: Database,
        newsletter: Newsletter,
        blog: FeedServer,
    ) -> None:
        with database.transaction() as session:
            for path in ("/feed", "/nowhere"):
                session.add(Feed(newsletter_id=newsletter.id, url=blog.url(path)))
        answer = post(editor, POSTS + "fetch", {})
        page = editor.get(answer.location).text
        assert "1 inlägg kom." in page
        assert "En egen kväll" in page
        assert f"{blog.url('/nowhere')}: " in page
        answer = post(editor, POSTS + "fetch", {})
        assert "Det finns inget nytt i flödena." in editor.get(answer.location).text


def test_fetching_without_feeds_says_where_to_add_one(editor: FlaskClient) -> None:
    answer = post(editor, POSTS + "fetch", {})
    assert "Inget flöde följs." in editor.get(answer.location).text


WRITES = ("new", "fetch", "held", "{id}/", "{id}/publish", "{id}/withdraw")


@pytest.mark.parametrize(
    "path", [POSTS + path for path in WRITES] + ["/editor/labbet/authors/{author}/"]
)
def test_a_viewer_cannot_write_and_nobody_without_a_token(
    app: Flask, database: Database, newsletter: Newsletter, path: str
) -> None:
    with database.transaction() as session:
        found = make_post(session, newsletter, state=PostState.HELD, position=None)
    path = path.format(id=found.id, author=found.author_id)
    form = {"title": "Nej", "markdown": "Nej", "decision": "publish", "byline": "Nej"}
    viewer, editor = as_editor(app, Role.VIEWER), as_editor(app, Role.EDITOR)
    before = contents(database)
    assert post(viewer, path, form).status_code == 403
    assert editor.post(path, data=form).status_code == 400
    assert app.test_client().post(path, data=form).status_code == 400
    assert contents(database) == before


def test_looking_changes_nothing(
    editor: FlaskClient, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        found = make_post(session, newsletter, markdown="Hej")
    before = contents(database)
    for path in (POSTS, POSTS + "new", f"{POSTS}{found.id}/", POSTS + "preview"):
        assert editor.get(path).status_code == 200
    form = {"title": "Prov", "markdown": "Prov"}
    assert "Prov" in post(editor, POSTS + "preview", form).text
    assert contents(database) == before


def test_another_newsletters_post_is_not_there(
    app: Flask, database: Database, newsletter: Newsletter
) -> None:
    with database.transaction() as session:
        found = make_post(session, newsletter)
        annat = make_newsletter(session, slug="annat")
    editor = as_editor(app, Role.EDITOR, annat)
    for path in (f"posts/{found.id}/", f"posts/{found.id}/preview"):
        assert editor.get(f"/editor/annat/{path}").status_code == 404
    assert (
        post(editor, f"/editor/annat/posts/{found.id}/withdraw", {}).status_code == 404
    )
    assert only_post(database).state is PostState.PUBLISHED


def test_a_post_has_a_language_or_is_for_everyone(
    app: Flask, database: Database
) -> None:
    with database.transaction() as session:
        post_id = make_post(session, make_newsletter(session), language="de").id
    editor = as_editor(app, Role.EDITOR)
    path = f"/editor/labbet/posts/{post_id}/"
    page = editor.get(path).text
    assert '<option value="de" selected>tyska</option>' in page  # the feed's own
    new = editor.get("/editor/labbet/posts/new").text
    assert '<option value="sv" selected>svenska</option>' in new
    for language, status in (("en", 302), ("", 302), ("xx", 400), ("sv", 302)):
        form = {**fields_of(editor.get(path).text), "title": "Ny"}
        answer = post(editor, path, {**form, "language": language})
        assert answer.status_code == status
        with database.reading() as session:
            stored = session.scalars(select(Post.language)).one()
        assert stored == (language if status == 302 else "")
