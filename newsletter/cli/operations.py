"""Commands that run the installation: database, servers, local mailbox, demo."""

import asyncio
import logging.config
import os
import signal
from functools import partial
from pathlib import Path

import click

from newsletter import config, jobs, migrate, serving
from newsletter.app import create_app
from newsletter.cli.common import Installation, example, with_installation
from newsletter.config import Settings
from newsletter.db import current_database, utcnow
from newsletter.demo import environment, sample, supervisor
from newsletter.demo.supervisor import Child, Supervisor
from newsletter.errors import N_, ConfigError, InkorgError
from newsletter.mailbox import Mailbox, receive

MAX_WORKERS = 64
port_type = click.IntRange(1, 65535)


@click.group()
def db() -> None:
    """Look after the database."""


@db.command(epilog=example("db upgrade"))
@with_installation
def upgrade(place: Installation) -> None:
    """Create or migrate the database. Safe to call twice."""
    migrate.upgrade(place.database.engine)
    click.echo("The database is up to date.")


@click.command(epilog=example("serve --port 8000 --workers 2"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option("--port", type=port_type, default=8000, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    help="Processes; 2 where there are as many processors.",
)
@click.option(
    "--access-log/--no-access-log",
    default=False,
    help="Write a line for each request, secret tokens masked.",
)
def serve(host: str, port: int, workers: int | None, access_log: bool) -> None:
    """Run the web server until SIGTERM. Any number of these at once."""
    _check_installation()
    workers = workers or min(2, os.cpu_count() or 1)
    serving.serve(host, port, workers, access_log=access_log)


@click.command(epilog=example("work"))
@with_installation
def work(place: Installation) -> None:
    """Run the clock and send mail until SIGTERM. Any number of these at once."""
    _refuse_old_schema(place)
    place.database.on_begin = None  # nobody's doing: the clock and the sender
    serving.work(place.database, place.settings)


@click.command(epilog=example("mailbox --port 2525"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option("--port", type=port_type, default=2525, show_default=True)
def mailbox(host: str, port: int) -> None:
    """Run a local SMTP server that keeps every mail and sends nothing.

    The mails are shown at /mailbox/ and lie in NEWSLETTER_MAILBOX_DIR.
    """
    folder = config.load_settings().mailbox_dir
    if folder is None:
        raise ConfigError(
            N_("NEWSLETTER_MAILBOX_DIR is not set. Set it to a folder for the mails.")
        )
    logging.config.dictConfig(serving.logging_config())
    asyncio.run(_receive(Mailbox(folder), host, port))


@click.command(epilog=example("demo --port 8001"))
@click.option(
    "--port", type=port_type, envvar="PORT", default=8000, help="Of the web server."
)
@click.option(
    "--smtp-port",
    type=port_type,
    envvar="MAILBOX_SMTP_PORT",
    default=2525,
    help="Of the local mailbox.",
)
@click.option("--stop-with-parent", is_flag=True, hidden=True)
def demo(port: int, smtp_port: int, stop_with_parent: bool) -> None:
    """Start all of Inkorg on this machine, with a sample newsletter.

    Nothing leaves the machine: every mail ends up in the local mailbox.
    """
    instance = environment.instance_dir()
    with environment.alone(instance):
        _refuse_taken_ports(port, smtp_port)
        values = environment.write(instance, port, smtp_port)
        environ = environment.for_children(values, instance)
        run = Supervisor(
            environ,
            log=instance / environment.LOG_FILE,
            parent=os.getppid() if stop_with_parent else None,
        )
        with run.signals():
            try:
                _run_demo(run, config.load_settings(environ), port, smtp_port)
            finally:
                run.stop_all()
        click.echo("Stopped.")


def _run_demo(run: Supervisor, settings: Settings, port: int, smtp_port: int) -> None:
    with create_app(settings).app_context():
        database = current_database()
        migrate.upgrade(database.engine)
        addresses = sample.prepare(database, settings, now=utcnow())
        children = [
            Child(
                "mailbox",
                ("mailbox", "--port", str(smtp_port)),
                partial(supervisor.smtp_answers, smtp_port),
            ),
            Child(
                "web server",
                ("serve", "--port", str(port), "--workers", "1", "--access-log"),
                partial(supervisor.web_answers, port),
            ),
            Child("worker", ("work",), partial(jobs.ran_since, database, utcnow())),
        ]
        if not run.start(children):
            return
        database.engine.dispose()
    _show_addresses(addresses, run.log)
    run.watch()


def _show_addresses(addresses: sample.Addresses, log: Path) -> None:
    click.echo(
        f"""
  Inkorg is running, on this machine only.

  Newsletter   {addresses.newsletter}
  Editor       {addresses.login}
               (logs you in once)
  Mailbox      {addresses.mailbox}

  Commands in another terminal reach it too, for instance:
    .venv/bin/python -m newsletter issue draft {addresses.slug}
  Its log is {log}. Ctrl-C stops everything; the data stays.
"""
    )


def _refuse_taken_ports(port: int, smtp_port: int) -> None:
    for number, variable in ((port, "PORT"), (smtp_port, "MAILBOX_SMTP_PORT")):
        if reason := serving.taken("127.0.0.1", number):
            free = "8001" if number != 8001 else "8002"
            raise ConfigError(
                N_(
                    "Port %(port)s cannot be used: %(reason)s. Choose another, for"
                    " instance: make run %(variable)s=%(free)s"
                ),
                port=number,
                reason=reason,
                variable=variable,
                free=free if variable == "PORT" else "2526",
            )


def _check_installation() -> None:
    """Fail here, in one line, rather than in each of the server's processes."""
    with create_app().app_context():
        place = Installation(config.load_settings(), current_database())
        _refuse_old_schema(place)
        place.database.engine.dispose()


def _refuse_old_schema(place: Installation) -> None:
    current, newest = migrate.revisions(place.database.engine)
    if current != newest:
        raise InkorgError(
            N_(
                "The database is not up to date. Bring it there first:"
                " python -m newsletter db upgrade"
            )
        )


async def _receive(box: Mailbox, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await receive(box, host, port, stop)


COMMANDS = (db, serve, work, mailbox, demo)
