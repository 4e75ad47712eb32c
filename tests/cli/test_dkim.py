"""DKIM keys from the command line: made, published, switched on and off, looked at."""

import json
from collections.abc import Callable
from dataclasses import replace

import dns.exception
import dns.resolver
import dns.zone
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from newsletter.cli.main import cli
from newsletter.config import Settings
from newsletter.db import Database, utcnow
from newsletter.errors import Conflict, InvalidInput, NotFound
from newsletter.jobs import tick
from newsletter.mail import keyring
from newsletter.models import DkimKey, Newsletter
from tests.conftest import SECRET
from tests.factories import make_newsletter

Run = Callable[..., Result]
OTHERS = """
blogg.se. 60 IN TXT "v=spf1 mx -all"
_dmarc.blogg.se. 60 IN TXT "v=DMARC1; p=none"
"""


class Dns(dns.resolver.Resolver):
    """A resolver that knows one zone file and asks nobody."""

    def __init__(self) -> None:
        super().__init__(configure=False)
        self.file = OTHERS
        self.silent = False

    def resolve(self, qname: object, rdtype: object = "A", **_: object) -> object:  # type: ignore[override]
        if self.silent:
            raise dns.exception.Timeout
        zone = dns.zone.from_text(
            self.file, origin="se.", relativize=False, check_origin=False
        )
        found = zone.get_rdataset(f"{qname}.", str(rdtype))
        if found is None and zone.get_node(f"{qname}.") is not None:
            raise dns.resolver.NoAnswer
        if found is None:
            raise dns.resolver.NXDOMAIN
        return found


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Dns:
    made = Dns()
    monkeypatch.setattr(dns.resolver, "default_resolver", made)
    return made


@pytest.fixture
def run(settings: Settings, database: Database, resolver: Dns) -> Run:
    with database.transaction() as session:
        make_newsletter(session, from_email="brev@blogg.se")
    environ = {
        "NEWSLETTER_SECRET_KEYS": SECRET,
        "NEWSLETTER_DATABASE_URL": settings.database_url,
        "NEWSLETTER_INSTANCE_DIR": str(settings.instance_dir),
        "NEWSLETTER_BASE_URL": "https://brev.blogg.se",
    }

    def call(*words: str, **more: str) -> Result:
        return CliRunner().invoke(cli, words, env={**environ, **more})

    return call


def listed(run: Run) -> dict[str, bool]:
    rows = json.loads(run("dkim", "list", "--json").stdout)
    return {row["selector"]: row["active"] for row in rows}


def publish(resolver: Dns, output: str) -> None:
    """Paste into the zone what the command printed."""
    lines = [line for line in output.splitlines() if " IN TXT " in line]
    resolver.file += "\n".join(lines) + "\n"


def test_keys_are_made_published_and_switched_on(
    run: Run, resolver: Dns, database: Database, settings: Settings
) -> None:
    made = run("dkim", "create", "labbet", "--algorithm", "both", "--selector", "s1")
    assert made.exit_code == 0, made.output
    assert "s1._domainkey.blogg.se\nv=DKIM1; k=rsa; p=" in made.output
    assert "s1-ed._domainkey.blogg.se\nv=DKIM1; k=ed25519; p=" in made.output
    assert listed(run) == {"s1": False, "s1-ed": False}
    publish(resolver, made.output)
    done = run("dkim", "on", "labbet")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "on\trsa\ts1._domainkey.blogg.se\non\ted25519\ts1-ed._domainkey.blogg.se\n"
    )
    assert done.stderr == ""
    with database.reading() as session:
        row = session.scalars(select(DkimKey)).first()
        assert row is not None
        keys = keyring.keys_of(session, settings, row.newsletter_id)
    assert [key.selector for key in keys] == ["s1", "s1-ed"]


def test_rsa_is_what_one_gets_without_asking(run: Run) -> None:
    (row,) = json.loads(run("dkim", "create", "labbet", "--json").stdout)
    assert row["algorithm"] == "rsa"
    assert row["name"] == f"{row['selector']}._domainkey.blogg.se"
    assert row["value"].startswith("v=DKIM1; k=rsa; p=MIIBIjAN")
    assert (row["type"], row["active"], row["newsletter"]) == ("TXT", False, "labbet")
    text = run("dkim", "list", "labbet").stdout
    assert text.startswith("labbet\trsa\toff\t20")
    assert text.endswith(f"\t{row['name']}\n")


def test_what_the_dns_does_not_have_is_not_switched_on(run: Run, resolver: Dns) -> None:
    made = run("dkim", "create", "labbet", "--algorithm", "both", "--selector", "s1")
    publish(resolver, made.output.partition("(ed25519)")[0])
    done = run("dkim", "on", "labbet")
    assert (done.exit_code, done.stdout) == (1, "")
    assert isinstance(done.exception, Conflict)
    assert "no DKIM record at s1-ed._domainkey.blogg.se" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert listed(run) == {"s1": False, "s1-ed": False}
    assert run("dkim", "on", "labbet", "--selector", "s1").exit_code == 0
    assert listed(run) == {"s1": True, "s1-ed": False}


def test_a_record_that_differs_is_named(run: Run, resolver: Dns) -> None:
    made = run("dkim", "create", "labbet", "--selector", "s1")
    publish(resolver, made.output.replace("MIIBIjAN", "MIIBIjAX"))
    done = run("dkim", "on", "labbet")
    assert "s1._domainkey.blogg.se differs" in str(done.exception)


def test_a_silent_dns_switches_nothing_on(run: Run, resolver: Dns) -> None:
    run("dkim", "create", "labbet")
    resolver.silent = True
    done = run("dkim", "on", "labbet")
    assert done.exit_code == 1
    assert "does not answer" in str(done.exception)


def test_it_can_be_forced(run: Run) -> None:
    run("dkim", "create", "labbet", "--algorithm", "ed25519", "--selector", "s1")
    done = run("dkim", "on", "labbet", "--force")
    assert done.exit_code == 0
    assert "add an RSA key" in done.stderr
    assert listed(run) == {"s1": True}


def test_a_new_key_takes_over_and_off_is_off(run: Run) -> None:
    for selector in ("s1", "s2"):
        run("dkim", "create", "labbet", "--selector", selector)
        run("dkim", "on", "labbet", "--force")
    assert listed(run) == {"s1": False, "s2": True}
    run("dkim", "on", "labbet", "--force", "--selector", "s1")
    assert listed(run) == {"s1": True, "s2": False}
    done = run("dkim", "off", "labbet")
    assert done.stdout == "off\trsa\ts1._domainkey.blogg.se\n"
    assert listed(run) == {"s1": False, "s2": False}
    assert run("dkim", "off", "labbet", "--selector", "s2").exit_code == 0


def test_a_domain_above_can_sign(run: Run, database: Database) -> None:
    with database.transaction() as session:
        make_newsletter(session, "annat", from_email="brev@nytt.blogg.se")
    made = run("dkim", "create", "annat", "--domain", "blogg.se", "--json")
    assert json.loads(made.stdout)[0]["domain"] == "blogg.se"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["create", "inget"], NotFound),
        (["create", "labbet", "--selector", "å"], InvalidInput),
        (["create", "labbet", "--domain", "annan.se"], InvalidInput),
        (["on", "labbet"], NotFound),
        (["off", "labbet"], NotFound),
        (["list", "inget"], NotFound),
    ],
)
def test_what_cannot_be_is_said(
    run: Run, database: Database, words: list[str], kind: type[Exception]
) -> None:
    done = run("dkim", *words)
    assert done.exit_code == 1
    assert isinstance(done.exception, kind)
    with database.reading() as session:
        assert session.scalars(select(DkimKey)).all() == []


@pytest.mark.parametrize(
    "words", [["create"], ["create", "labbet", "--algorithm", "dsa"], ["on"], ["off"]]
)
def test_wrong_usage_exits_with_two(run: Run, words: list[str]) -> None:
    assert run("dkim", *words).exit_code == 2


# What the doctor says of them


def states(run: Run, **more: str) -> dict[str, tuple[str, str]]:
    findings = json.loads(run("doctor", "labbet", "--json", **more).stdout)
    return {f["about"]: (f["state"], f["words"]) for f in findings}


def test_the_doctor_looks_for_the_records_of_keys_that_sign(
    run: Run, resolver: Dns
) -> None:
    assert states(run)["blogg.se, DKIM"][0] == "note"
    made = run("dkim", "create", "labbet", "--selector", "s1")
    run("dkim", "on", "labbet", "--force")
    assert states(run)["labbet, DKIM key s1"] == ("good", "signs with rsa")
    assert states(run)["blogg.se, DKIM"] == (
        "wrong",
        "There is no DKIM record at s1._domainkey.blogg.se.",
    )
    publish(resolver, made.output)
    assert states(run)["blogg.se, DKIM"][0] == "good"
    run("dkim", "off", "labbet")
    assert states(run)["blogg.se, DKIM"][0] == "note"


def test_the_doctor_sees_keys_that_cannot_sign(run: Run, database: Database) -> None:
    run("dkim", "create", "labbet", "--algorithm", "ed25519", "--selector", "s1")
    run("dkim", "on", "labbet", "--force")
    assert "add an RSA key" in states(run)["labbet, DKIM keys"][1]
    lost = states(run, NEWSLETTER_SECRET_KEYS="another-secret-" * 3)
    assert lost["labbet, DKIM key s1"][0] == "wrong"
    assert "NEWSLETTER_SECRET_KEYS" in lost["labbet, DKIM key s1"][1]
    with database.transaction() as session:
        session.scalars(select(Newsletter)).one().from_email = "brev@annan.se"
    moved = states(run)["labbet, DKIM key s1"]
    assert moved[0] == "wrong"
    assert "mail comes from annan.se" in moved[1]
    for words in (["on", "labbet"], ["on", "labbet", "--selector", "s1"]):
        assert run("dkim", *words, "--force").exit_code == 1
    assert run("dkim", "off", "labbet").stdout.startswith("off\ted25519\ts1")


def test_a_dns_that_does_not_answer_is_a_note(run: Run, resolver: Dns) -> None:
    run("dkim", "create", "labbet")
    run("dkim", "on", "labbet", "--force")
    resolver.silent = True
    assert states(run)["blogg.se, DKIM"][0] == "note"


def test_the_clock_encrypts_keys_with_the_newest_secret(
    run: Run, database: Database, settings: Settings
) -> None:
    run("dkim", "create", "labbet")
    run("dkim", "on", "labbet", "--force")
    new = "another-secret-" * 3
    only = {"NEWSLETTER_SECRET_KEYS": new}
    assert "wrong" in {s for a, (s, _) in states(run, **only).items() if "key l" in a}
    rotated = replace(settings, secret_keys=(new, SECRET))
    tick(database, rotated, now=utcnow())
    assert "wrong" not in {
        s for a, (s, _) in states(run, **only).items() if "key l" in a
    }
