"""One client's transport: light, since there are many. No task, no queue and no timer of its own.

Writes go straight to the socket while the transport owes nothing, which spares its bookkeeping.
What makes that safe:

- the socket object's own `send` is kept, never a descriptor's number: a closed object raises, a
  number that was recycled would be somebody else's connection;
- with a high-water mark of 0 the transport says, by `pause_writing`, as soon as it holds back a
  byte, and from then on everything goes through it until it owes nothing again;
- `leave` runs first wherever a Close is sent or received and before the transport is closed.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import struct
import termios
from typing import TYPE_CHECKING, Final, Protocol

from notifyd.core.handover import Kind
from notifyd.core.happenings import NotUpgraded, NotUpgradedReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from notifyd.core.handover import ClientState
    from notifyd.core.happenings import Happening
    from notifyd.core.login import Login
    from notifyd.core.protocol import CloseCode
    from notifyd.core.session import Session


_INT: Final = struct.Struct("i")


class Host(Protocol):
    """What a client asks of its server."""

    inbox: memoryview
    """Where bytes from clients arrive; one serves all, since they are taken at once."""

    def connected(self, client: Client) -> None:
        """Hear that the transport is ready."""

    def happened(self, client: Client, happening: Happening) -> None:
        """Act on what happened in the client's conversation."""

    def entered(self, client: Client) -> None:
        """Hear that the client was let in, and takes events from now on."""

    def left(self, client: Client) -> None:
        """Hear that the client takes no more events."""

    def owes(self, client: Client, owed: int) -> None:
        """Hear how many bytes the transport holds back; 0 when all are written."""

    def lost(self, client: Client) -> None:
        """Hear that the connection is gone."""


class Client(asyncio.BufferedProtocol):
    """A connection: the session's bytes in and out, and the events' fast path."""

    __slots__ = (
        "_delayed",
        "_host",
        "_send",
        "_socket",
        "_transport",
        "address",
        "detail",
        "events",
        "expires",
        "greeted",
        "login",
        "number",
        "opened",
        "peer",
        "renews",
        "session",
        "writable",
    )

    def __init__(self, host: Host, session: Session, sock: socket.socket, peer: str) -> None:
        self._host = host
        self._socket = sock
        self._transport: asyncio.Transport | None = None
        self._send: Callable[[bytes], int] | None = None
        # Bytes given to the transport, ever.
        self._delayed = 0
        self.session = session
        # By which the log names it; 0 until it is connected.
        self.number = 0
        self.peer = peer
        self.address: str | None = peer
        # Of a client that was let in; its edge replaces it when the user was read anew.
        self.login: Login | None = None
        # When it has to show a token again, and when its ticket is replaced, by the loop's clock.
        self.expires = math.inf
        self.renews = math.inf
        # Whether it said hello, and so knows control frames.
        self.greeted = False
        self.writable = False
        self.opened = 0.0
        self.events = 0
        self.detail = ""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (asyncio.BaseProtocol.connection_made)."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=0)
        self._transport = transport
        self._send = self._socket.send
        self.writable = True
        self._host.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend the buffer that all clients share (asyncio.BufferedProtocol.get_buffer)."""
        return self._host.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was received (asyncio.BufferedProtocol.buffer_updated)."""
        now = asyncio.get_running_loop().time()
        data = bytes(self._host.inbox[:nbytes])
        for happening in self.session.receive_data(data, now):
            self._host.happened(self, happening)
        self.flush()

    def eof_received(self) -> None:
        """Take the end of the client's stream; the transport then closes itself."""
        self.leave()
        self.session.receive_eof()

    def pause_writing(self) -> None:
        """Stop writing directly: the transport holds bytes back."""
        self._send = None

    def resume_writing(self) -> None:
        """Write directly again: the transport has written everything."""
        self._host.owes(self, 0)
        if self.writable:
            self._send = self._socket.send

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection (asyncio.BaseProtocol.connection_lost)."""
        self.leave()
        if exc is not None and not self.detail:
            self.detail = exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)
        self._host.owes(self, 0)
        self._host.lost(self)
        self.session.release()
        self._transport = None

    # What the relay, admission and the server call.

    @property
    def user(self) -> str | None:
        """The primary key of the user; None before the client was let in."""
        return None if self.login is None else self.login.user

    def enter(self, login: Login) -> None:
        """Let the client in: it was authenticated."""
        self.login = login
        self.session.open(behind=False)
        self._host.entered(self)

    def resume(self, state: ClientState) -> None:
        """Be as far as another process has come with this client."""
        self.address = state.address
        self.opened = state.opened
        self.events = state.events
        self.greeted = state.kind is Kind.GREETED
        if state.admitted is not None:
            self.login = state.admitted.login
            self.expires = state.admitted.expires
            self.renews = state.admitted.renews

    def fell_behind(self) -> None:
        """Note that it gets no events but from the history."""
        self.session.open(behind=True)

    def caught_up(self) -> None:
        """Note that it gets events as they come."""
        self.session.open(behind=False)

    def write(self, data: bytes, events: int = 0) -> None:
        """Write frames, `events` of them events; never waits and never raises.

        Nothing is written to a client that has left.
        """
        if self._send is not None:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self.abort(error.strerror or str(error))
                return
            self.events += events
            if sent < len(data):
                self._send = None
                self._write_later(memoryview(data)[sent:])
        elif self.writable:
            self.events += events
            self._write_later(data)

    def _write_later(self, data: bytes | memoryview) -> None:
        assert self._transport is not None
        self._delayed += len(data)
        self._transport.write(data)
        owed = self._transport.get_write_buffer_size()
        if owed:
            self._host.owes(self, owed)
        else:
            # It went out after all, and so no resume_writing will follow.
            self._send = self._socket.send

    @property
    def owed(self) -> int:
        """How many bytes the transport holds back."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    @property
    def taken(self) -> int:
        """How many bytes the peer has taken, on a scale that counts while it owes something.

        What was given to the transport, less what that holds back and what the kernel has (SIOCOUTQ
        of tcp(7) and unix(7)). What goes straight to the socket, nothing being owed, isn't counted.
        """
        try:
            queued = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_INT.size))
        except (OSError, ValueError):
            queued = bytes(_INT.size)
        return self._delayed - self.owed - int(_INT.unpack(queued)[0])

    def flush(self) -> None:
        """Send what the session has to say."""
        assert self._transport is not None
        for data in self.session.data_to_send():
            if data:
                self._delayed += len(data)
                self._transport.write(data)
            else:
                # Half-close, so that a peer still writing gets to read why (RFC 6455 section
                # 7.1.1); the other half follows with its end of stream, or at the deadline.
                self._transport.write_eof()

    def hold(self) -> socket.socket:
        """Read nothing any more, and return the socket, for another process to go on with."""
        if self._transport is not None:
            self._transport.pause_reading()
        return self._socket

    def close(self, code: CloseCode, detail: str = "") -> None:
        """Close the connection with that code, or without one where the handshake is unfinished."""
        was_here = self.writable
        self.leave()
        self.detail = self.detail or detail or code.reason
        if was_here and self.session.close(code):
            self.flush()
        else:
            self.abort()

    def expire(self) -> None:
        """Drop a connection whose handshake is late: there is no request yet to answer."""
        late = NotUpgraded(NotUpgradedReason.TIMEOUT, "no handshake in time")
        self._host.happened(self, late)
        self.abort(late.detail)

    def abort(self, detail: str = "") -> None:
        """Drop the connection: there is nobody to say goodbye to."""
        self.leave()
        self.detail = self.detail or detail
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Take no more events; the first step of every end."""
        self._send = None
        if self.writable:
            self.writable = False
            self._host.left(self)
