"""One feed over HTTP: addresses checked on every hop, bytes and seconds counted.

urllib3's connections are used one by one, without its pools, so that nothing follows a
redirect, looks for a proxy or resolves a name by itself. urllib3 is used only here.
"""

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urljoin

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Url, parse_url

from newsletter.errors import N_, FeedError
from newsletter.plaintext import clean
from newsletter.posts.guard import Denied, Guard, NoSuchHost, Resolve, look_up

MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_REDIRECTS = 5
TOTAL_SECONDS = 20.0
CONNECT_SECONDS = 5.0
CHUNK_BYTES = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PERMANENT = frozenset({301, 308})
LONGEST_WAIT = timedelta(hours=24)
# RFC 8288, as far as WebSub needs it: an address, and what it is to this page.
_LINK = re.compile(r"""<([^<>]*)>\s*((?:;\s*\w+\s*=\s*(?:"[^"]*"|[^",;\s]*)\s*)*)""")
_REL = re.compile(r"""\brel\s*=\s*(?:"([^"]*)"|([^",;\s]*))""", re.IGNORECASE)
ACCEPT = (
    "application/atom+xml, application/rss+xml, application/feed+json,"
    " application/xml;q=0.9, text/xml;q=0.9, */*;q=0.5"
)
WHY = {
    401: N_("The feed asks for a password (401)."),
    403: N_("The feed may not be read (403)."),
    404: N_("There is no feed at this address (404)."),
    410: N_("The feed is gone for good (410). Remove it, or correct its address."),
    429: N_("The feed's host is busy and asks us to wait."),
    503: N_("The feed's host is busy and asks us to wait."),
}


@dataclass(frozen=True, slots=True)
class Download:
    """A feed's bytes, and what to ask with next time."""

    body: bytes
    url: str  # where it was in the end
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""
    moved_to: str = ""  # where permanent redirects alone have led
    hub: str = ""  # WebSub, from the Link headers
    topic: str = ""
    unchanged: bool = False  # since last time (304); there is no body then


@dataclass(frozen=True, slots=True)
class Seen:
    """What an address answered, without what it holds."""

    status: int
    content_type: str = ""
    size: int = 0  # in bytes; 0: it does not say


class TooSlow(FeedError):
    """The feed's host is too slow; we stopped waiting."""


class Refused(FeedError):
    """The feed's host did not give the feed."""

    status = 0
    wait = timedelta()  # as the host asks


@dataclass(slots=True)
class Client:
    """Downloads feeds; `resolve` and `tls` are for who knows better."""

    guard: Guard
    agent: str = "Inkorg"
    resolve: Resolve = look_up
    tls: ssl.SSLContext | None = None
    seconds: float = TOTAL_SECONDS

    def get(self, url: str, *, etag: str = "", last_modified: str = "") -> Download:
        """Download a feed, or learn that it has not changed. Raises FeedError."""
        deadline = _Deadline(time.monotonic() + self.seconds)
        headers = self._headers(etag, last_modified)
        moved_to, for_good = "", True
        with deadline:
            for _hop in range(MAX_REDIRECTS + 1):
                target = _target(url)
                with self._answer(target, headers, deadline) as answer:
                    if answer.status not in REDIRECTS:
                        return _take(answer, url, moved_to, deadline)
                    for_good = for_good and answer.status in PERMANENT
                    url = urljoin(url, _location(answer))
                    moved_to = url if for_good else moved_to
        raise FeedError(N_("The feed's address leads in circles: too many redirects."))

    def look(self, url: str) -> Seen:
        """Ask whether an address answers, whatever it answers. Raises FeedError.

        By HEAD, and by GET where that is refused; what it holds is not read.
        """
        deadline = _Deadline(time.monotonic() + self.seconds)
        with deadline:
            try:
                seen = self._look("HEAD", url, deadline)
                if seen.status < 400:
                    return seen
            except (Denied, NoSuchHost, TooSlow):
                raise
            except FeedError:  # some servers hang up on a HEAD
                deadline.check()
            return self._look("GET", url, deadline)

    def _look(self, method: str, url: str, deadline: "_Deadline") -> Seen:
        headers = {"User-Agent": self.agent, "Accept": "*/*", "Connection": "close"}
        for _hop in range(MAX_REDIRECTS + 1):
            target = _target(url)
            with self._answer(target, headers, deadline, method=method) as answer:
                if answer.status not in REDIRECTS:
                    return _seen(answer)
                url = urljoin(url, _location(answer))
        raise FeedError(N_("The address leads in circles: too many redirects."))

    def post(self, url: str, form: Mapping[str, str]) -> int:
        """Send a form and return the status of the answer. Raises FeedError.

        Redirects are not followed.
        """
        deadline = _Deadline(time.monotonic() + self.seconds)
        headers = {
            "User-Agent": self.agent,
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "close",
        }
        body = urlencode(form).encode()
        with deadline, self._answer(_target(url), headers, deadline, body) as answer:
            return answer.status

    def _headers(self, etag: str, last_modified: str) -> dict[str, str]:
        headers = {
            "User-Agent": self.agent,
            "Accept": ACCEPT,
            "Accept-Encoding": "gzip, deflate",
            "Connection": "close",
        }
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        return headers

    @contextmanager
    def _answer(
        self,
        target: Url,
        headers: dict[str, str],
        deadline: "_Deadline",
        body: bytes | None = None,
        method: str = "",
    ) -> Iterator[BaseHTTPResponse]:
        """Ask one server and give its answer, every way to fail as a FeedError."""
        host = (target.host or "").strip("[]")
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = self.guard.addresses(
            host, port, resolve=self.resolve, seconds=deadline.left()
        )
        connection = self._connection(target, host, port, addresses, deadline)
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                target.request_uri,
                body=body,
                headers=headers,
                preload_content=False,
                decode_content=True,
            )
            yield connection.getresponse()
        except ssl.SSLError as error:
            raise FeedError(
                N_("%(host)s has no certificate that can be trusted: %(reason)s"),
                host=host,
                reason=clean(getattr(error, "verify_message", "") or str(error))[:200],
            ) from None
        except (HTTPError, http.client.HTTPException, OSError, ValueError):
            deadline.check()
            raise FeedError(
                N_("%(host)s does not answer, or not as a web server does."), host=host
            ) from None
        finally:
            connection.close()

    def _connection(
        self,
        target: Url,
        host: str,
        port: int,
        addresses: Sequence[str],
        deadline: "_Deadline",
    ) -> HTTPConnection:
        if target.scheme == "http":
            plain = _PlainConnection(host, port, timeout=deadline.left())
            plain.dialling = _Dialling(addresses, port, deadline)
            return plain
        secure = _SecureConnection(
            host,
            port,
            timeout=deadline.left(),
            ssl_context=self.tls or ssl.create_default_context(),
        )
        secure.dialling = _Dialling(addresses, port, deadline)
        return secure


@dataclass(slots=True)
class _Deadline:
    """Cuts the line when the time is up, whatever the other side drips."""

    at: float
    sockets: list[socket.socket] = field(default_factory=list)
    timer: threading.Timer | None = None

    def left(self) -> float:
        return max(self.at - time.monotonic(), 0.01)

    def check(self) -> None:
        """Raise FeedError if the time is up."""
        if time.monotonic() >= self.at:
            raise TooSlow

    def watch(self, sock: socket.socket) -> None:
        # TLS takes the socket over; a duplicate still reaches the same connection.
        self.sockets.append(sock.dup())

    def __enter__(self) -> None:
        self.timer = threading.Timer(self.left(), self._cut)
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer.join()
        for sock in self.sockets:
            sock.close()

    def _cut(self) -> None:
        for sock in list(self.sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed already


@dataclass(frozen=True, slots=True)
class _Dialling:
    """How a connection is made: to the addresses that were checked, and no others."""

    addresses: Sequence[str]
    port: int
    deadline: _Deadline

    def dial(self) -> socket.socket:
        failure: OSError = OSError("no address")
        for address in self.addresses:
            self.deadline.check()
            seconds = min(CONNECT_SECONDS, self.deadline.left())
            try:
                sock = socket.create_connection((address, self.port), timeout=seconds)
            except OSError as error:
                failure = error
                continue
            self.deadline.watch(sock)
            sock.settimeout(self.deadline.left())
            return sock
        raise failure


class _PlainConnection(HTTPConnection):
    dialling: _Dialling

    def _new_conn(self) -> socket.socket:
        return self.dialling.dial()


class _SecureConnection(HTTPSConnection):
    dialling: _Dialling

    def _new_conn(self) -> socket.socket:
        return self.dialling.dial()


def _target(url: str) -> Url:
    try:
        target = parse_url(url)
    except LocationParseError:
        target = Url()
    if target.scheme not in {"http", "https"} or not target.host:
        raise FeedError(N_("A feed's address begins with http:// or https://"))
    if target.auth:
        raise FeedError(N_("A feed's address may not hold a user name or a password."))
    return target


def _location(answer: BaseHTTPResponse) -> str:
    location = answer.headers.get("Location", "")
    # Header bytes arrive as Latin-1; addresses with "ö" in them are sent as UTF-8.
    return clean(location.encode("latin-1", "replace").decode("utf-8", "replace"))


def _take(
    answer: BaseHTTPResponse, url: str, moved_to: str, deadline: _Deadline
) -> Download:
    moved_to = moved_to if moved_to == url else ""
    if answer.status == 304:
        return Download(b"", url, moved_to=moved_to, unchanged=True)
    if not 200 <= answer.status < 300:
        raise _refusal(answer)
    headers = answer.headers
    return Download(
        body=_read(answer, deadline),
        url=url,
        content_type=clean(headers.get("Content-Type", ""))[:200],
        etag=_short(headers.get("ETag", ""), 500),
        last_modified=_short(headers.get("Last-Modified", ""), 100),
        moved_to=moved_to,
        hub=_linked(headers.get("Link", ""), "hub", url),
        topic=_linked(headers.get("Link", ""), "self", url),
    )


def _seen(answer: BaseHTTPResponse) -> Seen:
    size = answer.headers.get("Content-Length", "")[:15]
    return Seen(
        status=answer.status,
        content_type=clean(answer.headers.get("Content-Type", ""))[:100],
        size=int(size) if size.isascii() and size.isdecimal() else 0,
    )


def _linked(header: str, relation: str, base: str) -> str:
    """Return the first address that a Link header gives for a relation."""
    for target, parameters in _LINK.findall(header[:4000]):
        if (rel := _REL.search(parameters)) and relation in (
            (rel[1] or rel[2]).lower().split()
        ):
            try:
                return clean(urljoin(base, target.strip()))
            except ValueError:
                return ""
    return ""


def _read(answer: BaseHTTPResponse, deadline: _Deadline) -> bytes:
    """Read a body, counting what it is when unpacked."""
    body = bytearray()
    while chunk := answer.read1(CHUNK_BYTES):
        body += chunk
        deadline.check()
        if len(body) > MAX_BODY_BYTES:
            raise FeedError(N_("The feed is larger than 5 MB."))
    deadline.check()  # a line we cut ourselves ends like one that was finished
    return bytes(body)


def _refusal(answer: BaseHTTPResponse) -> Refused:
    message = WHY.get(answer.status, N_("The feed's host answered %(status)s."))
    refused = Refused(message, status=answer.status)
    refused.status = answer.status
    headers = answer.headers
    refused.wait = _retry_after(headers.get("Retry-After", ""), headers.get("Date", ""))
    return refused


def _retry_after(text: str, date: str) -> timedelta:
    """Read seconds or a date (RFC 9110 §10.2.3); nonsense is no wait.

    A date is counted from the host's own, as its clock may go wrong.
    """
    text = text.strip()[:40]
    if text.isascii() and text.isdecimal():
        return min(timedelta(seconds=int(text[:9])), LONGEST_WAIT)
    until, since = _moment(text), _moment(date[:40]) or datetime.now(UTC)
    wait = until - since if until else timedelta()
    return max(min(wait, LONGEST_WAIT), timedelta())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _short(value: str, limit: int) -> str:
    return value if len(value) <= limit and value.isprintable() else ""
