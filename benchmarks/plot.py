"""Line charts as plain SVG, to be read on white and on black. Pure."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 66, 56
APART = 16  # of names at the ends of lines
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DARK = ("#56b4e9", "#ff8c42", "#2fd6a3", "#e8a2c8", "#f0c14b", "#9ad5ff")
Points = Sequence[tuple[float, float]]


def chart(
    title: str,
    across: str,
    up: str,
    series: Mapping[str, Points],
    *,
    log_across: bool = False,
) -> str:
    """Draw lines; the vertical scale is logarithmic."""
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points if y > 0]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high += high == low

    def place_x(x: float) -> float:
        first, last = (
            (math.log(xs[0]), math.log(xs[-1])) if log_across else (xs[0], xs[-1])
        )
        here = math.log(x) if log_across else x
        span = (last - first) or 1
        return round(LEFT + (here - first) / span * (WIDTH - LEFT - RIGHT), 1)

    def place_y(y: float) -> float:
        part = (math.log10(y) - low) / (high - low)
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    body = [f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>']
    body += [
        _grid(place_y(10.0**power), f"{10**power:,}") for power in range(low, high + 1)
    ]
    body += [_tick(place_x(x), f"{x:g}") for x in xs]
    body += [_axes(across, up)]
    lines = [
        [(place_x(x), place_y(y)) for x, y in points if y > 0]
        for points in series.values()
    ]
    names = _apart([places[-1][1] for places in lines])
    for number, (name, places) in enumerate(zip(series, lines, strict=True)):
        body.append(_line(number, name, places, names[number]))
    return _document(title, body)


def _document(title: str, body: Sequence[str]) -> str:
    light = "".join(_colour(n, colour) for n, colour in enumerate(COLOURS))
    dark = "".join(_colour(n, colour) for n, colour in enumerate(DARK))
    style = (
        "text{font:13px system-ui,sans-serif;fill:#24292f}"
        ".title{font-size:15px;font-weight:600}"
        ".end{text-anchor:end}.mid{text-anchor:middle}"
        ".grid{stroke:#d0d7de;stroke-width:1}"
        "polyline{fill:none;stroke-width:2.5;stroke-linejoin:round}"
        f".back{{fill:#fff}}{light}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}"
        f".grid{{stroke:#30363d}}{dark}}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' role="img" aria-label="{escape(title)}"><style>{style}</style>\n'
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _colour(number: int, colour: str) -> str:
    return (
        f".s{number} polyline{{stroke:{colour}}}"
        f".s{number} circle,.s{number} text{{fill:{colour}}}"
    )


def _grid(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text class="end" x="{LEFT - 8}" y="{y + 4}">{label}</text>'
    )


def _tick(x: float, label: str) -> str:
    return f'<text class="mid" x="{x}" y="{HEIGHT - BOTTOM + 20}">{label}</text>'


def _axes(across: str, up: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<text class="mid" x="{middle}" y="{HEIGHT - 12}">{escape(across)}</text>'
        f'<text x="{LEFT - 62}" y="46">{escape(up)}</text>'
    )


def _apart(ys: Sequence[float]) -> list[float]:
    """Move heights so far down that what is written there does not overlap."""
    moved = list(ys)
    ranked = sorted(range(len(ys)), key=lambda number: ys[number])
    for above, below in pairwise(ranked):
        moved[below] = max(moved[below], moved[above] + APART)
    over = max(moved, default=0) - (HEIGHT - BOTTOM)
    return [y - max(0, over) for y in moved]


def _line(number: int, name: str, places: Points, name_y: float) -> str:
    """Draw one line with its name at its end."""
    path = " ".join(f"{a},{b}" for a, b in places)
    dots = "".join(f'<circle cx="{a}" cy="{b}" r="3.5"/>' for a, b in places)
    return (
        f'<g class="s{number % len(COLOURS)}"><polyline points="{path}"/>{dots}'
        f'<text x="{places[-1][0] + 10}" y="{name_y + 4}">{escape(name)}</text></g>'
    )
