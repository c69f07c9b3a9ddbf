"""How the clients of one process become those of the next, at the boundary of a frame."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from notifyd.core.handover import RESULTS, Admitted, ClientState, Kind
from notifyd.core.happenings import Phase

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from notifyd.core.login import Login
    from notifyd.core.positions import Position
    from notifyd.daemon.admission import Stream
    from notifyd.daemon.client import Client
    from notifyd.daemon.server import Server

_LOOK: Final = 0.01
"""Seconds between two looks at those who are waited for."""

_FAREWELL: Final = 0.5
"""Seconds for the closing handshakes of those that can't be given; all others wait meanwhile."""

_EARLY: Final = {Phase.HANDSHAKE: Kind.CONNECTED, Phase.HELLO: Kind.UPGRADED}

_AT_ONCE: Final = 256
"""Clients taken between two turns of the event loop."""


class Settle(Protocol):
    """Lets a client have events from a position on, once what its user may see is `known`."""

    def __call__(
        self, client: Client, login: Login, position: Position | None, *, known: bool
    ) -> None:
        """Do it; without a position, from where the stream will be found."""


class Succession:
    """Gives the clients of a server to another process, and takes those of another.

    `place_of` returns where a client is that is behind, and whether its user is known; None for one
    that is where the stream is.
    """

    def __init__(
        self,
        server: Server,
        stream: Stream,
        *,
        place_of: Callable[[Client], tuple[Position, bool] | None],
        settle: Settle,
    ) -> None:
        self._server = server
        self._stream = stream
        self._place_of = place_of
        self._settle = settle
        self.results = Counter(dict.fromkeys(RESULTS, 0))

    # What the predecessor does.

    async def finish_logins(self, until: float) -> None:
        """Begin no more logins, and wait for those under way, until that time of the loop."""
        await self._server.all_accepted()
        for client in self._server.clients:
            if client.session.phase in _EARLY and _ready(client):
                # What it says from now on waits in the kernel for the successor.
                client.hold()
        await self._wait(
            until, lambda: (each.session.phase is Phase.AUTHENTICATING for each in self._clients)
        )

    async def finish_writes(self, until: float) -> None:
        """Wait until nobody owes anything, until that time; then close who can't be given.

        The caller keeps anything from being written meanwhile.
        """
        await self._wait(until, lambda: (bool(each.owed) for each in self._clients))
        left = [client for client in self._clients if not _ready(client)]
        for client in left:
            if client.owed:
                # Half a frame may have gone out: a Close would be taken for its other half.
                client.abort("it owed too much to be handed over")
        self._close(left)
        gone = self._server.clients
        now = asyncio.get_running_loop().time()
        await self._wait(now + _FAREWELL, lambda: (client in gone for client in left))

    def give(self, enqueue: Callable[[Sequence[socket.socket]], int]) -> list[ClientState]:
        """Give away the clients' sockets, and return the states of those that were taken.

        `enqueue` takes sockets, from the first on, and returns how many it took.
        """
        ready = []
        for client in self._clients:
            sock = client.hold()
            if _ready(client):
                ready.append((client, sock))
        taken = enqueue([sock for _, sock in ready])
        self._close([client for client, _ in ready[taken:]])
        self.results["given"] += taken
        return [self._state(client) for client, _ in ready[:taken]]

    # What the successor does.

    async def take(self, sockets: Iterable[socket.socket], states: Iterable[ClientState]) -> None:
        """Take clients, each with its state."""
        pairs = zip(sockets, states, strict=False)
        while some := [*itertools.islice(pairs, _AT_ONCE)]:
            taken = await asyncio.gather(*(self._take(sock, state) for sock, state in some))
            self.results["taken"] += sum(taken)
            self.results["lost"] += len(taken) - sum(taken)

    async def refuse(self, sockets: Iterable[socket.socket]) -> None:
        """Close clients of which nobody knows how far they were."""
        for sock in sockets:
            name = sock.getpeername() if sock.family else ""
            address = name[0] if isinstance(name, tuple) else "unix"
            state = ClientState(Kind.UPGRADED, address, address, 0.0)
            client = await self._server.adopt(sock, state)
            self._server.dismiss([client], 0.0)
            self.results["refused"] += 1

    async def _take(self, sock: socket.socket, state: ClientState) -> bool:
        try:
            client = await self._server.adopt(sock, state)
        except OSError:
            sock.close()
            return False
        admitted = state.admitted
        if admitted is not None and client.writable:
            self._settle(client, admitted.login, admitted.position, known=not admitted.suspended)
        return True

    @property
    def _clients(self) -> list[Client]:
        return [client for client in self._server.clients if client.writable]

    def _close(self, clients: Sequence[Client]) -> None:
        self._server.dismiss(clients, 0.0)
        self.results["closed"] += len(clients)

    def _state(self, client: Client) -> ClientState:
        kind = _EARLY.get(client.session.phase)
        admitted = None
        if kind is None:
            kind = Kind.GREETED if client.greeted else Kind.BARE
            assert client.login is not None, "it was let in"
            position, known = self._place_of(client) or (self._stream.position, True)
            admitted = Admitted(client.login, position, not known, client.expires, client.renews)
        return ClientState(
            kind, client.peer, client.address, client.opened, client.events, admitted
        )

    @staticmethod
    async def _wait(until: float, waiting: Callable[[], Iterable[bool]]) -> None:
        loop = asyncio.get_running_loop()
        while any(waiting()) and loop.time() < until:  # noqa: ASYNC110 - nobody else asks: clients need not tell
            await asyncio.sleep(_LOOK)


def _ready(client: Client) -> bool:
    """Tell whether another process can go on with a client: nothing is half done, nor owed."""
    busy = client.session.phase is Phase.AUTHENTICATING
    return not busy and client.session.whole and not client.owed
