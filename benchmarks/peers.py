"""Other ways to send the same mail from Python, each in a process of its own.

    python -m benchmarks.peers KIND PORT COUNT CONNECTIONS MAIL

`aiosmtplib` and `smtplib` are given the finished bytes of a mail, which is the best
they can be given: no rendering, no ledger. `email` and `flask` make each reader's mail:
one sends it over one connection, the other also renders a template and connects anew
for each, as the usual extension does.
"""

import asyncio
import json
import smtplib
import sys
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import aiosmtplib
import uvloop
from jinja2 import Environment
from markupsafe import Markup

from benchmarks.inkorg import measured

SENDER = "brev@bjorkvik.example"
HOST = "127.0.0.1"


def recipients(number: int) -> Iterator[str]:
    """Yield addresses."""
    return (f"reader{n}@exempel{n % 997}.example" for n in range(1, number + 1))


def with_aiosmtplib(port: int, number: int, connections: int, mail: bytes) -> int:
    """Send over several connections of aiosmtplib at once."""
    waiting = recipients(number)

    async def carry() -> None:
        relay = aiosmtplib.SMTP(hostname=HOST, port=port, start_tls=False)
        async with relay:
            for recipient in waiting:
                await relay.sendmail(SENDER, [recipient], mail)

    async def everything() -> None:
        await asyncio.gather(*(carry() for _ in range(connections)))

    uvloop.run(everything())
    return number


def with_smtplib(port: int, number: int, connections: int, mail: bytes) -> int:
    """Send over several connections of smtplib, a thread each."""
    waiting, turn = recipients(number), threading.Lock()

    def next_one() -> str | None:
        with turn:
            return next(waiting, None)

    def carry() -> None:
        with smtplib.SMTP(HOST, port) as relay:
            while recipient := next_one():
                relay.sendmail(SENDER, [recipient], mail)

    threads = [threading.Thread(target=carry) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number


def with_email(port: int, number: int, _connections: int, mail: bytes) -> int:
    """Make an EmailMessage for each reader and send it over one connection."""
    subject, text, html = parts(mail)
    with smtplib.SMTP(HOST, port) as relay:
        for n, recipient in enumerate(recipients(number)):
            relay.send_message(write(subject, text, html, recipient, n))
    return number


def with_flask(port: int, number: int, _connections: int, mail: bytes) -> int:
    """Render a template for each reader too, and connect for each."""
    subject, text, html = parts(mail)
    environment = Environment(autoescape=True)
    pieces = html.split("</p>")
    page = environment.from_string(
        "{% for piece in pieces %}{{ piece }}{% if not loop.last %}</p>{% endif %}"
        "{% endfor %}<a href='https://exempel.example/u/{{ n }}'>{{ name }}</a>"
    )
    plain = environment.from_string("{{ text }}\n{{ name }}")
    marked, words = [Markup(piece) for piece in pieces], Markup(text)
    for n, recipient in enumerate(recipients(number)):
        body = page.render(pieces=marked, n=n, name=recipient)
        letter = write(
            subject, plain.render(text=words, name=recipient), body, recipient, n
        )
        with smtplib.SMTP(HOST, port) as relay:
            relay.send_message(letter)
    return number


def parts(mail: bytes) -> tuple[str, str, str]:
    """Return a mail's subject, text and HTML."""
    seen = message_from_bytes(mail, policy=policy.default)
    plain, html = seen.get_body(("plain",)), seen.get_body(("html",))
    assert plain and html
    return str(seen["Subject"]), plain.get_content(), html.get_content()


def write(subject: str, text: str, html: str, recipient: str, n: int) -> EmailMessage:
    """Write one reader's mail."""
    letter = EmailMessage()
    letter["From"] = f"Runt kvarteret <{SENDER}>"
    letter["To"] = recipient
    letter["Subject"] = subject
    letter["List-Unsubscribe"] = f"<https://exempel.example/u/{n}>"
    letter.set_content(text)
    letter.add_alternative(html, subtype="html")
    return letter


KINDS: dict[str, Callable[[int, int, int, bytes], int]] = {
    "aiosmtplib": with_aiosmtplib,
    "smtplib": with_smtplib,
    "email": with_email,
    "flask": with_flask,
}


def main() -> None:
    """Read the arguments and send."""
    kind, port, number, connections, mail = sys.argv[1:]
    work = partial(
        KINDS[kind], int(port), int(number), int(connections), Path(mail).read_bytes()
    )
    print(json.dumps(measured(work)))


if __name__ == "__main__":
    main()
