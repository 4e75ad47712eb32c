"""Titles, subjects and merge tags, in both languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.digests import wording
from newsletter.i18n import language

SV, EN = language("sv"), language("en")


@pytest.mark.parametrize(
    ("count", "swedish", "english"),
    [
        (1, "Ett nytt inlägg", "One new post"),
        (2, "Två nya inlägg", "Two new posts"),
        (4, "Fyra nya inlägg", "Four new posts"),
        (12, "Tolv nya inlägg", "Twelve new posts"),
        (13, "13 nya inlägg", "13 new posts"),
        (1400, "1\xa0400 nya inlägg", "1,400 new posts"),
    ],
)
def test_the_title_counts_in_words(count: int, swedish: str, english: str) -> None:
    assert wording.title(count, SV) == swedish
    assert wording.title(count, EN) == english


def test_posts_sent_before_are_not_called_new() -> None:
    assert wording.title(3, SV, new=False) == "Tre inlägg"
    assert wording.subject(["A", "B"], SV, new=False) == "2 inlägg: A"


def test_the_subject_is_made_of_the_posts() -> None:
    assert wording.subject(["En egen kväll för tjejer"], SV) == (
        "En egen kväll för tjejer"
    )
    titles = ["Integrationskör i behov av framtidsfinansiering", "En egen kväll"]
    assert wording.subject(titles, SV) == (
        "2 nya inlägg: Integrationskör i behov av framtidsfinansiering"
    )
    assert wording.subject(titles, EN).startswith("2 new posts: Integr")


def test_the_preview_text_says_what_the_subject_leaves_out() -> None:
    assert wording.preview(["A", "B", "C"], "Början") == "B · C"
    assert wording.preview(["A"], "Början") == "Början"


@given(st.text(min_size=1, max_size=600))
def test_a_made_subject_is_never_too_long(title: str) -> None:
    for titles in ([title], [title, "x"]):
        made = wording.subject(titles, SV)
        assert len(made) <= wording.SUBJECT_CHARACTERS


def test_only_known_merge_tags_are_filled_in() -> None:
    tags = {"newsletter": "Labbet", "number_of_posts": "4"}
    text = "{{ newsletter }}: {{number_of_posts}} {{ config }} {{ 7*7 }} {% if x %} {{"
    assert wording.merge(text, tags) == "Labbet: 4 {{ config }} {{ 7*7 }} {% if x %} {{"


def test_a_merge_tag_in_a_value_stays_as_it_is() -> None:
    assert wording.merge("{{ a }}", {"a": "{{ b }}", "b": "!"}) == "{{ b }}"
