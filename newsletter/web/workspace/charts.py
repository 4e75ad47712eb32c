"""A line over time, drawn on the server as SVG; its figures stand beside as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from newsletter.subscribers.directory import Growth

WIDTH, HEIGHT, TOP = 300, 100, 12


@dataclass(frozen=True, slots=True)
class Line:
    """A series of totals and its path; `area` goes down to the ground."""

    totals: list[tuple[Any, int]]  # a day, or whatever they stand at
    path: str
    area: str

    @property
    def first(self) -> tuple[Any, int]:
        """Return where it begins."""
        return self.totals[0]

    @property
    def last(self) -> tuple[Any, int]:
        """Return where it ends."""
        return self.totals[-1]


def readers_over_time(growth: Sequence[Growth], now: int) -> Line | None:
    """Draw how many readers there were at the end of each day or month.

    Counted backwards from how many there are `now`. None if there is nothing to see.
    """
    totals: list[tuple[date, int]] = []
    count = now
    for step in reversed(growth):
        totals.append((step.since, max(0, count)))
        count -= step.net
    totals.reverse()
    if len(totals) < 2 or not any(step.joined or step.left for step in growth):
        return None
    return line(totals)


def line(totals: Sequence[tuple[Any, int]]) -> Line | None:
    """Draw some totals in their order. None if there are fewer than two."""
    if len(totals) < 2:
        return None
    path = _path([total for _, total in totals])
    return Line(list(totals), path, f"{path} V{HEIGHT} H0 Z")


def _path(values: Sequence[int]) -> str:
    most, least = max(values), min(values)
    # From zero where that still shows the shape: a small change must not look large.
    steep = least < most / 2 or least == most  # what never changes is no zero
    floor = 0 if steep else least - (most - least) * 2
    span = max(most - max(floor, 0), 1)
    points = [
        (
            round(WIDTH * place / (len(values) - 1), 1),
            round(HEIGHT - (HEIGHT - TOP) * (value - max(floor, 0)) / span, 1),
        )
        for place, value in enumerate(values)
    ]
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
