"""Links: each opens its own door only, outlives a key, and leads to a real page."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import NotFound

from newsletter import config, links
from newsletter.config import Settings
from newsletter.errors import ExpiredLink, InvalidLink

OLD, NEW = "old-secret-" * 4, "new-secret-" * 4
SETTINGS = config.load_settings(
    {
        "NEWSLETTER_SECRET_KEYS": OLD,
        "NEWSLETTER_BASE_URL": "https://news.example",
    }
)
ROTATED = replace(SETTINGS, secret_keys=(NEW, OLD))
PAYLOADS = st.lists(st.integers() | st.text(max_size=50), max_size=4)
TOKEN_22 = "A" * 22


@given(
    payload=PAYLOADS,
    pair=st.sampled_from([*itertools.product(links.PURPOSES, repeat=2)]),
)
def test_a_token_opens_only_its_own_door(
    payload: list[object], pair: tuple[links.Purpose, links.Purpose]
) -> None:
    made_for, tried_on = pair
    token = links.sign(SETTINGS, made_for, payload)
    if made_for is tried_on:
        assert links.read(SETTINGS, tried_on, token).payload == payload
    else:
        with pytest.raises(InvalidLink):
            links.read(SETTINGS, tried_on, token)


@given(
    payload=PAYLOADS,
    place=st.integers(min_value=0, max_value=10_000),
    bit=st.sampled_from([1, 2, 4, 8, 16]),
)
def test_a_changed_token_opens_nothing(
    payload: list[object], place: int, bit: int
) -> None:
    token = links.sign(SETTINGS, links.CONFIRM, payload)
    place %= len(token) - 1  # the last character of base64 may carry unused bits
    changed = token[:place] + chr(ord(token[place]) ^ bit) + token[place + 1 :]
    with pytest.raises(InvalidLink):
        links.read(SETTINGS, links.CONFIRM, changed)


@given(text=st.text(max_size=2000))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(InvalidLink):
        links.read(SETTINGS, links.CONFIRM, text)


def test_a_token_says_when_it_was_made() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    opened = links.read(SETTINGS, links.DATA, links.sign(SETTINGS, links.DATA, [1]))
    assert before <= opened.issued_at <= datetime.now(UTC)


def test_an_expired_token_still_says_what_it_was_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = links.sign(SETTINGS, links.CONFIRM, [7, 0])
    late = datetime.now(UTC).timestamp() + 73 * links.HOUR
    monkeypatch.setattr("time.time", lambda: late)
    with pytest.raises(ExpiredLink) as caught:
        links.read(SETTINGS, links.CONFIRM, token)
    assert caught.value.payload == [7, 0]


def test_a_token_outlives_the_rotation_of_keys_but_not_its_key() -> None:
    token = links.sign(SETTINGS, links.CONFIRM, [1, 0])
    assert links.read(ROTATED, links.CONFIRM, token).payload == [1, 0]
    with pytest.raises(InvalidLink):
        links.read(replace(ROTATED, secret_keys=(NEW,)), links.CONFIRM, token)
    fresh = links.sign(ROTATED, links.CONFIRM, [1, 0])
    with pytest.raises(InvalidLink):
        links.read(SETTINGS, links.CONFIRM, fresh)


def addresses(settings: Settings) -> list[str]:
    signed = [links.signed_url(settings, p, [1, 0]) for p in links.PURPOSES]
    return [
        *signed,
        links.leave_url(settings, TOKEN_22),
        links.preferences_url(settings, TOKEN_22),
        links.newsletter_url(settings, "labbet"),
        links.issue_url(settings, "labbet", 3),
        links.archive_url(settings, "labbet"),
        links.post_url(settings, "labbet", 3),
        links.issue_follow_url(settings, "labbet", 3),
    ]


def test_every_link_leads_to_a_page(app: Flask, settings: Settings) -> None:
    router = app.url_map.bind("localhost")
    lost = []
    for address in addresses(settings):
        path = address.removeprefix(settings.base_url)
        try:
            router.match(path, "GET")
        except NotFound:
            lost.append(path)
    assert lost == []
