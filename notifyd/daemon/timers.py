"""Everything that happens to clients by the clock: deadlines and the keepalive, from one timer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from notifyd.core.deadlines import Deadlines, Wheel
from notifyd.core.protocol import PING_FRAME, CloseCode, ping_frame
from notifyd.daemon.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

_SLOTS: Final = 100
"""Parts of the ping interval over which the clients are spread."""


class Stream(Protocol):
    """What is asked of the relay."""

    @property
    def last_id(self) -> str | None:
        """The position up to which everything was relayed; None until Redis was reached."""

    def at_boundary(self, action: Callable[[], None]) -> None:
        """Call the action between two batches."""


class Times(NamedTuple):
    """How long something may take, in seconds."""

    handshake: float
    hello: float
    farewell: float
    answer: float
    """To a ping."""
    progress: float
    """Until a client that owes something has taken some of it."""


class Timers:
    """The clients by what they are waiting for. They are pinged every `interval` seconds.

    A client has one deadline at a time, first for the handshake, then for the hello; at the end,
    for its farewell. Between them it has its turn in the keepalive, and while it owes something it
    must make progress.

    `position_of` returns where a client is as an id, None for one that is where the relay is;
    `ticket_frame` returns a new ticket for a client, nothing if there can't be one.
    """

    def __init__(
        self,
        stream: Stream,
        times: Times,
        *,
        interval: float,
        position_of: Callable[[Client], str | None],
        ticket_frame: Callable[[Client, float], bytes],
    ) -> None:
        self._stream = stream
        self._position_of = position_of
        self._ticket_frame = ticket_frame
        self._handshakes = Deadlines[Client](times.handshake)
        self._hellos = Deadlines[Client](times.hello)
        self._farewells = Deadlines[Client](times.farewell)
        self._wheel = Wheel[Client](interval, _SLOTS)
        self._answers = Deadlines[tuple[float, int]](times.answer)
        self._progress = Deadlines[Client](times.progress)
        # What those who must make progress had taken when their time began.
        self._taken: dict[Client, int] = {}

    def configure(self, times: Times) -> None:
        """Go by these times from now on, for whoever is waited for, too.

        The interval stays: clients were told it, and take a later ping for a dead link.
        """
        self._handshakes.change(times.handshake)
        self._hellos.change(times.hello)
        self._farewells.change(times.farewell)
        self._answers.change(times.answer)
        self._progress.change(times.progress)

    def expect_handshake(self, client: Client, now: float) -> None:
        """Give the client its time for the opening handshake."""
        self._handshakes.add(client, now)

    def expect_hello(self, client: Client, now: float) -> None:
        """Give the client its time for the first message."""
        self._handshakes.discard(client)
        self._hellos.add(client, now)

    def expect_nothing(self, client: Client) -> None:
        """Stop the client's time: it has said its first message."""
        self._hellos.discard(client)

    def keep_alive(self, client: Client) -> None:
        """Ping the client from now on."""
        self._wheel.add(client)

    def expect_progress(self, client: Client, now: float) -> None:
        """Give a client that owes something its time to take some of it, if it hasn't got it."""
        if client not in self._taken:
            self._taken[client] = client.taken
            self._progress.add(client, now)

    def expect_no_progress(self, client: Client) -> None:
        """Stop that time: the client owes nothing any more."""
        if self._taken.pop(client, None) is not None:
            self._progress.discard(client)
            # The last ping may have stood behind all that, and has yet to pass the kernel.
            client.session.awaiting_pong = False

    def expect_farewell(self, client: Client, now: float) -> None:
        """Give the client its time to finish closing; nothing else is waited for any more."""
        self._handshakes.discard(client)
        self._hellos.discard(client)
        self._wheel.discard(client)
        self.expect_no_progress(client)
        self._farewells.add(client, now)

    def forget(self, client: Client) -> None:
        """Forget a client whose connection is gone."""
        self._farewells.discard(client)

    def tick(self, now: float) -> list[Client]:
        """Do what is due at `now`, and return the clients that make no progress."""
        for client in self._handshakes.due(now):
            client.expire()
        for client in self._hellos.due(now):
            client.close(CloseCode.HELLO_TIMEOUT)
        for client in self._farewells.due(now):
            client.abort("the client did not finish closing")
        # Before the next pings: after a stall both may be due at once, and whoever answered the
        # last one would be taken for somebody who owes an answer.
        for _, slot in self._answers.due(now):
            for client in self._wheel.slot(slot):
                # Before the ping in its buffer it has to take what stands before it there.
                if client.session.awaiting_pong and client not in self._taken:
                    client.abort("no answer to a ping")
        for slot in self._wheel.turn(now):
            # A ping tells a position behind which nothing was written: not within a fan-out.
            self._stream.at_boundary(functools.partial(self._ping, slot, now))
        return [client for client in self._progress.due(now) if not self._progresses(client, now)]

    def _progresses(self, client: Client, now: float) -> bool:
        """Tell whether the client has taken something, and if so give it the same time again."""
        before, taken = self._taken.pop(client), client.taken
        if taken <= before:
            return False
        self._taken[client] = taken
        self._progress.add(client, now)
        return True

    def _ping(self, slot: int, now: float) -> None:
        # Browsers answer the protocol's ping by themselves but never show it to the page, which
        # notices a dead link by the other one: both in one write.
        live_ping = ping_frame(self._stream.last_id) + PING_FRAME
        for client in self._wheel.slot(slot):
            if now >= client.expires:
                client.close(CloseCode.LIFETIME_OVER)
                continue
            client.session.awaiting_pong = True
            client.write(self._frames(client, now, live_ping) if client.greeted else PING_FRAME)
        self._answers.add((now, slot), now)

    def _frames(self, client: Client, now: float, live_ping: bytes) -> bytes:
        position = self._position_of(client)
        ping = live_ping if position is None else ping_frame(position) + PING_FRAME
        return self._ticket_frame(client, now) + ping if now >= client.renews else ping
