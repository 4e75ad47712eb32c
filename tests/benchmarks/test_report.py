"""Tables, goals and plots say what was measured."""

import json
from xml.etree import ElementTree

import pytest

from benchmarks import crash, plot, report
from benchmarks.contenders import Run
from benchmarks.report import Goal, Section, Spread
from benchmarks.send import cost_ratios, goals, ratios
from benchmarks.sinks import Record
from newsletter.mail.ledger import Counts


def test_a_table_has_its_columns_below_each_other() -> None:
    assert report.table(("who", "rate"), [["åsa", "1,000"], ["b", "9"]]) == (
        "who   rate\n───  ─────\nåsa  1,000\nb        9"
    )
    assert report.table(("who", "rate"), []) == "who  rate\n───  ────"


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in 2 columns"):
        report.table(("a", "b"), [["x"]])


def test_a_table_for_a_document() -> None:
    assert report.markdown(("", "n"), [["a|b", "1"]]) == (
        "|  | n |\n|---|---:|\n| a\\|b | 1 |"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (12_345.6, "12,346"),
        (99.94, "99.9"),
        (1.126, "1.13"),
        (0.0614, "0.061"),
        (0, "0"),
    ],
)
def test_figures_have_the_digits_that_mean_something(value: float, words: str) -> None:
    assert report.figure(value) == words


def test_the_middle_counts_and_the_outermost_are_shown() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert spread.show(report.figure) == "2.00 (1.00–3.00)"
    assert Spread.of([2.0]).show(report.figure) == "2.00"


def test_goals_are_reached_or_fall_short() -> None:
    reached = Spread.of([1.0])
    assert Goal("a", reached, at_least=1.0).ok
    assert not Goal("a", reached, at_least=1.05).ok
    assert Goal("a", reached, at_most=1.0).ok
    assert not Goal("a", reached, at_most=0.9).ok
    short = Goal("a", reached, at_least=1.05)
    assert short.cells() == ["a", "at least 1.05 ×", "1.00 ×", "short"]


def test_ratios_are_taken_inside_a_round() -> None:
    def run(rate: float, cpu: float) -> Run:
        return Run(messages=100, seconds=100 / rate, cpu=cpu)

    runs = {
        ("smtp-sink", "inkorg-sqlite"): [run(200, 1), run(30, 1), run(90, 2)],
        ("smtp-sink", "smtp-source"): [run(100, 2), run(10, 4), run(90, 2)],
    }
    found = ratios(runs, "smtp-sink", "inkorg-sqlite", "smtp-source")
    assert found and [found.low, found.middle, found.high] == pytest.approx([1, 2, 3])
    cost = cost_ratios(runs, "smtp-sink", "inkorg-sqlite", "smtp-source")
    assert cost and [cost.low, cost.middle, cost.high] == pytest.approx([0.25, 0.5, 1])
    assert ratios(runs, "csink", "inkorg-sqlite", "smtp-source") is None
    (goal,) = goals(runs)
    assert goal.ok and goal.at_least == 1.05


def test_a_section_is_printed_written_and_kept() -> None:
    section = Section("send", "Sending", ("", "rate"), [["Inkorg", "9"]])
    section.goals = [Goal("fast", Spread.of([2.0]), at_least=1)]
    section.notes = ["Only a test."]
    section.plots, section.captions = {"a.svg": "<svg/>"}, {"a.svg": "A plot"}
    assert "Inkorg     9" in report.on_terminal(section)
    assert "· Only a test." in report.on_terminal(section)
    assert "![A plot](pictures/a.svg)" in report.in_document(section, "pictures")
    kept = json.loads(json.dumps(section.as_json()))
    assert kept["goals"][0]["ok"] is True
    assert kept["table"] == [{"": "Inkorg", "rate": "9"}]


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "before\n<b>\nold\n<e>\nafter\n"
    assert report.replace_between(text, "<b>", "<e>", "new") == (
        "before\n<b>\n\nnew\n\n<e>\nafter\n"
    )
    with pytest.raises(ValueError, match="once"):
        report.replace_between("nothing", "<b>", "<e>", "new")


def test_a_plot_is_well_formed_and_names_its_lines() -> None:
    lines = {
        "Inkorg & co": [(1, 30.0), (10, 300.0)],
        "other": [(1, 29.0), (10, 80.0), (50, 0.0)],
    }
    for log_across in (False, True):
        drawn = plot.chart("Rate", "connections", "n/s", lines, log_across=log_across)
        root = ElementTree.fromstring(drawn)
        words = [node.text for node in root.iter() if node.text]
        assert {"Inkorg & co", "other", "connections", "100"} <= set(words)
        assert "prefers-color-scheme:dark" in drawn
    assert plot.chart("One", "x", "y", {"a": [(0, 100.0)]})


def test_repeats_are_told_from_losses_and_laid_to_the_kill_that_made_them() -> None:
    seen = [
        Record(10, "a@b.example", "<1>"),
        Record(11, "c@d.example", "<2>"),
        Record(30, "a@b.example", "<1>"),
        Record(50, "c@d.example", "<9>"),
    ]
    found = crash.look(
        {"a@b.example", "c@d.example", "e@f.example"},
        {"a@b.example"},
        seen,
        [20, 40],
        Counts(sent=2),
    )
    assert (found.lost, found.renamed, found.unlisted) == (1, 1, 1)
    assert found.repeats == [2, 0, 0]
