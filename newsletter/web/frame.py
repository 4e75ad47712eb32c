"""What readers' pages share: the newsletter, its language, links that keep it, privacy.

A newsletter's pages speak its own language, or another that it offers when the address
ends in `?lang=`; a page opened by a personal link speaks the reader's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Response, request, url_for
from markupsafe import Markup
from sqlalchemy.orm import Session

from newsletter import i18n, newsletters, rhythms
from newsletter.db import db
from newsletter.models import Newsletter, Subscription
from newsletter.subscribers.choices import offered_languages
from newsletter.subscribers.consent import Origin
from newsletter.web.rendering import render, speak, words
from newsletter.web.security import (
    CARRIES_TOKEN,
    OPEN_TO_ALL,
    client_address,
    csrf,
    current_settings,
)

View = TypeVar("View", bound=Callable[..., Any])
# Something done to a subscription, in a transaction, at a moment.
Act = Callable[[Session, Subscription, datetime], None]


@dataclass(frozen=True, slots=True)
class OtherLanguage:
    """This page in another language."""

    code: str
    name: str
    url: str


def enter(slug: str) -> Newsletter:
    """Return the newsletter at `slug` and speak its language. Raises NotFound."""
    found = newsletters.by_slug(db.session(), slug)
    asked = request.args.get("lang") or request.form.get("language", "")
    speak(asked if asked in offered_languages(found) else found.language)
    return found


def enter_for(subscription: Subscription) -> Newsletter:
    """Return the newsletter of a subscription and speak its reader's language."""
    speak(subscription.language)
    return subscription.newsletter


def show(template: str, newsletter: Newsletter | None, **values: Any) -> str:
    """Render a page of a newsletter (or of none, where a link led nowhere)."""
    values.setdefault("others", [])
    values |= {"in_language": in_language, "in_own_language": ""}
    if newsletter is not None:
        values["link"] = partial(link, newsletter)
        values["in_own_language"] = in_language(newsletter.language)
    return render(template, newsletter=newsletter, **values)


def in_language(code: str) -> Markup:
    """Return the attribute that marks words in another language than the page's."""
    return Markup(' lang="{}"').format(code) if code != words().code else Markup()


def link(newsletter: Newsletter, endpoint: str, **values: Any) -> str:
    """Return the address of one of its pages, in the language being spoken."""
    if words().code != newsletter.language:
        values.setdefault("lang", words().code)
    return url_for(endpoint, slug=newsletter.slug, **values)


def preferences_path(subscription: Subscription, *, said: str) -> str:
    """Return where a reader's own page says that something was done."""
    token = subscription.preferences_token
    return url_for("preferences.show", token=token, said=said)


def rhythm_in_a_sentence(rhythm: str) -> str:
    """Describe a rhythm as it stands within a sentence: "every day"."""
    text = rhythms.describe(rhythm, words())
    return text[:1].lower() + text[1:]


def other_languages(newsletter: Newsletter) -> list[OtherLanguage]:
    """Return where to find this page in each of the newsletter's other languages."""
    found = []
    for code in offered_languages(newsletter):
        arguments: dict[str, Any] = dict(request.view_args or {})
        if code != words().code:
            if code != newsletter.language:
                arguments["lang"] = code
            url = url_for(str(request.endpoint), **arguments)
            found.append(OtherLanguage(code, i18n.language(code).name, url))
    return found


def origin(wording: str = "") -> Origin:
    """Return where this step is taken: page, network and the words shown there."""
    return Origin(page=_page(), network=client_address(request), wording=wording)


def acts_by_token(bp: Blueprint) -> Callable[[View], View]:
    """Let a view be posted to without our session: its address holds the secret."""

    def register(view: View) -> View:
        CARRIES_TOKEN.add(f"{bp.name}.{view.__name__}")
        exempt: View = csrf.exempt(view)
        return exempt

    return register


def open_to_all(bp: Blueprint) -> Callable[[View], View]:
    """Let a view be posted to from anywhere."""

    def register(view: View) -> View:
        OPEN_TO_ALL.add(f"{bp.name}.{view.__name__}")
        exempt: View = csrf.exempt(view)
        return exempt

    return register


def keep_private(bp: Blueprint) -> None:
    """Keep a blueprint's pages, whose addresses are secrets, to the reader (SEC-06)."""

    @bp.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Robots-Tag"] = "noindex, nofollow"
        return response


def _page() -> str:
    """Return the page a form was sent from, without what may be secret in it."""
    if "token" in (request.view_args or {}):
        return f"{current_settings().base_url}/{request.path.split('/')[1]}/"
    parts = urlsplit(request.referrer or request.headers.get("Origin", ""))
    if parts.scheme not in {"http", "https"}:
        return ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
