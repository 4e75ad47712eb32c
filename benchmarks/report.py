"""What was measured, as a table on the terminal, as Markdown and as JSON. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Some measurements of one thing: the middle one and the outermost."""

    middle: float
    low: float
    high: float
    times: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Gather measurements."""
        return cls(median(values), min(values), max(values), len(values))

    def show(self, how: Callable[[float], str]) -> str:
        """Return the middle, and the outermost in brackets if there are several."""
        if self.times == 1:
            return how(self.middle)
        return f"{how(self.middle)} ({how(self.low)}–{how(self.high)})"


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached, and what was."""

    what: str
    reached: Spread
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "×"

    @property
    def ok(self) -> bool:
        """Tell whether it was reached."""
        if self.at_least is not None and self.reached.middle < self.at_least:
            return False
        return self.at_most is None or self.reached.middle <= self.at_most

    @property
    def wanted(self) -> str:
        """Say what was to be reached."""
        bound = "at least" if self.at_least is not None else "at most"
        number = self.at_most if self.at_least is None else self.at_least
        return f"{bound} {number:g} {self.unit}"

    def cells(self) -> list[str]:
        """Return its row of a table."""
        reached = f"{self.reached.show(figure)} {self.unit}"
        return [self.what, self.wanted, reached, "ok" if self.ok else "short"]


GOAL_COLUMNS = ("What", "Goal", "Reached (min–max)", "")


@dataclass(slots=True)
class Section:
    """One part of the suite: its table, its goals, and what is to be known of them."""

    name: str
    title: str
    columns: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was left out, what limits it
    data: dict[str, Any] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)  # file name: SVG
    captions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    broken: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what a program would want to read."""
        return {
            "title": self.title,
            "seconds": round(self.seconds, 1),
            "goals": [
                {**asdict(goal), "ok": goal.ok, "wanted": goal.wanted}
                for goal in self.goals
            ],
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "notes": self.notes,
            "data": self.data,
        }


def figure(value: float) -> str:
    """Write a number with as many digits as mean something."""
    if abs(value) >= 100 or not value:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: the first column to the left, the rest right."""
    widths = _widths(columns, rows)
    lines = [_line(columns, widths), "  ".join("─" * width for width in widths)]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the same for a document."""
    head = ["| " + " | ".join(columns) + " |"]
    head.append("|---|" + "---:|" * (len(columns) - 1))
    body = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(head + body)


def on_terminal(section: Section) -> str:
    """Return a section as it is printed."""
    lines = [f"\n{section.title}", "═" * len(section.title)]
    if section.rows:
        lines.append(table(section.columns, section.rows))
    if section.goals:
        lines += ["", table(GOAL_COLUMNS, [goal.cells() for goal in section.goals])]
    lines += [f"· {note}" for note in section.notes]
    return "\n".join(lines)


def in_document(section: Section, pictures: str) -> str:
    """Return a section as it stands in docs/performance.md."""
    blocks = [f"### {section.title}"]
    if section.rows:
        blocks.append(markdown(section.columns, section.rows))
    blocks += [
        f"![{section.captions[name]}]({pictures}/{name})" for name in section.plots
    ]
    if section.notes:
        blocks.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(blocks)


def replace_between(text: str, begin: str, end: str, new: str) -> str:
    """Return a text with what stands between two markers replaced."""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{begin} and {end} must each be there once")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{new}\n\n{end}{tail}"


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells in {len(columns)} columns")
    return [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    first, *rest = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(pairs)
    )
    return "  ".join([first, *rest]).rstrip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
