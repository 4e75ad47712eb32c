"""The sink in C counts right, whatever way the bytes are cut."""

import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.sinks import CSink, PythonSink, Sink

pytestmark = pytest.mark.usefixtures("compiler")

# Bodies as they are on the wire, without the final dot; some look like an end.
BODIES = [
    b"Subject: hej\r\n\r\nHej.\r\n",
    b"",
    b"..\r\n",
    b"a\r\n..\r\nb\r\n",
    b"a\n.\nb\r\n",
    b"a\n.\r\nb\r\n",
    b"a\r\n.\nb\r\n",
    b"a\r\n. \r\n",
    b".a\r\n.\r\r\nb\r\n",
    b"x" * 70_000 + b"\r\n",
    (b"y" * 74 + b"\r\n") * 400,
    b"\r\n",
    b"\r\n\r\n",
    b"Message-ID: <d1.n@exempel.example>\r\n\r\n\r\n..\r\n",
]


def envelope(number: int) -> bytes:
    return (
        b"MAIL FROM:<brev@exempel.example> BODY=8BITMIME\r\n"
        b"rcpt to:<r%d@exempel.example>\r\n" % number
    )


def by_data(bodies: list[bytes]) -> bytes:
    return b"EHLO test\r\n" + b"".join(
        envelope(n) + b"DATA\r\n" + body + b".\r\n" for n, body in enumerate(bodies)
    )


def by_bdat(bodies: list[bytes]) -> bytes:
    """Send the same in chunks: none, one or two to a message."""
    parts = [b"EHLO test\r\n"]
    for n, body in enumerate(bodies):
        cut = len(body) * (n % 3) // 3
        parts.append(envelope(n))
        if n % 3:
            parts.append(b"BDAT %d\r\n" % cut + body[:cut])
        rest = body[cut:]
        parts.append(b"BDAT %d LAST\r\n" % len(rest) + rest)
    return b"".join(parts)


@contextmanager
def connected(sink: Sink) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", sink.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert client.recv(100).startswith(b"220 ")
        yield client


def answers(client: socket.socket) -> list[bytes]:
    """Read to the end; return the codes of the replies' last lines."""
    said = b""
    while some := client.recv(65536):
        said += some
    return re.findall(rb"^(\d\d\d) ", said, re.MULTILINE)


def pieces(stream: bytes, dice: random.Random, most: int) -> Iterator[bytes]:
    start = 0
    while start < len(stream):
        size = dice.randint(1, most)
        yield stream[start : start + size]
        start += size


@pytest.mark.parametrize("most", [3, 500, 40_000, 10**7])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_every_message_is_counted_however_it_is_cut(chunking: bool, most: int) -> None:
    bodies = [body for body in BODIES if most > 100 or len(body) < 100]
    stream = (by_bdat if chunking else by_data)(bodies) + b"QUIT\r\n"
    with CSink(chunking=chunking) as sink, connected(sink) as client:
        for piece in pieces(stream, random.Random(most), most):
            client.sendall(piece)
        codes = answers(client)
        found = sink.counted()
    assert codes.count(b"354") == (0 if chunking else len(bodies))
    assert codes[-1] == b"221"
    assert not [code for code in codes if code >= b"400"]
    assert found.messages == len(bodies)
    assert found.bytes == sum(map(len, bodies))
    assert 0 < found.first_ns <= found.last_ns <= time.monotonic_ns()


def test_an_end_is_seen_wherever_a_read_ends() -> None:
    stream = envelope(1) + b"DATA\r\nHej\r\n.\r\n"
    with CSink() as sink, connected(sink) as client:
        for number, cut in enumerate(range(len(stream) - 12, len(stream)), 1):
            client.sendall(stream[:cut])
            time.sleep(0.005)  # so that it is read by itself
            assert sink.count() == number - 1
            client.sendall(stream[cut:])
            assert sink.settled_count(number) == number
        assert sink.counted().bytes == 12 * len(b"Hej\r\n")


def test_connections_are_counted_together() -> None:
    with CSink() as sink:
        clients = [
            socket.create_connection(("127.0.0.1", sink.port)) for _ in range(20)
        ]
        for client in clients:
            client.sendall(by_data(BODIES) + b"QUIT\r\n")
        for client in clients:
            answers(client)
            client.close()
        assert sink.count() == 20 * len(BODIES)
        assert sink.counted().connections == 20


def test_recipients_and_message_ids_are_written_down() -> None:
    bodies = [
        b"To: a\r\nMessage-ID: <d%d.n@exempel.example>\r\n\r\nHej\r\n" % n
        for n in range(30)
    ]
    with CSink(records=True, only="r1") as sink, connected(sink) as client:
        for piece in pieces(by_data(bodies) + b"QUIT\r\n", random.Random(1), 20):
            client.sendall(piece)
        answers(client)
        assert sink.count() == 30
        seen = sink.seen()
    numbers = [1, *range(10, 20)]
    assert [record.recipient for record in seen] == [
        f"r{n}@exempel.example" for n in numbers
    ]
    assert [record.message_id for record in seen] == [
        f"<d{n}.n@exempel.example>" for n in numbers
    ]


def test_commands_out_of_turn_are_refused_and_nothing_is_counted() -> None:
    stream = (
        b"EHLO a\r\nDATA\r\nRCPT TO:<a@b.example>\r\nBDAT 4 LAST\r\nabcdNOOP\r\n"
        b"MAIL FROM:<a@b.example>\r\nMAIL FROM:<a@b.example>\r\nRSET\r\nHEJ\r\nQUIT\r\n"
    )
    with CSink(chunking=True) as sink, connected(sink) as client:
        client.sendall(stream)
        assert [int(code) for code in answers(client)] == [
            *(250, 503, 503, 503, 250, 250, 503, 250, 502, 221)
        ]
        assert sink.count() == 0


def test_chunking_is_offered_only_when_told() -> None:
    for chunking in (False, True):
        with CSink(chunking=chunking) as sink, connected(sink) as client:
            client.sendall(b"EHLO a\r\n")
            time.sleep(0.05)
            said = client.recv(1000)
            assert (b"CHUNKING" in said) is chunking
            for name in (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUS"):
                assert name in said


def test_half_a_message_is_no_message() -> None:
    with CSink() as sink:
        with connected(sink) as client:
            client.sendall(envelope(1) + b"DATA\r\nHej\r\n.\r")
        with connected(sink) as client:
            client.sendall(by_data([b"Hej\r\n"]) + b"QUIT\r\n")
            answers(client)
        assert sink.count() == 1


def test_the_python_sink_counts_the_same() -> None:
    bodies = [body for body in BODIES if len(body) < 100]
    with PythonSink() as sink, connected(sink) as client:
        client.sendall(by_data(bodies) + b"QUIT\r\n")
        assert sink.settled_count(len(bodies)) == len(bodies)
