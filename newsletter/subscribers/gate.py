"""What stands before every way in: a trap for robots, and limits (SEC-01).

Counts are kept by the minute in `rate`, under keyed hashes only.
"""

from datetime import datetime, timedelta

from sqlalchemy import case, delete, func, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from newsletter.config import Settings
from newsletter.errors import N_, TooMany
from newsletter.models import Rate
from newsletter.subscribers.addresses import address_hash
from newsletter.subscribers.consent import cut_network, upsert

# A field that people do not see; robots fill it in.
TRAP_FIELD = "website"
# Longer than a house, as providers hand out IPv6; not the same as what is stored.
LIMITED_BITS = {4: 24, 6: 56}

# How many mails one mailbox can be made to get, however many ask for it.
MAIL_GAP = timedelta(minutes=10)
MAIL_LIMITS = ((timedelta(hours=24), 3), (timedelta(days=30), 5))
NETWORK_WINDOW = timedelta(hours=1)
KEPT_FOR_NETWORKS = timedelta(hours=24)
KEPT_FOR_MAILBOXES = timedelta(days=30)

# Spread over rows, so that parallel sign-ups do not wait for one another's commit.
SHARDS = "01234567"


def is_trapped(trap_text: str) -> bool:
    """Tell whether the field that people do not see was filled in."""
    return bool(trap_text.strip())


def check_ways_in(
    session: Session, settings: Settings, network: str, *, now: datetime
) -> None:
    """Refuse when a network, or the whole world, asks too often.

    Depends on nothing about the address asked for. Raises TooMany.
    """
    network_key = _network_key(settings, network)
    query = select(
        _total(Rate.key == network_key), _total(Rate.key != network_key)
    ).where(
        Rate.key.in_([network_key, *_everybody()]),
        Rate.minute >= _minute(now - NETWORK_WINDOW),
    )
    from_network, from_all = session.execute(query).one()
    if from_network >= settings.signups_per_network_hour:
        raise TooMany(
            N_("Many have signed up from your network just now. Try again in an hour.")
        )
    if from_all >= settings.signups_per_hour:
        raise TooMany(N_("Very many are signing up right now. Try again in an hour."))


def count_way_in(
    session: Session, settings: Settings, network: str, mailbox: str, *, now: datetime
) -> None:
    """Count one use of a way in."""
    shard = SHARDS[int(mailbox[0], 16) % len(SHARDS)]
    _count(session, [_network_key(settings, network), f"all:{shard}"], now)


def hold(session: Session, mailbox: str) -> None:
    """Let one transaction at a time decide about a mailbox.

    On SQLite every writer waits for the others as it is.
    """
    if session.get_bind().dialect.name == "postgresql":
        key = int(mailbox[:15], 16)
        session.execute(select(func.pg_advisory_xact_lock(key)))


def may_mail(session: Session, mailbox: str, occasion: str, *, now: datetime) -> bool:
    """Tell whether a mailbox may be sent one more mail that anyone could ask for.

    The ten minutes count for each occasion, the day and the month for all together.
    """
    gap_key, mailbox_key = _gap_key(mailbox, occasion), _mailbox_key(mailbox)
    longest = max(span for span, _ in MAIL_LIMITS)
    rows = session.execute(
        select(Rate.key, Rate.minute, Rate.count.label("times")).where(
            Rate.key.in_([gap_key, mailbox_key]), Rate.minute >= _minute(now - longest)
        )
    ).all()

    def since(key: str, span: timedelta) -> int:
        # The minute that a span begins in counts whole: rather a little late.
        first = _minute(now - span)
        return sum(r.times for r in rows if r.key == key and r.minute >= first)

    if since(gap_key, MAIL_GAP):
        return False
    return all(since(mailbox_key, span) < most for span, most in MAIL_LIMITS)


def count_mail(session: Session, mailbox: str, occasion: str, *, now: datetime) -> None:
    """Count a mail to a mailbox."""
    _count(session, [_gap_key(mailbox, occasion), _mailbox_key(mailbox)], now)


def is_about(mailbox: str) -> ColumnElement[bool]:
    """Return the condition that picks the counts kept about a mailbox."""
    return or_(
        Rate.key == _mailbox_key(mailbox), Rate.key.startswith(_gap_key(mailbox, ""))
    )


def purge_counts(session: Session, *, now: datetime) -> None:
    """Forget counts that no limit looks at any more."""
    session.execute(
        delete(Rate).where(
            or_(
                Rate.minute < _minute(now - KEPT_FOR_MAILBOXES),
                (Rate.minute < _minute(now - KEPT_FOR_NETWORKS))
                & Rate.key.not_like("mailbox:%"),
            )
        )
    )


def _network_key(settings: Settings, network: str) -> str:
    cut = cut_network(network, LIMITED_BITS)
    return f"network:{address_hash(settings, cut)}"


def _mailbox_key(mailbox: str) -> str:
    return f"mailbox:{mailbox}"


def _gap_key(mailbox: str, occasion: str) -> str:
    return f"gap:{mailbox[:40]}:{occasion}"[:80]


def _everybody() -> list[str]:
    return [f"all:{shard}" for shard in SHARDS]


def _minute(moment: datetime) -> int:
    return int(moment.timestamp()) // 60


def _total(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, Rate.count), else_=0)), 0)


def _count(session: Session, keys: list[str], now: datetime) -> None:
    minute = _minute(now)
    insert = upsert(session, Rate).values(
        [{"key": key, "minute": minute, "count": 1} for key in keys]
    )
    session.execute(
        insert.on_conflict_do_update(
            index_elements=["key", "minute"], set_={"count": Rate.count + 1}
        )
    )
