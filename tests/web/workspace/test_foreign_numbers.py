"""Another newsletter's numbers, written into the forms of one's own, reach nothing.

Whose each row is comes from the schema: no row may lead to one of another newsletter.
"""

from collections.abc import Iterator
from typing import Any

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.db import Base, Database
from newsletter.digests import drafts
from newsletter.models import (
    Author,
    AuthorSpelling,
    Category,
    Feed,
    Newsletter,
    PostState,
    Role,
    SavedSegment,
    Topic,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor
from tests.web.hostile import Form, Forms

OWN, FOREIGN = "labbet", "annat"
THEIRS = {str(n): str(9000 + n) for n in (10, 11, 12)}
OURS = set(THEIRS)
PAGES = (
    "authors/", "topics/", "topics/{0}/merge", "issues/new", "issues/{issue}/",
    "posts/?state=held", "posts/new", "segments/", "calendar/", "feeds/",
)  # fmt: skip


def fill(session: Session, newsletter: Newsletter, first: int) -> int:
    """Make something of every kind that a form names, numbered from `first`.

    Return the number of a draft.
    """
    home = {"newsletter_id": newsletter.id}
    author = Author(id=first, name="Åsa", **home)
    session.add_all(
        [
            author,
            Author(id=first + 1, name="Bo", **home),
            Topic(id=first, slug="klimat", name="Klimat", **home),
            Topic(id=first + 1, slug="kultur", name="Kultur", **home),
            Feed(id=first, url=f"https://{newsletter.slug}.example/f", **home),
            SavedSegment(id=first, name="Några", text="language:en", **home),
        ]
    )
    session.flush()
    session.add_all(
        [
            AuthorSpelling(id=first, name="Å.", author_id=first, **home),
            Category(id=first, slug="k", name="K", topic_id=first, **home),
            Category(id=first + 1, slug="l", name="L", **home),
        ]
    )
    make_post(session, newsletter, author=author, id=first)
    make_post(session, newsletter, author=author, id=first + 1, state=PostState.HELD)
    make_subscription(session, newsletter, id=first)
    draft = drafts.draft(session, newsletter, now=NOW).id
    make_post(session, newsletter, author=author, id=first + 2)
    return draft


def homes(session: Session) -> dict[str, dict[int, int]]:
    """Return the newsletter of each row that says it."""
    return {
        table.name: {
            row.id: row.newsletter_id
            for row in session.execute(select(table.c.id, table.c.newsletter_id))
        }
        for table in Base.metadata.sorted_tables
        if {"id", "newsletter_id"} <= set(table.columns.keys())
    }


def astray(session: Session) -> Iterator[str]:
    """Yield each row that leads to rows of two newsletters."""
    home = homes(session)
    for table in Base.metadata.sorted_tables:
        for row in session.execute(select(table)).mappings():
            found = {row["newsletter_id"]} if "newsletter_id" in row else set()
            for column in table.columns:
                for key in column.foreign_keys:
                    if key.column.table.name in home and row[column.name]:
                        found.add(home[key.column.table.name][row[column.name]])
            if len(found - {None}) > 1:
                yield f"{table.name}: {dict(row)}"


def rows_of(session: Session, newsletter_id: int) -> list[str]:
    return sorted(
        f"{table.name} {row}"
        for table in Base.metadata.sorted_tables
        if "newsletter_id" in table.columns
        for row in session.execute(
            select(table).where(table.c.newsletter_id == newsletter_id)
        )
    )


def with_foreign(form: Form) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a form's values with one number of ours, where one stands, made foreign."""
    numbered = {
        name: sorted(choices & OURS)
        for name, choices in form.choices.items()
        if choices & OURS
    }
    own = {**form.filled(), **{name: found[-1] for name, found in numbered.items()}}
    for name, found in numbered.items():
        for number in found:
            yield name, {**own, name: THEIRS[number]}
    for name in [*form.choices, *form.typed]:
        stem, _, number = name.rpartition("-")
        if number in OURS:
            theirs = f"{stem}-{THEIRS[number]}"
            yield name, {**own, theirs: sorted(form.choices.get(name, {"x"}))[-1]}
    for name, value in form.buttons:
        stem, _, number = value.rpartition("-")
        if number in OURS:
            yield value, {**own, name: f"{stem}-{THEIRS[number]}"}


def test_a_foreign_number_in_a_form_reaches_nothing(
    app: Flask, database: Database
) -> None:
    with database.transaction() as session:
        labbet = make_newsletter(session, OWN)
        annat = make_newsletter(session, FOREIGN)
        issue = fill(session, labbet, 10)
        fill(session, annat, 9010)
    owner = as_editor(app, Role.OWNER, labbet)
    with database.reading() as session:
        before = rows_of(session, annat.id)
    tried = set()
    for page in PAGES:
        path = f"/editor/{OWN}/{page.format(10, issue=issue)}"
        answer = owner.get(path)
        assert answer.status_code == 200, path
        for form in Forms(path, answer.text).found:
            for name, values in with_foreign(form):
                for button in form.buttons or [("", "")]:
                    data = {**values, **dict([button])}
                    answer = owner.post(form.action, data=data)
                    assert answer.status_code < 500, form.action
                tried.add(f"{form.action.rpartition(OWN)[2]} {name}")
    assert {"/authors/merge into", "/issues/new post", "/topics/10/merge into"} < tried
    with database.reading() as session:
        assert list(astray(session)) == []
        assert rows_of(session, annat.id) == before
