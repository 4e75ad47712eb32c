"""The proxy that delays: it keeps the order, loses nothing, and does take its time."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from benchmarks.sinks import CSink, Delayed, Sink

pytestmark = pytest.mark.usefixtures("compiler")

ROUND_TRIP_MS = 6


class Echo(Sink):
    """Sends back what comes, and ends when its client has ended."""

    name = "echo"

    @contextmanager
    def running(self) -> Iterator["Echo"]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            yield self
            server.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while some := client.recv(50_000):
                client.sendall(some)


def connected(sink: Sink) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sink.port), timeout=20)


def sent_and_received(sink: Sink, seed: int) -> tuple[str, str]:
    """Send a few megabytes in odd pieces; return the digests of both ways."""
    dice, sent, got = random.Random(seed), hashlib.sha256(), hashlib.sha256()
    with connected(sink) as client:

        def read() -> None:
            while some := client.recv(30_000):
                got.update(some)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(60):
            piece = dice.randbytes(dice.choice([1, 2, 1_000, 70_000, 200_000]))
            sent.update(piece)
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        reader.join()
    return sent.hexdigest(), got.hexdigest()


def test_every_byte_comes_in_order_both_ways_on_many_connections() -> None:
    with (
        Echo().running() as echo,
        Delayed(echo, ROUND_TRIP_MS) as far,
        ThreadPoolExecutor(6) as threads,
    ):
        found = list(threads.map(lambda seed: sent_and_received(far, seed), range(6)))
    assert [sent for sent, _ in found] == [got for _, got in found]


def test_a_round_trip_takes_no_less_than_it_should() -> None:
    with Echo().running() as echo, Delayed(echo, 40) as far, connected(far) as client:
        for _ in range(3):
            began = time.monotonic()
            client.sendall(b"x")
            assert client.recv(10) == b"x"
            assert time.monotonic() - began >= 0.040


def test_commands_in_one_go_come_through_to_a_sink() -> None:
    mail = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nHej\r\n.\r\n"
    with (
        CSink() as sink,
        Delayed(sink, ROUND_TRIP_MS) as far,
        connected(far) as client,
    ):
        client.sendall(b"EHLO a\r\n" + mail * 500 + b"QUIT\r\n")
        said = b""
        while some := client.recv(65536):
            said += some
        assert said.endswith(b"221 2.0.0 bye\r\n")
        assert said.count(b"taken") == sink.count() == 500


def test_a_client_that_goes_away_takes_no_other_with_it() -> None:
    with Echo().running() as echo, Delayed(echo, ROUND_TRIP_MS) as far:
        for _ in range(20):
            client = connected(far)
            client.sendall(b"x" * 100_000)
            client.setsockopt(  # closing resets the connection
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
            )
            client.close()
        sent, got = sent_and_received(far, 7)
        assert sent == got
