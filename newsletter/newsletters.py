"""Newsletters: creating them, changing their settings, finding them."""

import re
import zoneinfo
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n, rhythms
from newsletter.config import RESERVED_SLUGS
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.models import Newsletter

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def by_slug(session: Session, slug: str) -> Newsletter:
    """Return the newsletter at `slug`. Raises NotFound."""
    found = session.scalar(select(Newsletter).where(Newsletter.slug == slug))
    if found is None:
        raise NotFound(N_("There is no newsletter called %(slug)s."), slug=slug[:63])
    return found


def all_newsletters(session: Session) -> list[Newsletter]:
    """Return every newsletter by title."""
    return list(session.scalars(select(Newsletter).order_by(Newsletter.title)))


def create(session: Session, slug: str, **values: Any) -> Newsletter:
    """Create a newsletter. Raises InvalidInput or Conflict."""
    if not SLUG.fullmatch(slug):
        raise InvalidInput(
            N_("The address may hold a-z, 0-9 and hyphens, 63 characters at most."),
            field="slug",
        )
    if slug in RESERVED_SLUGS:
        raise InvalidInput(
            N_("The address %(slug)s is taken by Inkorg itself. Choose another."),
            field="slug",
            slug=slug,
        )
    if session.scalar(select(Newsletter.id).where(Newsletter.slug == slug)):
        raise Conflict(
            N_("There is already a newsletter at %(slug)s. Choose another."), slug=slug
        )
    newsletter = Newsletter(slug=slug)
    values.setdefault("rhythms", list(rhythms.DEFAULT_CHOICE))
    values.setdefault("languages", list(i18n.available()))
    change(newsletter, **values)
    session.add(newsletter)
    session.flush()
    return newsletter


def change(newsletter: Newsletter, **values: Any) -> None:
    """Change settings, each checked first. Raises InvalidInput naming the field."""
    for name, value in values.items():
        if isinstance(value, str):
            value = value.strip()
        if check := CHECKS.get(name):
            check(value)
        setattr(newsletter, name, value)


def _check_title(value: str) -> None:
    if not value or len(value) > 200 or not value.isprintable():
        raise InvalidInput(
            N_("A newsletter needs a name of at most 200 characters."), field="title"
        )


def _check_language(value: str) -> None:
    if value not in i18n.available():
        raise InvalidInput(
            N_("Inkorg speaks %(languages)s. Choose one of them."),
            field="language",
            languages=", ".join(i18n.available()),
        )


def _check_timezone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise InvalidInput(
            N_("%(zone)s is not a time zone. Try Europe/Stockholm."),
            field="timezone",
            zone=value[:64],
        )


def _check_accent(value: str) -> None:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise InvalidInput(N_("Write the colour as #8b2e24."), field="accent")


def _check_rhythms(values: list[str]) -> None:
    for text in values:
        rhythms.parse(text)


CHECKS: dict[str, Any] = {
    "title": _check_title,
    "language": _check_language,
    "timezone": _check_timezone,
    "accent": _check_accent,
    "rhythms": _check_rhythms,
    "default_rhythm": rhythms.parse,
}
