"""Clients that are behind: from their position through the history to the present.

A client is behind because it resumes, because what its user may see is being read anew, because it
did not take its events in time, or because it is ahead of this daemon. All are served alike: fed
from the history in chunks, each when the last one is written, until they reach the present.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from notifyd.core.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from notifyd.core.audience import Audience
    from notifyd.core.block import Record
    from notifyd.core.history import Chunk
    from notifyd.core.hub import Hub
    from notifyd.core.positions import Position

_SLICE: Final = 16
"""Clients served between two looks at the clock."""


class Recipient(Protocol):
    """What is asked of a client."""

    def write(self, data: bytes, events: int) -> None:
        """Write the frames of some events; never waits, never raises."""

    @property
    def owed(self) -> int:
        """How many bytes of earlier writes are still held back."""

    def fell_behind(self) -> None:
        """Hear that it gets no events but from here."""

    def caught_up(self) -> None:
        """Hear that it has reached the present."""


Member = TypeVar("Member", bound=Recipient)


@dataclass(slots=True)
class _Place:
    """Where a member is, and what its user may see; None while nobody knows."""

    user: str
    audience: Audience | None
    position: Position


@dataclass(slots=True)
class FeederStats:
    """Counts since the start: what was written to those who are behind."""

    deliveries: int = 0
    delivered_bytes: int = 0


class Feeder(Generic[Member]):
    """The members that are behind; the hub has them as suspended.

    `left_behind` hears of a member whose position the history has left. `wanted` is set while
    somebody can be fed, `older_wanted` while somebody needs older history than there is in memory.
    """

    def __init__(
        self, hub: Hub[Member], history: History, *, left_behind: Callable[[Member], None]
    ) -> None:
        self._hub = hub
        self._history = history
        self._left_behind = left_behind
        self._places: dict[Member, _Place] = {}
        # Those that may have something to get, and those of them whose turn it is. All others wait
        # for an audience, for their buffer to drain, or as the names say.
        self._ready: dict[Member, None] = {}
        self._turn: deque[Member] = deque()
        self._ahead: dict[Member, None] = {}
        self._older: dict[Member, None] = {}
        self.stats = FeederStats()
        self.wanted = asyncio.Event()
        self.older_wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def members(self) -> list[Member]:
        """The members that are behind."""
        return [*self._places]

    def position(self, member: Member) -> Position | None:
        """Return where a member is, None if it isn't behind."""
        place = self._places.get(member)
        return None if place is None else place.position

    def lag(self, member: Member) -> float:
        """Return how many seconds behind the present a member is, by the times in the positions."""
        place, present = self._places.get(member), self._history.end
        if place is None or present is None:
            return 0.0
        return max(0.0, (present[0] - place.position[0]) / 1000)

    def audience(self, member: Member) -> Audience | None:
        """Return what the user of a member that is behind may see; None while nobody knows."""
        return self._places[member].audience

    # What is said of a member.

    def put(self, member: Member, user: str, audience: Audience | None, at: Position) -> None:
        """Serve a member from a position on, once its audience is known.

        One that is behind already stays where it is, and gets what is left with this audience.
        """
        place = self._places.get(member)
        if place is None:
            place = self._places[member] = _Place(user, audience, at)
            self._hub.suspend(member, user)
            member.fell_behind()
        place.audience = audience
        self._wake(member)

    def move(self, member: Member, to: Position) -> None:
        """Go on from there with a member that is behind."""
        self._places[member].position = to
        self._wake(member)

    def leave(self, member: Member, user: str) -> None:
        """Forget a member here and in the hub, if it is there: it is no longer connected."""
        self._hub.leave(member, user)
        self._drop(member)

    def drained(self, member: Member) -> None:
        """Hear that the member has been written everything it was fed."""
        if member in self._places:
            self._wake(member)

    # What is said of the history.

    def advanced(self) -> None:
        """Hear that it has grown: those that were ahead may be where it is now."""
        ahead, self._ahead = self._ahead, {}
        self._wake(*ahead)

    def restart(self, at: Position) -> None:
        """Hear that it is another one: all go on from there."""
        for member in self._places:
            self.move(member, at)
        self._older.clear()
        self._ahead.clear()

    def reaches_back(self, first: Position) -> None:
        """Hear that there is more of it in memory, and that the stream itself begins there."""
        self._leave_behind(self._older, first)
        floor = self._history.floor
        assert floor is not None, "there is a history"
        served = [each for each in self._older if self._places[each].position >= floor]
        for member in served:
            del self._older[member]
        self._wake(*served)

    @property
    def oldest(self) -> Position | None:
        """From where on older history is needed; None: it isn't."""
        return min((self._places[member].position for member in self._older), default=None)

    # What is done between two batches, since a member that reaches the present goes live.

    def feed(self, until: float) -> None:
        """Serve those that can be, until that moment of time.perf_counter()."""
        if not self._turn:
            self._turn.extend(self._sorted(self._ready))
            self._ready.clear()
        served = 0
        while self._turn:
            self._serve(self._turn.popleft())
            served += 1
            if served % _SLICE == 0 and time.perf_counter() > until:
                break
        if not self._turn and not self._ready:
            self.wanted.clear()

    def feed_older(
        self, records: Sequence[Record], start: Position, end: Position, first: Position
    ) -> None:
        """Serve those for whom these records are: all of the stream behind `start`, up to `end`.

        The stream itself begins with `first`.
        """
        self._leave_behind(self._older, first)
        # Cut as the history in memory is: a page of large events is too much to be owed at once.
        page = History(sys.maxsize)
        page.reset(start)
        if records:
            page.append(records)
        for member in self._sorted(self._older):
            place = self._places[member]
            # Somebody may have come while the records were on their way, from further back.
            if not start <= place.position < end:
                continue
            del self._older[member]
            # Whoever can't be served now is woken when that changes.
            if place.audience is not None and not member.owed:
                chunk = page.after(place.position)
                assert chunk is not None, "it does not reach back further"
                if chunk.latest:
                    chunk = replace(chunk, end=end, latest=False)
                self._write(member, place, chunk)

    def _drop(self, member: Member) -> None:
        if self._places.pop(member, None) is not None:
            for waiting in (self._ready, self._ahead, self._older):
                waiting.pop(member, None)

    def _leave_behind(self, members: Iterable[Member], first: Position) -> None:
        for member in [each for each in members if self._places[each].position < first]:
            self._older.pop(member, None)
            self._left_behind(member)

    def _wake(self, *members: Member) -> None:
        self._ready.update(dict.fromkeys(members))
        if self._ready:
            self.wanted.set()

    def _sorted(self, members: Iterable[Member]) -> list[Member]:
        """Return members so that those who get the same stand together: blocks remember few."""

        def key(member: Member) -> tuple[int, Position]:
            place = self._places[member]
            return hash(place.audience), place.position

        return sorted(members, key=key)

    def _serve(self, member: Member) -> None:
        place = self._places.get(member)
        if place is None or place.audience is None or member.owed:
            return
        assert self._history.end is not None
        chunk = self._history.after(place.position)
        if place.position > self._history.end:
            self._ahead[member] = None
        elif chunk is None:
            self._older[member] = None
            self.older_wanted.set()
        else:
            self._write(member, place, chunk)

    def _write(self, member: Member, place: _Place, chunk: Chunk) -> None:
        """Write what the member may see of a chunk, and move it behind that."""
        assert place.audience is not None
        data, events = chunk.visible(place.audience, place.user)
        place.position = chunk.end
        if data:
            member.write(data, events)
            self.stats.deliveries += events
            self.stats.delivered_bytes += len(data)
        # Writing may have ended it.
        if member not in self._places:
            return
        if chunk.latest:
            self._drop(member)
            self._hub.join(member, place.user, place.audience)
            member.caught_up()
        else:
            self._wake(member)
