"""What can be seen in the mail itself: subject, words, pictures, size, ways out. Pure.

An error is what must not leave and what an editor can put right here: their own words,
the theme, the sender. What comes from a blog asks, since it may be meant like that.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from newsletter import plaintext
from newsletter.digests import compose
from newsletter.digests.preflight import features, page, wayout
from newsletter.digests.preflight.findings import Finding, Level, few
from newsletter.digests.preflight.page import Page
from newsletter.errors import N_
from newsletter.mail.mime import Letter

GMAIL_CUTS = 102_400  # bytes of the HTML part, encoded
NEARLY = 95_000
LONG_SUBJECT = 90  # characters; computers show about 70, phones 40
SHOUTED = 8  # letters; fewer capitals are an abbreviation

_LEFT_OVER = re.compile(
    r"\{\{.{0,60}?\}\}|\{%.{0,60}?%\}|\*\|[A-Z0-9_:]{1,40}\|\*|%%[\w ]{1,40}%%"
    r"|\$\{[\w.]{1,40}\}|<%.{0,60}?%>",
    re.DOTALL,
)
_DUMMY = re.compile(r"\blorem ipsum\b", re.IGNORECASE)
# Not the words of a Markdown link, which go on with "(".
_UNFINISHED = re.compile(
    r"\[(?:rubrik|titel|namn|förnamn|datum|text|länk|bild|ingress|ort|tid|x+"
    r"|title|headline|name|first ?name|date|link|image|place|time|insert[^\]]{0,40}"
    r"|your[^\]]{0,40}|todo[^\]]{0,40})\](?!\()"
    r"|\b(?:TODO|FIXME|TBD|XXX+)\b|\b[Xx]{3,}\b"
    r"|\b(?:rubrik|text|länk|bild) (?:här|kommer)\b|\bskriv (?:här|något här)\b"
    r"|\b(?:platshållare|exempeltext|placeholder)\b|\byour text here\b"
    r"|\binsert [\w ]{1,30} here\b",
    re.IGNORECASE,
)
_CAPITALS = re.compile(r"\b(?:TODO|FIXME|TBD|XXX+)\b")
_ALWAYS_CAPITALS = ("todo", "fixme", "tbd")  # "todo" is a Spanish word for all
_TRIAL = re.compile(
    r"\W*(?:(?:det här är )?(?:ett )?test(?:ar|mejl|mail|utskick|issue|letter)?|prov"
    r"|(?:this is )?a test|asdf\w*|qwerty|hej hej|hello world|namnlös|untitled|utkast"
    r"|draft)\W*\d*\W*",
    re.IGNORECASE,
)
_SILENT = re.compile(r"!\[\s*\]\(\s*([^)\s]+)")  # Markdown: a picture without words
_EXCLAIMS = re.compile(r"!\s*!|\?\s*!|!\s*\?|\?\s*\?")

FIELDS = {
    "subject": N_("the subject"),
    "preview_text": N_("the preview text"),
    "opening": N_("what you wrote"),
    "posts": N_("the posts"),
}


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to look at, and what of it is in an editor's hand.

    `own` are the words written for this issue by field, `posts` what came with them.
    """

    letter: Letter
    page: Page
    own: Mapping[str, str]
    posts: str
    sender_line: str  # who is behind it, and the postal address
    made_subject: bool = False  # of the posts, by us
    sent_html: str = ""  # where it is sent with other links than it has here


def check(mail: Mail) -> Iterator[Finding]:
    """Yield what there is to say of a mail."""
    yield from _subject(mail)
    yield from _placeholders(mail)
    yield from _way_out(mail)
    yield from _postal_address(mail)
    yield from _size(mail)
    yield from _pictures(mail)
    yield from _contrast(mail)
    yield from _features(mail)


def _subject(mail: Mail) -> Iterator[Finding]:
    subject = mail.letter.subject
    length = len(subject)
    found = []
    if length > LONG_SUBJECT and not mail.made_subject:
        found.append(
            Finding(
                "subject.long",
                Level.WARNING,
                N_("The subject has %(length)s characters."),
                N_("Phones show about 40 and computers 70: say what matters first."),
                {"length": length},
            )
        )
    if _shouts(subject):
        found.append(
            Finding(
                "subject.shouts",
                Level.WARNING,
                N_("The subject shouts."),
                N_("Capitals and rows of exclamation marks look like junk mail."),
                where=(subject,),
            )
        )
    if _TRIAL.fullmatch(subject):
        found.append(
            Finding(
                "subject.trial",
                Level.WARNING,
                N_("The subject looks like a trial: “%(subject)s”."),
                N_("Write what the mail is about."),
                {"subject": subject},
            )
        )
    yield from found or [
        Finding(
            "subject",
            Level.PASSED,
            N_("The subject has %(length)s characters and does not shout."),
            values={"length": length},
        )
    ]


def _shouts(subject: str) -> bool:
    letters = [c for c in subject if c.isalpha()]
    words = [w for w in re.findall(r"\w+", subject) if w.isupper() and len(w) > 1]
    capitals = sum(c.isupper() for c in letters)
    loud = sum(map(len, words)) >= SHOUTED and capitals > len(letters) * 0.6
    return loud or bool(_EXCLAIMS.search(subject)) or subject.count("!") > 2


def _placeholders(mail: Mail) -> Iterator[Finding]:
    quiet = True
    for field, text in mail.own.items():
        for code, level, places in _left_in(text):
            quiet = False
            yield _placeholder(code, field, level, places)
    for code, _level, places in _left_in(mail.posts):
        quiet = False
        yield _placeholder(code, "posts", Level.WARNING, places)
    if quiet:
        yield Finding(
            "placeholder", Level.PASSED, N_("No placeholder was left in the words.")
        )


def _left_in(text: str) -> Iterator[tuple[str, Level, list[str]]]:
    """Yield each kind of placeholder in a text, and the places it stands at."""
    if found := _LEFT_OVER.findall(text):
        yield "tag", Level.ERROR, found
    if found := _DUMMY.findall(text):
        yield "dummy", Level.ERROR, found
    found = [
        hit
        for hit in _UNFINISHED.findall(text)
        if hit.lower() not in _ALWAYS_CAPITALS or _CAPITALS.fullmatch(hit)
    ]
    if found:
        yield "unfinished", Level.WARNING, found


_PLACEHOLDER = {
    "tag": (
        N_("A merge tag was left in %(place)s."),
        N_("Readers would see it like this. Write what is meant, or take it out."),
    ),
    "dummy": (
        N_("There is dummy text in %(place)s."),
        N_("Replace it, or take it out."),
    ),
    "unfinished": (
        N_("Something looks unfinished in %(place)s."),
        N_("Fill it in, unless it is meant like that."),
    ),
}


def _placeholder(code: str, field: str, level: Level, places: list[str]) -> Finding:
    what, advice = _PLACEHOLDER[code]
    shown = dict.fromkeys(plaintext.one_line(place, 80) for place in places)
    return Finding(
        f"placeholder.{code}.{field}",
        level,
        what,
        advice,
        {"place": FIELDS[field]},
        few(shown),
    )


def _way_out(mail: Mail) -> Iterator[Finding]:
    missing = wayout.missing_in(mail.letter)
    for part in missing:
        yield Finding(
            f"unsubscribe.{part}",
            Level.ERROR,
            wayout.N_PART[part],
        )
    if not missing:
        yield Finding(
            "unsubscribe",
            Level.PASSED,
            N_("Readers can unsubscribe from both parts, and in their mail program."),
        )


def _postal_address(mail: Mail) -> Iterator[Finding]:
    line = plaintext.squeeze(mail.sender_line)
    lacking = [
        part
        for part, text in (("html", mail.page.text), ("text", mail.letter.text))
        if line not in plaintext.squeeze(text)
    ]
    if lacking:
        yield Finding(
            "address",
            Level.ERROR,
            N_("The postal address does not stand in both parts of the mail."),
            N_("The theme must show sender_line. Whoever runs Inkorg can help."),
            where=tuple(lacking),
        )
    else:
        yield Finding("address", Level.PASSED, N_("The postal address is there."))


def _size(mail: Mail) -> Iterator[Finding]:
    size = compose.encoded_size(mail.sent_html or mail.letter.html)
    values = {"size": round(size / 1024)}
    if size > GMAIL_CUTS:
        yield Finding(
            "size",
            Level.ERROR,
            N_(
                "The mail is %(size)s kB. Gmail cuts it at 102, and the footer with it."
            ),
            N_("Hide a post or shorten what you wrote."),
            values,
        )
    elif size > NEARLY:
        yield Finding(
            "size",
            Level.PASSED,
            N_("The mail is %(size)s kB, just under the 102 at which Gmail cuts it."),
            values=values,
        )
    else:
        yield Finding(
            "size",
            Level.PASSED,
            N_("The mail is %(size)s kB; Gmail would cut it at 102."),
            values=values,
        )


def _pictures(mail: Mail) -> Iterator[Finding]:
    pictures = [p for p in mail.page.pictures if "/portraits/" not in p.url]
    dropped = _SILENT.findall(mail.own.get("opening", ""))
    silent = dict.fromkeys(p.url for p in pictures if not (p.alt or "").strip())
    silent |= dict.fromkeys(dropped)
    if silent:
        yield Finding(
            "pictures.alt",
            Level.WARNING,
            N_("A picture says nothing to those who cannot see it."),
            N_("Write what it shows: ![two people at a table](…)."),
            where=few(silent),
        )
    elif pictures:
        yield Finding(
            "pictures.alt", Level.PASSED, N_("Every picture is described in words.")
        )


def _contrast(mail: Mail) -> Iterator[Finding]:
    light = mail.page.faint.values()
    dark = page.read(mail.letter.html, night=True).faint.values()
    for code, faint, what in (
        ("contrast", light, N_("Some words are hard to read on their ground.")),
        ("contrast.dark", dark, N_("Some words are hard to read in dark mode.")),
    ):
        places = {
            f"“{plaintext.one_line(f.words, 40)}” ({f.ratio:.1f}:1)": None
            for f in sorted(faint, key=lambda f: f.ratio)
        }
        if places:
            yield Finding(
                code,
                Level.WARNING,
                what,
                N_("Choose a colour that differs more, under Design. Aim at 4.5:1."),
                where=few(places),
            )
    if not light and not dark:
        yield Finding(
            "contrast",
            Level.PASSED,
            N_("All words stand out from their ground, in light and in dark mode."),
        )


def _features(mail: Mail) -> Iterator[Finding]:
    uses = features.used(mail.page)
    if uses:
        places = {f"{use.shown}: {', '.join(use.lacking)}": None for use in uses}
        yield Finding(
            "features",
            Level.WARNING,
            N_("Some mail programs do not show everything in this mail."),
            N_("Use something else, or see in a test how it looks there."),
            where=few(places),
        )
    else:
        yield Finding(
            "features",
            Level.PASSED,
            N_("Nothing in it is unknown to the usual mail programs."),
        )
