"""Whether a relay answers and the DNS vouches for a sender. Sends nothing."""

import asyncio
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlsplit

import dns.exception
import dns.resolver
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from newsletter.config import Relay
from newsletter.errors import N_, RelayError
from newsletter.mail import keyring
from newsletter.mail.keys import covers, flaw, record, record_name
from newsletter.mail.smtp import Connection, Deadlines
from newsletter.models import DkimKey, Newsletter, SenderFlaw

SECONDS = 3.0  # for each answer
MADE_UP = (".example", ".test", ".invalid", ".localhost", "localhost")
EXAMPLES = ("example.com", "example.net", "example.org", "example.se")
FREE_MAIL = frozenset(
    {
        *("aol.com", "gmail.com", "googlemail.com", "gmx.com", "gmx.net"),
        *("hotmail.com", "hotmail.se", "icloud.com", "live.com", "live.se"),
        *("outlook.com", "proton.me", "telia.com", "yahoo.com", "yahoo.se"),
    }
)
MAX_NAME = 253  # RFC 1035 §2.3.4
SPF_LOOKUPS = 10  # RFC 7208 §4.6.4
SPF_COSTLY = frozenset({"a", "mx", "ptr", "include", "exists"})
MAX_SHOWN = 300  # of what a stranger's server says
GOOD, NOTE, WRONG = "good", "note", "wrong"
N_SILENT = N_("The DNS does not answer now. Try again soon.")
Lookup = Callable[[str], list[str]]  # a name → its TXT records


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing looked at: what was found, and the DNS record that would mend it."""

    about: str  # a proper name: "SPF", "relay.example:25"
    state: str  # good | note | wrong
    message: str  # a message id
    values: Mapping[str, str] = field(default_factory=dict)
    name: str = ""  # where a TXT record is to be added
    text: str = ""  # and what it says


def signing_keys(
    session: Session, newsletter: Newsletter, domain: str
) -> list[DkimKey]:
    """Return the keys that sign a newsletter's mail from a domain."""
    return [
        key
        for key in keyring.all_keys(session, newsletter)
        if key.active and covers(key.domain, domain)
    ]


def domain_probes(
    domain: str, keys: Sequence[DkimKey], lookup: Lookup
) -> Iterator[Probe]:
    """Look up what lets others believe mail from a domain. `keys` sign for it."""
    if not domain or len(domain) > MAX_NAME or is_made_up(domain):
        yield Probe(
            domain or "DNS", NOTE, N_("A made-up domain: nothing is looked up for it.")
        )
        return
    try:
        yield spf_probe(domain, lookup)
        yield dmarc_probe(domain, lookup)
        for key in keys:
            yield _dkim(key, lookup)
    except dns.exception.DNSException:
        yield Probe(domain, NOTE, N_SILENT)
        return
    if not keys:
        yield Probe(
            "DKIM",
            NOTE,
            N_("Your relay signs, or should. Inkorg can: “dkim create” makes a key."),
        )


def answers_probe(email: str, asked: dns.resolver.Resolver | None = None) -> Probe:
    """Look up who takes the mail to an address: readers' answers (RFC 5321 §5.1)."""
    domain = email.rpartition("@")[2].strip().lower()
    about, values = N_("Answers"), {"domain": domain}
    if not domain or len(domain) > MAX_NAME or is_made_up(domain):
        message = N_("A made-up domain: nothing is looked up for it.")
        return Probe(about, NOTE, message)
    try:
        resolver = asked or dns.resolver.get_default_resolver()
        host = _mail_host(domain, resolver)
    except dns.resolver.NXDOMAIN:
        host = ""
    except dns.exception.DNSException:
        return Probe(about, NOTE, N_SILENT)
    if host:
        message = N_("Mail to %(domain)s is taken by %(host)s.")
        return Probe(about, GOOD, message, {**values, "host": host[:MAX_SHOWN]})
    message = N_(
        "No server takes mail to %(domain)s, so readers' answers would come back to"
        " them. Choose another address."
    )
    return Probe(about, WRONG, message, values)


def keep_flaws(
    session: Session, newsletter: Newsletter, found: Sequence[Probe], *, now: datetime
) -> None:
    """Write down what is wrong, in place of what was; nothing if the DNS was silent."""
    domain = keyring.domain_of(newsletter)
    if any(probe.message == N_SILENT for probe in found):
        return
    session.execute(delete(SenderFlaw).where(SenderFlaw.newsletter_id == newsletter.id))
    wrong = {probe.about: probe for probe in found if probe.state == WRONG}
    session.add_all(
        SenderFlaw(
            newsletter_id=newsletter.id,
            about=about,
            domain=domain,
            message=probe.message,
            message_values=dict(probe.values),
            looked_at=now,
        )
        for about, probe in wrong.items()
    )
    session.flush()


def flaws(session: Session, newsletter: Newsletter) -> list[SenderFlaw]:
    """Return what was wrong when the clock last looked, of the sender there is now."""
    query = select(SenderFlaw).where(
        SenderFlaw.newsletter_id == newsletter.id,
        SenderFlaw.domain == keyring.domain_of(newsletter),
    )
    return list(session.scalars(query.order_by(SenderFlaw.about)))


def relay_probe(relay: Relay) -> Probe:
    """Say hello to a relay and log in, as the sender does."""
    try:
        with greet(relay) as server:
            if relay.user:
                server.login(relay.user, relay.password)
    except smtplib.SMTPAuthenticationError:
        message = N_("It refuses the user name or the password.")
        return Probe(relay.name, WRONG, message)
    except (OSError, smtplib.SMTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        message = N_(
            "It does not take mail: %(why)s. Whoever looks after the server sets it in"
            " NEWSLETTER_SMTP_URL."
        )
        return Probe(relay.name, WRONG, message, {"why": str(why)[:MAX_SHOWN]})
    local = relay.host in {"127.0.0.1", "::1", "localhost"}
    if relay.security == "plain" and not local:
        message = N_("It answers, but mail travels unencrypted to it.")
        return Probe(relay.name, WRONG, message)
    return Probe(relay.name, GOOD, N_("It answers and would take mail."))


def own_relay_probe(relay: Relay, ehlo_name: str) -> Probe:
    """Do the same with a relay that a newsletter's owner names, as the sender does.

    So it goes where the sender would, and nowhere else. To be called from no event
    loop.
    """
    relay = replace(relay, mark="")
    try:
        asyncio.run(_open_and_quit(relay, ehlo_name))
    except RelayError as error:
        values = {key: str(v)[:MAX_SHOWN] for key, v in error.values.items()}
        return Probe(relay.name, WRONG, error.message, values)
    if relay.security == "plain":
        message = N_("It answers and would take mail, which travels to it unencrypted.")
        return Probe(relay.name, NOTE, message)
    return Probe(relay.name, GOOD, N_("It answers and would take mail."))


async def _open_and_quit(relay: Relay, ehlo_name: str) -> None:
    steps = Deadlines(connect=SECONDS, command=SECONDS)
    opening = Connection.open(relay, ehlo_name=ehlo_name, deadlines=steps)
    try:
        async with asyncio.timeout(3 * SECONDS):
            connection = await opening
    except TimeoutError:
        raise RelayError(
            N_("The relay %(relay)s cannot be reached: it does not answer."),
            relay=relay.name,
        ) from None
    await connection.quit()


def greet(relay: Relay) -> smtplib.SMTP:
    """Connect as the settings say, with verified certificates. Raises OSError."""
    context = ssl.create_default_context()
    if relay.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            relay.host, relay.port, timeout=SECONDS, context=context
        )
    else:
        server = smtplib.SMTP(relay.host, relay.port, timeout=SECONDS)
    server.ehlo(socket.getfqdn())
    if relay.security == "starttls":
        server.starttls(context=context)
        server.ehlo(socket.getfqdn())
    return server


def txt_lookup(
    resolver: dns.resolver.Resolver | None = None, *, within: float = 0.0
) -> Lookup:
    """Return a function that looks up TXT records within three seconds.

    `within` is how many seconds all of them together may take, where that is limited.
    """
    end = time.monotonic() + within

    def lookup(name: str) -> list[str]:
        left = min(SECONDS, end - time.monotonic()) if within else SECONDS
        if left <= 0:
            raise dns.exception.Timeout
        try:
            chosen = resolver or dns.resolver.get_default_resolver()
            answer = chosen.resolve(name, "TXT", lifetime=left)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        return [b"".join(record.strings).decode(errors="replace") for record in answer]

    return lookup


def starting(records: Iterable[str], start: str) -> list[str]:
    """Return the records that begin with some words."""
    return [text for text in records if text.lower().startswith(start)]


def is_made_up(domain: str) -> bool:
    """Tell whether a domain cannot be in the DNS."""
    return (
        domain in EXAMPLES
        or domain.endswith(MADE_UP)
        or not urlsplit(f"//{domain}").hostname
    )


def spf_probe(domain: str, lookup: Lookup) -> Probe:
    """Look up who may send in a domain's name. Raises DNSException."""
    records = starting(lookup(domain), "v=spf1")
    if not records:
        message = N_(
            "There is no record. Add one that names your relay; its provider says how."
        )
        return Probe("SPF", WRONG, message, {}, domain, "v=spf1 include:… -all")
    if len(records) > 1:
        return Probe("SPF", WRONG, N_("There are several records. Leave one."))
    lookups = [term for term in records[0].lower().split()[1:] if _costs_lookup(term)]
    if len(lookups) > SPF_LOOKUPS:
        message = N_("It takes %(number)s lookups; receivers stop after %(limit)s.")
        values = {"number": str(len(lookups)), "limit": str(SPF_LOOKUPS)}
        return Probe("SPF", WRONG, message, values)
    if "+all" in records[0].split():
        return Probe("SPF", WRONG, N_("+all lets anyone send in your name."))
    return Probe("SPF", GOOD, N_("The DNS says: %(text)s"), _said(records[0]))


def dmarc_probe(domain: str, lookup: Lookup) -> Probe:
    """Look up what a domain asks of receivers. Raises DNSException."""
    name = domain
    while name.count("."):  # RFC 9989: up the tree until a record is found
        records = starting(lookup(f"_dmarc.{name}"), "v=dmarc1")
        if records:
            return Probe("DMARC", GOOD, N_("The DNS says: %(text)s"), _said(records[0]))
        name = name.partition(".")[2]
    message = N_("There is no record; Gmail and Yahoo ask for one. The least is this.")
    return Probe("DMARC", WRONG, message, {}, f"_dmarc.{domain}", "v=DMARC1; p=none")


def _costs_lookup(term: str) -> bool:
    name = re.split("[:/]", term.lstrip("+-~?"))[0]
    return name in SPF_COSTLY or term.startswith("redirect=")


def _dkim(key: DkimKey, lookup: Lookup) -> Probe:
    name = record_name(key.domain, key.selector)
    if wrong := flaw(lookup(name), key.algorithm, key.public):
        text = record(key.algorithm, key.public)
        return Probe("DKIM", WRONG, wrong, {"name": name}, name, text)
    message = N_("The key at %(name)s is the one that signs.")
    return Probe("DKIM", GOOD, message, {"name": name})


def _mail_host(domain: str, resolver: dns.resolver.Resolver) -> str:
    """Return the host that takes a domain's mail; "" where none does.

    Raises NXDOMAIN, and other DNSExceptions where the DNS does not say.
    """
    for kind in ("MX", "A", "AAAA"):
        try:
            found = resolver.resolve(domain, kind, lifetime=SECONDS)
        except dns.resolver.NoAnswer:
            continue
        if kind != "MX":
            return domain
        best = min(found, key=lambda record: record.preference)
        return str(best.exchange).rstrip(".")  # "" is a null MX (RFC 7505)
    return ""


def _said(text: str) -> dict[str, str]:
    return {"text": text[:MAX_SHOWN]}
