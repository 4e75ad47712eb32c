"""Colours read well whatever accent a newsletter chooses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsletter.colours import (
    AA_TEXT,
    DARK_GROUND,
    LIGHT_GROUND,
    accent,
    contrast,
    readable,
)

hex_colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#ffffff", "#ffffff") == pytest.approx(1)


@given(hex_colours)
def test_every_accent_reads_on_every_ground(colour: str) -> None:
    found = accent(colour)
    for ground in ("#ffffff", "#fbfaf7", LIGHT_GROUND):
        assert contrast(found.light, ground) >= AA_TEXT
    for ground in ("#151412", "#1e1c19", DARK_GROUND):
        assert contrast(found.dark, ground) >= AA_TEXT
    assert contrast(found.light, found.on_light) >= AA_TEXT
    assert contrast(found.dark, found.on_dark) >= AA_TEXT


def test_a_colour_that_reads_well_stays_as_it_is() -> None:
    assert readable("#8b2e24", LIGHT_GROUND) == "#8b2e24"


def test_falun_red_keeps_its_hue_in_the_dark() -> None:
    red, green, blue = (int(accent("#8b2e24").dark[i : i + 2], 16) for i in (1, 3, 5))
    assert red > green > blue
