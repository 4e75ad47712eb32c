"""Test mails: to whom, read from one field and remembered for the editor."""

import re

from flask import request
from sqlalchemy.orm import Session

from newsletter.config import Settings
from newsletter.db import utcnow
from newsletter.digests import publish
from newsletter.errors import N_, InvalidInput
from newsletter.models import Editor, Issue
from newsletter.subscribers import addresses
from newsletter.web import rendering
from newsletter.web.security import current_settings
from newsletter.web.workspace.access import say, this_editor

MOST = 10
LONGEST = MOST * 256  # characters of the field
_BETWEEN = re.compile(r"[\s,;]+")


def send(session: Session, issue: Issue, text: str) -> list[str]:
    """Send a test to the addresses in a field, and remember them. Return them.

    Raises InvalidInput with field "email".
    """
    settings = current_settings()
    found = read(text, settings)
    for address in found:
        publish.send_test(
            session,
            settings,
            issue,
            address,
            language=request.form.get("language", ""),
            now=utcnow(),
        )
    session.get_one(Editor, this_editor().id).test_addresses = found
    return found


def tell(sent: list[str]) -> None:
    """Say on the next page to whom a test is on its way."""
    listed = rendering.words().enumeration(sent)
    say(N_("The test is on its way to %(address)s."), address=listed)


def read(text: str, settings: Settings) -> list[str]:
    """Read addresses with commas, semicolons or spaces between them, each once."""
    if len(text) > LONGEST:
        raise _too_many()
    typed = [part for part in _BETWEEN.split(text) if part]
    if len(typed) <= 1:
        return [addresses.read_address(text, trial=settings.demo).email]
    found: dict[str, str] = {}
    for part in typed:
        try:
            address = addresses.read_address(part, trial=settings.demo)
        except InvalidInput:
            raise InvalidInput(
                N_("“%(address)s” is not an address. Nothing was sent to the others."),
                field="email",
                address=part[:100],
            ) from None
        found.setdefault(address.key, address.email)
    if len(found) > MOST:
        raise _too_many()
    return list(found.values())


def _too_many() -> InvalidInput:
    return InvalidInput(
        N_("A test goes to at most %(count)s addresses. Take some away."),
        field="email",
        count=MOST,
    )
