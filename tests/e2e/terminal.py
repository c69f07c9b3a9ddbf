"""The websockets library's own client, as a person uses it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from typing import Self

from waiting import wait_until


class Terminal:
    """A terminal in which `python -m websockets` was typed, with an address."""

    def __init__(self, address: str) -> None:
        self._screen, line = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "websockets", address],
            stdin=line,
            stdout=line,
            stderr=line,
        )
        os.close(line)
        os.set_blocking(self._screen, False)
        self._seen = b""

    def shows(self, words: str) -> str:
        """Wait until the words are on the screen; return all of it, without control sequences."""
        wait_until(lambda: words in self._read())
        return self._read()

    def paste(self, words: str) -> None:
        """Paste the words and press Enter."""
        self.shows("> ")
        os.write(self._screen, words.encode() + b"\n")

    def _read(self) -> str:
        # An error, and not an end, is what comes after the program's last word.
        with contextlib.suppress(OSError):
            self._seen += os.read(self._screen, 65536)
        return re.sub(r"\x1b(\[[A-Z]|[78])", "", self._seen.decode(errors="replace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)
