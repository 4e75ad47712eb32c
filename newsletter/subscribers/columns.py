"""What a file's columns mean: headings of other systems, and what their words say.

A layout is a guess that a person may overrule, column by column. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from newsletter.errors import N_, InvalidInput

# What a column can be; several of the same file may be a `MANY`.
FIELDS = {
    "email": N_("E-mail address"),
    "name": N_("Name (several are joined)"),
    "status": N_("Status, in words"),
    "wants": N_("Wants mail: yes or no"),
    "stopped": N_("Wants no mail: yes or no"),
    "requested_at": N_("When they signed up"),
    "confirmed_at": N_("When they confirmed"),
    "left_at": N_("When they left or bounced"),
    "source": N_("Where the consent comes from"),
    "network": N_("Network address of the consent"),
    "language": N_("Language"),
    "topics": N_("Topics"),
    "rhythm": N_("Rhythm"),
}
MANY = {"name", "status", "left_at", "topics"}


class Standing(IntEnum):
    """How somebody stood in another system; the strongest no is the highest."""

    READER = 0
    UNCONFIRMED = 1
    BOUNCED = 2
    LEFT = 3
    COMPLAINED = 4
    NEVER = 5


# What a whole file can hold, whatever its columns say.
WHOLE_FILES = {
    "": N_("What the columns say"),
    "reader": N_("Readers, all of them"),
    "left": N_("People who have left"),
    "bounced": N_("Addresses that bounced"),
    "complained": N_("People who complained"),
    "unconfirmed": N_("People who never confirmed"),
}
STANDINGS = {standing.name.lower(): standing for standing in Standing}
_WORDS = {
    Standing.READER: "active subscribed enabled confirmed regular premium gifted"
    " trialed unpaid churning churned paused past_due inactive reader free paid comp"
    " yes true 1 aktiv prenumererar prenumerant ja verified opted-in optin",
    Standing.UNCONFIRMED: "pending unconfirmed unactivated nonsubscribed non-subscribed"
    " transactional obekräftad",
    Standing.BOUNCED: "bounced cleaned undeliverable unreachable hard-bounced invalid"
    " studsade studsad",
    Standing.LEFT: "left unsubscribed disabled removed deleted archived opted-out"
    " optout avslutad avregistrerad avprenumererad no false 0 nej",
    Standing.COMPLAINED: "complained spam spammy spam-complaint complaint abuse junk",
    Standing.NEVER: "blocklisted blacklisted blocked suppressed never erased",
}
WORDS = {word: standing for standing, many in _WORDS.items() for word in many.split()}
YES = {"1", "true", "yes", "y", "t", "ja", "j", "sant"}
NO = {"0", "false", "no", "n", "f", "nej", "falskt"}

_NAMES = {
    "email": "email|e-mail|mail|epost|e-post|e-postadress|email address|e-mail address"
    "|email_address|epostadress|mejl|mejladress|address",
    "name": "name|namn|full name|first name|last name|firstname|lastname|first_name"
    "|last_name|förnamn|efternamn|full_name",
    "status": "status",
    "requested_at": "requested_at|created_at|subscribed_at|signup date|created"
    "|subscribed|date added|anmäld",
    "confirmed_at": "confirmed_at|confirmed|optin_time|bekräftad",
    "left_at": "left_at|unsubscribed_at|unsubscribed on|avslutad",
    "source": "source|consent|källa|samtycke",
    "language": "language|språk|lang|locale",
    "topics": "topics|ämnen|tags|taggar|labels",
    "rhythm": "rhythm|rytm",
}
NAMES = {name: field for field, many in _NAMES.items() for name in many.split("|")}


@dataclass(frozen=True, slots=True)
class System:
    """Another service's export: what its heading holds, and what that means."""

    name: str
    signs: tuple[frozenset[str], ...]  # one of these sets is in the heading
    columns: Mapping[str, str]


def _system(title: str, signs: str, **fields: str) -> System:
    return System(
        title,
        tuple(frozenset(one.split("|")) for one in signs.split(" / ")),
        {col: field for field, many in fields.items() for col in many.split("|")},
    )


SYSTEMS = (
    _system(
        "Mailchimp",
        "leid|euid / member_rating|optin_time",
        email="email address|email",
        name="first name|last name|name",
        requested_at="optin_time",
        confirmed_at="confirm_time",
        network="confirm_ip",
        left_at="unsub_time|clean_time",
        topics="tags",
    ),
    _system(
        "listmonk",
        "uuid|email|attributes|status",
        email="email",
        name="name",
        status="status",
        requested_at="created_at",
    ),
    _system(
        "Ghost",
        "email|subscribed_to_emails",
        email="email",
        name="name",
        wants="subscribed_to_emails",
        requested_at="created_at",
        left_at="deleted_at",
        topics="labels",
    ),
    _system(
        "Substack",
        "email|active_subscription|created_at / email|email_disabled",
        email="email",
        name="name",
        stopped="email_disabled",
        requested_at="created_at",
    ),
    _system(
        "Buttondown",
        "creation_date|subscriber_type / creation_date|email_address",
        email="email|email_address",
        status="subscriber_type|type",
        requested_at="creation_date",
        left_at="unsubscription_date|undeliverability_date",
        network="ip_address",
        topics="tags",
        source="source",
    ),
    _system(
        "MailPoet",
        "email|global status / email|list status",
        email="email",
        name="first name|last name",
        status="global status|list status",
        requested_at="subscribed on|created on",
        confirmed_at="confirmed on|confirmed at",
        network="ip address",
    ),
    _system(
        "Inkorg",
        "email|rhythm|requested_at|confirmed_at|left_at",
        **{name: name for name in ("email", "name", "status", "rhythm", "language")},
        **{name: name for name in ("topics", "source")},
        **{name: name for name in ("requested_at", "confirmed_at", "left_at")},
    ),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What each column of a file is ("" is not used), and where the file comes from."""

    fields: tuple[str, ...]
    system: str = ""
    whole: str = ""  # of WHOLE_FILES

    @property
    def is_lenient(self) -> bool:
        """Tell whether labels that are no topics here are passed over."""
        return self.system not in ("", "Inkorg")


def recognise(heading: Sequence[str], file_name: str = "") -> Layout:
    """Guess what the columns are. Without an address column, `check` refuses it."""
    names = [_plain(cell) for cell in heading]
    system = next(
        (one for one in SYSTEMS if any(signs <= set(names) for signs in one.signs)),
        None,
    )
    known = system.columns if system else NAMES
    taken: set[str] = set()
    fields = []
    for name in names:
        field = known.get(name, "")
        if field in taken and field not in MANY:
            field = ""
        taken.add(field)
        fields.append(field)
    layout = Layout(tuple(fields), system.name if system else "")
    if layout.system == "Mailchimp":
        return replace(layout, whole=_mailchimp(names, file_name))
    return layout


def check(layout: Layout) -> Layout:
    """Return a layout that can be used. Raises InvalidInput."""
    fields = [field for field in layout.fields if field]
    if unknown := [field for field in fields if field not in FIELDS]:
        raise InvalidInput(
            N_("%(field)s is nothing that a column can be."), field=unknown[0][:40]
        )
    if "email" not in fields:
        raise InvalidInput(
            N_("The file has no column called email. Its first line must name them.")
        )
    for field in fields:
        if fields.count(field) > 1 and field not in MANY:
            raise InvalidInput(
                N_("Two columns are both “%(what)s”. Choose one of them."),
                what=FIELDS[field],
            )
    if layout.whole not in WHOLE_FILES:
        raise InvalidInput(N_("Choose who is in the file."))
    return layout


def standing_of(word: str) -> Standing | None:
    """Return what a status says in another system's words; None if nobody knows."""
    return WORDS.get(re.sub(r"[\s]+", "-", word.strip().casefold()))


def _plain(cell: str) -> str:
    return cell.strip().strip("\ufeff").strip().casefold()


def _mailchimp(names: Sequence[str], file_name: str) -> str:
    """Tell whom a Mailchimp file holds: it has one for each kind."""
    base = file_name.replace("\\", "/").rpartition("/")[2].casefold()
    for beginning, whole in (
        ("unsubscribed", "left"),
        ("cleaned", "bounced"),
        ("nonsubscribed", "unconfirmed"),
        ("subscribed", ""),
    ):
        if base.startswith(beginning):
            return whole
    if "clean_time" in names:
        return "bounced"
    return "left" if "unsub_time" in names else ""
