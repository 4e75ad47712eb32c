"""Whether others can believe that a mail comes from its sender: SPF, DKIM, DMARC.

All three must speak for the domain in From (alignment): the envelope and our own
signatures have it, or one above it, by construction; the relay's signature may not.
"""

from collections.abc import Iterator, Sequence

from newsletter.digests.preflight.findings import Finding, Level
from newsletter.errors import N_
from newsletter.mail import probing
from newsletter.mail.probing import Lookup, Probe
from newsletter.models import DkimKey


def check(domain: str, keys: Sequence[DkimKey], lookup: Lookup) -> Iterator[Finding]:
    """Yield what the DNS says of the sender's domain; `keys` are those that sign."""
    if domain in probing.FREE_MAIL:
        yield Finding(
            "sender.free",
            Level.WARNING,
            N_("%(domain)s does not let others send in its name."),
            N_("Use an address of your own domain, in the settings."),
            {"domain": domain},
        )
        return
    probes = list(probing.domain_probes(domain, keys, lookup))
    for probe in probes:
        if probe.state != probing.GOOD:
            yield _finding(domain, probe)
    if not keys and _turns_away(probes):
        yield Finding(
            "sender.alignment",
            Level.UNKNOWN,
            N_(
                "%(domain)s asks receivers to turn away mail that is not signed in its"
                " name, and Inkorg has no key of it."
            ),
            N_("See in a test mail that your relay signs with d=%(domain)s."),
            {"domain": domain},
        )
    good = [probe.about for probe in probes if probe.state == probing.GOOD]
    if good:
        yield Finding(
            "sender",
            Level.PASSED,
            N_("In the DNS of %(domain)s these are in order: %(what)s."),
            values={"what": ", ".join(dict.fromkeys(good)), "domain": domain},
        )


def _finding(domain: str, probe: Probe) -> Finding:
    """Return what is wrong or not known, and the record that would mend it."""
    wrong = probe.state == probing.WRONG
    where = [probe.about if probe.about == domain else f"{probe.about}: {domain}"]
    if probe.name:
        where.append(f"{probe.name} TXT {probe.text}")
    return Finding(
        f"sender.{probe.about.lower()}" if probe.about != domain else "sender",
        Level.WARNING if wrong else Level.UNKNOWN,
        probe.message,
        "",
        dict(probe.values),
        tuple(where),
    )


def _turns_away(probes: Sequence[Probe]) -> bool:
    """Tell whether the domain asks receivers to turn away what is not aligned."""
    policies = [
        probe.values.get("text", "").lower().replace(" ", "")
        for probe in probes
        if probe.about == "DMARC" and probe.state == probing.GOOD
    ]
    return any("p=reject" in text or "p=quarantine" in text for text in policies)
