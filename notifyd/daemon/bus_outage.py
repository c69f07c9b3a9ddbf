"""Whether the bus works: what the stats and the log hear of its links."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import structlog

from notifyd.core.backoff import Backoff
from notifyd.core.batch import SOURCES
from notifyd.daemon.bus_link import NotMasterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from notifyd.core.batch import Source
    from notifyd.daemon.bus_link import RedisURL

log = structlog.stdlib.get_logger()

FIRST: Final = 0.1
MOST: Final = 5.0
"""Seconds: the ceilings of the delay before the first attempt to reconnect and of all later."""

Item_co = TypeVar("Item_co", covariant=True)


@dataclass(slots=True)
class BusStats:
    """How the bus is doing, for metrics and readiness. Times are seconds of the monotonic clock."""

    up: bool = False
    """Whether every link in use works."""
    down_since: float | None = None
    reconnects: int = 0
    gaps: int = 0
    recovered: int = 0
    """Entries that were written during an outage and read after it."""
    proofs: dict[Source, float] = field(default_factory=dict)
    """When Redis last proved that what is written there reaches us, by each way that did once."""
    began: float = field(default_factory=time.monotonic)

    def ages(self) -> dict[Source, float]:
        """Return how many seconds ago that was; without any proof: since the start."""
        now = time.monotonic()
        return {source: now - self.proofs.get(source, self.began) for source in SOURCES}


class Reader(Protocol[Item_co]):
    """What reading the stream and reading the channel have in common."""

    @property
    def source(self) -> Source:
        """Which of the two."""

    @property
    def lost(self) -> str | None:
        """What an outage costs, in words."""

    @property
    def ready(self) -> bool:
        """Whether it works, and has caught up if it can."""

    def fields(self) -> dict[str, Any]:
        """Return what the log tells of it when it is ready."""

    def take(self) -> Iterable[Item_co]:
        """Return what came since the last time."""

    async def step(self) -> None:
        """Connect or read, once."""

    async def close(self) -> None:
        """Give up the connection."""


class Outage:
    """What log and stats hear of one link: when it went, and when it was back."""

    def __init__(
        self,
        reader: Reader[Any],
        url: RedisURL,
        stats: BusStats,
        down: dict[Reader[Any], float | None],
    ) -> None:
        self._reader = reader
        self._url = url
        self._stats = stats
        self._down = down
        self._backoff = Backoff(FIRST, MOST)
        # What the log has been told about this outage: attempts fail alike for hours.
        self._said: set[str] = set()
        self._since = time.monotonic()
        self._was_up = False
        self._count(self._since)

    def failed(self, error: Exception) -> float:
        """Take note that the link failed, and return the seconds until the next attempt."""
        now = time.monotonic()
        if self._down[self._reader] is None:
            # A link that works for a moment at a time is no reason to start over.
            if now - self._since >= MOST:
                self._backoff.reset()
            self._since = now
            self._count(now)
        retry_in = self._backoff.next()
        fields = self._url.explain(error)
        event = "bus.demoted" if isinstance(error, NotMasterError) else "bus.disconnected"
        # One line for an outage, whatever stages a server's restart goes through, but another for
        # a cause that somebody has to do something about.
        cause = fields.get("hint", "" if event == "bus.disconnected" else event)
        if not self._said or (cause and cause not in self._said):
            log.warning(
                event,
                source=self._reader.source,
                address=str(self._url),
                **fields,
                retry_in=round(retry_in, 3),
            )
        self._said.add(cause)
        return retry_in

    def worked(self) -> None:
        """Take note that the link works, if it is ready."""
        if self._down[self._reader] is None or not self._reader.ready:
            return
        now = time.monotonic()
        fields = self._reader.fields()
        if self._said:
            fields["outage"] = round(now - self._since, 3)
            if self._reader.lost:
                fields["lost"] = self._reader.lost
        log.info("bus.connected", source=self._reader.source, address=str(self._url), **fields)
        self._stats.reconnects += self._was_up
        self._was_up = True
        self._said.clear()
        self._since = now
        self._count(None)

    def forget(self) -> None:
        """Leave the stats: nobody reads over this link any more."""
        del self._down[self._reader]
        self._count_all()

    def _count(self, since: float | None) -> None:
        self._down[self._reader] = since
        self._count_all()

    def _count_all(self) -> None:
        since = [moment for moment in self._down.values() if moment is not None]
        self._stats.up = bool(self._down) and not since
        self._stats.down_since = min(since, default=None)
