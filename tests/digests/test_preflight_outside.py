"""What others say of an issue: links and DNS are asked, answers kept, limits held."""

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dns.exception
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from newsletter import i18n
from newsletter.config import Settings
from newsletter.digests import drafts
from newsletter.digests.preflight import addresses, outside, report, sender, spam
from newsletter.digests.preflight.addresses import Answer
from newsletter.digests.preflight.findings import Level
from newsletter.digests.preflight.page import Page
from newsletter.models import Algorithm, DkimKey, Issue, LinkCheck
from newsletter.posts.download import Client
from newsletter.posts.guard import Guard, NoSuchHost
from tests import feed_server
from tests.factories import NOW, make_newsletter, make_post
from tests.feed_server import FeedServer

SV = i18n.language("sv")
JUNK = """7.3/5.0
Content analysis details:   (7.3 points, 5.0 required)

 pts rule name              description
---- ---------------------- --------------------------------------------------
 2.5 SUBJ_ALL_CAPS          Subject is all capitals
-0.1 DKIM_VALID             Message has a valid signature
 4.9 HTML_IMAGE_ONLY_04     BODY: HTML: images with 0-400 bytes of words
"""


@pytest.fixture
def site() -> FeedServer:
    server = FeedServer()
    server.answers |= {
        "/finns": feed_server.Answer(b"x" * 50),
        "/flyttad": feed_server.Answer(status=301, headers={"Location": "/finns"}),
        "/runt": feed_server.Answer(status=302, headers={"Location": "/runt"}),
        "/skygg": feed_server.Answer(status=403),
        "/trasig": feed_server.Answer(status=500),
        "/inne": feed_server.Answer(
            status=302, headers={"Location": "http://10.0.0.1/hemligt"}
        ),
        "/tyst": feed_server.Answer(script=server.stall),
    }
    server.knows_head = {"/finns"}
    return server


def test_each_address_is_asked_and_what_it_says_is_told_apart(
    site: FeedServer, session: Session
) -> None:
    client = Client(Guard(["127.0.0.0/8"]), seconds=0.5)
    paths = ("finns", "flyttad", "runt", "skygg", "trasig", "borta", "inne", "tyst")
    with site:
        urls = [site.url(f"/{path}") for path in paths]
        answers = {
            Path(answer.url).name: answer
            for answer in addresses.ask(urls, client, seconds=5)
        }
        asked = [path for path, _ in site.asked]
    shown = {name: (a.status, a.unasked) for name, a in answers.items()}
    assert shown == {
        "finns": (200, False),
        "flyttad": (200, False),
        "runt": (0, False),
        "skygg": (403, False),
        "trasig": (500, False),
        "borta": (404, False),
        "inne": (0, True),  # a private address: not ours to ask
        "tyst": (0, False),
    }
    assert answers["finns"].size == 50
    assert asked.count("/finns") == 2  # HEAD alone, for itself and for the redirect

    addresses.store(session, answers.values(), now=NOW)
    known = addresses.kept(session, urls)
    found = {f.code: f for f in addresses.check(urls, [], known)}
    assert set(found) == {"links.broken", "links.silent", "links.unknown"}
    assert [place[:4] for place in found["links.broken"].where] == ["500 ", "404 "]
    assert found["links.unknown"].level is Level.UNKNOWN


def test_nobody_waits_longer_than_was_said(site: FeedServer) -> None:
    client = Client(Guard(["127.0.0.0/8"]), seconds=30)
    with site:
        stalls = feed_server.Answer(script=site.stall)
        site.answers |= {f"/tyst-{n}": stalls for n in range(9)}
        urls = [site.url(f"/tyst-{n}") for n in range(9)]
        began = time.monotonic()
        answers = addresses.ask(urls, client, seconds=0.2)
        assert time.monotonic() - began < 20
    assert {answer.url for answer in answers} == set(urls)
    assert all(answer.unasked for answer in answers)


def test_without_a_network_it_is_us_who_cannot_look() -> None:
    def nowhere(host: str, _port: int, _seconds: float) -> list[str]:
        raise NoSuchHost

    client = Client(Guard(), resolve=nowhere)
    urls = ["https://a.se/", "https://b.se/"]
    assert all(answer.unasked for answer in addresses.ask(urls, client, seconds=5))


def test_what_answered_well_is_left_alone_for_a_while(session: Session) -> None:
    urls = [f"https://blogg.se/{n}" for n in range(3)]
    answers = [Answer(urls[0], 200), Answer(urls[1], 404)]
    addresses.store(session, answers, now=NOW)

    assert addresses.stale(session, urls, now=NOW) == urls[1:]
    assert addresses.stale(session, urls, now=NOW + timedelta(hours=1)) == urls
    addresses.store(session, [Answer(urls[1], 200)], now=NOW)
    assert addresses.stale(session, urls, now=NOW) == urls[2:]
    addresses.forget_old(session, now=NOW + timedelta(days=31))
    assert session.scalars(select(LinkCheck)).all() == []


def test_only_what_leads_elsewhere_is_asked_and_large_pictures_are_told() -> None:
    own = "https://brev.se"
    page = Page(
        '<a href="https://brev.se/labbet/">x</a><a href="mailto:a@b.se">x</a>'
        '<a href="https://blogg.se/1">x</a><a href="https://blogg.se/1">y</a>'
        '<img src="https://blogg.se/b.jpg" alt="x"><a href="javascript:1">x</a>'
    )
    urls = addresses.of(page, own)
    assert urls == ["https://blogg.se/1", "https://blogg.se/b.jpg"]
    known = {
        urls[0]: LinkCheck(
            url=urls[0], status=200, size_bytes=9_000_000, unasked=False
        ),
        urls[1]: LinkCheck(
            url=urls[1], status=200, size_bytes=2_400_000, unasked=False
        ),
    }
    found = {f.code: f for f in addresses.check(urls, [urls[1]], known)}
    assert set(found) == {"pictures.large", "links"}
    assert found["pictures.large"].where == ("2.4 MB https://blogg.se/b.jpg",)


ZONE = {
    "bra.se": ["v=spf1 mx -all"],
    "_dmarc.bra.se": ["v=DMARC1; p=reject"],
    "s._domainkey.bra.se": ["v=DKIM1; k=rsa; p=AAAA"],
    "slapp.se": ["v=spf1 a -all", "v=spf1 mx -all"],
}
KEY = DkimKey(domain="bra.se", selector="s", algorithm=Algorithm.RSA, public="AAAA")
OTHER = DkimKey(domain="bra.se", selector="s", algorithm=Algorithm.RSA, public="BBBB")


@pytest.mark.parametrize(
    ("domain", "keys", "codes"),
    [
        ("bra.se", [KEY], {"sender"}),
        ("bra.se", [OTHER], {"sender", "sender.dkim"}),
        ("bra.se", [], {"sender", "sender.dkim", "sender.alignment"}),
        ("slapp.se", [], {"sender.spf", "sender.dmarc", "sender.dkim"}),
        ("gmail.com", [], {"sender.free"}),
        ("labbet.example", [], {"sender"}),
    ],
)
def test_the_senders_domain(domain: str, keys: list[DkimKey], codes: set[str]) -> None:
    found = list(sender.check(domain, keys, lambda name: ZONE.get(name, [])))
    assert {finding.code for finding in found} == codes
    assert all(finding.sentence(SV) for finding in found)
    if domain == "labbet.example":
        assert found[0].level is Level.UNKNOWN


def test_a_dns_that_is_silent_says_nothing_about_the_domain() -> None:
    def silent(_name: str) -> list[str]:
        raise dns.exception.Timeout

    [found] = sender.check("bra.se", [], silent)
    assert found.level is Level.UNKNOWN


def test_spamassassin_is_asked_where_it_is(tmp_path: Path) -> None:
    program = tmp_path / "spamc"
    program.write_text(
        f'#!/bin/sh\ngrep -q "^Subject: Hej" || exit 1\ncat <<E\n{JUNK}E\n'
    )
    program.chmod(0o755)

    assert list(spam.ask(b"Subject: Hej\n", program=str(tmp_path / "finns-inte"))) == []
    [junk] = spam.ask(b"Subject: Hej\n", program=str(program))
    assert junk.level is Level.WARNING
    assert "7.3" in junk.sentence(SV)
    assert junk.where == (
        "4.9 HTML_IMAGE_ONLY_04: BODY: HTML: images with 0-400 bytes of words",
        "2.5 SUBJ_ALL_CAPS: Subject is all capitals",
    )
    [silent] = spam.ask(b"Annat\n", program=str(program))
    assert silent.level is Level.UNKNOWN
    assert spam.read("0/0\n").level is Level.UNKNOWN
    assert spam.read("-1.2/5.0\n").level is Level.PASSED


def test_the_answers_are_kept_with_the_issue(
    site: FeedServer, session: Session, settings: Settings
) -> None:
    with site:
        labbet = make_newsletter(session)
        make_post(session, labbet, link=site.url("/finns"))
        make_post(session, labbet, link=site.url("/borta"))
        issue = drafts.draft(session, labbet, now=NOW)
        assert codes(session, settings, issue) == {"outside"}
        here = replace(settings, fetch_allow=("127.0.0.0/8",))
        about = report.questions(session, here, issue, now=NOW)
        assert about.mail.startswith(b"From: ")
        answers = outside.ask(here, about, lookup=lambda _name: [])
    outside.store(session, answers, now=NOW)

    assert codes(session, settings, issue) == {"links.broken", "sender"}
    assert report.of(session, settings, issue).asked_at == NOW
    demo = outside.ask(replace(settings, demo=True), about)
    assert demo.links == []
    drafts.discard(session, issue)


def codes(session: Session, settings: Settings, issue: Issue) -> set[str]:
    found = report.of(session, settings, issue).findings
    return {f.code for f in found if f.level is not Level.PASSED}
