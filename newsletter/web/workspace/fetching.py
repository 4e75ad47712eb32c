"""Fetching a newsletter's feeds at once, and saying what they brought."""

import flask
from flask import Blueprint, redirect, url_for
from werkzeug.wrappers import Response

from newsletter.db import current_database, utcnow
from newsletter.errors import N_
from newsletter.i18n import Language
from newsletter.models import Newsletter, Role
from newsletter.posts import fetching
from newsletter.posts.fetching import Outcome
from newsletter.posts.importer import Report
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace.access import needs, say

bp = Blueprint("fetching", __name__)

MOST_TROUBLES = 5  # told one by one


@bp.post("/editor/<slug>/posts/fetch")
@needs(Role.EDITOR)
def fetch(newsletter: Newsletter) -> Response:
    """Fetch the feeds now; nothing is locked while they answer."""
    outcomes = list(
        fetching.fetch_now(
            current_database(), current_settings(), slug=newsletter.slug, now=utcnow()
        )
    )
    tell(outcomes)
    place = "posts.index" if outcomes else "feeds.index"
    return redirect(url_for(place, slug=newsletter.slug))


def tell(outcomes: list[Outcome]) -> None:
    """Say on the next page what the feeds brought, and what went wrong."""
    words = rendering.words()
    if not outcomes:
        say(N_("No feed is being followed. Add one, or follow one again."), "warn")
        return
    troubles = [
        f"{outcome.url[:200]}: {words.error(outcome.error)}"
        for outcome in outcomes
        if outcome.error
    ]
    reports = [outcome.report for outcome in outcomes if outcome.report]
    for report in reports:
        troubles += [words.gettext(warning) for warning in report.warnings]
        troubles += [
            words.gettext(
                "“%(title)s” was left out: %(reason)s",
                title=title[:100],
                reason=words.gettext(reason),
            )
            for title, reason in report.refused
        ]
    if len(troubles) < len(outcomes) or reports:
        flask.flash(_brought(reports, words), "good")
    for line in troubles[:MOST_TROUBLES]:
        flask.flash(line, "warn")


def _brought(reports: list[Report], words: Language) -> str:
    """Say how many posts came, changed, are held back or were taken back."""
    new = sum(report.new for report in reports)
    changed = sum(report.changed for report in reports)
    held = sum(report.held for report in reports)
    waiting = sum(report.waiting for report in reports)
    withdrawn = sum(report.withdrawn for report in reports)
    parts = []
    if new:
        parts.append(words.ngettext("%(num)s post came.", "%(num)s posts came.", new))
    if changed:
        parts.append(
            words.ngettext("%(num)s post changed.", "%(num)s posts changed.", changed)
        )
    if held:
        parts.append(
            words.ngettext(
                "%(num)s post is held back until you decide.",
                "%(num)s posts are held back until you decide.",
                held,
            )
        )
    if waiting:
        parts.append(
            words.ngettext(
                "%(num)s post waits for its date.",
                "%(num)s posts wait for their dates.",
                waiting,
            )
        )
    if withdrawn:
        parts.append(
            words.ngettext(
                "%(num)s post has gone from the blog and was withdrawn.",
                "%(num)s posts have gone from the blog and were withdrawn.",
                withdrawn,
            )
        )
    return " ".join(parts) or words.gettext("There is nothing new in the feeds.")
