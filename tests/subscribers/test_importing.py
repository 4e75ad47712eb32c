"""Files of other systems, of any shape: who is brought in, who is kept out, and why."""

import functools
import hmac
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_tests
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from newsletter import links
from newsletter.config import Settings
from newsletter.db import CHECKPOINT_AFTER
from newsletter.errors import InvalidInput
from newsletter.models import (
    Consent,
    Newsletter,
    Status,
    Subscriber,
    Subscription,
    Suppression,
)
from newsletter.posts import topics
from newsletter.subscribers import (
    bulk,
    columns,
    exporting,
    importing,
    leaving,
    sheets,
    suppression,
    uploads,
)
from newsletter.subscribers.addresses import address_hash, hasher, read_address
from newsletter.subscribers.columns import Layout
from newsletter.subscribers.consent import Origin
from newsletter.subscribers.importing import Importer, Lines, Report, Source
from tests.factories import NOW, make_newsletter, make_subscription

LATER = NOW + timedelta(days=1)


def run(
    session: Session,
    settings: Settings,
    newsletter: Newsletter,
    data: str | bytes,
    name: str = "readers.csv",
    *,
    at: datetime = NOW,
    size: int = 1000,
    fields: tuple[str, ...] = (),
) -> Report:
    """Import a file as a page or a command does, in batches."""
    raw = data if isinstance(data, bytes) else data.encode()
    report = Report()
    for sheet in sheets.read(io.BytesIO(raw), name):
        layout = columns.check(Layout(fields) if fields else sheet.layout)
        for batch in sheets.pieces(sheet, size):
            Importer(
                session,
                settings,
                newsletter,
                layout,
                status=Status.ACTIVE,
                source=Source("the old list", "Anna imported readers.csv"),
                at=at,
                now=at,
            ).run(batch, report)
    return report


def readers(session: Session) -> dict[str, Subscription]:
    found = session.scalars(
        select(Subscription).execution_options(populate_existing=True)
    )
    return {one.subscriber.email: one for one in found}


def stopped(session: Session, settings: Settings, email: str) -> Suppression | None:
    hashed = address_hash(settings, email)
    return session.scalar(select(Suppression).where(Suppression.address_hash == hashed))


# The headings as these systems write them; c@ never confirmed, d@ left, e@ bounced.
MAILCHIMP = (
    '"Email Address","First Name","Last Name",MEMBER_RATING,OPTIN_TIME,OPTIN_IP,'
    "CONFIRM_TIME,CONFIRM_IP,LATITUDE,LONGITUDE,GMTOFF,DSTOFF,TIMEZONE,CC,REGION,{}"
    "LAST_CHANGED,LEID,EUID,NOTES,TAGS\n"
    '{}@example.org,Åsa,Öberg,2,"2020-05-01 10:00:00",192.0.2.7,'
    '"2020-05-02 10:00:00",192.0.2.7,,,,,,,,{}"2021-01-01 00:00:00",1,2,,'
    '"""Klimat"",""VIP"""\n'
)


def mailchimp() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "subscribed_members_export_1.csv", MAILCHIMP.format("", "a", "")
        )
        archive.writestr(
            "unsubscribed_members_export_1.csv",
            MAILCHIMP.format(
                "UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_REASON,",
                "d",
                '"2022-03-04 05:06:07",X,N,',
            ),
        )
        archive.writestr(
            "cleaned_members_export_1.csv",
            MAILCHIMP.format(
                "CLEAN_TIME,CLEAN_CAMPAIGN_TITLE,", "e", '"2022-03-04 05:06:07",X,'
            ),
        )
        archive.writestr(
            "nonsubscribed_members_export_1.csv", MAILCHIMP.format("", "c", "")
        )
        archive.writestr("granular_activity/opens.csv", "Email,Opened\nx@example.org,1")
    return out.getvalue()


OTHERS = {
    "listmonk": "uuid,email,name,attributes,status,created_at,updated_at\n"
    '1,a@example.org,Åsa Öberg,"{""city"": ""Umeå""}",enabled,'
    "2020-05-01T10:00:00.5Z,2021-01-01T00:00:00Z\n"
    "2,d@example.org,D,{},blocklisted,2020-05-01T10:00:00Z,2021-01-01T00:00:00Z\n"
    "3,e@example.org,E,{},disabled,2020-05-01T10:00:00Z,2021-01-01T00:00:00Z\n",
    "Ghost": "id,email,name,note,subscribed_to_emails,complimentary_plan,"
    "stripe_customer_id,created_at,deleted_at,labels,tiers\n"
    "1,a@example.org,Åsa Öberg,,true,false,,2020-05-01T10:00:00.000Z,,"
    '"Klimat,VIP",\n'
    "2,d@example.org,D,,false,false,,2020-05-01T10:00:00.000Z,,,\n"
    "3,e@example.org,E,,false,false,,2020-05-01T10:00:00.000Z,,,\n",
    "Substack": "email,active_subscription,expiry,plan,email_disabled,created_at,"
    "first_payment_at\n"
    "a@example.org,false,,other,false,2020-05-01T10:00:00.000Z,\n"
    "d@example.org,true,2027-01-01T00:00:00.000Z,yearly,true,2020-05-01,\n"
    "e@example.org,false,,other,true,2020-05-01,\n",
    "Buttondown": "email,notes,metadata,tags,referrer_url,creation_date,source,"
    "subscriber_type,unsubscription_date\n"
    'a@example.org,,{},"Klimat, VIP",,2020-05-01T10:00:00+00:00,embed,regular,\n'
    "c@example.org,,{},,,2020-05-01T10:00:00+00:00,embed,unactivated,\n"
    "d@example.org,,{},,,2020-05-01T10:00:00+00:00,embed,unsubscribed,2022-03-04\n"
    "e@example.org,,{},,,2020-05-01T10:00:00+00:00,embed,undeliverable,\n",
    "MailPoet": 'Email,"First name","Last name","List status","Global status",'
    '"IP address",List,"Subscribed on"\n'
    "a@example.org,Åsa,Öberg,subscribed,subscribed,192.0.2.7,Blogg,"
    '"2020-05-01 10:00:00"\n'
    "c@example.org,,,Unconfirmed,Subscribed,,Blogg,\n"
    "d@example.org,,,subscribed,unsubscribed,,Blogg,\n"
    "e@example.org,,,Subscribed,Bounced,,Blogg,\n",
}


@pytest.mark.parametrize("system", ["Mailchimp", *OTHERS])
def test_the_files_of_other_systems_keep_consents_and_those_who_left(
    session: Session, settings: Settings, system: str
) -> None:
    newsletter = make_newsletter(session)
    klimat = topics.create(session, newsletter, "Klimat")
    data = mailchimp() if system == "Mailchimp" else OTHERS[system].encode()
    found = [s.layout.system for s in sheets.read(io.BytesIO(data), "export.csv")]
    assert set(found) == {system}
    report = run(session, settings, newsletter, data)
    never_confirmed = 1 if system in {"Mailchimp", "Buttondown", "MailPoet"} else 0
    assert report.counts == {
        "added": 1,
        "stopped": 2,
        **({"refused": 1} if never_confirmed else {}),
    }
    assert list(readers(session)) == ["a@example.org"]
    reader = readers(session)["a@example.org"]
    assert reader.status == Status.ACTIVE
    assert reader.subscriber.name == ("" if system == "Substack" else "Åsa Öberg") or (
        system == "Buttondown"
    )
    since = datetime(2020, 5, 1, 10, tzinfo=UTC)
    assert reader.requested_at
    assert reader.requested_at.replace(microsecond=0) == since
    assert reader.confirmed_at
    assert reader.confirmed_at.date().isoformat() in {"2020-05-01", "2020-05-02"}
    step = session.scalars(select(Consent)).one()
    assert (step.event, step.at, step.page) == ("imported", NOW, "import")
    assert step.detail["source"] == "the old list"
    assert step.detail["requested_at"].startswith("2020-05-01T10:00:00")
    assert step.network == (
        "192.0.2.0/24" if system in {"Mailchimp", "MailPoet"} else ""
    )
    if session.get_bind().dialect.name == "sqlite":  # as the unit of work writes them
        for column in ("requested_at", "confirmed_at", "created_at"):
            wrote = session.scalars(text(f"SELECT {column} FROM subscription")).one()
            assert len(wrote) == len("2020-05-01 10:00:00.000000"), column
    has_topics = system in {"Mailchimp", "Ghost", "Buttondown"}
    assert reader.all_topics is not has_topics
    chosen = session.execute(text("SELECT topic_id FROM subscription_topic"))
    assert chosen.scalars().all() == ([klimat.id] if has_topics else [])
    for email in ("d@example.org", "e@example.org"):
        assert stopped(session, settings, email)
    left = stopped(session, settings, "d@example.org")
    assert left
    assert left.note == "the old list"
    if system in {"Mailchimp", "Buttondown"}:
        assert left.reason == suppression.LEFT
        assert left.created_at.date().isoformat() == "2022-03-04"
        bounced = stopped(session, settings, "e@example.org")
        assert bounced
        assert bounced.reason == suppression.BOUNCED
    # The second time changes nothing.
    again = run(session, settings, newsletter, data, at=LATER)
    assert (again.counts["added"], again.counts["already"]) == (0, 1)
    assert len(session.scalars(select(Suppression)).all()) == 2
    # And nobody who left there comes in by another file.
    rest = run(session, settings, newsletter, "email\nd@example.org\n", at=LATER)
    assert rest.counts == {"added": 0, "suppressed": 1}


def test_who_is_here_is_never_weakened_and_a_later_no_wins(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    run(session, settings, newsletter, "email,name\na@example.org,A\nb@example.org,B\n")
    here = readers(session)
    leaving.end(session, here["b@example.org"], origin=Origin(), how="page", now=NOW)
    report = run(
        session,
        settings,
        newsletter,
        # a: a no without a date is older than their yes; b left, a yes changes nothing
        "email,name,status,left_at\n"
        "a@example.org,X,unsubscribed,2020-01-01\n"
        "b@example.org,X,subscribed,\n"
        "c@example.org,,subscribed,\n"
        "C@Example.org,,subscribed,\n"
        "d@example.org,,gone fishing,\n"
        "e@example.org,,subscribed,\n",
        at=LATER,
        size=2,
    )
    assert report.counts == {
        "added": 2,
        "already": 1,
        "left": 1,
        "duplicate": 1,
        "refused": 1,
    }
    assert [(one.line, one.outcome) for one in report.problems] == [
        (2, "already"),
        (3, "left"),
        (5, "duplicate"),
        (6, "refused"),
    ]
    here = readers(session)
    assert here["a@example.org"].status == Status.ACTIVE
    assert here["a@example.org"].subscriber.name == "A"
    assert here["b@example.org"].status == Status.LEFT
    # A no that is later than their yes ends it, and one in the same file does too.
    last = LATER + timedelta(days=2)
    report = run(
        session,
        settings,
        newsletter,
        f"email,status,left_at\na@example.org,spam complaint,{last.isoformat()}\n"
        "f@example.org,subscribed,\ng@example.org,,\nf@example.org,unsubscribed,\n"
        "h@example.org,subscribed,\nh@example.org,unsubscribed,\n",
        at=last,
        size=2,
    )
    here = readers(session)
    assert here["a@example.org"].status == Status.LEFT
    assert here["f@example.org"].status == Status.LEFT
    assert "h@example.org" not in here
    complaint = stopped(session, settings, "a@example.org")
    assert complaint
    assert complaint.reason == suppression.COMPLAINED
    assert report.counts["stopped"] == 3


def test_a_hash_finds_who_came_in_whichever_wave(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    first = make_subscription(session, newsletter, "before@example.org").subscriber
    assert first.wave == 0
    session.add(
        Subscriber(
            id=3 * importing.WAVE,
            email="last@example.org",
            email_key="last@example.org",
            address_hash=address_hash(settings, "last@example.org"),
            created_at=NOW,
        )
    )
    if session.get_bind().dialect.name == "postgresql":
        session.flush()
        session.execute(text("SELECT setval('subscriber_id_seq', 1000000)"))
    run(session, settings, newsletter, "email\nanna@example.org\n")
    anna = readers(session)["anna@example.org"]
    assert anna.subscriber.wave >= 3
    for one in (first, anna.subscriber):
        suppression.suppress(
            session, one.address_hash, reason=suppression.BOUNCED, now=LATER
        )
    assert {one.status for one in readers(session).values()} == {Status.SUPPRESSED}
    told = list(exporting.suppression_rows(session, newsletter))[1:]
    assert {row[1] for row in told} == {"before@example.org", "anna@example.org"}


def test_columns_are_what_a_person_says_they_are(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    data = "Kontakt;Vem;Ja?\nasa@example.org;Åsa;ja\nbo@example.org;Bo;nej\n"
    with pytest.raises(InvalidInput):
        run(session, settings, newsletter, data)
    for fields in (("email", "email", ""), ("email", "shoe", ""), ("", "name", "")):
        with pytest.raises(InvalidInput):
            run(session, settings, newsletter, data, fields=fields)
    fields = ("email", "name", "wants")
    report = run(session, settings, newsletter, data, fields=fields)
    assert report.counts == {"added": 1, "stopped": 1}
    assert readers(session)["asa@example.org"].subscriber.name == "Åsa"
    # A file without a heading: its first line is a reader, too.
    report = run(session, settings, newsletter, "eva@example.org\n\ngun@example.org\n")
    assert report.counts["added"] == 2


def test_files_that_no_program_should_read_are_refused() -> None:
    def readers_of(data: bytes) -> int:
        return sum(
            1 for sheet in sheets.read(io.BytesIO(data), "x") for _ in sheet.records
        )

    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("posts.csv", "title\nx\n")
    for data in (
        b"email\n" + b"x" * (sheets.MAX_LINE_CHARACTERS + 1),
        b",".join([b"x"] * (sheets.MAX_COLUMNS + 1)),
        b"PK\x03\x04 and then nothing",
        empty.getvalue(),
        b"\x00\x01\x02\x03",
    ):
        with pytest.raises(InvalidInput):
            readers_of(data)
    assert readers_of("email\r\n\r\na@example.org\r\n".encode("utf-16-le")) == 1
    assert readers_of(b'sep=;\nemail;name\na@example.org;"two\nlines"\n') == 1


def test_addresses_come_by_their_order_and_none_is_lost() -> None:
    many = sheets.BATCH_RECORDS * (sheets.WINDOW_BATCHES + 1) + 3
    lines = [f"{n * 7919 % many:06}@example.org,{n}" for n in range(many)]
    lines[-1] = " 000007@EXAMPLE.org,again"
    data = "\n".join(["email,name", *lines, f"ö,{'x' * sheets.MAX_LINE_CHARACTERS}"])
    found: list[sheets.Record] = []
    with pytest.raises(InvalidInput):  # what stands before a broken line is read
        for sheet in sheets.read(io.BytesIO(data.encode()), "x"):
            for piece in sheets.pieces(sheet, size=1):
                found += piece
    assert sorted(found) == [(n + 2, line.split(",")) for n, line in enumerate(lines)]
    first, end = sheets.BATCH_RECORDS, sheets.BATCH_RECORDS * 16
    assert [n for n, _cells in found[:first]] == list(range(2, first + 2))
    emails = [cells[0] for _n, cells in found]
    assert emails[first:end] == sorted(emails[first:end])
    assert emails[end:] == sorted(emails[end:], key=lambda one: one.strip())


def test_what_was_read_ahead_counts_only_as_long_as_it_fits(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    layout, source = Layout(("email",)), Source("the fair")
    lines = Lines(session, settings, newsletter, layout, Status.ACTIVE, NOW)
    looked = lines.look([(2, ["anna@example.org"]), (3, ["no address"])])
    newsletter.default_rhythm = "monthly"  # an editor's press, meanwhile
    session.flush()
    report = Report()
    Importer(
        session,
        settings,
        newsletter,
        layout,
        status=Status.ACTIVE,
        source=source,
        at=NOW,
        now=NOW,
    ).run(looked, report)
    assert report.counts == {"added": 1, "refused": 1}
    assert [one.line for one in report.problems] == [3]
    assert readers(session)["anna@example.org"].rhythm == "monthly"

    run = uploads.begin(session, newsletter, "x.csv", editor_id=None, now=NOW)
    sheet = next(sheets.read(io.BytesIO(b"email\n"), "x.csv"))
    for number in (2, 3, 4):
        records = [(number, [f"reader{number}@example.org"])]
        uploads.add_piece(session, run.id, 0, sheet, records)
    uploads.received(session, run.id)
    session.flush()
    start = functools.partial(uploads.start, session, run, [layout], asks=False)
    start(consent="the fair", trial=False, now=NOW)
    first = uploads.look(session, settings, run.id, None, now=NOW)
    second = uploads.look(session, settings, run.id, 1, now=NOW)
    assert first and second
    assert (first.number, second.number) == (0, 1)
    for piece in (first, first, second, None):  # another worker was faster, once
        uploads.step(session, settings, run.id, piece=piece, now=NOW)
        session.flush()
    assert run.counts == {"added": 3}
    assert uploads.look(session, settings, run.id, 3, now=NOW) is None


def test_lines_are_made_some_at_a_time_and_all_of_them() -> None:
    made: list[int] = []

    def making() -> Iterator[int]:
        for number in range(CHECKPOINT_AFTER + 2):
            made.append(number)
            yield number

    used = importing.ahead(making())
    assert next(used) == 0
    assert len(made) == CHECKPOINT_AFTER
    assert list(used) == made[1:]
    assert len(made) == CHECKPOINT_AFTER + 2


CELLS = st.sampled_from(
    [
        *("", " ", "'=1", "x\0y", "two\nlines", "x" * 201, "ja", "no", "perhaps"),
        *("subscribed", "Unsubscribed", "bounced", "2020-01-02", "0001-01-01", "all"),
        *("none", "Klimat", "monthly", "sv-SE", "192.0.2.7", "active", "unconfirmed"),
    ]
)
ADDRESSES = st.sampled_from(
    [
        *("a@example.org", "A@Example.ORG", " a@example.org", "'b@example.org", ""),
        *("no address", "x\n@example.org", "å@example.org", "bo@exämple.se"),
        *("a@gmial.com", "mailto:c@example.org", "d" * 65 + "@example.org", "e@se"),
        *(f"{'f' * 60}@{'g' * 63}.{'h' * 63}.{'i' * 63}.example.org", "j@x.org\n"),
    ]
)
ROWS = st.lists(
    st.tuples(ADDRESSES, st.lists(CELLS, max_size=13)).map(lambda r: [r[0], *r[1]]),
    max_size=8,
)


@given(ROWS)
@settings_of_tests(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_mean_together_what_each_means_by_itself(
    session: Session, settings: Settings, rows: list[list[str]]
) -> None:
    session.rollback()
    newsletter = make_newsletter(session)
    topics.create(session, newsletter, "Klimat")
    fields = [field for field in columns.FIELDS if field != "email"]
    layout = Layout(("email", *fields, "name"))
    lines = Lines(session, settings, newsletter, layout, Status.ACTIVE, NOW)
    records = list(enumerate(rows, 2))
    alone: dict[str, Any] = {}
    refused, twice = [], []
    for number, cells in records:
        try:
            reader = lines(number, cells)
        except InvalidInput as error:
            refused.append((number, error.message, error.values))
            continue
        before = alone.setdefault(reader.key, reader)
        if before is not reader:
            twice.append(number)
        if reader.standing > before.standing:
            alone[reader.key] = reader
    together = lines.look(records)
    assert together.readers == alone
    told = together.report.problems
    assert refused == [
        (one.line, one.message, one.values) for one in told if one.outcome == "refused"
    ]
    assert twice == [one.line for one in told if one.outcome == "duplicate"]


def test_the_hash_of_an_address_is_an_ordinary_hmac(settings: Settings) -> None:
    for pepper in (settings.pepper, b"x" * 64, b"x" * 65):
        hash_of = hasher(replace(settings, address_pepper=pepper.decode()))
        for key in ("", "anna@example.org", "å" * 100):
            expected = hmac.digest(pepper, key.encode(), "sha256").hex()
            assert hash_of(key) == expected


@pytest.mark.parametrize(
    "broken",
    [
        'x@example.org,"Anna\n',
        'x@example.org,"' + "Anna\n" * 30_000,
        f"ö,{'x' * 100_000}\n",
    ],
    ids=["unclosed", "unclosed for long", "too long"],
)
@pytest.mark.parametrize("rest", ["", "y@example.org,Y\n"])
def test_what_stands_before_a_broken_line_is_read(broken: str, rest: str) -> None:
    data = (
        f'email,name\r\na@example.org,"two\r\nlines"\n\nb@example.org,B\n{broken}{rest}'
    )
    found = []
    with pytest.raises(InvalidInput) as raised:
        for sheet in sheets.read(io.BytesIO(data.encode()), "x"):
            for piece in sheets.pieces(sheet):
                found += piece
    assert raised.value.values["line"] == 6
    assert found == [
        (2, ["a@example.org", "two\r\nlines"]),
        (5, ["b@example.org", "B"]),
    ]


def test_a_report_is_in_the_order_of_the_file(
    session: Session, settings: Settings
) -> None:
    newsletter = make_newsletter(session)
    run = uploads.begin(session, newsletter, "x.csv", editor_id=None, now=NOW)
    sheet = next(sheets.read(io.BytesIO(b"email\n"), "x.csv"))
    lines = [2, 9, 5, *range(20, 20 + sheets.WINDOW_BATCHES - 2), 99, 98]
    for number in lines:  # the first piece alone, then a window, then the next one's
        records = [(number, ["nobody"]), (number + 1, [f"a{number}@example.org"])]
        uploads.add_piece(session, run.id, 0, sheet, records)
    uploads.received(session, run.id)
    session.flush()
    layouts = [uploads.layout_of(run.sheets[0])]
    uploads.start(session, run, layouts, consent="", asks=False, trial=True, now=NOW)
    while uploads.step(session, settings, run.id, now=NOW):
        session.flush()
    told = [problem.line for _name, problem in uploads.problems(session, run)]
    assert told == sorted(lines)
    report = Report()
    for number in lines:
        report.note("already", number, "")
    report.put_in_order(1)
    assert [one.line for one in report.problems] == [2, *sorted(lines[1:])]


LABELS = st.lists(
    st.one_of(st.text("aZ0-", min_size=1, max_size=5), st.just("a" * 64)), max_size=3
)
ENDINGS = st.sampled_from(
    ["com", "SE", "test", "local", "x--y", "xn--a", "c0m", "c", "localhost", "1", ""]
)
PLAIN = st.builds(
    lambda local, labels, end: f"{local}@{'.'.join([*labels, end])}",
    st.one_of(st.text("aZ0_.+-", max_size=6), st.sampled_from(["a" * 64, "a" * 65])),
    LABELS,
    ENDINGS,
)


@given(PLAIN)
def test_the_quick_way_takes_nothing_that_the_validator_refuses(address: str) -> None:
    try:
        read = read_address(address)
    except InvalidInput:
        return
    try:
        found = validate_email(address, check_deliverability=False, strict=True)
    except EmailNotValidError:
        found = None
    if found is None:  # only what was typed around an address is taken away
        assert address.strip(".") != address
        return
    assert read.email == f"{found.local_part}@{found.ascii_domain}"
    assert read.domain == found.ascii_domain
    assert read.key == read.email.casefold()


def test_tokens_written_together_are_as_good_as_others() -> None:
    drawn = links.new_tokens(500)
    assert len(set(drawn)) == 500
    assert all(map(links.looks_like_token, drawn))
    assert {token[:3] for token in drawn} == {drawn[0][:3]}
    assert links.new_tokens(1)[0] not in drawn


def test_many_values_are_one_parameter(session: Session) -> None:
    make_newsletter(session, "a1")
    make_newsletter(session, "b2")
    wanted = ["b2", "no'; --", *(f"x{n}" for n in range(40_000))]
    query = select(Newsletter.slug).where(bulk.among(session, Newsletter.slug, wanted))
    assert session.scalars(query).all() == ["b2"]
