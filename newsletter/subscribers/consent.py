"""The consent record: each step, what was shown, when and where from. Append-only."""

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from newsletter.models import Consent, Subscription, Wording

MAX_PAGE_CHARACTERS = 2000
MAX_WORDING_CHARACTERS = 10_000
# How much of an address is kept: the house's block, not the flat.
KEPT_BITS = {4: 24, 6: 48}

# The steps there are, in the order a reader's life usually takes them.
REQUESTED, CONFIRMED, IMPORTED = "requested", "confirmed", "imported"
CHANGED, PAUSED, RESUMED = "changed", "paused", "resumed"
LEFT, RETURNED, SUPPRESSED = "left", "returned", "suppressed"
ADDRESS_CHANGED, MERGED = "address changed", "merged"
LIFTED = "lifted"  # a suppression; detail["status"] is what the subscription was then


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a step was taken: the page, the client's address, the words shown there.

    `network` is the address as it came in (limits need it); it is cut before it is
    stored.
    """

    page: str = ""
    network: str = ""
    wording: str = ""


def record(
    session: Session,
    subscription: Subscription,
    event: str,
    origin: Origin,
    *,
    now: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    """Append one step."""
    keep_network = subscription.newsletter.record_network
    session.add(
        Consent(
            subscription_id=subscription.id,
            event=event,
            at=now,
            wording_id=store_wording(session, origin.wording, subscription.language),
            page=origin.page[:MAX_PAGE_CHARACTERS],
            network=cut_network(origin.network) if keep_network else "",
            detail=detail or {},
        )
    )


def store_wording(session: Session, text: str, language: str) -> int | None:
    """Return the id of a text, stored once however often it was shown."""
    text = text.strip()[:MAX_WORDING_CHARACTERS]
    if not text:
        return None
    digest = hashlib.sha256(f"{language}\n{text}".encode()).hexdigest()
    known = select(Wording.id).where(Wording.digest == digest)
    if (found := session.scalar(known)) is not None:
        return found
    session.execute(
        upsert(session, Wording)
        .values(digest=digest, language=language, text=text)
        .on_conflict_do_nothing(index_elements=["digest"])
    )
    return session.scalar(known)


def cut_network(address: str, bits: dict[int, int] = KEPT_BITS) -> str:
    """Return the network that `address` is in, or "" if it is not an address."""
    try:
        ip = ipaddress.ip_interface(address.strip()).ip
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network(f"{ip}/{bits[ip.version]}", strict=False))


def upsert(session: Session, model: Any) -> Any:
    """Return an INSERT that knows ON CONFLICT, in this database's dialect."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql_insert(model)
    return sqlite_insert(model)
