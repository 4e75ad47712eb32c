"""A private PostgreSQL cluster in a temporary folder that keeps its promises.

As PostgreSQL comes: `fsync` on, `synchronous_commit` on. Nothing is tuned but the port.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from sqlalchemy import create_engine

ACCOUNT = "postgres"  # PostgreSQL refuses to run as root; then it runs as this
MISSING = "PostgreSQL is not here (Debian: apt install postgresql)"


def program(name: str) -> str | None:
    """Find one of PostgreSQL's programs, also where Debian hides them."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    return shutil.which(name, path=path)


def available() -> bool:
    """Tell whether a cluster can be made here."""
    return bool(program("initdb") and program("pg_ctl"))


class Cluster:
    """A cluster; `copy` makes databases in it from others."""

    def __init__(self, addresses: str = "127.0.0.1") -> None:
        """Listen at `addresses`."""
        self.addresses = addresses

    def __enter__(self) -> "Cluster":
        self.folder = Path(tempfile.mkdtemp(prefix="inkorg-bench-pg-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if os.geteuid() == 0:
            shutil.chown(self.folder, ACCOUNT)
        self._run("initdb", "-D", "data", "-U", "inkorg", "-A", "trust", "-E", "UTF8")
        if self.addresses != "127.0.0.1":
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses={self.addresses}"
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

    def url(self, name: str, host: str = "127.0.0.1") -> str:
        """Return a database's address."""
        return f"postgresql+psycopg://inkorg@{host}:{self.port}/{name}"

    def create(self, name: str) -> str:
        """Create an empty database; return its address."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def copy(self, source: str, name: str) -> str:
        """Create a database like `source`, file by file; return its address."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" {self._by_file()}')
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def _by_file(self) -> str:
        """Return how to copy without leaving the work for later (from version 15)."""
        version = (self.folder / "data" / "PG_VERSION").read_text().strip()
        return "STRATEGY FILE_COPY" if int(version) >= 15 else ""

    def _run(self, name: str, *args: str) -> None:
        command = [str(program(name)), *args]
        if os.geteuid() == 0:
            account = [f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]
            command = ["setpriv", *account, *command]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
