"""The service manager: when we are ready, what we do, and that we are alive (sd_notify(3))."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from sdnotify import SystemdNotifier

if TYPE_CHECKING:
    from collections.abc import Mapping

# systemd drops a message of more than 4096 bytes; a character takes at most 4 of them.
_MAX_STATUS: Final = 1000


class Notifier:
    """Tells systemd about the daemon; does nothing where no systemd asks ($NOTIFY_SOCKET)."""

    def __init__(self) -> None:
        # Without the variable sdnotify would leak a socket.
        self._systemd = SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    def ready(self) -> None:
        """Say that clients are served: units that wait for us may start."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is being read anew; `ready` says that this is over."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def extend(self, seconds: float) -> None:
        """Ask for so many seconds more until the start or the stop under way must be over."""
        self._notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`; line breaks in it become spaces."""
        # A line break would begin another assignment, and a NUL makes systemd drop the message.
        words = "".join(letter if letter.isprintable() else " " for letter in text).split()
        self._notify("STATUS=" + " ".join(words)[:_MAX_STATUS])

    def stopping(self) -> None:
        """Say that the daemon is about to end by itself."""
        self._notify("STOPPING=1")

    def watchdog(self) -> None:
        """Say that the event loop still turns; due every `watchdog_interval` seconds."""
        self._notify("WATCHDOG=1")

    @staticmethod
    def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
        """Return the seconds between two signs of life: half of what systemd allows.

        None: it expects none from the process `pid` (sd_watchdog_enabled(3)).
        """
        expected = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        allowed = environ.get("WATCHDOG_USEC", "")
        if not (expected and allowed.isdecimal() and int(allowed)):
            return None
        return int(allowed) / 1_000_000 / 2

    def close(self) -> None:
        """Release the socket."""
        if self._systemd is not None and self._systemd.socket is not None:
            self._systemd.socket.close()
        self._systemd = None

    def _notify(self, message: str) -> None:
        if self._systemd is not None:
            # sdnotify encodes as Latin-1, systemd expects UTF-8: each byte travels as a character.
            self._systemd.notify(message.encode().decode("latin-1"))
