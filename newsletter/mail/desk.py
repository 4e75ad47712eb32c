"""What a worker has in hand: claimed deliveries, single mails on top, and the pace.

Claims grow stale. What has lain here for longer than `FRESH_SECONDS` is not sent but
given back, so that whoever leaves, pauses or cancels is heard within two seconds, also
where the relay is slow.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, groupby, repeat
from operator import attrgetter

from newsletter.mail.dkim import Seal
from newsletter.mail.ledger import SINGLE, Claim
from newsletter.mail.mime import NOBODY, Frozen

FRESH_SECONDS = 1.0
RATE_WINDOW_SECONDS = 2.0
_message_of = attrgetter("message_id")


@dataclass(frozen=True, slots=True)
class Words:
    """A message as it is loaded for sending."""

    frozen: Frozen
    sender: str
    nonce: str
    hold_unknown: bool
    seal: Seal | None = None  # signs it
    loaded_at: float = 0.0


class Errand:
    """A claim with the words it carries, and when it was claimed and begun."""

    __slots__ = (
        "at",
        "begun",
        "claim",
        "provider",
        "signature",
        "since",
        "values",
        "words",
    )

    def __init__(
        self,
        claim: Claim,
        words: Words,
        since: float,
        at: datetime,
        values: tuple[bytes, ...] | None = None,
    ) -> None:
        """Begin nothing yet; `at` is what its Date will say."""
        self.claim = claim
        self.words = words
        self.since = since
        self.at = at
        self.begun = 0.0
        self.provider = ""  # of the address, where it is counted
        self.values = values  # the reader's fields
        self.signature: bytes | None = None  # the headers of one, made ahead

    def fill(self) -> tuple[bytes, ...]:
        """Return the reader's fields."""
        claim, words = self.claim, self.words
        self.values = words.frozen.values(
            address=claim.address,
            delivery_id=claim.id,
            nonce=words.nonce,
            leave_token=claim.leave_token or NOBODY,
            preferences_token=claim.preferences_token or NOBODY,
            at=self.at,
        )
        return self.values

    def sign(self) -> bytes:
        """Return the signature's headers."""
        assert self.words.seal  # noqa: S101 (or nobody signs)
        self.signature = self.words.seal.sign(self.values or self.fill(), self.at)
        return self.signature

    def pieces(self) -> list[bytes]:
        """Return the message as it goes over the wire."""
        words = self.words
        pieces = words.frozen.pieces(self.values or self.fill())
        if words.seal:
            pieces.insert(0, self.signature or self.sign())
        return pieces


def errands_for(
    claims: Iterable[Claim], words: Mapping[int, Words], *, since: float, at: datetime
) -> list[Errand]:
    """Make errands of claims; those of one message are filled at once, if all plain."""
    errands = []
    for message_id, group in groupby(claims, _message_of):
        same, its = list(group), words[message_id]
        filled = _filled(same, its, at) or repeat(None)
        for claim, values in zip(same, filled, strict=False):
            errands.append(Errand(claim, its, since, at, values))
    return errands


def _filled(
    claims: Sequence[Claim], words: Words, at: datetime
) -> list[tuple[bytes, ...]] | None:
    ids, _, _, addresses, _, leave, preferences = zip(*claims, strict=True)
    if None in leave or None in preferences:
        return None
    return words.frozen.plain_values(
        addresses=addresses,
        delivery_ids=ids,
        nonce=words.nonce,
        leave_tokens=leave,
        preferences_tokens=preferences,
        at=at,
    )


class Pace:
    """N messages a second, in small bursts; 0 is as fast as it goes."""

    def __init__(self, rate_per_second: float, clock: Callable[[], float]) -> None:
        """Start with one message's worth."""
        self._clock = clock
        self._at = clock()
        self._credit = 1.0
        self.rate = rate_per_second

    def wait_seconds(self) -> float:
        """Return how long until the next message may go."""
        if not self.rate:
            return 0.0
        self._earn()
        return max(0.0, (1.0 - self._credit) / self.rate)

    def single_may_go(self) -> bool:
        """Tell whether a single mail may go: it may draw on two seconds to come."""
        return self.wait_seconds() < max(2.0, 5.0 / self.rate if self.rate else 0.0)

    def spend(self) -> None:
        """Count a message, also one that did not wait for its turn."""
        if self.rate:
            self._earn()
            self._credit -= 1.0

    def _earn(self) -> None:
        now = self._clock()
        most = 1.0 + self.rate * 0.05
        self._credit = min(most, self._credit + (now - self._at) * self.rate)
        self._at = now


class Speed:
    """Messages a second over the last moments."""

    def __init__(
        self,
        clock: Callable[[], float],
        window_seconds: float = RATE_WINDOW_SECONDS,
    ) -> None:
        """Start at nothing."""
        self._clock = clock
        self._window = window_seconds
        self._at = clock()
        self.latest = 0.0  # as of the last look

    def add(self, messages: int) -> None:
        """Count messages."""
        self.latest = self.now() + messages / self._window

    def now(self) -> float:
        """Return the speed."""
        now = self._clock()
        self.latest *= math.exp((self._at - now) / self._window)
        self._at = now
        return self.latest


class Desk:
    """Errands in hand."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with an empty desk."""
        self.closed = False  # for good
        self.singles: deque[Errand] = deque()
        self.bulk: deque[Errand] = deque()
        self.parked: dict[str, deque[Errand]] = {}  # bulk, by providers to wait for
        self.stale: list[int] = []  # to be given back
        self._lanes = (self.singles, self.bulk)
        self._clock = clock

    def __len__(self) -> int:
        """Return how many errands lie here."""
        return len(self.singles) + len(self.bulk) + self.parking

    @property
    def parking(self) -> int:
        """Return how many errands wait for their provider."""
        return sum(map(len, self.parked.values()))

    def ids(self) -> Iterator[int]:
        """Return which deliveries lie here."""
        lanes = (self.singles, self.bulk, *self.parked.values())
        return (errand.claim.id for errand in chain.from_iterable(lanes))

    def put(self, errands: Iterable[Errand]) -> None:
        """Lay errands down."""
        for errand in errands:
            lane = self.singles if errand.claim.lane == SINGLE else self.bulk
            lane.append(errand)

    def park(self, errand: Errand, provider: str) -> None:
        """Let an errand wait until its provider takes more, out of the others' way."""
        self.parked.setdefault(provider, deque()).append(errand)

    def unpark(self, provider: str) -> Errand:
        """Take the first that waits for a provider."""
        waiting = self.parked[provider]
        errand = waiting.popleft()
        if not waiting:
            del self.parked[provider]
        return errand

    def next_bulk(self) -> Errand | None:
        """Take the first of the bulk that is fresh."""
        bulk = self.bulk
        if bulk and bulk[0].since < self._clock() - FRESH_SECONDS:
            self.drop_stale()
        return bulk.popleft() if bulk else None

    def drop_stale(self) -> None:
        """Set aside what has lain here too long."""
        limit = self._clock() - FRESH_SECONDS
        for lane in self._lanes:
            while lane and lane[0].since < limit:
                self.stale.append(lane.popleft().claim.id)
        for provider in list(self.parked):
            while provider in self.parked and self.parked[provider][0].since < limit:
                self.stale.append(self.unpark(provider).claim.id)

    def clear(self) -> None:
        """Set everything aside."""
        self.stale += self.ids()
        self.singles.clear()
        self.bulk.clear()
        self.parked.clear()
