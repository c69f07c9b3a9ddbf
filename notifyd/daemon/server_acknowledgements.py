"""What pages say of the events that they have got: the one figure that is taken in the browser."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notifyd.core.acknowledgements import Acknowledgement, Acknowledgements

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.positions import Position
    from notifyd.daemon.client import Client


@dataclass(slots=True)
class SampleStats:
    """Counts since the start, read by the metrics at each scrape."""

    acknowledgements: Counter[Acknowledgement] = field(default_factory=Counter)
    clamped: int = 0


class Sample:
    """Takes acknowledgements, and has those observed that count.

    `newest` returns the position up to which events were written to clients, `history` is how long
    the stream keeps an event, in seconds. `observe` gets the seconds from an event's publication
    (the time in its id, by Redis' clock) to the acknowledgement, and its id.
    """

    def __init__(
        self,
        newest: Callable[[], Position | None],
        *,
        history: float,
        observe: Callable[[float, str], None],
    ) -> None:
        self._newest = newest
        self._observe = observe
        self._acknowledgements = Acknowledgements(history)
        self.stats = SampleStats()

    def acknowledged(self, client: Client, id_: str) -> None:
        """Take a client's word that it has the event."""
        result, seconds = self._acknowledgements.judge(
            id_,
            client.user,
            self._newest(),
            opened=client.opened,
            clock=time.time(),
            now=asyncio.get_running_loop().time(),
        )
        self.stats.acknowledgements[result] += 1
        if result is not Acknowledgement.OK:
            return
        if seconds < 0:
            self.stats.clamped += 1
        self._observe(max(0.0, seconds), id_)
