"""A real web server for feeds that can redirect, stall, drip, never end and lie."""

import gzip
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>Kören</title><link>https://blogg.example/</link>
<item><title>En egen kväll</title><link>https://blogg.example/kvall/</link>
<guid>g-1</guid><pubDate>Sun, 22 Nov 2026 08:00:00 +0000</pubDate>
<description>Åsa och Örjan övade hela kvällen.</description></item>
</channel></rss>""".encode()


@dataclass(slots=True)
class Answer:
    """What the server says at one path."""

    body: bytes = RSS
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    last_modified: str = ""
    # Called instead of all that, with the handler, to speak as badly as it likes.
    script: Callable[[BaseHTTPRequestHandler], None] | None = None


class FeedServer:
    """Serves `answers` by path and remembers what it was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Choose a free port; with `tls` it speaks https."""
        self.answers: dict[str, Answer] = {"/feed": Answer()}
        self.knows_head: set[str] = set()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.posted: list[tuple[str, dict[str, str]]] = []  # path and form
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                if self.path in outer.knows_head:
                    outer.answer(self)
                else:
                    self.send_error(501)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(parse_qsl(body, strict_parsing=True))
                outer.posted.append((self.path, form))
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> "FeedServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "/feed", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((handler.path, dict(handler.headers)))
        found = self.answers.get(handler.path, Answer(b"", status=404))
        if found.script:
            found.script(handler)
            return
        headers = dict(found.headers)
        headers |= {"ETag": found.etag} if found.etag else {}
        headers |= {"Last-Modified": found.last_modified} if found.last_modified else {}
        known = (found.etag and handler.headers.get("If-None-Match") == found.etag) or (
            found.last_modified
            and handler.headers.get("If-Modified-Since") == found.last_modified
        )
        status, body = (304, b"") if known else (found.status, found.body)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    # Ways to misbehave.

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send one byte of the body at a time, for ever."""
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while not self.closing.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    def drip_headers(self, handler: BaseHTTPRequestHandler) -> None:
        """Never finish the headers."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.closing.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    def stall(self, _handler: BaseHTTPRequestHandler) -> None:
        """Say nothing."""
        self.closing.wait(30)

    def endless(self, handler: BaseHTTPRequestHandler) -> None:
        """Send chunks for ever, fast."""
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while not self.closing.is_set():
            handler.wfile.write(chunk)

    def many_headers(self, handler: BaseHTTPRequestHandler) -> None:
        """Send ten thousand headers."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        handler.wfile.write(b"".join(b"X-%d: y\r\n" % n for n in range(10_000)))
        handler.wfile.write(b"\r\n")

    def garbage(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer in no protocol at all."""
        handler.wfile.write(b"\x00\x01\x02 hej\r\n\r\n")
        handler.close_connection = True

    def cut_short(self, handler: BaseHTTPRequestHandler) -> None:
        """Promise more than is sent."""
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(RSS[:200])
        handler.close_connection = True


def bomb(megabytes: int = 50) -> Answer:
    """Return an answer that is small on the wire and big when unpacked."""
    packed = gzip.compress(b" " * (megabytes * 1024 * 1024))
    return Answer(packed, headers={"Content-Encoding": "gzip"})
