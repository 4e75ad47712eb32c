"""Newsletters: creating them, changing their settings, finding them."""

import re
import zoneinfo
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n, quiet, rhythms
from newsletter.config import RESERVED_SLUGS
from newsletter.errors import N_, Conflict, InvalidInput, NotFound
from newsletter.markup import is_web
from newsletter.models import Mode, Newsletter
from newsletter.plaintext import clean, squeeze

MAX_RHYTHMS = 12
MAX_SOCIAL = 10
MAX_POSTS_ON_PAGE = 50
MAX_AT_LEAST = 50
MAX_AT_MOST = 100
MAX_WAIT_DAYS = 365
MAX_UNDO_SECONDS = 120
MAX_LINK_CHARACTERS = 2000
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# Not every address there may be, but none that could break out of a header.
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[^\s@<>]{1,250}")
_DOMAIN = re.compile(r"localhost|(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}")


def by_slug(session: Session, slug: str) -> Newsletter:
    """Return the newsletter at `slug`. Raises NotFound."""
    found = session.scalar(select(Newsletter).where(Newsletter.slug == slug))
    if found is None:
        raise NotFound(N_("There is no newsletter called %(slug)s."), slug=slug[:63])
    return found


def all_newsletters(session: Session) -> list[Newsletter]:
    """Return every newsletter by title."""
    return list(session.scalars(select(Newsletter).order_by(Newsletter.title)))


def listed_newsletters(session: Session) -> list[Newsletter]:
    """Return by title the newsletters that strangers are shown the way to."""
    query = select(Newsletter).where(Newsletter.listed).order_by(Newsletter.title)
    return list(session.scalars(query))


def sender_line(newsletter: Newsletter) -> str:
    """Return who sends and from where on one line, each named once (LEG-20)."""
    names = newsletter.publisher.strip(), newsletter.from_name.strip()
    return line_of(*names, newsletter.postal_address)


def line_of(publisher: str, from_name: str, postal_address: str) -> str:
    """Return what `sender_line` would, of settings that may be no more than typed."""
    lines = [line.strip(" ,") for line in postal_address.splitlines()]
    name = publisher or from_name
    if not any(line.casefold().startswith(name.casefold()) for line in lines):
        lines.insert(0, name)
    return ", ".join(line for line in lines if line)


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
    values.setdefault("language", "sv")
    values.setdefault("rhythms", list(rhythms.DEFAULT_CHOICE))
    values.setdefault("languages", list(i18n.available()))
    change(newsletter, **values)
    session.add(newsletter)
    session.flush()
    return newsletter


def change(newsletter: Newsletter, **values: Any) -> None:
    """Change settings, each checked first. Raises InvalidInput naming the field."""
    for name, value in values.items():
        setattr(newsletter, name, CHECKS[name](name, value))
    offered = newsletter.rhythms or []
    if offered and newsletter.default_rhythm not in offered:
        if "default_rhythm" in values:
            raise InvalidInput(
                N_("What readers begin with must be a rhythm they can choose."),
                field="default_rhythm",
            )
        newsletter.default_rhythm = offered[0]
    others = [c for c in newsletter.languages or [] if c != newsletter.language]
    newsletter.languages = [newsletter.language, *others]


def faults(**values: Any) -> dict[str, InvalidInput]:
    """Return what is wrong with settings, by field: all of it, where `change` stops."""
    found = {}
    for name, value in values.items():
        try:
            CHECKS[name](name, value)
        except InvalidInput as error:
            found[name] = error
    return found


def _line(limit: int) -> Callable[[str, str], str]:
    def check(name: str, value: str) -> str:
        line = squeeze(value)
        if len(line) > limit:
            raise InvalidInput(
                N_("That line has room for %(limit)s characters."),
                field=name,
                limit=limit,
            )
        return line

    return check


def _text(limit: int) -> Callable[[str, str], str]:
    def check(name: str, value: str) -> str:
        text = clean(value).strip()
        if len(text) > limit:
            raise InvalidInput(
                N_("That text has room for %(limit)s characters."),
                field=name,
                limit=limit,
            )
        return text

    return check


def _check_title(name: str, value: str) -> str:
    title = squeeze(value)
    if not title or len(title) > 200:
        raise InvalidInput(
            N_("A newsletter needs a name of at most 200 characters."), field=name
        )
    return title


def _check_sender(name: str, value: str) -> str:
    sender = squeeze(value)
    if not sender or len(sender) > 200 or "=?" in sender:
        raise InvalidInput(N_("Readers need to see whom the mail is from."), field=name)
    return sender


def _check_email(name: str, value: str) -> str:
    """Return the address with its domain as it travels (A-labels)."""
    text = value.strip()
    local, _, domain = text.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode().lower()
    except UnicodeError:
        ascii_domain = ""
    if not (
        _EMAIL.fullmatch(text)
        and _DOMAIN.fullmatch(ascii_domain)
        and len(local) + len(ascii_domain) < 254
        and "=?" not in local
        and ".." not in local
    ):
        raise InvalidInput(
            N_("%(email)s is not an e-mail address. It should look like anna@blog.se"),
            field=name,
            email=clean(text)[:100],
        )
    return f"{local}@{ascii_domain}"


def _check_optional_email(name: str, value: str) -> str:
    return _check_email(name, value) if value.strip() else ""


def _check_url(name: str, value: str) -> str:
    url = clean(value).strip()
    if url and (not is_web(url) or len(url) > MAX_LINK_CHARACTERS):
        raise InvalidInput(N_("An address begins with https://"), field=name)
    return url


def _check_social(name: str, value: list[dict[str, str]]) -> list[dict[str, str]]:
    links = [
        {
            "name": _line(60)(name, link["name"]),
            "url": _check_url(name, link["url"]),
        }
        for link in value[:MAX_SOCIAL]
    ]
    return [link for link in links if link["name"] and link["url"]]


def _check_language(name: str, value: str) -> str:
    if value not in i18n.available():
        raise InvalidInput(
            N_("Inkorg speaks %(languages)s. Choose one of them."),
            field=name,
            languages=", ".join(i18n.available()),
        )
    return value


def _check_languages(name: str, values: list[str]) -> list[str]:
    return [_check_language(name, value) for value in dict.fromkeys(values)]


def _check_timezone(name: str, value: str) -> str:
    zone = value.strip()
    if zone not in zoneinfo.available_timezones():
        raise InvalidInput(
            N_("%(zone)s is not a time zone. Try Europe/Stockholm."),
            field=name,
            zone=clean(zone)[:64],
        )
    return zone


def _check_accent(name: str, value: str) -> str:
    colour = value.strip().lower()
    if not re.fullmatch(r"#[0-9a-f]{6}", colour):
        raise InvalidInput(N_("Write the colour as #8b2e24."), field=name)
    return colour


def _check_rhythm(_name: str, value: str) -> str:
    rhythms.parse(value)
    return value


def _check_rhythms(name: str, values: list[str]) -> list[str]:
    if not values or len(values) > MAX_RHYTHMS:
        raise InvalidInput(
            N_("Offer at least one rhythm and at most %(count)s."),
            field=name,
            count=MAX_RHYTHMS,
        )
    return [_check_rhythm(name, value) for value in dict.fromkeys(values)]


def _check_posts_on_page(name: str, value: int) -> int:
    if not 1 <= value <= MAX_POSTS_ON_PAGE:
        raise InvalidInput(
            N_("The page shows from 1 to %(count)s posts."),
            field=name,
            count=MAX_POSTS_ON_PAGE,
        )
    return value


def _check_mode(name: str, value: str) -> Mode:
    try:
        return Mode(value)
    except ValueError:
        raise InvalidInput(
            N_("Digests go out automatic, held or by hand. Choose one of them."),
            field=name,
        ) from None


def _check_quiet_days(_name: str, values: list[str]) -> list[str]:
    return quiet.check_weekdays(values)


def _check_holidays(_name: str, values: list[str]) -> list[str]:
    return quiet.check_dates(values)


def _check_country(_name: str, value: str) -> str:
    return quiet.check_country(value)


def _number(low: int, high: int) -> Callable[[str, int], int]:
    def check(name: str, value: int) -> int:
        if not low <= value <= high:
            raise InvalidInput(
                N_("Write a number from %(low)s to %(high)s."),
                field=name,
                low=low,
                high=high,
            )
        return value

    return check


def _check_flag(_name: str, value: bool) -> bool:
    return bool(value)


def _keep(_name: str, value: Any) -> Any:
    return value


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "title": _check_title,
    "tagline": _line(500),
    "language": _check_language,
    "languages": _check_languages,
    "timezone": _check_timezone,
    "from_name": _check_sender,
    "from_email": _check_email,
    "reply_to": _check_optional_email,
    "publisher": _line(200),
    "about": _text(5000),
    "postal_address": _text(500),
    "phone": _line(60),
    "contact_email": _check_optional_email,
    "website": _check_url,
    "social": _check_social,
    "privacy": _text(20_000),
    "accent": _check_accent,
    "rhythms": _check_rhythms,
    "default_rhythm": _check_rhythm,
    "mode": _check_mode,
    "at_least": _number(1, MAX_AT_LEAST),
    "at_most": _number(0, MAX_AT_MOST),
    "wait_days": _number(0, MAX_WAIT_DAYS),
    "quiet_days": _check_quiet_days,
    "holidays": _check_holidays,
    "holiday_country": _check_country,
    "by_language": _check_flag,
    "record_network": _check_flag,
    "public_archive": _check_flag,
    "listed": _check_flag,
    "hold_unknown": _check_flag,
    "undo_seconds": _number(0, MAX_UNDO_SECONDS),
    "new_topics": _check_flag,
    "needs_factor": _check_flag,
    "count_clicks": _check_flag,
    "posts_on_page": _check_posts_on_page,
    "created_at": _keep,
}
