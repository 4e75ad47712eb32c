"""An issue as one reader would get it, before anybody has: their posts, their language.

By the same groups that queue the mail. Changes nothing.
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.digests import editions
from newsletter.i18n import Language
from newsletter.models import Issue, IssueKind, IssuePost, Subscription


def edition_of(
    session: Session, issue: Issue, subscription: Subscription
) -> tuple[Language, Sequence[IssuePost]]:
    """Return the language and the posts of a reader's edition; a letter has no posts.

    Whether they are among its readers at all, `explain.of_issue` says.
    """
    code = editions.spoken(subscription.language, subscription.newsletter)
    if issue.kind is IssueKind.LETTER:
        return i18n.language(code), []
    plan = editions.plan(session, issue)
    standing = editions.standing(session, plan, subscription.id)
    return i18n.language(code), plan.wanted(standing.group)
