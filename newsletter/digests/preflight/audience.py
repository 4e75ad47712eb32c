"""How many get an issue against the last one of its kind. Only looks."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter.digests.preflight.findings import Finding, Level
from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.models import Issue, IssueState

FAR = 2  # times as many, or as few, asks
FEW = 20  # readers more or fewer are never far off
GONE_OUT = (IssueState.SENDING, IssueState.PAUSED, IssueState.SENT)


def last_time(session: Session, issue: Issue) -> int | None:
    """Return how many the last issue of the same rhythm, or to the same, went to."""
    query = select(Issue.total).where(
        Issue.newsletter_id == issue.newsletter_id,
        Issue.kind == issue.kind,
        Issue.rhythm == issue.rhythm,
        Issue.segment == issue.segment,
        Issue.state.in_(GONE_OUT),
    )
    return session.scalar(query.order_by(Issue.started_at.desc()).limit(1))


def check(readers: int, before: int | None) -> Finding:
    """Say how many get it, and ask if that is far from last time."""
    values = {"readers": readers, "before": before or 0}
    if before is None:
        return Finding(
            "audience",
            Level.PASSED,
            N_("It is the first of its kind, so there is no last time to compare."),
        )
    far = abs(readers - before) >= FEW and (
        readers * FAR < before or readers > before * FAR
    )
    if not far:
        return Finding("audience", Level.PASSED, _sentence(readers, before), "", values)
    return Finding(
        "audience.far",
        Level.WARNING,
        N_("%(readers)s would get it; last time it was %(before)s."),
        N_("Look at whom it is for, and whether many have left or just come."),
        values,
    )


def against(words: Language, readers: int, before: int | None) -> str:
    """Say it beside the number of readers: "3 fewer than last time"."""
    if before is None:
        return ""
    if readers == before:
        return words.gettext("as many as last time")
    if readers < before:
        return words.ngettext(
            "%(num)s fewer than last time",
            "%(num)s fewer than last time",
            before - readers,
        )
    return words.ngettext(
        "%(num)s more than last time", "%(num)s more than last time", readers - before
    )


def _sentence(readers: int, before: int) -> str:
    if readers == before:
        return N_("As many readers as last time.")
    return N_("%(readers)s would get it; last time it was %(before)s.")
