"""When a relay's loop lets replies gather instead of waking for each."""

import pytest

from newsletter.config import Relay
from newsletter.mail.route import NAP_SECONDS, Route


def busy_route(connections: int, *, rate: float, latency: float) -> Route:
    route = Route(Relay("relay.example", 25), lambda: None)
    route.connected, route.latency = connections, latency
    route.rush.latest = rate
    return route


@pytest.mark.parametrize(
    ("connections", "rate", "latency", "heard", "nap"),
    [
        (10, 9_000, 0.0014, 1, 0.00035),  # a relay with work lined up
        (10, 9_000, 0.0014, 4, 0.00035),
        (10, 9_000, 0.0014, 5, 0.0),  # enough came at once
        (10, 9_000, 0.004, 1, NAP_SECONDS),  # never longer
        (10, 20_000, 0.0005, 1, 0.0),  # the wire is what takes the time
        (10, 11_000, 0.0014, 1, 0.0),  # so quick a relay would wait for us
        (2, 9_000, 0.0014, 1, 0.0),  # nobody else keeps it busy
        (10, 330, 0.06, 1, 0.0),  # a round trip of 30 ms: nothing would gather
        (10, 3_400, 0.004, 1, 0.0),
        (10, 0, 0.0, 1, 0.0),  # nothing is known yet
    ],
)
def test_a_nap_is_short_and_brings_several_replies(
    connections: int, rate: float, latency: float, heard: int, nap: float
) -> None:
    route = busy_route(connections, rate=rate, latency=latency)
    assert route.nap_seconds(heard) == pytest.approx(nap)
