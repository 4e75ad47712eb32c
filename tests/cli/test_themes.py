"""Themes of one's own: checked before anybody gets them, never in an issue's way."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import select

from newsletter.cli import doctor
from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database
from newsletter.digests import design, drafts, publish
from newsletter.digests.design import Draft
from newsletter.digests.look import Look
from newsletter.errors import ThemeError
from newsletter.models import Issue, IssueState, Message, Newsletter, Role
from newsletter.web.security import SETTINGS
from tests.conftest import SECRET
from tests.factories import NOW, make_newsletter, make_post, make_subscription
from tests.web.at_work import as_editor

Run = Callable[..., Result]
GOOD = """\
{% extends "themes/calm/digest.mjml" %}
{% block masthead %}
<mj-text>{{ mail.logo_of() }}<h1>{{ title }}</h1></mj-text>
{% endblock %}
"""
BAD = """\
<mjml>
  <mj-body background-color="#ffffff">
    <mj-section><mj-column>
      <mj-text color="#999">
        <h2>{{ title }}</h2>
        {% for entry in entries %}<img src="{{ entry.image_url }}" />{{ entry.title }}
        {% endfor %}<a href="{{ leave_url }}">x</a><mj-nope />
      </mj-text>
    </mj-column></mj-section>
  </mj-body>
</mjml>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "themes" / "eget"
    made.mkdir(parents=True)
    (made / "digest.mjml").write_text(GOOD)
    return made


@pytest.fixture
def run(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEWSLETTER_SECRET_KEYS", SECRET)
    monkeypatch.setenv("NEWSLETTER_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("NEWSLETTER_THEMES", str(folder.parent))

    def invoke(*args: object) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return invoke


@pytest.fixture
def dressed(database: Database) -> int:
    """An issue of a newsletter in the theme `eget`."""
    with database.transaction() as session:
        newsletter = make_newsletter(session)
        make_post(session, newsletter)
        make_subscription(session, newsletter)
        draft = Draft(theme="eget")
        design.save(session, newsletter, draft, editor=None, now=NOW)
        return drafts.draft(session, newsletter, now=NOW).id


def test_a_good_theme_passes_and_its_mails_can_be_looked_at(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    done = run("theme", "check", folder, "--out", tmp_path / "out")
    assert done.output == "✓ eget: 16 sample mails, nothing amiss.\n"
    assert done.exit_code == 0
    assert len(list((tmp_path / "out").glob("sv-*.html"))) == 8
    assert "Hej på er" in (tmp_path / "out" / "en-3-posts.txt").read_text()


def test_a_bad_theme_is_told_what_is_missing(run: Run, folder: Path) -> None:
    (folder / "digest.mjml").write_text(BAD)
    (folder / "digest.txt").write_text("{{ title }}\n{{ no_such_value }}\n")
    broken = run("theme", "check", folder)
    assert broken.exit_code == 1
    assert f"✗ {folder}/digest.txt, line 2: 'no_such_value' is undefined" in (
        broken.output
    )
    (folder / "digest.txt").write_text(
        "{% for e in entries %}{{ e.url }}\n{% endfor %}"
    )
    done = run("theme", "check", folder)
    assert done.exit_code == 1
    for words in (
        "digest.txt: the link to unsubscribe (leave_url) is missing",
        "digest.mjml: the link to preferences (preferences_url) is missing",
        "digest.mjml: the postal address (sender_line) is missing",
        "digest.mjml: a post is missing that the other part has",
        "digest.mjml: text in #999999 on #ffffff is hard to read (2.8:1)",
        "digest.mjml: a picture has no alternative text (alt)",
        "digest.mjml: 0 headings <h1> instead of one",
        "digest.mjml: no colours for dark mode",
        "digest.mjml: the logo is not shown",
        'digest.mjml: <mjml lang="{{ lang }}"> is missing',
        "digest.mjml: mail programs do not know <mj-nope>",
        "a reader's own links stand outside <!--personal-->",
    ):
        assert done.output.count(words) == 1, words


def test_what_is_dark_on_dark_is_found_though_it_reads_by_day(
    run: Run, folder: Path
) -> None:
    words = '<p style="color:#444">Hej</p><p class="dim" style="color:#5d574e">Då</p>'
    night = """{% block night %}.dim { color: #5d574e; }
      .foot .dim, h2 > .dim, .dim:hover { color: #000 !important; }
      .card > table td .dim { color: #555 !important; }{% endblock %}"""
    (folder / "digest.mjml").write_text(GOOD.replace("<h1>", f"{words}<h1>") + night)
    done = run("theme", "check", folder)
    assert done.exit_code == 1
    assert done.output.count("is hard to read") == 2
    for ink, ratio in (("#444444", 1.7), ("#555555", 2.3)):
        assert (
            f"text in {ink} on #1e1c19 is hard to read in dark mode ({ratio}:1)"
        ) in done.output


def test_a_folder_that_is_no_theme_is_refused_in_one_line(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "tomt").mkdir()
    done = run("theme", "check", tmp_path / "tomt")
    assert isinstance(done.exception, ThemeError)
    assert "needs the template digest.mjml" in str(done.exception)
    assert run("theme", "check", tmp_path / "nowhere").exit_code == 2


def test_themes_are_listed_with_who_uses_them(
    run: Run, dressed: int, folder: Path
) -> None:
    (folder / "theme.toml").write_text('title = "Vårt eget"\n')
    lines = run("theme", "list").output.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        *("calm", "headlines", "pictures", "eget"),
    ]
    assert lines[3] == f"eget\tVårt eget\t{folder}\tlabbet"
    (own,) = [r for r in json.loads(run("theme", "list", "--json").output) if r["own"]]
    assert own["newsletters"] == ["labbet"]


def test_a_broken_theme_is_refused_to_people_and_stops_no_clock(
    app: Flask, run: Run, database: Database, dressed: int, folder: Path
) -> None:
    (folder / "digest.mjml").write_text("{{ nothing }}")
    here = replace(app.extensions[SETTINGS], themes_dir=folder.parent)
    app.extensions[SETTINGS] = here
    findings = list(doctor.check_theme(here, Look("eget")))
    assert {finding.state for finding in findings} == {"wrong"}
    assert "line 1: 'nothing' is undefined" in findings[0].words

    told = "digest.mjml, rad 1: &#39;nothing&#39; is undefined"
    editor = as_editor(app, Role.OWNER)
    at = f"/editor/labbet/issues/{dressed}/"
    assert told in editor.get(f"{at}send").text
    assert told in editor.get(f"{at}preview").text
    refused = run("issue", "send", dressed)
    assert isinstance(refused.exception, ThemeError)

    with database.transaction() as session:
        issue = session.get_one(Issue, dressed)
        assert issue.state is IssueState.DRAFT
        publish.send(session, here, issue, now=NOW)
        sent = session.scalars(select(Message.html)).one()
        assert "En egen kväll för tjejer" in sent
        assert session.scalars(select(Newsletter)).one().last_design == 1
