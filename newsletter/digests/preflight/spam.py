"""What SpamAssassin says of a mail, where `spamc` is installed beside us."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from newsletter.digests.preflight.findings import Finding, Level
from newsletter.errors import N_

PROGRAM = "spamc"
SECONDS = 5
MOST_BYTES = 250_000
MOST_RULES = 5
_SCORE = re.compile(r"(-?\d{1,4}(?:\.\d+)?)/(-?\d{1,4}(?:\.\d+)?)\s*")
_RULE = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s+([A-Z][A-Z0-9_]{2,60})\s+(\S.*)$", re.M)


def ask(mail: bytes, *, program: str | None = None) -> Iterator[Finding]:
    """Yield what SpamAssassin makes of a mail; nothing where it is not installed."""
    found = shutil.which(program or PROGRAM)
    if not found:
        return
    try:
        answer = subprocess.run(  # noqa: S603 (no shell; the mail is its input)
            [found, "-R", "-t", str(SECONDS)],
            input=mail[:MOST_BYTES],
            capture_output=True,
            timeout=SECONDS + 1,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        answer = ""
    yield read(answer)


def read(answer: str) -> Finding:
    """Read what `spamc -R` printed: points/limit, then the rules that gave them."""
    head, _, report = answer.partition("\n")
    score = _SCORE.fullmatch(head)
    if not score or float(score[2]) <= 0:  # "0/0": its server does not answer
        return Finding(
            "spam",
            Level.UNKNOWN,
            N_("SpamAssassin is installed but does not answer."),
            N_("Whoever runs Inkorg can start its server, spamd."),
        )
    values: dict[str, str | int] = {"points": score[1], "limit": score[2]}
    if float(score[1]) < float(score[2]):
        return Finding(
            "spam",
            Level.PASSED,
            N_(
                "SpamAssassin gives it %(points)s points; %(limit)s would make it junk."
            ),
            values=values,
        )
    rules = sorted(_RULE.findall(report), key=lambda rule: -float(rule[0]))
    return Finding(
        "spam.junk",
        Level.WARNING,
        N_("SpamAssassin takes it for junk: %(points)s points of %(limit)s."),
        N_("What counts most stands here. Change that, and look again."),
        values,
        tuple(
            f"{points} {name}: {words.strip()[:120]}"
            for points, name, words in rules[:MOST_RULES]
            if float(points) > 0
        ),
    )
