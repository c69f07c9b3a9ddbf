"""A Debian 12 with a systemd of its own: what the tests of the units and the package run in.

The tree is made once by debootstrap and kept. Each container is an overlay over it, which is gone
with the container, and has a network of its own, with nothing in it but loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from daemons import ROOT
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("adduser", "ca-certificates", "dbus", "python3", "redis-server", "systemd-sysv")

CACHE = ROOT / ".cache" / "systemd"

_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The namespaces of the container, but not its environment.
_ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


def tree() -> Path:
    """Return the pristine system, made if it isn't there."""
    path = CACHE / f"bookworm-{'-'.join(PACKAGES)}"
    if not path.exists():
        new = path.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        include = f"--include={','.join(PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, "bookworm", str(new)]
        if mirror := os.environ.get("MIRROR"):
            command.append(mirror)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        new.rename(path)
    return path


class Container:
    """A booted system. Leave it running: it ends with the block."""

    def __init__(self) -> None:
        self._room = Path(tempfile.mkdtemp(prefix="notifyd-systemd-", dir="/var/tmp"))
        self.root = self._room / "root"
        self._leader = 0
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self._room / name).mkdir()
        options = f"lowerdir={tree()},upperdir={self._room}/upper,workdir={self._room}/work"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)], check=True
        )
        self._boot()
        return self

    def __exit__(self, *_: object) -> None:
        if self._nspawn is not None:
            # SIGRTMIN+4 of systemd(1) would take as long as every unit takes to stop. With this
            # process ends the namespace, and all that runs there.
            self._nspawn.kill()
            self._nspawn.wait()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)
        shutil.rmtree(self._room, ignore_errors=True)

    def _boot(self) -> None:
        console = (self._room / "console").open("wb")
        with console:
            self._nspawn = subprocess.Popen(
                [
                    # nspawn alone would leave the container behind when it is killed, and when we
                    # are: it is kept in a namespace of processes that ends with its first.
                    *("setpriv", "--pdeathsig=KILL"),
                    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    "systemd-nspawn",
                    "--quiet",
                    f"--directory={self.root}",
                    "--boot",
                    "--register=no",
                    "--keep-unit",
                    "--private-network",
                    "--machine=notifyd-tests",
                    "--console=pipe",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._leader = int(wait_until(self._find_leader, 30))
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False) in _UP, 60)

    def _find_leader(self) -> int | None:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self._room / "console").read_text()
        # unshare's child is nspawn, and one of nspawn's is the container's first process.
        for parent in _children(self._nspawn.pid):
            for child in _children(parent):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                        return child
        return None

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one inside."""
        return [
            *("nsenter", f"--target={self._leader}", *_ENTER),
            *("env", "-i", f"PATH={_SEARCH}", "HOME=/root", "LANG=C.UTF-8"),
            *command,
        ]

    def namespace(self, kind: str) -> str:
        """Return the file of one of the container's namespaces (namespaces(7))."""
        return f"/proc/{self._leader}/ns/{kind}"

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Run a command inside, and return what it prints, on both streams."""
        done = subprocess.run(
            self.command(*command),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout.strip()

    def succeeds(self, *command: str) -> bool:
        """Run a command inside, and tell whether it ended with 0."""
        done = subprocess.run(self.command(*command), capture_output=True, check=False)
        return done.returncode == 0

    def write(self, path: str, text: str, *, append: bool = False) -> None:
        """Write a file inside; its folders are made."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a" if append else "w") as file:
            file.write(text)

    def inside(self, path: str) -> Path:
        """Return where a file of the container is from here."""
        return Path(f"/proc/{self._leader}/root{path}")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def state(self, unit: str) -> str:
        """Return whether a unit is active, failed and so on."""
        return self.show(unit, "ActiveState")

    def cursor(self) -> str:
        """Return a mark behind all that the journal has now."""
        self.run("journalctl", "--sync")
        line = self.run("journalctl", "--lines=1", "--output=json")
        return str(json.loads(line)["__CURSOR"])

    def events(self, name: str, unit: str = "notifyd", after: str = "") -> list[dict[str, Any]]:
        """Return the log events of that name, behind a mark in the journal."""
        mark = [f"--after-cursor={after}"] if after else []
        self.run("journalctl", "--sync")
        # Matches and a mark together don't find everything.
        lines = self.run("journalctl", f"--unit={unit}", "--output=json", "--all", *mark)
        entries = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("NOTIFYD_EVENT") == name]


_UP: Sequence[str] = ("running", "degraded")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
