"""Colours: WCAG contrast, and a newsletter's accent made readable by day and by night.

Pure. Colours are written #rrggbb.
"""

import colorsys
from dataclasses import dataclass

AA_TEXT = 4.5  # WCAG 2.2, 1.4.3
DARK_TEXT = 7.0  # more at night: a saturated colour glares at the bare minimum
PAPER = "#ffffff"
INK = "#1d1b18"
# The ground of each mode that is hardest to read upon.
LIGHT_GROUND = "#f3efe8"
DARK_GROUND = "#242220"
STEPS = 100


@dataclass(frozen=True, slots=True)
class Accent:
    """One colour as text and as the ground of a button, in both modes."""

    light: str
    on_light: str
    dark: str
    on_dark: str


def accent(colour: str) -> Accent:
    """Work out a newsletter's colour: the nearest that reads well in each mode."""
    light = readable(colour, LIGHT_GROUND)
    dark = readable(colour, DARK_GROUND, DARK_TEXT)
    return Accent(light, ink_on(light), dark, ink_on(dark))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, from 0 to 1 (WCAG 2.2)."""
    red, green, blue = (_linear(channel) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def readable(colour: str, ground: str, ratio: float = AA_TEXT) -> str:
    """Return `colour`, moved in lightness no further than `ratio` on `ground` asks."""
    if contrast(colour, ground) >= ratio:
        return colour.lower()
    hue, lightness, saturation = colorsys.rgb_to_hls(*_channels(colour))
    goal = 1.0 if luminance(ground) < 0.18 else 0.0
    for step in range(1, STEPS + 1):
        moved = lightness + (goal - lightness) * step / STEPS
        found = _written(colorsys.hls_to_rgb(hue, moved, saturation))
        if contrast(found, ground) >= ratio:
            return found
    return PAPER if goal else "#000000"


def ink_on(ground: str) -> str:
    """Return white or ink, whichever reads better on `ground`."""
    return max((PAPER, INK), key=lambda colour: contrast(colour, ground))


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _linear(channel: float) -> float:
    if channel <= 0.04045:
        return channel / 12.92
    return float(((channel + 0.055) / 1.055) ** 2.4)


def _written(channels: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)
