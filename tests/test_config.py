"""Settings: the relays and their options, and what is refused by name."""

from datetime import date
from pathlib import Path

import pytest

from newsletter.config import load_settings, parse_relay, parse_relays
from newsletter.errors import ConfigError
from tests.conftest import SECRET


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_relays(text)
    return str(refused.value)


def test_one_relay_is_written_as_ever() -> None:
    relay = parse_relay(
        "smtp+starttls://anna:p%40ss@relay.example.se:587?connections=20&rate=14.5"
    )
    assert (relay.host, relay.port, relay.security) == (
        "relay.example.se",
        587,
        "starttls",
    )
    assert (relay.user, relay.password) == ("anna", "p@ss")
    assert (relay.connections, relay.rate_per_second) == (20, 14.5)
    assert relay.name == "relay.example.se:587"


@pytest.mark.parametrize(
    ("url", "port"), [("smtp://r", 25), ("smtp+starttls://r", 587), ("smtps://r/", 465)]
)
def test_each_kind_has_its_port(url: str, port: int) -> None:
    relay = parse_relay(url)
    assert relay.port == port
    assert (relay.weight, relay.per_day, relay.per_domain) == (1, 0, 0)
    assert (relay.warmup_from, relay.warmup_first) == (None, 0)


def test_every_option_of_a_relay_is_read() -> None:
    relay = parse_relay(
        "smtps://r?weight=0&per_day=50000&warmup=2026-03-01:50&per_domain=4"
    )
    assert (relay.weight, relay.per_day, relay.per_domain) == (0, 50_000, 4)
    assert (relay.warmup_from, relay.warmup_first) == (date(2026, 3, 1), 50)


def test_several_relays_are_separated_by_spaces() -> None:
    settings = load_settings(
        {
            "NEWSLETTER_SECRET_KEYS": SECRET,
            "NEWSLETTER_SMTP_URL": "smtp://a?weight=9  smtps://u:p@b\n smtp://a:26",
        }
    )
    assert [relay.name for relay in settings.relays] == ["a:25", "b:465", "a:26"]
    assert settings.relay is settings.relays[0]
    assert settings.relay.weight == 9


def test_a_password_with_a_space_in_it_is_still_one_relay() -> None:
    (relay,) = parse_relays("smtps://anna:pass word@r")
    assert relay.password == "pass word"


def test_relays_at_one_host_and_port_are_told_apart_by_their_users() -> None:
    first, second, third = parse_relays("smtps://k1:p@r smtps://k2:p@r smtps://k3@r")
    names = {first.name, second.name, third.name}
    assert first.name == "r:465"
    assert len(names) == 3
    assert not any("k2" in name or "k3" in name for name in names)
    assert parse_relays("smtps://k1:p@r smtps://k3@r")[1].name == third.name


@pytest.mark.parametrize(
    "text", ["smtp://r smtp://r:25", "smtps://a:1@r smtps://b@r smtps://a:2@r"]
)
def test_the_same_relay_twice_is_refused(text: str) -> None:
    assert "is there twice with the same user" in refusal(text)


@pytest.mark.parametrize(
    "option",
    [
        *("connections=0", "connections=201", "connections=ten", "connections="),
        *("rate=-1", "rate=nan", "rate=inf", "rate=fast", "rate=1000001"),
        *("weight=-1", "weight=1001", "weight=1.5", "weight=", "weight=+1"),
        *("per_day=-1", "per_day=100000001", "per_day=many"),
        *("per_domain=-1", "per_domain=201", "per_domain=x"),
        *("warmup=50", "warmup=2026-02-30:50", "warmup=20260201:50", "warmup="),
        *("warmup=2026-02-01", "warmup=2026-02-01:0", "warmup=2026-02-01:1000001"),
        *("weight=1&weight=2", "per_week=7"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(option: str) -> None:
    words = refusal(f"smtp://a smtps://anna:hemligt@r.example?{option}")
    assert words.startswith("NEWSLETTER_SMTP_URL, relay r.example:465: ")
    assert option.partition("=")[0] in words
    assert "hemligt" not in words
    assert "anna" not in words


@pytest.mark.parametrize(
    "text", ["r:25", "http://r", "smtp://", "smtp://a,smtp://b", "smtp://a b", "smtp a"]
)
def test_what_is_no_relay_is_refused_with_what_one_looks_like(text: str) -> None:
    assert "must look like smtp://host:25" in refusal(text)


def test_a_port_that_cannot_be_is_refused() -> None:
    assert "relay r: the port must be a number" in refusal("smtp://r:70000")


@pytest.mark.parametrize(
    ("keys", "said"),
    [("", "is not set"), (" , ", "is not set"), ("a cat", "at least 32"),
     (f"{SECRET},admin", "at least 32")],
)  # fmt: skip
def test_no_secret_comes_with_it_and_none_may_be_short(
    tmp_path: Path, keys: str, said: str
) -> None:
    """Other programs shipped one, and were taken over by it."""
    values = {
        "NEWSLETTER_BASE_URL": "https://brev.example.se",
        "NEWSLETTER_INSTANCE_DIR": str(tmp_path),
        "NEWSLETTER_SECRET_KEYS": keys,
    }
    with pytest.raises(ConfigError, match=said):
        load_settings(values)
