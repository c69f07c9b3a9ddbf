"""The public WebSocket server: all clients, from the accepted socket to the last word about it.

`admission` decides who comes in, `timers` what happens by the clock, and here is what every
connection goes through, and how it ends.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from notifyd.core.farewells import Farewell, Farewells
from notifyd.core.handover import Kind
from notifyd.core.happenings import (
    Acknowledged,
    Closing,
    Greeted,
    Ignored,
    NotUpgraded,
    NotUpgradedReason,
    Phase,
    Requested,
)
from notifyd.core.protocol import CloseCode, closing_frame, resync_frame
from notifyd.core.session import Session
from notifyd.daemon.client import Client

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping

    from notifyd.core.handover import ClientState
    from notifyd.core.happenings import Happening
    from notifyd.core.session import Policy
    from notifyd.daemon.admission import Admission, Stream
    from notifyd.daemon.server_debts import Debts
    from notifyd.daemon.timers import Timers

log = structlog.stdlib.get_logger()

_INBOX: Final = 16_384
"""Bytes read from a client at once: a few of the longest messages it may send."""

_PHASES: Final = {
    Kind.CONNECTED: Phase.HANDSHAKE,
    Kind.UPGRADED: Phase.HELLO,
    Kind.BARE: Phase.BEHIND,
    Kind.GREETED: Phase.BEHIND,
}
"""Where a client from another process goes on."""


@dataclass(slots=True)
class ServerStats:
    """Counts since the start, read by the metrics at each scrape."""

    opened: int = 0
    closed: Counter[int] = field(default_factory=Counter)
    refused: Counter[NotUpgradedReason] = field(default_factory=Counter)
    ignored: int = 0


class Server:
    """The clients of this daemon.

    `leave` takes a client and its user out of where events come from, `acknowledged` the client's
    word that it has an event. `max_connections` is how many there may be (0: any number).
    """

    def __init__(
        self,
        stream: Stream,
        admission: Admission,
        timers: Timers,
        debts: Debts,
        policy: Policy,
        *,
        leave: Callable[[Client, str], None],
        acknowledged: Callable[[Client, str], None],
        max_connections: int,
    ) -> None:
        self._stream = stream
        self._admission = admission
        self._timers = timers
        self._debts = debts
        self._leave = leave
        self._acknowledged = acknowledged
        self.configure(policy, max_connections=max_connections)
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Task[object]] = set()
        self._draining = False
        self._numbers = itertools.count(1)
        self._empty = asyncio.Event()
        self.clients: set[Client] = set()
        self.inbox = memoryview(bytearray(_INBOX))
        self.stats = ServerStats()
        self.farewells = Farewells()

    # What the listeners, the relay and the service call.

    def configure(self, policy: Policy, *, max_connections: int) -> None:
        """Go by these for clients that come from now on."""
        self._policy = policy
        self._max_connections = max_connections

    def accepted(self, sock: socket.socket, peer: str) -> None:
        """Take a connection that a listener has accepted."""
        client = Client(self, Session(self._policy), sock, peer)
        connecting = self._loop.connect_accepted_socket(lambda: client, sock)
        task: asyncio.Task[object] = self._loop.create_task(connecting)
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def adopt(self, sock: socket.socket, state: ClientState) -> Client:
        """Take a connection from another process, and return the client; nothing is written to it.

        Raises OSError where it has been lost on the way.
        """
        client = Client(self, Session(self._policy, _PHASES[state.kind]), sock, state.peer)
        client.resume(state)
        await self._loop.connect_accepted_socket(lambda: client, sock)
        return client

    async def all_accepted(self) -> None:
        """Wait until whatever the listeners have accepted is a client."""
        if self._accepting:
            await asyncio.wait(self._accepting)

    def phases(self) -> Mapping[str, int]:
        """Return how many clients are in each phase of their conversation."""
        # For each scrape all clients are looked at: a millisecond for ten thousand, and half of
        # what it takes to count one by one.
        phases = [client.session.phase for client in self.clients]
        return {phase.value: phases.count(phase) for phase in Phase}

    def tick(self, now: float) -> None:
        """Do what is due at `now`, by the event loop's clock."""
        for client in self._timers.tick(now):
            self._debts.too_slow(client, "it takes nothing any more")
        self._debts.relieve()

    def resync(self, reason: str) -> None:
        """Tell every client that knows control frames that events may be missing."""
        frame = resync_frame(reason, epoch=self._stream.epoch, last_id=self._stream.last_id)
        for client in [*self.clients]:
            if client.greeted:
                client.write(frame)

    async def drain(self, spread: float, patience: float) -> None:
        """Close all clients with 1012, and return when they are gone, at most `patience` later.

        Those that know control frames are told when to come back, each at another moment of the
        next `spread` seconds.
        """
        self._draining = True
        await self.all_accepted()
        self.dismiss([*self.clients], spread)
        await self._until_empty(patience)
        for client in [*self.clients]:
            client.abort("the client did not finish closing")
        await self._admission.close()
        await self._until_empty(patience)

    def dismiss(self, clients: Iterable[Client], spread: float) -> None:
        """Close some clients with 1012; those that know control frames are told when to return."""
        for client in clients:
            if client.greeted:
                client.write(closing_frame(random.uniform(0, spread)))  # noqa: S311 - no secret
            client.close(CloseCode.RESTART)

    async def _until_empty(self, patience: float) -> None:
        if self.clients:
            self._empty.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._empty.wait()
            except TimeoutError:
                return

    # What clients call (client.Host).

    def connected(self, client: Client) -> None:
        """Start the client's time for what it has to do next."""
        now = self._loop.time()
        client.opened = client.opened or now
        client.number = next(self._numbers)
        self.clients.add(client)
        if client.session.phase is Phase.HANDSHAKE:
            self._timers.expect_handshake(client, now)
            return
        # It comes from another process.
        self._admission.readmit(client)
        if client.session.phase is Phase.HELLO:
            self._timers.expect_hello(client, now)
        else:
            self._timers.keep_alive(client)

    def happened(self, client: Client, happening: Happening) -> None:
        """Act on what happened in the client's conversation."""
        match happening:
            case Requested():
                self._requested(client, happening)
            case NotUpgraded():
                self._not_upgraded(client, happening)
            case Greeted(hello):
                self._timers.expect_nothing(client)
                self._admission.greeted(client, hello)
            case Closing(detail):
                client.detail = detail
                client.leave()
            case Acknowledged(id_):
                self._acknowledged(client, id_)
            case Ignored():
                self.stats.ignored += 1

    def entered(self, client: Client) -> None:
        """Keep a client alive that was let in."""
        self._timers.keep_alive(client)

    def left(self, client: Client) -> None:
        """Take the client out of everything but the time for its farewell."""
        if client.user is not None:
            self._leave(client, client.user)
        self._timers.expect_farewell(client, self._loop.time())

    def owes(self, client: Client, owed: int) -> None:
        """Note what the transport holds back."""
        self._debts.owes(client, owed, self._loop.time())

    def lost(self, client: Client) -> None:
        """Forget the client, and say the last word about it."""
        self.clients.discard(client)
        self._timers.forget(client)
        if not self.clients:
            self._empty.set()
        if not client.session.upgraded:
            return
        self._admission.exit(client)
        code = int(client.session.close_code)
        self.stats.closed[code] += 1
        if client.user is not None:
            self.farewells.note(client.user, Farewell(code, client.detail, self._loop.time()))
        log.info(
            "connection.closed",
            code=code,
            reason=client.detail,
            seconds=round(self._loop.time() - client.opened, 3),
            events=client.events,
            user=client.user,
            address=client.address or client.peer,
            connection=client.number,
        )

    def _requested(self, client: Client, request: Requested) -> None:
        unavailable = None
        if self._draining:
            unavailable = NotUpgradedReason.DRAINING
        elif self._max_connections and len(self.clients) > self._max_connections:
            unavailable = NotUpgradedReason.FULL
        refusal = self._admission.refuse(client, request, unavailable)
        if refusal is not None:
            self._not_upgraded(client, refusal)
            return
        now = self._loop.time()
        happenings = client.session.accept(now)
        if client.session.upgraded:
            self.stats.opened += 1
            self._timers.expect_hello(client, now)
            log.debug(
                "connection.opened",
                address=client.address or client.peer,
                connection=client.number,
            )
            if not self._admission.enter(client):
                return
        for happening in happenings:
            self.happened(client, happening)

    def _not_upgraded(self, client: Client, refusal: NotUpgraded) -> None:
        self.stats.refused[refusal.reason] += 1
        client.leave()
        foreign = refusal.reason is NotUpgradedReason.ORIGIN
        log.warning(
            "connection.refused",
            reason=refusal.reason.value,
            detail=refusal.detail,
            address=client.address or client.peer,
            origin=refusal.origin,
            hint=f'add to [server]: origins = ["{refusal.origin}"]' if foreign else None,
            connection=client.number,
        )
