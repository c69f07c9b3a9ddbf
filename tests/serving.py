"""The public server as the daemon builds it, without its bus and its Django, and clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from waiting import until
from websockets.asyncio.client import connect, unix_connect
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.batch import Batch, Positioned
from notifyd.core.hub import Hub
from notifyd.core.login import Login
from notifyd.core.session import Policy
from notifyd.daemon.admission import Admission
from notifyd.daemon.client import Client
from notifyd.daemon.listener import Listener, bind
from notifyd.daemon.peers import Peers
from notifyd.daemon.relay import Relay
from notifyd.daemon.server import Server
from notifyd.daemon.timers import Timers

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from websockets.asyncio.client import ClientConnection
    from websockets.typing import Origin

    from notifyd.core.batch import RawEntry
    from notifyd.core.protocol import Hello

AUDIENCE = Audience.build(Vocabulary(), content_types=[7])

# Between two turns of the clients' timer; short, so that tests may have short limits.
TICK = 0.005

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def let_in(hello: Hello, _address: str | None) -> Login:
    """Stand in for Django: the token is the user, and all see the same."""
    assert hello.token is not None
    return Login(hello.token, AUDIENCE)


def entry(
    number: int, event: str = '{"content_type_id": 7}', **fields: str
) -> tuple[str, dict[bytes, bytes]]:
    """Return an entry of the stream, its id made of the number."""
    return f"{number}-0", {k.encode(): v.encode() for k, v in {"event": event, **fields}.items()}


def batch(*entries: RawEntry) -> Batch:
    """Return a batch of the stream."""
    return Batch("stream", [*entries])


def pubsub(*events: str) -> Batch:
    """Return a batch that came by Pub/Sub."""
    return Batch("pubsub", [(None, {b"event": event.encode()}) for event in events])


async def source(*items: Batch | Positioned) -> AsyncIterator[Batch | Positioned]:
    """Stand in for the bus."""
    for item in items:
        yield item


def text(message: str) -> bytes:
    """Return a text frame as clients send it."""
    return Frame(Opcode.TEXT, message.encode()).serialize(mask=True)


def alive(server: Server) -> list[Client]:
    """Return a server's clients in memory, those included that nobody should hold any more."""
    return [each for each in gc.get_objects() if type(each) is Client and each._host is server]


class Raw:
    """A client that sends and reads what the test says, and nothing of its own accord."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)
        self._frames: Iterator[Any] = iter(())

    async def send(self, data: bytes) -> None:
        """Send the bytes."""
        await self._loop.sock_sendall(self.socket, data)

    async def receive(self, most: int = 65536) -> bytes:
        """Return what has come, no bytes at the end."""
        async with asyncio.timeout(10):
            return await self._loop.sock_recv(self.socket, most)

    async def head(self) -> str:
        """Read the answer to the handshake; what comes behind it stays for `frame`."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.receive(1)
        return data.decode()

    async def handshake(self, message: str | None = None) -> None:
        """Upgrade the connection, and send the first message."""
        await self.send(REQUEST + b"\r\n")
        assert (await self.head()).startswith("HTTP/1.1 101 ")
        if message is not None:
            await self.send(text(message))

    async def frame(self, most: int = 65536) -> Frame | None:
        """Return the next frame, None at the end."""
        while (frame := next(self._frames, None)) is None:
            data = await self.receive(most)
            if not data:
                return None
            self._protocol.receive_data(data)
            self._frames = iter(self._protocol.events_received())
        assert isinstance(frame, Frame)
        return frame

    async def close_code(self) -> int | None:
        """Read to the Close and return its code, None if the stream ends without one."""
        while frame := await self.frame():
            if frame.opcode is Opcode.CLOSE:
                return Close.parse(frame.data).code
        return None

    def reset(self) -> None:
        """Cut the connection with a RST (tcp(7), socket(7) SO_LINGER)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Serving:
    """A server with everything around it, at work."""

    hub: Hub[Client]
    relay: Relay[Client]
    server: Server
    listener: Listener
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

    async def bring(self, *items: Batch | Positioned) -> None:
        """Relay what the bus brings."""
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
        ticking = asyncio.create_task(self.tick())
        try:
            yield self
        finally:
            self.listener.close()
            await self._ends.aclose()
            await self.server.drain(0, patience)
            ticking.cancel()
            await asyncio.wait([ticking])
        assert ticking.cancelled()
        assert self.errors == []


@contextlib.asynccontextmanager
async def serving(
    authenticate: Callable[[Hello, str | None], Awaitable[Login]] = let_in,
    *,
    unix: str | None = None,
    send_buffer: int = 0,
    trusted: Sequence[str] = (),
    origins: Sequence[Origin | re.Pattern[str] | None] = (None,),
    path: str = "",
    max_connections: int = 0,
    most_per_address: int = 0,
    most_per_user: int = 0,
    handshake: float = 10.0,
    hello: float = 10.0,
    farewell: float = 5.0,
    interval: float = 86_400.0,
    answer: float = 30.0,
    buffer: int = 1_048_576,
    total_buffer: int = 268_435_456,
    messages_per_second: float = 10.0,
    patience: float = 0.5,
) -> AsyncIterator[Serving]:
    """Serve on a free port, or a Unix socket; `send_buffer` is SO_SNDBUF of the server's sockets.

    The other options are those of the parts. At the end the server is drained with `patience`,
    and nothing may have gone unhandled.
    """

    def resync(reason: str) -> None:
        server.resync(reason)

    hub: Hub[Client] = Hub()
    relay = Relay(
        hub,
        resync=resync,
        observe_latency=lambda _seconds: None,
        observe_fanout=lambda _seconds: None,
    )
    limits = {"most_per_address": most_per_address, "most_per_user": most_per_user}
    admission = Admission(
        hub, relay, authenticate, Peers(trusted).address, path=path, ping=25.0, **limits
    )
    timers = Timers(
        handshake=handshake, hello=hello, farewell=farewell, interval=interval, answer=answer
    )
    policy = Policy(origins=origins, messages_per_second=messages_per_second)
    buffers = {"buffer": buffer, "total_buffer": total_buffer}
    server = Server(
        hub, relay, admission, timers, policy, max_connections=max_connections, **buffers
    )
    [sock] = bind("127.0.0.1", 0, unix)
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    async with Serving(hub, relay, server, Listener(sock, server.accepted)).at_work(patience) as it:
        yield it
