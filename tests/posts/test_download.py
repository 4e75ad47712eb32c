"""Downloading a feed: what servers do wrong costs little and is said clearly."""

import datetime
import ipaddress
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from newsletter.errors import FeedError
from newsletter.posts.download import Client, Download, Refused
from newsletter.posts.guard import Guard, look_up
from tests.feed_server import RSS, Answer, FeedServer, bomb


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def client() -> Client:
    return Client(Guard(["127.0.0.1"]), agent="Inkorg (+http://localhost)")


def fetched(client: Client, url: str, **more: str) -> Download:
    return client.get(url, **more)


def test_a_feed_comes_with_what_to_ask_with_next_time(
    server: FeedServer, client: Client
) -> None:
    server.answers["/feed"] = Answer(
        etag='"ett"',
        last_modified="Sun, 22 Nov 2026 08:00:00 GMT",
        headers={"Content-Type": "application/rss+xml"},
    )
    found = fetched(client, server.url())
    assert found == Download(
        RSS,
        server.url(),
        "application/rss+xml",
        '"ett"',
        "Sun, 22 Nov 2026 08:00:00 GMT",
    )
    assert client.get(server.url(), etag=found.etag).unchanged
    assert client.get(server.url(), last_modified=found.last_modified).unchanged
    _path, headers = server.asked[0]
    assert headers["User-Agent"] == "Inkorg (+http://localhost)"
    assert headers["Host"] == f"127.0.0.1:{server.port}"


def test_proxies_from_the_environment_are_not_used(
    server: FeedServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert fetched(client, server.url()).body == RSS


def test_redirects_are_followed_and_the_last_address_is_told(
    server: FeedServer, client: Client
) -> None:
    server.answers["/a"] = Answer(b"", 301, {"Location": "/b?x=1"})
    server.answers["/b?x=1"] = Answer(b"", 302, {"Location": server.url("/feed")})
    assert fetched(client, server.url("/a")).url == server.url("/feed")


def test_redirects_in_a_circle_end(server: FeedServer, client: Client) -> None:
    server.answers["/a"] = Answer(b"", 302, {"Location": "/a"})
    with pytest.raises(FeedError, match="circles"):
        client.get(server.url("/a"))
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "target",
    [
        *(
            "http://localhost:{port}/feed",
            "http://127.0.0.1:{port}/feed",
            "http://[::1]:{port}/feed",
        ),
        *("http://169.254.169.254/latest/meta-data/", "http://0x7f000001:{port}/feed"),
        *("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:25/_HELO"),
        *("http://user:pass@blogg.lan:{port}/feed", "//10.0.0.1/feed"),
    ],
)
def test_every_hop_is_checked(server: FeedServer, target: str) -> None:
    def resolve(host: str, port: int, seconds: float) -> list[str]:
        return ["127.0.0.1"] if host == "blogg.lan" else look_up(host, port, seconds)

    client = Client(Guard(["blogg.lan"]), resolve=resolve)
    server.answers["/a"] = Answer(
        b"", 302, {"Location": target.format(port=server.port)}
    )
    with pytest.raises(FeedError):
        client.get(server.url("/a", host="blogg.lan"))
    assert [path for path, _ in server.asked] == ["/a"]


def test_a_name_that_changes_its_address_is_looked_up_once(server: FeedServer) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    client = Client(
        Guard(["127.0.0.0/8"]), resolve=lambda _host, _port, _seconds: answers.pop(0)
    )
    url = server.url(host="blogg.example")
    assert fetched(client, url).body == RSS
    assert len(answers) == 1
    assert server.asked[0][1]["Host"] == f"blogg.example:{server.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(
    server: FeedServer,
) -> None:
    client = Client(
        Guard(["*"]), resolve=lambda *_: ["127.0.0.2", "127.0.0.1"], seconds=5
    )
    assert fetched(client, server.url(host="blogg.example")).body == RSS


def test_a_body_over_the_limit_is_refused(server: FeedServer, client: Client) -> None:
    server.answers["/feed"] = Answer(b" " * (5 * 1024 * 1024 + 1))
    with pytest.raises(FeedError, match="larger than 5 MB"):
        client.get(server.url())


def test_a_gzip_bomb_is_refused_while_it_unpacks(
    server: FeedServer, client: Client
) -> None:
    server.answers["/feed"] = bomb(50)
    with pytest.raises(FeedError, match="larger than 5 MB"):
        client.get(server.url())


def test_an_endless_body_is_refused(server: FeedServer, client: Client) -> None:
    server.answers["/feed"] = Answer(script=server.endless)
    with pytest.raises(FeedError, match="larger than 5 MB"):
        client.get(server.url())


@pytest.mark.parametrize("how", ["drip", "drip_headers", "stall"])
def test_a_slow_server_is_left_when_the_time_is_up(
    server: FeedServer, how: str
) -> None:
    server.answers["/feed"] = Answer(script=getattr(server, how))
    client = Client(Guard(["127.0.0.1"]), seconds=0.3)
    started = time.monotonic()
    with pytest.raises(FeedError, match="too slow"):
        client.get(server.url())
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("how", ["many_headers", "garbage", "cut_short"])
def test_a_server_that_does_not_speak_http_is_said_so(
    server: FeedServer, client: Client, how: str
) -> None:
    server.answers["/feed"] = Answer(script=getattr(server, how))
    with pytest.raises(FeedError, match="not as a web server does"):
        client.get(server.url())


def test_a_host_that_does_not_listen_is_said_so(client: Client) -> None:
    with FeedServer() as gone:
        url = gone.url()
    with pytest.raises(FeedError, match="does not answer"):
        client.get(url)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "password"),
        (403, "may not be read"),
        (404, "no feed at this address"),
        (410, "gone for good"),
        (429, "asks us to wait"),
        (500, "answered 500"),
        (304, ""),
        (100, "not as a web server"),
    ],
)
def test_refusals_say_why(
    server: FeedServer, client: Client, status: int, reason: str
) -> None:
    server.answers["/feed"] = Answer(b"", status, {"Retry-After": "120"})
    if status == 304:
        assert client.get(server.url()).unchanged
        return
    with pytest.raises(FeedError, match=reason) as caught:
        client.get(server.url())
    if isinstance(caught.value, Refused):
        assert caught.value.status == status
        assert caught.value.wait == datetime.timedelta(minutes=2)


@pytest.mark.parametrize(
    "url", ["", "hej", "http://", "http://[", "http://a b/", "https://å\x00.se/", "//x"]
)
def test_what_is_no_address_is_refused(client: Client, url: str) -> None:
    with pytest.raises(FeedError):
        client.get(url)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a self-signed certificate; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName(name),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.9")),
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


def test_https_checks_the_name_and_asks_for_it(tmp_path: Path) -> None:
    public, private = certificate(tmp_path, "blogg.example")
    asked: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(public, private)
    tls.sni_callback = lambda _sock, name, _tls: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(public))
    with FeedServer(tls) as server:
        client = Client(Guard(["*"]), resolve=lambda *_: ["127.0.0.1"], tls=trusting)
        found = fetched(client, server.url(host="blogg.example"))
        assert found.body == RSS
        assert asked == ["blogg.example"]
        with pytest.raises(FeedError, match=r"annan\.example has no certificate"):
            client.get(server.url(host="annan.example"))
        strict = Client(Guard(["*"]), resolve=lambda *_: ["127.0.0.1"])
        with pytest.raises(FeedError, match="certificate"):
            strict.get(server.url(host="blogg.example"))
