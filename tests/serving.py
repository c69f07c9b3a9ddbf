"""The public server as the daemon builds it, without its bus and its Django, and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neighbours import Doorkeeper, Shelf, let_in, source
from raws import Raw
from waiting import until
from websockets.asyncio.client import connect, unix_connect

from notifyd.core.batch import Batch, Positioned
from notifyd.core.history import History
from notifyd.core.hub import Hub
from notifyd.core.positions import format_position, parse_position
from notifyd.core.session import Policy
from notifyd.daemon.admission import Admission
from notifyd.daemon.client import Client
from notifyd.daemon.listener import Listener, bind
from notifyd.daemon.peers import Peers
from notifyd.daemon.relay import Relay
from notifyd.daemon.relay_backlog import Backlog
from notifyd.daemon.relay_feeder import Feeder
from notifyd.daemon.server import Server
from notifyd.daemon.server_acknowledgements import Sample
from notifyd.daemon.server_debts import Debts
from notifyd.daemon.timers import Timers, Times

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from websockets.asyncio.client import ClientConnection
    from websockets.typing import Origin

    from notifyd.core.controls import Order
    from notifyd.core.login import Login
    from notifyd.core.positions import Position
    from notifyd.core.protocol import Hello

# Between two turns of the clients' timer; short, so that tests may have short limits.
TICK = 0.005

# Between two pings where a test turns the timer on by itself: their turn doesn't come by chance.
DAY = 86_400.0


def alive(server: Server) -> list[Client]:
    """Return a server's clients in memory, those included that nobody should hold any more."""
    return [each for each in gc.get_objects() if type(each) is Client and each._host is server]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the parts: the daemon's own, but for the pings, which only a test wants."""

    trusted: Sequence[str] = ()
    origins: Sequence[Origin | re.Pattern[str] | None] = (None,)
    path: str = ""
    max_connections: int = 0
    most_per_address: int = 0
    most_per_user: int = 0
    handshake: float = 10.0
    hello: float = 10.0
    farewell: float = 5.0
    interval: float = DAY
    answer: float = 30.0
    progress: float = 20.0
    buffer: int = 262_144
    bare_buffer: int = 1_048_576
    total_buffer: int = 268_435_456
    history: int = 33_554_432
    messages_per_second: float = 10.0
    acknowledge: float = 0.0


@dataclass(slots=True)
class Serving:
    """A server with everything around it, at work."""

    hub: Hub[Client]
    history: History
    relay: Relay[Client]
    feeder: Feeder[Client]
    backlog: Backlog[Client]
    server: Server
    debts: Debts
    shelf: Shelf
    doorkeeper: Doorkeeper
    sample: Sample
    latencies: list[tuple[float, str]]
    listener: Listener = field(init=False)
    errors: list[dict[str, Any]] = field(default_factory=list)
    """What the event loop would have complained about."""
    _ends: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"ws://{self.listener.address}/"

    async def connect(self, **options: Any) -> ClientConnection:
        """Return a well-behaved client after its handshake."""
        options = {"compression": None, "ping_interval": None, "proxy": None} | options
        address = self.listener.address
        if address.startswith("unix:"):
            client = await unix_connect(address.removeprefix("unix:"), **options)
        else:
            client = await connect(options.pop("url", self.url), **options)
        self._ends.push_async_callback(client.close)
        return client

    async def enter(self, message: str = "alice", **options: Any) -> ClientConnection:
        """Return a well-behaved client that was let in."""
        before = len(self.hub)
        client = await self.connect(**options)
        await client.send(message)
        await until(lambda: len(self.hub) > before)
        return client

    async def raw(self, *, receive_buffer: int = 0, sock: socket.socket | None = None) -> Raw:
        """Return another client, connected and no more."""
        host, _, port = self.listener.address.rpartition(":")
        unix = host == "unix"
        sock = sock or socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self._ends.callback(sock.close)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, port if unix else (host, int(port)))
        return Raw(sock)

    async def mute(self, user: str = "alice", *, bare: bool = False) -> tuple[Raw, Client]:
        """Return a client that reads only what it is made to, and the server's side of it.

        Little of what it doesn't read is in the kernel's buffers, where `send_buffer` is small.
        """
        raw = await self.raw(receive_buffer=4096)
        await raw.handshake(user if bare else f'{{"token": "{user}"}}')
        client = await self.client(user)
        if not bare:
            assert (await raw.message())["notifyd"] == "welcome"
        return raw, client

    async def bring(self, *items: Batch | Positioned) -> None:
        """Relay what the bus brings, and keep it on the shelf."""
        for item in items:
            if isinstance(item, Positioned):
                self.shelf.epoch = item.epoch
                self.shelf.last = parse_position(item.last_id)
            elif item.source == "stream":
                self.shelf.add(*item.entries)
        await self.relay.run(source(*items))

    async def client(self, user: str) -> Client:
        """Return the server's side of the user's one connection, once it is there."""
        await until(lambda: self.hub.connections(user))
        return next(client for client in self.server.clients if client.user == user)

    async def tick(self) -> None:
        """Turn the clients' timer for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self.server.tick(loop.time())
            await asyncio.sleep(TICK)

    def complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note what nobody handled."""
        self.errors.append(context)

    @contextlib.asynccontextmanager
    async def at_work(self, patience: float) -> AsyncIterator[Serving]:
        """Turn the timer and note what nobody handles, then close all clients: there is nothing."""
        asyncio.get_running_loop().set_exception_handler(self.complain)
        working = [
            asyncio.create_task(work)
            for work in (self.tick(), self.relay.feed(), self.backlog.run())
        ]
        try:
            yield self
        finally:
            self.listener.close()
            await self._ends.aclose()
            await self.server.drain(0, patience)
            for each in working:
                each.cancel()
            await asyncio.wait(working)
        assert all(each.cancelled() for each in working)
        assert self.errors == []


@contextlib.asynccontextmanager
async def serving(
    authenticate: Callable[[Hello, str | None], Awaitable[Login]] = let_in,
    *,
    obey: Callable[[Position, Order], None] = lambda _position, _order: None,
    unix: str | None = None,
    send_buffer: int = 0,
    patience: float = 0.5,
    **options: Any,
) -> AsyncIterator[Serving]:
    """Serve on a free port, or a Unix socket; `send_buffer` is SO_SNDBUF of the server's sockets.

    At the end the server is drained with `patience`, and nothing may have gone unhandled.
    """
    house = assemble(Doorkeeper(authenticate), obey, Options(**options))
    [sock] = bind("127.0.0.1", 0, unix)
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    house.listener = Listener(sock, house.server.accepted)
    async with house.at_work(patience) as it:
        yield it


def assemble(
    doorkeeper: Doorkeeper, obey: Callable[[Position, Order], None], options: Options
) -> Serving:
    """Build everything but the listener, as the daemon does."""
    hub: Hub[Client] = Hub()
    history = History(options.history)
    feeder = Feeder(hub, history, left_behind=lambda client: debts.left_behind(client))  # noqa: PLW0108 - built later
    relay = Relay(
        hub,
        history,
        feeder,
        obey=obey,
        restarted=lambda _position, reason: server.resync(reason),
        observe_latency=lambda *_: None,
        observe_fanout=lambda _seconds: None,
    )
    shelf = Shelf()
    backlog = Backlog(history, feeder, shelf, epoch=lambda: relay.epoch, guard=relay.one_at_a_time)
    admission = Admission(
        hub,
        relay,
        doorkeeper,
        backlog,
        Peers(options.trusted).address,
        path=options.path,
        most_per_address=options.most_per_address,
        most_per_user=options.most_per_user,
        acknowledge=options.acknowledge,
        ping=25.0,
    )
    timers = build_timers(relay, feeder, doorkeeper, options)
    debts = Debts(
        feeder,
        relay,
        timers,
        buffer=options.buffer,
        bare_buffer=options.bare_buffer,
        total_buffer=options.total_buffer,
    )
    latencies: list[tuple[float, str]] = []
    sample = Sample(
        lambda: relay.begun, history=600.0, observe=lambda *latency: latencies.append(latency)
    )
    server = Server(
        relay,
        admission,
        timers,
        debts,
        Policy(origins=options.origins, messages_per_second=options.messages_per_second),
        leave=feeder.leave,
        acknowledged=sample.acknowledged,
        max_connections=options.max_connections,
    )
    return Serving(
        hub, history, relay, feeder, backlog, server, debts, shelf, doorkeeper, sample, latencies
    )


def build_timers(
    relay: Relay[Client], feeder: Feeder[Client], doorkeeper: Doorkeeper, options: Options
) -> Timers:
    """Build the timers."""

    def position_of(client: Client) -> str | None:
        position = feeder.position(client)
        return None if position is None else format_position(position)

    times = Times(
        handshake=options.handshake,
        hello=options.hello,
        farewell=options.farewell,
        answer=options.answer,
        progress=options.progress,
    )
    return Timers(
        relay,
        times,
        interval=options.interval,
        position_of=position_of,
        ticket_frame=doorkeeper.ticket_frame,
    )
