"""A private PostgreSQL cluster in a temporary folder, for one run of the tests."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from sqlalchemy import create_engine, text

from tests.ports import free_port

ACCOUNT = "postgres"  # PostgreSQL refuses to run as root; then it runs as this


def program(name: str) -> str | None:
    """Find one of PostgreSQL's programs, also where Debian hides them."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    return shutil.which(name, path=path)


class Postgres:
    """Start a cluster; `create` makes databases in it."""

    def __enter__(self) -> "Postgres":
        self.folder = Path(tempfile.mkdtemp(prefix="inkorg-pg-"))
        self.port = free_port()
        if os.geteuid() == 0:
            shutil.chown(self.folder, ACCOUNT)
        self._run("initdb", "-D", "data", "-U", "inkorg", "-A", "trust", "-E", "UTF8")
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
            " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        )
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def missing() -> str:
        """Return what is missing on this machine, or an empty string."""
        absent = [name for name in ("initdb", "pg_ctl") if not program(name)]
        return ", ".join(absent)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://inkorg@127.0.0.1:{self.port}/{name}"

    def create(self, name: str) -> str:
        """Create a database and return its URL."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return self.url(name)

    def _run(self, name: str, *args: str) -> None:
        command = [str(program(name)), *args]
        if os.geteuid() == 0:
            command = [
                "setpriv",
                f"--reuid={ACCOUNT}",
                f"--regid={ACCOUNT}",
                "--clear-groups",
                *command,
            ]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
