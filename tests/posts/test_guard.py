"""Where a feed may be fetched from: no private network, however it is written."""

import ipaddress

import pytest

from newsletter.errors import FeedError
from newsletter.networks import is_public
from newsletter.posts import guard
from newsletter.posts.guard import Guard

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:db8::1",
    "2001:10::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "185.15.59.224", "168.63.129.17", "172.32.0.1", "192.0.1.1"]
PUBLIC += ["2a00:1450:400f::200e", "2606:4700::1111", "2001:4860:4860::8888"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_denied(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_everything_python_calls_private_is_denied() -> None:
    for text in PRIVATE + PUBLIC:
        if not ipaddress.ip_address(text).is_global:
            assert not is_public(text)


def answering(*addresses: str) -> guard.Resolve:
    def resolve(_host: str, _port: int, _seconds: float) -> list[str]:
        return list(addresses)

    return resolve


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1")])
def test_one_private_answer_spoils_them_all(addresses: tuple[str, ...]) -> None:
    with pytest.raises(FeedError, match="private network"):
        Guard().addresses(
            "blogg.example", 443, resolve=answering(*addresses), seconds=1
        )


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433"),
        *("0x7f000001", "0x7f.1", "0177.0.0.1", "0", "[::1]".strip("[]"), "::"),
        *("::ffff:127.0.0.1", "169.254.169.254", "0xa9fea9fe", "10.1"),
    ],
)
def test_this_machine_is_denied_however_it_is_written(host: str) -> None:
    with pytest.raises(FeedError, match=r"private network|no host"):
        Guard().addresses(host, 80, resolve=guard.look_up, seconds=5)


@pytest.mark.parametrize("port", [22, 25, 6379, 8080])
def test_other_ports_than_the_webs_are_denied(port: int) -> None:
    with pytest.raises(FeedError, match="ports 80 and 443"):
        Guard().addresses("a.example", port, resolve=answering("8.8.8.8"), seconds=1)


def test_an_operator_can_allow_a_host_a_network_or_everything() -> None:
    resolve = answering("192.168.7.9")
    for allowed in (["Wordpress.lan"], ["192.168.0.0/16"], ["*"]):
        found = Guard(allowed).addresses(
            "wordpress.lan", 8080, resolve=resolve, seconds=1
        )
        assert found == ["192.168.7.9"]
    with pytest.raises(FeedError, match="private network"):
        Guard(["10.0.0.0/8", "other.lan"]).addresses(
            "wordpress.lan", 80, resolve=resolve, seconds=1
        )


def test_an_allowed_network_opens_no_other_ports_elsewhere() -> None:
    with pytest.raises(FeedError, match="ports 80 and 443"):
        Guard(["10.0.0.0/8"]).addresses(
            "blogg.example", 8080, resolve=answering("8.8.8.8"), seconds=1
        )


def test_a_name_that_does_not_exist_is_said_so() -> None:
    with pytest.raises(FeedError, match=r"no host called finns\.inte\.invalid"):
        guard.look_up("finns.inte.invalid", 80, 5.0)
