"""Pages of the documentation, and a reader who does what they say."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from daemons import clean_environment
from servers import LOOPBACK, free_port
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r'^( *)```(\w+)(?: title="(.+?)")?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_DONE = "-- done:"

# What a reader starts and leaves running, and the port that says when it is ready. The programs
# have ports of their own in the tests, whether the page names one or not.
_SERVERS = {"redis-server": 6379, "python manage.py runserver": 8000, "notifyd run": 8888}
_PORTS = (6379, 8000, 8888, 9488)

# The environment of the tests is what a reader makes with these lines; to make another one would
# take minutes. What activates it must be typed in every terminal all the same.
_INSTEAD = {
    "python3 -m venv .venv": f"""
        mkdir -p .venv/bin
        echo 'PATH={Path(sys.executable).parent}:$PATH' >.venv/bin/activate""",
    "pip install ~/notifyd": "notifyd --version",
}


class Block(NamedTuple):
    """A block of code in a page: under which heading, in which language, for which file."""

    section: str
    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = page.read_text()
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    found = []
    for match in _FENCE.finditer(text):
        before = [heading for start, heading in headings if start < match.start()]
        section = before[-1] if before else ""
        found.append(Block(section, match[2], match[3] or "", textwrap.dedent(match[4])))
    return found


class Terminal:
    """A shell as somebody types into it, and its screen."""

    def __init__(self, folder: Path, screen: Path, environment: Mapping[str, str]) -> None:
        self._screen = screen
        with screen.open("wb") as output:
            self._shell = subprocess.Popen(
                ["bash", "--norc"],
                cwd=folder,
                env={**environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                # Everything that was started here ends with it.
                start_new_session=True,
            )

    def run(self, command: str) -> str:
        """Run a command, and return what it prints. Raises AssertionError if it fails."""
        before = len(self.screen)
        self._type(f"{{ {command}\n}} </dev/null\necho '{_DONE}' $?")
        done = re.compile(rf"(.*)^{_DONE} (\d+)\n", re.DOTALL | re.MULTILINE)
        match = wait_until(lambda: done.match(self.screen, before), 30)
        assert match[2] == "0", f"{command}: {self.screen[before:]}"
        return str(match[1])

    def start(self, command: str) -> None:
        """Run a command that goes on; what it prints later would be in the way here."""
        self._type(f"{command} </dev/null >>{self._screen}.servers 2>&1 &")

    @property
    def screen(self) -> str:
        """Everything that was printed."""
        return self._screen.read_text(errors="replace")

    def _type(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{line}\n")
        self._shell.stdin.flush()

    def close(self) -> None:
        """End the shell and what runs in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGTERM)
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(10)
        # A reloading development server does not always take its child along.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)


class Reader:
    """Somebody who follows a page, beginning in a folder, on free ports instead of the usual.

    `project` is where the files are, as seen from the folder.
    """

    def __init__(self, folder: Path, project: str = "") -> None:
        self.folder = folder
        self.project = folder / project
        self.ports = {number: free_port() for number in _PORTS}
        self._screens = folder.parent / f"{folder.name}-screens"
        self._screens.mkdir()
        self._environment = {
            **clean_environment(),
            # As wide as it takes: nothing that is printed is broken into lines.
            "COLUMNS": "1000",
            "PYTHONUNBUFFERED": "1",
            "NOTIFYD_SERVER_LISTEN": f"localhost:{self.ports[8888]}",
            "NOTIFYD_ADMIN_LISTEN": f"{LOOPBACK}:{self.ports[9488]}",
            "NOTIFYD_CONTROL_SOCKET": str(self._screens / "control"),
        }
        self._environment.pop("DJANGO_SETTINGS_MODULE", None)
        self._terminals: list[Terminal] = []
        self.open()

    def open(self) -> None:
        """Open another terminal, where the next commands are typed."""
        screen = self._screens / str(len(self._terminals))
        self._terminals.append(Terminal(self.folder, screen, self._environment))

    def follow(self, block: Block) -> None:
        """Do what a block says: write its file, or type its commands.

        Raises AssertionError if a command fails, or prints something else than the page has.
        """
        if block.language == "console":
            self._type(block.text)
        elif block.title:
            self._write(block)

    def here(self, text: str) -> str:
        """Return a text with this reader's ports in it."""
        return re.sub(
            r"(?<!\d)\d{4}(?!\d)",
            lambda match: str(self.ports.get(int(match[0]), match[0])),
            text,
        )

    def run(self, command: str) -> str:
        """Type a command, wait for its end, and return what it prints."""
        return self._terminals[-1].run(self.here(_INSTEAD.get(command, command)))

    def screens(self) -> str:
        """Return everything that was printed."""
        return "\n".join(path.read_text() for path in sorted(self._screens.glob("[0-9]*")))

    def _type(self, text: str) -> None:
        if text.startswith("$ cd "):
            self.open()
        # A command, and the lines that it prints.
        for command, expected in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", text, re.MULTILINE):
            port = next((_SERVERS[name] for name in _SERVERS if command.startswith(name)), None)
            if port is None:
                printed = self.run(command)
                assert expected in printed, f"{command} prints: {printed}"
            else:
                self._start(command, self.ports[port])

    def _start(self, command: str, port: int) -> None:
        self._terminals[-1].start(self.here(command))
        wait_until(lambda: listens(port), 30)

    def _write(self, block: Block) -> None:
        name, _, end = block.title.partition(", ")
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = self.here(block.text)
        path.write_text(f"{path.read_text()}\n{text}" if end else text)

    def close(self) -> None:
        """Leave nothing running."""
        for terminal in self._terminals:
            terminal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None:
            sys.stdout.write(self.screens())


def listens(port: int) -> bool:
    """Tell whether somebody listens at a port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
        return True
    return False
