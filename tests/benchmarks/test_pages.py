"""The seeded newsletter that every page is measured on: whole, and no page fails."""

from pathlib import Path

from sqlalchemy import func, select

from benchmarks import pages, seeded
from benchmarks.installation import opened
from newsletter.mail import ledger
from newsletter.models import Issue, Status, Subscription

READERS, ISSUES = 60, 3
STRANGERS = ("/editor/login/", "/editor/invite/")  # not for who is logged in


def test_every_page_of_a_seeded_newsletter_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'seeded.sqlite3'}"
    made = seeded.seed(url, READERS, ISSUES)
    with opened(url) as database, database.reading() as session:
        theirs = Subscription.newsletter_id == made.newsletter_id
        query = select(Subscription.status, func.count()).where(theirs)
        rows = session.execute(query.group_by(Subscription.status)).all()
        found = {row[0]: row[1] for row in rows}
        assert sum(found.values()) == READERS + 3
        assert set(found) == set(Status)
        issues = session.scalars(select(Issue).where(Issue.number.is_not(None))).all()
        assert len(issues) == ISSUES
        for issue in issues:
            counts = ledger.counts(session, issue_id=issue.id)
            assert counts.total == issue.total > 0
            assert bool(counts.queued) == (issue.id == made.sending)
    asked, left_out = pages.ask_all(url, times=1)
    assert len(asked) > 80 > 4 * len(left_out)
    failed = [(page.path, page.status) for page in asked if page.status >= 400]
    assert [f for f in failed if not f[0].startswith(STRANGERS)] == []
