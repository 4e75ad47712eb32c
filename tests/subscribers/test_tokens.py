"""Tokens: each opens its own door and no other, whatever is tried on it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.errors import InvalidLink
from newsletter.models import Kind, Status, Subscription, Suppression
from newsletter.subscribers import leaving, moving, preferences, rights, signup
from tests.factories import NOW, make_newsletter, make_subscription
from tests.subscribers.letterbox import FORM, last

Door = Callable[[Session, Settings, str], Any]


def through_leave(session: Session, settings: Settings, token: str) -> None:
    left = leaving.leave(session, settings, token, origin=FORM, how="page", now=NOW)
    if left is None:
        raise InvalidLink


DOORS: dict[str, Door] = {
    "confirm": lambda s, c, t: signup.confirm(s, c, t, origin=FORM, now=NOW),
    "again": lambda s, c, t: signup.send_again(s, c, t, origin=FORM, now=NOW),
    "never": lambda s, c, t: signup.never_again(s, c, t, now=NOW),
    "address": lambda s, c, t: moving.confirm_address_change(
        s, c, t, origin=FORM, now=NOW
    ),
    "data": rights.collect_data,
    "erase": lambda s, c, t: rights.erase(s, c, t, now=NOW),
    "leave": through_leave,
    "undo": lambda s, c, t: leaving.undo(s, c, t, origin=FORM, now=NOW),
    "rhythm": lambda s, c, t: leaving.choose_rhythm(
        s, c, t, "monthly:first-mon@08:00", origin=FORM, now=NOW
    ),
    "preferences": lambda s, c, t: preferences.find_by_preferences_token(s, t),
}
KEYS = {
    **{name: name for name in ("never", "address", "data", "erase", "preferences")},
    "confirm": "confirm",
    "again": "confirm",
    "leave": "leave",
    "undo": "leave",
    "rhythm": "leave",
}


def make_tokens(session: Session, settings: Settings) -> dict[str, str]:
    """Make a reader and a request, and every token they are ever sent."""
    newsletter = make_newsletter(session)
    signup.request_subscription(
        session, settings, newsletter, "new@example.org", origin=FORM, now=NOW
    )
    asked = last(session, Kind.CONFIRM)
    reader = make_subscription(session, newsletter, "anna@example.org")
    rights.request_data_link(session, settings, reader, now=NOW)
    rights.request_erase_link(session, settings, reader, now=NOW)
    moving.request_address_change(
        session, settings, reader, "other@example.org", origin=FORM, now=NOW
    )
    return {
        "confirm": asked.token(links.CONFIRM),
        "never": asked.token(links.NEVER),
        "address": last(session, Kind.ADDRESS).token(links.ADDRESS),
        "data": last(session, Kind.DATA).token(links.DATA),
        "erase": last(session, Kind.ERASE).token(links.ERASE),
        "leave": reader.leave_token,
        "preferences": reader.preferences_token,
    }


def standing(session: Session) -> list[tuple[str, Status, int, str]]:
    session.expire_all()
    rows = session.scalars(select(Subscription).order_by(Subscription.id))
    found = [(s.subscriber.email, s.status, s.round, s.rhythm) for s in rows]
    return found + [
        ("-", Status.LEFT, row.id, "") for row in session.scalars(select(Suppression))
    ]


@pytest.mark.parametrize("door", DOORS)
def test_only_its_own_token_opens_a_door(
    session: Session, settings: Settings, door: str
) -> None:
    tokens = make_tokens(session, settings)
    before = standing(session)
    for name, token in tokens.items():
        if name != KEYS[door]:
            with pytest.raises(InvalidLink):
                DOORS[door](session, settings, token)
    assert standing(session) == before
    DOORS[door](session, settings, tokens[KEYS[door]])


@pytest.mark.parametrize("door", DOORS)
def test_no_text_opens_a_door(session: Session, settings: Settings, door: str) -> None:
    make_tokens(session, settings)
    before = standing(session)

    @tries(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True))
    def attempt(token: str) -> None:
        with pytest.raises(InvalidLink):
            DOORS[door](session, settings, token)

    attempt()
    assert standing(session) == before


PAYLOADS: list[Any] = [
    *(None, 1, "x", [], [1], [1, 0], ["x"] * 3, {"a": 1}, [None] * 4),
    *([10**30, 0, "a"], [-1, 0, "a"], [1, "a"], [True, 0, ""], [1, "", "", 4]),
]


@pytest.mark.parametrize(
    "purpose", [p for p in links.PURPOSES if p is not links.INVITE]
)
def test_a_signed_link_with_other_contents_opens_nothing(
    session: Session, settings: Settings, purpose: links.Purpose
) -> None:
    make_tokens(session, settings)
    before = standing(session)
    for payload in PAYLOADS:
        token = links.sign(settings, purpose, payload)
        with pytest.raises(InvalidLink):
            DOORS[purpose.name](session, settings, token)
    assert standing(session) == before
