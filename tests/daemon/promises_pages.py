"""The browsers: pages that hold the daemons to their word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from daemon.promises_links import Link
from raws import text

from notifyd.core.positions import format_position, parse_position

if TYPE_CHECKING:
    from daemon.promises_world import World

    from notifyd.core.positions import Position

# Close codes after which a page needs a token, those after which its person loads it anew, and
# those that nobody deserves here.
_FRESH: Final = {4401, 4410}
_STOP: Final = {4403}
_NEVER: Final = {1002, 1003, 1007, 1009, 1011, 4400, 4408, 4429}


class Page:
    """A page with notifyd.js in it, or one of the plain guide: `bare`.

    `position` is a history and where in it the page is. Whatever is before it, it has.
    """

    def __init__(self, world: World, user: str, *, bare: bool, rendered: bool) -> None:
        self._world = world
        self.user = user
        self.bare = bare
        self.link: Link | None = None
        self.wanted: int | None = None
        """The daemon to which it wants to be connected."""
        self.tickets: list[str] = []
        self.position: tuple[str, Position] | None = None
        self._epoch: str | None = None
        self._moved = 0
        self._skipped: str | None = None
        if rendered:
            self._epoch = world.redis.epoch
            self.position = world.redis.epoch, world.redis.last
            self._moved = world.tick()

    def connect(self, which: int, ticket: int | None) -> None:
        """Say hello to a daemon, with a token, or one of the tickets, the newest first."""
        self.leave()
        self.wanted = which
        self.link = Link(self._world.daemons[which], self)
        if self.bare:
            self.position = None
            self.link.hear(text(self.user))
            return
        hello = {"token": self.user}
        if ticket is not None and self.tickets:
            hello = {"ticket": self.tickets[-1 - ticket % len(self.tickets)]}
        if self.position is not None:
            hello |= {"since": format_position(self.position[1]), "epoch": self.position[0]}
        self.link.hear(text(json.dumps(hello)))

    def leave(self) -> None:
        """Be gone, with what has arrived."""
        self.wanted = None
        if self.link is not None:
            self.link.cut()
            self.link = None

    def come_back(self) -> None:
        """Connect again after the connection has ended."""
        assert self.wanted is not None
        self.connect(self.wanted, 0)

    @property
    def away(self) -> bool:
        """Whether it wants to be connected, and is not."""
        return self.wanted is not None and self.link is None

    def lost(self, link: Link, code: int | None) -> None:
        """Notice that the connection has ended."""
        link.cut()
        if link is not self.link:
            return
        self.link = None
        if code in _NEVER:
            self._world.fault(f"user {self.user} is closed with {code}")
        if code in _FRESH:
            self.tickets.clear()
        if code in _STOP:
            # The person opens another one.
            self.tickets.clear()
            self.position = None

    def let_in(self, link: Link) -> None:
        """Hear from where on a client gets events; the others are told."""
        if self.bare and link is self.link and link.welcomed is not None:
            epoch, position = link.welcomed
            self.position = None if epoch is None or position is None else (epoch, position)

    def written(self, link: Link, frame: dict[str, Any], moment: int) -> None:
        """Look at a frame in the moment when the daemon writes it."""
        if "notifyd" in frame:
            return
        epoch = link.daemon.parts.relay.epoch
        assert epoch is not None
        event = self._world.redis.at(epoch, parse_position(frame["id"]))
        if not self._world.site.may_see(self.user, event, moment):
            self._world.fault(f"user {self.user} gets {frame}, read before the last recheck")
        if self.bare and link is self.link:
            self._move(frame["id"], epoch, moment, event=True)

    def read(self, link: Link, frame: dict[str, Any], moment: int) -> None:
        """Do with a frame what notifyd.js does."""
        if self.bare or link is not self.link:
            return
        kind = frame.get("notifyd")
        if kind is None:
            self._move(frame["id"], self._epoch, moment, event=True)
        elif kind == "welcome":
            self._welcome(frame, moment)
        elif kind == "ping" and frame["last_id"]:
            self._move(frame["last_id"], self._epoch, moment, event=False)
        elif kind == "ticket":
            self.tickets.append(frame["ticket"])
        elif kind == "resync":
            self._epoch = frame["epoch"] or self._epoch
            last_id = frame["last_id"] or self._skipped
            if self.position and not self._world.may_lose(self.position, self._moved):
                self._world.fault(f"user {self.user} is told {frame}, at {self.position}")
            self.position = None
            if last_id:
                self._move(last_id, self._epoch, moment, event=False)
            self._skipped = None

    def _welcome(self, frame: dict[str, Any], moment: int) -> None:
        if frame["ticket"]:
            self.tickets.append(frame["ticket"])
        recovered = frame["recovered"]
        if (self.position is None) != (recovered is None):
            self._world.fault(f"user {self.user} at {self.position} is told {frame}")
        self._epoch = frame["epoch"] or self._epoch
        self._skipped = frame["last_id"] if recovered is False else None
        if recovered is not False and frame["last_id"]:
            self._move(frame["last_id"], self._epoch, moment, event=False)

    def _move(self, id_: str, epoch: str | None, moment: int, *, event: bool) -> None:
        """Be at a position from now on: what is before it should be here."""
        to = parse_position(id_)
        assert epoch is not None
        if self.position is not None:
            if self.position[0] != epoch:
                self._world.fault(f"user {self.user} goes on in another history, at {id_}")
            at = self.position[1]
            if to < at or (event and to == at):
                self._world.fault(f"user {self.user} at {at} gets {'' if event else 'to '}{id_}")
            self._expect_all(epoch, at, to, moment, including=not event)
        if self.position != (epoch, to):
            self.position = epoch, to
            self._moved = moment

    def _expect_all(
        self, epoch: str, after: Position, to: Position, moment: int, *, including: bool
    ) -> None:
        """Find nothing between two positions that the user had to get."""
        for entry in self._world.redis.between(epoch, after, to):
            passed = including or entry.position < to
            if passed and self._world.site.must_see(self.user, entry, moment):
                missed = format_position(entry.position)
                self._world.fault(f"user {self.user} never gets {missed}: {entry.rule}")

    def arrive(self, epoch: str, to: Position) -> None:
        """Have everything up to a position by now."""
        if self.position is not None:
            self._move(format_position(to), epoch, self._world.tick(), event=False)
