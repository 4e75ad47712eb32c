"""Every link a mail carries: its writer and its reader side by side.

Two families. Random tokens are stored and never expire: leaving and preferences with
the subscription, links that are counted with the issue. Signed tokens (itsdangerous,
used only here) carry what they are about, have a salt and a lifetime per purpose, and
survive the rotation of keys. None opens another's door.
"""

import base64
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer

from newsletter.config import Settings
from newsletter.errors import N_, ExpiredLink, InvalidLink
from newsletter.models import Author

HOUR = 3600
DAY = 24 * HOUR
MAX_TOKEN_CHARACTERS = 1000
_TOKEN_LETTERS = frozenset(f"{string.ascii_letters}{string.digits}-_")


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a signed link is for, where it leads and how long it lives."""

    name: str
    path: str
    lifetime_seconds: int | None


CONFIRM = Purpose("confirm", "/confirm/", 72 * HOUR)  # lifetime: settings.confirm_hours
NEVER = Purpose("never", "/never/", 30 * DAY)
ADDRESS = Purpose("address", "/address/", 72 * HOUR)
DATA = Purpose("data", "/data/", 1 * DAY)
ERASE = Purpose("erase", "/erase/", 1 * DAY)
INVITE = Purpose("invite", "/editor/invite/", 7 * DAY)
PURPOSES = (CONFIRM, NEVER, ADDRESS, DATA, ERASE, INVITE)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a signed link said, and when it was made."""

    payload: Any
    issued_at: datetime


def new_token() -> str:
    """Return 128 random bits in 22 characters safe in a URL."""
    return secrets.token_urlsafe(16)


def new_tokens(count: int) -> list[str]:
    """Return tokens for as many rows that are written together.

    They begin alike, so that an index has them side by side: written anywhere, each
    would cost a page. 110 random bits are each one's own.
    """
    beginning = secrets.token_urlsafe(3)[:3]
    # Fifteen bytes are twenty letters, whatever stands beside them.
    drawn = base64.urlsafe_b64encode(secrets.token_bytes(15 * count)).decode()
    return [f"{beginning}{drawn[at : at + 19]}" for at in range(0, 20 * count, 20)]


def new_link_token() -> str:
    """Return 72 random bits in 12 characters: short, since it stands in every mail."""
    return secrets.token_urlsafe(9)


def looks_like_link_token(text: str) -> bool:
    """Tell whether `new_link_token` may have made it; else no row can have it."""
    return len(text) == 12 and text.isascii() and not set(text) - _TOKEN_LETTERS


def looks_like_token(text: str) -> bool:
    """Tell whether `new_token` may have made it; else no row can have it."""
    return len(text) == 22 and text.isascii() and not set(text) - _TOKEN_LETTERS


def sign(settings: Settings, purpose: Purpose, payload: Any) -> str:
    """Return a token that only `purpose` can open."""
    token: str = _serializer(settings, purpose).dumps(payload)
    return token


def read(settings: Settings, purpose: Purpose, token: str) -> Opened:
    """Open a token made by `sign` for the same purpose.

    Raises ExpiredLink (with `payload` set on it) or InvalidLink.
    """
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise InvalidLink(N_("This link does not work."))
    lifetime = purpose.lifetime_seconds
    if purpose is CONFIRM:
        lifetime = settings.confirm_hours * HOUR
    try:
        payload, issued_at = _serializer(settings, purpose).loads(
            token, max_age=lifetime, return_timestamp=True
        )
    except SignatureExpired as error:
        expired = ExpiredLink(N_("This link has expired."))
        expired.payload = _serializer(settings, purpose).load_payload(
            error.payload or b""
        )
        raise expired from None
    except BadData:
        raise InvalidLink(N_("This link does not work.")) from None
    return Opened(payload, issued_at.astimezone(UTC))


def signed_url(settings: Settings, purpose: Purpose, payload: Any) -> str:
    """Return the full address of a signed link."""
    return f"{settings.base_url}{purpose.path}{sign(settings, purpose, payload)}"


def leave_url(settings: Settings, leave_token: str) -> str:
    """Return the address that ends a subscription."""
    return f"{settings.base_url}/unsubscribe/{leave_token}"


def preferences_url(settings: Settings, preferences_token: str) -> str:
    """Return the address of a reader's own choices."""
    return f"{settings.base_url}/preferences/{preferences_token}"


def newsletter_url(settings: Settings, slug: str) -> str:
    """Return the address of a newsletter's page."""
    return f"{settings.base_url}/{slug}/"


def issue_url(settings: Settings, slug: str, number: int) -> str:
    """Return the public address of an issue."""
    return f"{settings.base_url}/{slug}/issues/{number}/"


def view_url(settings: Settings, slug: str, token: str) -> str:
    """Return the address of an edition as its readers got it: the same for all."""
    return f"{settings.base_url}/{slug}/view/{token}/"


def counted_url(settings: Settings, token: str) -> str:
    """Return the address through which a link is counted: the same for all readers."""
    return f"{settings.base_url}/l/{token}"


def archive_url(settings: Settings, slug: str) -> str:
    """Return the address of a newsletter's archive."""
    return f"{settings.base_url}/{slug}/issues/"


def post_url(settings: Settings, slug: str, post_id: int) -> str:
    """Return our own page of a post that has no address elsewhere."""
    return f"{settings.base_url}/{slug}/posts/{post_id}/"


def portrait_url(settings: Settings, author: Author) -> str:
    """Return the whole address of an author's portrait, or nothing."""
    return f"{settings.base_url}{author.portrait}" if author.portrait else ""


def picture_url(settings: Settings, slug: str, name: str) -> str:
    """Return the address of a letter's picture."""
    return f"{settings.base_url}/{slug}/pictures/{name}"


def logo_url(settings: Settings, slug: str, name: str) -> str:
    """Return the address of a newsletter's logo; its name changes with its contents."""
    return f"{settings.base_url}/{slug}/logo/{name}"


def issue_follow_url(settings: Settings, slug: str, issue_id: int) -> str:
    """Return the workspace page where an issue is followed."""
    return f"{settings.base_url}/editor/{slug}/issues/{issue_id}/"


def _serializer(settings: Settings, purpose: Purpose) -> URLSafeTimedSerializer:
    # itsdangerous signs with the last key of the list and verifies with all.
    return URLSafeTimedSerializer(
        list(reversed(settings.secret_keys)), salt=f"inkorg.{purpose.name}"
    )
