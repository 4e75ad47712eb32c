"""The preflight: what it finds in a mail, what stops one, and what a yes holds for."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import editors, i18n, jobs
from newsletter.config import Relay, Settings
from newsletter.db import Database
from newsletter.digests import compose, design, drafts, publish, samples
from newsletter.digests.design import Draft
from newsletter.digests.preflight import audience, content, features, report
from newsletter.digests.preflight.findings import Finding, Level, mark
from newsletter.digests.preflight.page import Page
from newsletter.errors import ThemeError
from newsletter.models import (
    Delivery,
    Issue,
    IssueState,
    Kind,
    Message,
    Newsletter,
    Role,
)
from tests.factories import NOW, make_newsletter, make_post, make_subscription

SV = i18n.language("sv")
NO_WAY_OUT = """\
<mjml lang="{{ lang }}"><mj-body><mj-section><mj-column><mj-text>
<h1>{{ title }}</h1><p>{{ sender_line }}</p>
</mj-text></mj-column></mj-section></mj-body></mjml>
"""


@pytest.fixture(scope="module")
def mail() -> content.Mail:
    """A mail with which all is well; belongs to no database."""
    settings = Settings(
        secret_keys=("x" * 32,),
        database_url="sqlite://",
        base_url="http://localhost",
        relay=Relay("127.0.0.1", 25),
        instance_dir=Path(),
    )
    newsletter = Newsletter(
        id=1,
        slug="labbet",
        title="Labbet",
        language="sv",
        timezone="Europe/Stockholm",
        from_name="Labbet",
        from_email="labbet@allmannyttan.example",
        reply_to="",
        contact_email="",
        publisher="Sveriges Allmännytta",
        postal_address="Box 474\n101 29 Stockholm",
        accent="#8b2e24",
        public_archive=True,
        at_most=0,
    )
    issue = samples.issue(settings, newsletter, SV, 3, now=NOW)
    issue.newsletter = newsletter
    letter = compose.compose(settings, issue, newsletter, issue.posts, SV)
    return report.read(issue, letter)


def found(mail: content.Mail) -> dict[str, Finding]:
    """Return what is not in order, by its code."""
    findings = list(content.check(mail))
    for finding in findings:  # each can be said in Swedish
        assert "%" not in finding.sentence(SV) + finding.what_to_do(SV)
        assert Finding.read(finding.kept()) == finding
    return {f.code: f for f in findings if f.level is not Level.PASSED}


def subject(mail: content.Mail, text: str) -> content.Mail:
    letter = replace(mail.letter, subject=text)
    return replace(mail, letter=letter, own={"subject": text}, made_subject=False)


def html(mail: content.Mail, text: str) -> content.Mail:
    """Put something at the beginning of the body."""
    changed = mail.letter.html.replace("</head>", f"</head>{text}", 1)
    assert changed != mail.letter.html
    return replace(mail, letter=replace(mail.letter, html=changed), page=Page(changed))


def test_a_good_mail_passes_everything(mail: content.Mail) -> None:
    assert found(mail) == {}
    codes = {finding.code for finding in content.check(mail)}
    assert codes == {
        *("subject", "placeholder", "unsubscribe", "address", "size"),
        *("pictures.alt", "contrast", "features"),
    }


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Fyra nya inlägg från SABO och HSB", set()),
        ("Provbo i Göteborg? Ja!", set()),
        ("NYTT BREV FRÅN LABBET", {"subject.shouts"}),
        ("Kom på fest!!", {"subject.shouts"}),
        ("Vad?! Redan?", {"subject.shouts"}),
        ("Test", {"subject.trial"}),
        ("Det här är ett test 2", {"subject.trial"}),
        ("a test!", {"subject.trial"}),
        ("Testamente och arv", set()),
        ("Ett " + "mycket " * 12 + "långt ämne", {"subject.long"}),
        ("Hej {{ förnamn }}", {"placeholder.tag.subject"}),
        ("Hej *|FNAME|*", {"placeholder.tag.subject"}),
        ("100 %% rabatt på %d saker", set()),
        ("[Rubrik] om bostäder", {"placeholder.unfinished.subject"}),
        ("[Rubriken](https://blogg.example)", set()),
        ("Todo sobre el alquiler", set()),
        ("TODO om hyran", {"placeholder.unfinished.subject"}),
        ("Lorem ipsum dolor", {"placeholder.dummy.subject"}),
        ("Insert headline here", {"placeholder.unfinished.subject"}),
    ],
)
def test_subjects(mail: content.Mail, text: str, codes: set[str]) -> None:
    assert set(found(subject(mail, text))) == codes


def test_what_an_editor_wrote_stops_and_what_a_blog_wrote_asks(
    mail: content.Mail,
) -> None:
    text = "Skriv {{ user.name }} i mallen. Lorem ipsum."
    ours = found(replace(mail, own={"opening": text}))
    theirs = found(replace(mail, posts=text))

    assert {f.level for f in ours.values()} == {Level.ERROR}
    assert {f.level for f in theirs.values()} == {Level.WARNING}
    assert theirs["placeholder.tag.posts"].where == ("{{ user.name }}",)
    assert "i inläggen" in theirs["placeholder.tag.posts"].sentence(SV)


def test_a_made_subject_may_be_long(mail: content.Mail) -> None:
    long = subject(mail, "Bostad " * 20)
    assert set(found(replace(long, made_subject=True))) == set()


def test_each_part_needs_a_way_out_and_the_address(mail: content.Mail) -> None:
    letter = replace(mail.letter, text="Hej.")
    texts = found(replace(mail, letter=letter))
    assert set(texts) == {"unsubscribe.text", "address"}
    assert texts["address"].where == ("text",)

    bare = "<html><body><p>Hej, Sveriges Allmännytta</p></body></html>"
    letter = replace(mail.letter, html=bare)
    both = found(replace(mail, letter=letter, page=Page(bare)))
    assert set(both) == {"unsubscribe.html", "address"}
    assert {f.level for f in both.values()} == {Level.ERROR}


def test_pictures_size_and_contrast(mail: content.Mail) -> None:
    large = found(html(mail, f"<p>{'å' * 20_000}</p>"))
    assert large["size"].level is Level.ERROR
    assert "kB" in large["size"].sentence(SV)

    silent = found(html(mail, '<img src="https://blogg.example/a.jpg" alt="">'))
    assert silent["pictures.alt"].where == ("https://blogg.example/a.jpg",)
    dropped = replace(mail, own={"opening": "Se: ![](https://blogg.example/b.png)"})
    assert found(dropped)["pictures.alt"].where == ("https://blogg.example/b.png",)

    faint = found(html(mail, '<p style="color:#999">Svagt</p>'))
    assert faint["contrast"].where == ("“Svagt” (2.8:1)",)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<p style="display:flex">x</p>', ["display: flex"]),
        ('<p style="position: static">x</p>', []),
        ('<p style="background:url(x.png)">x</p>', ["background: url()"]),
        ("<style>p{color:var(--i)} @media all{p{display:grid}}</style>", ["var()"]),
        ("<style>@import url(x.css); /* display:grid */</style>", ["@import"]),
        ('<svg></svg><img src="x.webp" alt="x">', ["<svg>", ".webp"]),
        ('<!--[if mso]><v:rect style="display:flex"/><![endif]-->', []),
        ('<img src="data:image/png;base64,AA" alt="x"><img src="http://[" alt="x">',
         ["data:"]),
    ],
)  # fmt: skip
def test_what_mail_programs_do_not_know(text: str, shown: list[str]) -> None:
    assert [use.shown for use in features.used(Page(text))] == shown


def test_a_mail_program_is_named(mail: content.Mail) -> None:
    where = found(html(mail, '<div style="display:flex"></div>'))["features"].where
    assert where == ("display: flex: Outlook for Windows",)


@pytest.mark.parametrize(
    ("readers", "before", "level"),
    [
        (412, 415, Level.PASSED),
        (412, None, Level.PASSED),
        (200, 412, Level.WARNING),
        (1_000_000, 400_000, Level.WARNING),
        (2, 12, Level.PASSED),
        (9, 9, Level.PASSED),
    ],
)
def test_the_audience_against_last_time(
    readers: int, before: int | None, level: Level
) -> None:
    assert audience.check(readers, before).level is level


def test_last_time_is_the_last_one_of_its_kind(
    session: Session, settings: Settings
) -> None:
    labbet = make_newsletter(session)
    for _ in range(3):
        make_subscription(session, labbet)
    make_post(session, labbet)
    first = drafts.draft(session, labbet, now=NOW)
    assert audience.last_time(session, first) is None
    publish.send(session, settings, first, now=NOW)
    make_post(session, labbet)
    second = drafts.draft(session, labbet, now=NOW)

    assert audience.last_time(session, second) == 3
    assert audience.against(SV, 2, 3) == "1 färre än förra gången"
    assert audience.against(SV, 3, 3) == "lika många som förra gången"
    second.rhythm = "each"
    assert audience.last_time(session, second) is None


def test_a_yes_holds_for_these_warnings_and_no_others() -> None:
    long = Finding("subject.long", Level.WARNING, "Long", values={"length": 120})
    loud = Finding("subject.shouts", Level.WARNING, "Loud", where=("HEJ",))
    fine = Finding("size", Level.PASSED, "Fine")
    wrong = Finding("address", Level.ERROR, "Wrong")

    report.refuse(report.Report([fine]), None)
    with pytest.raises(report.Unconfirmed):
        report.refuse(report.Report([long]), None)
    report.refuse(report.Report([long, fine]), mark([long]))
    with pytest.raises(report.Unconfirmed):
        report.refuse(report.Report([long, loud]), mark([long]))
    with pytest.raises(report.Blocked, match="Wrong"):
        report.refuse(report.Report([wrong, long]), mark([long]))


def test_no_clock_sends_a_mail_without_a_way_out(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "eget").mkdir()
    (tmp_path / "eget" / "digest.mjml").write_text(NO_WAY_OUT)
    here = replace(settings, themes_dir=tmp_path)
    with database.transaction() as session:
        labbet = make_newsletter(session)
        make_subscription(session, labbet)
        make_post(session, labbet)
        editors.invite(session, here, "eva@red.example", Role.EDITOR, labbet, now=NOW)
        design.save(session, labbet, Draft(theme="eget"), editor=None, now=NOW)
        issue = drafts.draft(session, labbet, now=NOW)
        publish.schedule(session, issue, NOW + timedelta(hours=1), now=NOW)
        assert issue.state is IssueState.SCHEDULED
        assert "unsubscribe.html" in {
            f.code for f in report.of(session, here, issue).errors
        }
    with pytest.raises(ThemeError), database.transaction() as session:
        publish.send(session, here, session.scalars(select(Issue)).one(), now=NOW)

    jobs.start_scheduled(database, here, NOW + timedelta(hours=1))

    with database.reading() as session:
        issue = session.scalars(select(Issue)).one()
        assert issue.state is IssueState.HELD
        assert "leave_url" in issue.held_reason
        told = session.scalars(
            select(Delivery.address)
            .join(Message, Message.id == Delivery.message_id)
            .where(Message.kind == Kind.NOTICE)
        ).all()
        assert told == ["eva@red.example"]
        assert (
            session.scalar(select(Message.id).where(Message.kind == Kind.DIGEST))
            is None
        )
