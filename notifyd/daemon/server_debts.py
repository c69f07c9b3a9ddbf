"""What clients owe: bytes they were written and have not taken. Who owes too much pays for it.

A client that knows control frames is behind from a certain debt on: what it gets then is in the
history, and not in its buffer. So one slow client costs no memory, and delays no other.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import structlog

from notifyd.core.happenings import Phase
from notifyd.core.protocol import CloseCode, resync_frame

if TYPE_CHECKING:
    from notifyd.core.audience import Audience
    from notifyd.core.positions import Position
    from notifyd.daemon.admission import Stream
    from notifyd.daemon.client import Client
    from notifyd.daemon.timers import Timers

log = structlog.stdlib.get_logger()


class Places(Protocol):
    """What the server asks of the hub and the feeder: where its clients are."""

    def position(self, client: Client) -> Position | None:
        """Return where a client is, None if it isn't behind."""

    def put(self, client: Client, user: str, audience: Audience | None, at: Position) -> None:
        """Have a client behind, at that position."""

    def move(self, client: Client, to: Position) -> None:
        """Go on from that position with a client that is behind."""

    def drained(self, client: Client) -> None:
        """Hear that the client owes nothing any more."""

    def leave(self, client: Client, user: str) -> None:
        """Take the client out."""


class Debts:
    """The clients that owe something.

    A client that owes more than `buffer` bytes is behind from then on; one that can't be, since it
    sent a bare token, may owe `bare_buffer`. All of them together may owe `total_buffer`.
    """

    def __init__(
        self,
        places: Places,
        stream: Stream,
        timers: Timers,
        *,
        buffer: int,
        bare_buffer: int,
        total_buffer: int,
    ) -> None:
        self._places = places
        self._stream = stream
        self._timers = timers
        self.configure(buffer=buffer, bare_buffer=bare_buffer, total_buffer=total_buffer)
        self._owing: set[Client] = set()
        self.behind = 0
        """How often a client fell behind."""
        self.slow = 0
        """How many clients were closed."""

    @property
    def owing(self) -> list[Client]:
        """The clients that owe something."""
        return [*self._owing]

    def configure(self, *, buffer: int, bare_buffer: int, total_buffer: int) -> None:
        """Go by these bounds from now on, in bytes."""
        self._buffer = buffer
        self._bare_buffer = bare_buffer
        self._total_buffer = total_buffer

    def owes(self, client: Client, owed: int, now: float) -> None:
        """Note what a transport holds back; more than a client may owe makes it behind."""
        if owed == 0 or not client.writable:
            self._owing.discard(client)
            self._timers.expect_no_progress(client)
            self._places.drained(client)
            return
        self._owing.add(client)
        self._timers.expect_progress(client, now)
        if client.session.phase is Phase.BEHIND:
            return
        if client.greeted and self._stream.position is not None:
            if owed > self._buffer:
                # The phase changes at once, so that this happens once.
                client.fell_behind()
                self._stream.at_boundary(functools.partial(self._fall_behind, client))
        elif owed > self._bare_buffer:
            self.too_slow(client, "it owes more than it may")

    def relieve(self) -> None:
        """Close those that owe the most, until what all owe together fits its bound."""
        owed = {client: client.owed for client in self._owing}
        total = sum(owed.values())
        for client in sorted(owed, key=owed.__getitem__, reverse=True):
            if total <= self._total_buffer:
                return
            total -= owed[client]
            if client.writable:
                self.too_slow(client, "all clients together owe more than they may")
            else:
                # It had its chance to read why; what it owes counts until it is gone.
                client.abort()

    def left_behind(self, client: Client) -> None:
        """Deal with a client that is behind, and whose position the history has left.

        Who has only been waiting goes on from the present, having been told; who is slow, or can't
        be told, has to come back.
        """
        position = self._stream.position
        if client.greeted and not client.owed and position is not None:
            reason = "the history does not reach back to where you were"
            epoch, last_id = self._stream.epoch, self._stream.last_id
            # In this order, since by the writing it may turn out that the client is gone.
            self._places.move(client, position)
            client.write(resync_frame(reason, epoch=epoch, last_id=last_id))
        else:
            self.too_slow(client, "the history has left it")

    def too_slow(self, client: Client, detail: str) -> None:
        """Close a client that does not take what it is sent."""
        if not client.writable:
            return
        self.slow += 1
        log.warning(
            "client.slow",
            detail=detail,
            owed=client.owed,
            user=client.user,
            address=client.address or client.peer,
            connection=client.number,
        )
        client.close(CloseCode.TOO_SLOW, detail)

    def _fall_behind(self, client: Client) -> None:
        position, login = self._stream.position, client.login
        if not client.writable or login is None or position is None:
            return
        self.behind += 1
        log.info(
            "client.behind",
            owed=client.owed,
            user=login.user,
            address=client.address,
            connection=client.number,
        )
        # Whoever is behind already may be there because what the user may see is being read anew:
        # to put it there by what the user could see before would revoke the revocation.
        if self._places.position(client) is None:
            self._places.put(client, login.user, login.audience, position)
