"""The look: readable colours, one source for each, nothing in line, files that last."""

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from newsletter import colours
from newsletter.config import ROOT
from newsletter.db import Database
from newsletter.web import look
from tests.factories import make_newsletter

STATIC = ROOT / "newsletter" / "static"
TOKENS = (STATIC / "tokens.css").read_text()
WEB = ROOT / "templates" / "web"
TEMPLATES = [*WEB.glob("*.html"), *WEB.glob("public/*.html"), *WEB.glob("errors/*")]
GROUNDS = ("paper", "wash", "card")
FALUN_RED = "#8b2e24"


def custom_properties(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css))


def themes(css: str) -> dict[str, dict[str, str]]:
    """Return the colours of both themes, the dark one filled up with the light."""
    day, _, night = css.partition("@media (prefers-color-scheme: dark)")
    light = custom_properties(day)
    return {"light": light, "dark": light | custom_properties(night)}


THEMES = themes(TOKENS)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(
    "text", ["ink", "soft", "accent", "accent-strong", "good", "warn", "bad"]
)
def test_text_can_be_read_on_every_ground(theme: str, ground: str, text: str) -> None:
    found = THEMES[theme]
    assert colours.contrast(found[text], found[ground]) >= colours.AA_TEXT


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *(("on-accent", "accent"), ("on-accent", "accent-strong")),
        *(("good", "good-wash"), ("warn", "warn-wash"), ("bad", "bad-wash")),
        *(("ink", "good-wash"), ("ink", "warn-wash"), ("ink", "bad-wash")),
        ("ink", "accent-wash"),
    ],
)
def test_pairs_that_belong_together_can_be_read(
    theme: str, text: str, ground: str
) -> None:
    found = THEMES[theme]
    assert colours.contrast(found[text], found[ground]) >= colours.AA_TEXT


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", GROUNDS)
def test_the_edge_of_a_field_stands_out(theme: str, ground: str) -> None:
    """WCAG 2.2, 1.4.11."""
    found = THEMES[theme]
    assert colours.contrast(found["edge"], found[ground]) >= 3


def test_the_default_accent_is_what_the_program_makes_of_it() -> None:
    worked_out = themes(look.properties(FALUN_RED))
    for theme, values in worked_out.items():
        assert values.items() <= THEMES[theme].items()


def test_python_and_css_mean_the_same_ink_and_paper() -> None:
    assert (THEMES["light"]["ink"], THEMES["light"]["paper"]) == look.LIGHT
    assert (THEMES["dark"]["ink"], THEMES["dark"]["paper"]) == look.DARK
    darkest = min(GROUNDS, key=lambda name: colours.luminance(THEMES["light"][name]))
    assert THEMES["light"][darkest] == colours.LIGHT_GROUND
    lightest = max(GROUNDS, key=lambda name: colours.luminance(THEMES["dark"][name]))
    assert THEMES["dark"][lightest] == colours.DARK_GROUND


@given(st.integers(0, 0xFFFFFF).map("#{:06x}".format))
def test_any_accent_an_editor_picks_can_be_read(accent: str) -> None:
    for theme, values in themes(look.properties(accent)).items():
        for name in GROUNDS:
            for text in ("accent", "accent-strong"):
                ground = THEMES[theme][name]
                assert colours.contrast(values[text], ground) >= colours.AA_TEXT
        for ground in ("accent", "accent-strong"):
            found = colours.contrast(values["on-accent"], values[ground])
            assert found >= colours.AA_TEXT
        ink = THEMES[theme]["ink"]
        assert colours.contrast(ink, values["accent-wash"]) >= colours.AA_TEXT


def test_a_newsletter_has_its_own_colours(
    client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        make_newsletter(session, accent="#0057b8")
    answer = client.get("/labbet/look.css")
    assert answer.mimetype == "text/css"
    assert "--accent: #0057b8;" in answer.text
    assert answer.cache_control.max_age == 60
    assert client.get("/labbet/look.css?v=0057b8").cache_control.max_age == look.YEAR
    assert client.get("/nowhere/look.css").status_code == 404
    assert "/labbet/look.css?v=0057b8" in client.get("/labbet/").text


def test_files_with_a_version_are_kept_for_a_year(client: FlaskClient) -> None:
    with client.get("/static/public.css?v=1") as answer:
        assert answer.cache_control.immutable
        assert answer.cache_control.max_age == look.YEAR
    with client.get("/static/fonts/newsreader-latin.woff2") as answer:
        assert answer.cache_control.immutable
    with client.get("/static/public.css") as answer:
        assert not answer.cache_control.max_age
    with client.get("/static/absent.css?v=1") as answer:
        assert not answer.cache_control.max_age


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_pages_need_nothing_in_line_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    if path.name != "_above_mail.html":  # stands in a mail, which has its own policy
        assert not re.search(r"\sstyle=|<style|\son\w+=", text)
    # Data in the page (JSON-LD) is not run, and no policy is about it.
    assert not re.search(
        r'<script(?![^>]*\b(?:src=|type="application/ld\+json"))', text
    )
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


@pytest.mark.parametrize("name", ["tokens.css", "public.css"])
def test_stylesheets_fetch_nothing_from_elsewhere(name: str) -> None:
    text = (STATIC / name).read_text()
    assert "@import" not in text
    for target in re.findall(r"url\(\"?([^)\"]+)", text):
        assert (STATIC / target).is_file()


def test_styles_use_only_properties_that_exist() -> None:
    known = set(re.findall(r"--([\w-]+):", TOKENS))
    for name in ("tokens.css", "public.css"):
        used = set(re.findall(r"var\(--([\w-]+)", (STATIC / name).read_text()))
        assert used <= known


def test_the_typeface_has_its_licence_beside_it() -> None:
    assert "SIL OPEN FONT LICENSE" in (STATIC / "fonts" / "OFL.txt").read_text()
