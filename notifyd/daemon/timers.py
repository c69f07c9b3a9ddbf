"""Everything that happens to clients by the clock: deadlines and the keepalive, from one timer."""

from __future__ import annotations

from typing import Final

from notifyd.core.deadlines import Deadlines, Wheel
from notifyd.core.protocol import PING_FRAME, CloseCode, ping_frame
from notifyd.daemon.client import Client

_SLOTS: Final = 100
"""Parts of the ping interval over which the clients are spread."""


class Timers:
    """The clients by what they are waiting for. All times are in seconds.

    A client has one deadline at a time, first for the handshake, then for the hello; at the end,
    for its farewell. Between them, while it is live, it has its turn in the keepalive.
    """

    def __init__(
        self, *, handshake: float, hello: float, farewell: float, interval: float, answer: float
    ) -> None:
        self._handshakes = Deadlines[Client](handshake)
        self._hellos = Deadlines[Client](hello)
        self._farewells = Deadlines[Client](farewell)
        self._wheel = Wheel[Client](interval, _SLOTS)
        self._answers = Deadlines[tuple[float, int]](answer)

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

    def expect_farewell(self, client: Client, now: float) -> None:
        """Give the client its time to finish closing; nothing else is waited for any more."""
        self._handshakes.discard(client)
        self._hellos.discard(client)
        self._wheel.discard(client)
        self._farewells.add(client, now)

    def forget(self, client: Client) -> None:
        """Forget a client whose connection is gone."""
        self._farewells.discard(client)

    def tick(self, now: float, last_id: str | None) -> None:
        """Do what is due at `now`; pings tell the position `last_id`."""
        for client in self._handshakes.due(now):
            client.expire()
        for client in self._hellos.due(now):
            client.close(CloseCode.HELLO_TIMEOUT)
        for client in self._farewells.due(now):
            client.abort("the client did not finish closing")
        self._ping(now, last_id)

    def _ping(self, now: float, last_id: str | None) -> None:
        # Browsers answer the protocol's ping by themselves but never show it to the page, which
        # notices a dead link by the other one: both in one write.
        page_ping = ping_frame(last_id) + PING_FRAME
        # Before the next pings: after a stall both may be due at once, and whoever answered the
        # last one would be taken for somebody who owes an answer.
        for _, slot in self._answers.due(now):
            for client in self._wheel.slot(slot):
                if client.session.awaiting_pong:
                    client.abort("no answer to a ping")
        for slot in self._wheel.turn(now):
            for client in self._wheel.slot(slot):
                client.session.awaiting_pong = True
                client.write(page_ping if client.greeted else PING_FRAME)
            self._answers.add((now, slot), now)
