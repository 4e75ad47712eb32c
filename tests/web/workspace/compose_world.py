"""What the composing tests share: posts, readers, a draft, and posting as an editor."""

from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.test import TestResponse

from newsletter.db import Base, Database, utcnow
from newsletter.digests import drafts
from newsletter.models import Issue, IssueState, Newsletter
from newsletter.web.workspace import issue_form
from tests.factories import make_newsletter, make_post, make_subscription
from tests.web.at_work import csrf_token

TITLES = (
    "Nu gäller det att använda tiden rätt",
    "En egen kväll för tjejer",
    "Integrationskör i behov av framtidsfinansiering",
)


def make_draft(database: Database, *, readers: int = 3, undo_seconds: int = 0) -> int:
    """Make a newsletter with posts, readers and a draft; return the draft's id."""
    with database.transaction() as session:
        labbet = make_newsletter(session, undo_seconds=undo_seconds)
        for title in TITLES:
            make_post(session, labbet, title=title)
        for _ in range(readers):
            make_subscription(session, labbet)
        return drafts.draft(session, labbet, now=utcnow()).id


def form_of(database: Database, issue_id: int, **changes: str) -> dict[str, Any]:
    """Return what the browser would send for an issue, with some fields changed."""
    with database.reading() as session:
        issue = session.get_one(Issue, issue_id)
        form = {
            "subject": issue.subject,
            "preview_text": issue.preview_text,
            "opening": issue.opening,
            "fingerprint": issue_form.fingerprint(issue),
            "post": [str(entry.post_id) for entry in issue.posts],
        }
        for entry in issue.posts:
            if not entry.hidden:
                form[f"show-{entry.post_id}"] = "1"
            form[f"title-{entry.post_id}"] = entry.title
            form[f"excerpt-{entry.post_id}"] = entry.excerpt
    return {**form, **changes}


def post(client: FlaskClient, path: str, form: dict[str, Any]) -> TestResponse:
    """Send a form with its token."""
    return client.post(path, data={**form, "csrf_token": csrf_token(client)})


def order_of(database: Database, issue_id: int) -> list[str]:
    """Return the titles of an issue's posts from the top."""
    with database.reading() as session:
        issue = session.get_one(Issue, issue_id)
        return [entry.title or entry.post.title for entry in issue.posts]


def state_of(database: Database, issue_id: int) -> IssueState:
    with database.reading() as session:
        return session.get_one(Issue, issue_id).state


def contents(database: Database) -> dict[str, list[str]]:
    """Return every row of every table, but for what was done: that stays written."""
    with database.reading() as session:
        return {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in Base.metadata.sorted_tables
            if table.name != "audit"
        }


def newsletter_of(database: Database) -> Newsletter:
    with database.reading() as session:
        return session.scalars(select(Newsletter)).one()
