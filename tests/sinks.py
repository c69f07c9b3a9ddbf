"""Clients without a socket, for what serves clients."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink:
    """A client that keeps what is written to it; `delay` is how long a write takes, in seconds."""

    def __init__(self, on_write: Callable[[Sink], None] = lambda _: None, delay: float = 0) -> None:
        self.writes: list[tuple[bytes, int]] = []
        self.owed = 0
        self.heard: list[str] = []
        """What it was told: that it is behind, or live."""
        self._on_write = on_write
        self._delay = delay

    @property
    def ids(self) -> list[str]:
        """The ids of the events that were written to it."""
        return re.findall(
            r'"id": "(\d+-\d+)"', b"".join(data for data, _ in self.writes).decode("latin-1")
        )

    def write(self, data: bytes, events: int) -> None:
        """Keep it."""
        self.writes.append((data, events))
        self._on_write(self)
        end = time.perf_counter() + self._delay
        while time.perf_counter() < end:
            pass

    def fell_behind(self) -> None:
        """Keep it."""
        self.heard.append("behind")

    def caught_up(self) -> None:
        """Keep it."""
        self.heard.append("live")
