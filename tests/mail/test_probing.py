"""What is said of a relay and of a sender's DNS, with the record that would mend it."""

import socket
from datetime import timedelta

import dns.exception
import pytest

from newsletter import jobs
from newsletter.config import Relay, Settings
from newsletter.db import Database
from newsletter.mail import probing
from newsletter.models import Algorithm, DkimKey, Newsletter
from tests.cli.test_dkim import Dns
from tests.factories import NOW, make_newsletter
from tests.smtp_server import SmtpServer

KEY = DkimKey(
    domain="brev.se", selector="ink1", algorithm=Algorithm.ED25519, public="abc="
)


@pytest.mark.parametrize(
    ("zone", "states"),
    [
        ({}, ["wrong", "wrong", "wrong"]),
        (
            {
                "brev.se": ["v=spf1 include:relay.example -all", "other"],
                "_dmarc.brev.se": ["v=DMARC1; p=none"],
                "ink1._domainkey.brev.se": ["v=DKIM1; k=ed25519; p=abc="],
            },
            ["good", "good", "good"],
        ),
        (
            {
                "brev.se": ["v=spf1 +all"],
                "_dmarc.brev.se": [],
                "ink1._domainkey.brev.se": ["v=DKIM1; k=ed25519; p=other="],
            },
            ["wrong", "wrong", "wrong"],
        ),
        ({"brev.se": ["v=spf1 -all", "v=spf1 mx -all"]}, ["wrong", "wrong", "wrong"]),
    ],
)
def test_the_dns_is_read(zone: dict[str, list[str]], states: list[str]) -> None:
    found = list(
        probing.domain_probes("brev.se", [KEY], lambda name: zone.get(name, []))
    )
    assert [probe.about for probe in found] == ["SPF", "DMARC", "DKIM"]
    assert [probe.state for probe in found] == states
    if not zone:
        assert [(probe.name, probe.text) for probe in found][1:] == [
            ("_dmarc.brev.se", "v=DMARC1; p=none"),
            ("ink1._domainkey.brev.se", "v=DKIM1; k=ed25519; p=abc="),
        ]


def test_what_cannot_be_told_is_a_note() -> None:
    def silent(_name: str) -> list[str]:
        raise dns.exception.Timeout

    for domain in ("brev.se", "labbet.example", "", "x" * 300):
        (found,) = probing.domain_probes(domain, [KEY], silent)
        assert found.state == probing.NOTE


@pytest.mark.parametrize(
    ("email", "state", "host"),
    [
        ("hej@brev.se", probing.GOOD, "ett.se"),  # the nearest
        ("hej@bara.se", probing.GOOD, "bara.se"),  # an address is enough
        ("hej@stum.se", probing.WRONG, ""),  # says that it takes none
        ("hej@finns-inte.se", probing.WRONG, ""),
        ("hej@labbet.example", probing.NOTE, ""),
        ("", probing.NOTE, ""),
    ],
)
def test_who_takes_the_answers_is_looked_up(email: str, state: str, host: str) -> None:
    asked = Dns()
    asked.file = (
        "brev 60 IN MX 20 tva.se.\nbrev 60 IN MX 10 ett.se.\n"
        "bara 60 IN A 192.0.2.1\nstum 60 IN MX 0 .\n"
    )
    found = probing.answers_probe(email, asked)
    assert (found.state, found.values.get("host", "")) == (state, host)
    asked.silent = True
    assert probing.answers_probe("hej@brev.se", asked).message == probing.N_SILENT


def test_a_relay_is_tried_without_sending(smtp_server: SmtpServer) -> None:
    assert (
        probing.relay_probe(Relay("127.0.0.1", smtp_server.port)).state == probing.GOOD
    )
    assert smtp_server.received == []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        found = probing.relay_probe(Relay("127.0.0.1", port))
    assert found.state == probing.WRONG
    assert found.values["why"]


def test_the_clock_keeps_what_the_dns_lacks(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as session:
        ours = make_newsletter(session, from_email="hej@brev.se")
        other = make_newsletter(session, "annat")  # of a made-up domain
    zone = {"brev.se": ["v=spf1 +all"]}

    def lookup(name: str) -> list[str]:
        return zone.get(name, [])

    def silent(_name: str) -> list[str]:
        raise dns.exception.Timeout

    for now in (NOW, NOW + timedelta(hours=3)):
        assert jobs.look_at_senders(database, settings, now, lookup) == 1
    jobs.look_at_senders(database, settings, NOW, silent)  # changes nothing
    with database.reading() as session:
        found = probing.flaws(session, session.get_one(Newsletter, ours.id))
        assert [flaw.about for flaw in found] == ["DMARC", "SPF"]
        assert not probing.flaws(session, session.get_one(Newsletter, other.id))
    zone |= {"brev.se": ["v=spf1 -all"], "_dmarc.brev.se": ["v=DMARC1; p=none"]}
    assert jobs.look_at_senders(database, settings, NOW, lookup) == 0
    with database.reading() as session:
        assert not probing.flaws(session, session.get_one(Newsletter, ours.id))
