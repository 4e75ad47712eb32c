"""The local mailbox: mail over real SMTP into files, and the pages that show it."""

import asyncio
import json
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from newsletter.app import create_app
from newsletter.config import Settings
from newsletter.errors import ConfigError, NotFound
from newsletter.mailbox import Mailbox, body, parse, receive
from tests.factories import NOW
from tests.ports import free_port

DIGEST = (
    b"From: Runt kvarteret <brev@bjorkvik.example>\r\n"
    b"To: asa@lund.example\r\n"
    b"Subject: =?utf-8?q?Tre_nya_inl=C3=A4gg?=\r\n"
    b"Message-ID: <1@bjorkvik.example>\r\n"
    b"List-Unsubscribe: <http://localhost/unsubscribe/abc>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="b"\r\n'
    b"\r\n"
    b"--b\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"Hej p=C3=A5 dig\r\n"
    b"--b\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"\r\n"
    b"<html><head><title>x</title></head><body><p>Hej p=C3=A5 dig"
    b"<script>alert(1)</script></p></body></html>\r\n"
    b"--b--\r\n"
)


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "mailbox", keep=5)


@pytest.fixture
def smtp_port(box: Mailbox) -> Iterator[int]:
    """The mailbox's SMTP server on a free port."""
    port = free_port()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        loop.run_until_complete(receive(box, "127.0.0.1", port, stop))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(3_000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
    yield port
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def client(settings: Settings, box: Mailbox) -> FlaskClient:
    return create_app(replace(settings, mailbox_dir=box.folder)).test_client()


@pytest.fixture
def keep(box: Mailbox) -> Callable[..., str]:
    def keep(raw: bytes = DIGEST, to: str = "asa@lund.example", later: int = 0) -> str:
        return box.store(
            raw,
            sender="studs@bjorkvik.example",
            recipients=[to],
            now=NOW + timedelta(seconds=later),
        )

    return keep


def test_what_is_sent_is_kept_as_it_was_with_its_envelope(
    box: Mailbox, smtp_port: int
) -> None:
    with smtplib.SMTP("127.0.0.1", smtp_port) as client:
        client.sendmail("studs@bjorkvik.example", ["asa@lund.example"], DIGEST)
    kept = box.newest(10)[0]
    assert kept.sender == "studs@bjorkvik.example"
    assert kept.recipients == ("asa@lund.example",)
    assert kept.subject == "Tre nya inlägg"
    assert kept.message_id == "<1@bjorkvik.example>"
    assert box.raw(kept.id).endswith(DIGEST)


def test_addresses_with_other_letters_are_kept_too(
    box: Mailbox, smtp_port: int
) -> None:
    raw = "Subject: Blåbär\r\nTo: åsa@exempel.example\r\n\r\nhej\r\n".encode()
    with smtplib.SMTP("127.0.0.1", smtp_port) as client:
        client.ehlo()
        client.mail("brev@bjorkvik.example", ["SMTPUTF8", "BODY=8BITMIME"])
        client.rcpt("åsa@exempel.example")
        assert client.data(raw)[0] == 250
    kept = box.newest(10)[0]
    assert kept.recipients == ("åsa@exempel.example",)
    assert kept.subject == "Blåbär"


def test_a_taken_port_is_said(box: Mailbox, smtp_port: int) -> None:
    with pytest.raises(ConfigError, match=f"Port {smtp_port} is taken"):
        asyncio.run(receive(box, "127.0.0.1", smtp_port, asyncio.Event()))


def test_the_newest_come_first_and_the_oldest_go(
    box: Mailbox, keep: Callable[..., str]
) -> None:
    ids = [keep(later=number) for number in range(8)]
    box.prune()
    assert box.ids() == ids[:2:-1]


def test_mail_is_found_by_part_of_an_address(
    box: Mailbox, keep: Callable[..., str]
) -> None:
    keep(to="Asa@lund.example")
    wanted = keep(to="Bo.Ek@malmo.example", later=1)
    assert [kept.id for kept in box.newest(10, to="bo.ek@")] == [wanted]


def test_damaged_mail_does_not_stop_the_list(
    box: Mailbox, keep: Callable[..., str]
) -> None:
    keep(b"\xff\xfe\x00 nothing like a mail")
    keep(
        b"Subject: =?x-none?q?=C3?=\r\nContent-Type: text/html; charset=x-no\r\n\r\nhi"
    )
    assert len(box.newest(10)) == 2
    assert body(parse(box.raw(box.ids()[0])), "html") in {"hi", ""}


@pytest.mark.parametrize("name", ["../secrets", "20261122T120000000000-abcdef", ""])
def test_a_name_that_is_no_mail_finds_none(box: Mailbox, name: str) -> None:
    with pytest.raises(NotFound):
        box.raw(name)


def test_an_empty_mailbox_tells_the_first_step(client: FlaskClient) -> None:
    page = client.get("/mailbox/", headers={"Accept-Language": "sv"}).text
    assert "Inga mejl än" in page


def test_the_list_names_subject_and_reader(
    client: FlaskClient, keep: Callable[..., str]
) -> None:
    name = keep()
    page = client.get("/mailbox/").text
    assert "Tre nya inlägg" in page
    assert "asa@lund.example" in page
    assert f"/mailbox/{name}/" in page


def test_programs_read_the_list_as_json(
    client: FlaskClient, keep: Callable[..., str]
) -> None:
    keep()
    newest = keep(to="bo@malmo.example", later=1)

    def listed(query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            client.get(f"/mailbox/?format=json{query}").data
        )
        return found

    mails = listed()
    assert [mail["recipients"] for mail in mails] == [
        ["bo@malmo.example"],
        ["asa@lund.example"],
    ]
    assert mails[0]["url"] == f"/mailbox/{newest}/"
    assert client.get(mails[0]["source_url"]).data.endswith(DIGEST)
    assert len(listed("&to=bo@")) == 1
    assert len(listed("&limit=1")) == 1


def test_a_mail_is_shown_as_html_text_and_headers(
    client: FlaskClient, keep: Callable[..., str]
) -> None:
    name = keep()
    page = client.get(f"/mailbox/{name}/").text
    assert "Hej på dig" in page
    assert "List-Unsubscribe" in page
    assert f'src="/mailbox/{name}/html"' in page
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page


def test_the_html_of_a_mail_runs_no_script_and_cannot_reach_us(
    client: FlaskClient, keep: Callable[..., str]
) -> None:
    response = client.get(f"/mailbox/{keep()}/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "sandbox" in policy
    assert "allow-same-origin" not in policy
    assert '<head><base target="_blank">' in response.text


def test_a_mail_that_is_gone_is_a_kind_page(client: FlaskClient) -> None:
    assert client.get("/mailbox/20261122T120000000000-abcdef/").status_code == 404


def test_without_a_folder_there_is_no_mailbox(settings: Settings) -> None:
    app = create_app(settings)
    assert "mailbox" not in app.blueprints
