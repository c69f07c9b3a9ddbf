"""A real PostgreSQL server for the tests: private, in a folder of its own, on a free port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
from servers import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class PostgresServer:
    """A PostgreSQL cluster that a test may stop and freeze.

    Everybody on this machine is trusted and nothing is synced to the disk: it lives as long as
    the tests. The server refuses to run as root, so for root it runs as the user postgres.
    """

    user = "notifyd"
    host = LOOPBACK

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._data = folder / "data"
        self._lock = self._data / "postmaster.pid"
        self._log = folder / "postgres.log"
        self._as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            self._as_user = ("runuser", "-u", "postgres", "--")
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        self._programs = _postgres_programs()
        self._run(
            "initdb",
            *("--username", self.user, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
            "--no-sync",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop("immediate")

    @property
    def running(self) -> bool:
        """Whether the server runs, frozen or not: a clean stop removes its lock file."""
        return self._lock.exists()

    @property
    def pid(self) -> int:
        """The first of its processes, the parent of all others."""
        assert self.running, "the server is not running"
        return int(self._lock.read_text().split("\n", 1)[0])

    def parts(self, database: str = "postgres", *, unix: bool = False) -> dict[str, Any]:
        """Return the address as psycopg's connect() takes it."""
        host = str(self.folder) if unix else self.host
        return {"host": host, "port": self.port, "user": self.user, "dbname": database}

    def settings(self, database: str = "postgres", *, unix: bool = False) -> dict[str, Any]:
        """Return the address as Django's DATABASES takes it."""
        parts = self.parts(database, unix=unix)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": parts["host"],
            "PORT": str(parts["port"]),
            "USER": parts["user"],
            "NAME": parts["dbname"],
        }

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside a transaction, such as CREATE DATABASE."""
        with psycopg.connect(**self.parts(database, unix=True), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, database: str, template: str = "template0") -> None:
        """Create a database, replacing one of the same name."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers."""
        if self.running:
            return
        options = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
        }
        words = " ".join(f"-c {name}={value}" for name, value in options.items())
        # Without a log file the server inherits our output, and whoever reads it never sees an end.
        self._run("pg_ctl", "start", "--wait", "--timeout=30", "-l", str(self._log), "-o", words)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, if it runs; mode "immediate" is like a crash."""
        if not self.running:
            return
        self.resume()
        self._run("pg_ctl", "stop", "--wait", "--timeout=30", f"--mode={mode}")

    def pause(self) -> None:
        """Freeze the server and every session: connections open, but nobody answers."""
        # Each session leads a process group of its own, so the family is found by its parent, who
        # is frozen first, and woken last: it must not fork meanwhile, nor see its children stop.
        postmaster = self.pid
        os.kill(postmaster, signal.SIGSTOP)
        for child in _children(postmaster):
            os.kill(child, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server continue."""
        postmaster = self.pid
        for pid in (*_children(postmaster), postmaster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def stopped(self, mode: str = "fast") -> Iterator[None]:
        """Have no server for the length of a block."""
        self.stop(mode)
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have a frozen server for the length of a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log.read_text(errors="replace")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), "-D", str(self._data)]
        try:
            subprocess.run(
                [*command, *arguments],
                cwd="/",
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except subprocess.CalledProcessError as error:
            log = self.log() if self._log.exists() else ""
            raise RuntimeError(f"{program} failed: {error.output.decode()}\n{log}") from error


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # proc(5): the parent is the second field after the name, which may contain spaces.
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _postgres_programs() -> Path:
    # Debian keeps the server's programs off PATH, in a folder for each version.
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin_: int(bin_.parent.name)
    )
    if folders:
        return folders[-1]
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("PostgreSQL's server programs are missing: install postgresql")
    return Path(found).resolve().parent
