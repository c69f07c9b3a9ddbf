"""The links between the daemons and the browsers, which may be slow or cut."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raws import PONG, REQUEST
from websockets.frames import Close, Opcode

from notifyd.core.session import Session
from notifyd.daemon.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.promises_daemon import Daemon
    from daemon.promises_pages import Page

    from notifyd.core.positions import Position


@dataclass(slots=True)
class Written:
    """A frame that a daemon has written: how far it reaches, what it says, and when."""

    end: int
    opcode: int
    payload: bytes
    moment: int


class Link(asyncio.Transport):
    """A connection, at the daemon's end: socket and transport in one.

    The network takes `room` bytes more (None: any number), which reach the page only then.
    """

    def __init__(self, daemon: Daemon, page: Page) -> None:
        super().__init__()
        self.daemon = daemon
        self._page = page
        self._world = daemon.world
        self._room: int | None = None
        self._buffer = b""
        self._paused = False
        self._underway = b""
        self._unparsed: bytes | bytearray = b""
        self._upgraded = False
        self._written: list[Written] = []
        self._sent = self._arrived = self._parsed = 0
        self.ended = self.closing = False
        self.welcomed: tuple[str | None, Position | None] | None = None
        """Where the daemon was when it let the client in."""
        policy = daemon.parts.server._policy
        sock: Any = self
        self.client = Client(daemon.parts.server, Session(policy), sock, "192.0.2.1")
        self.client.connection_made(self)
        self.hear(REQUEST + b"\r\n")

    # What the page does.

    def hear(self, data: bytes) -> None:
        """Let the daemon have bytes of the page."""
        if self.ended:
            return
        self.daemon.parts.server.inbox[: len(data)] = data
        self.client.buffer_updated(len(data))

    def narrow(self, room: int) -> None:
        """Let so many bytes more on their way, and none arrive."""
        self._room = room

    def widen(self) -> None:
        """Let everything arrive that was held back."""
        data, self._underway, self._room = self._underway, b"", None
        self._arrive(data)
        data, self._buffer = self._buffer, b""
        self._arrive(data)
        if self._paused and not self.ended:
            self._paused = False
            self.client.resume_writing()

    def let_in(self) -> None:
        """Hear that the daemon lets the client in."""
        relay = self.daemon.parts.relay
        self.welcomed = relay.epoch, relay.position
        self._page.let_in(self)

    def jumped(self) -> None:
        """Hear that the daemon goes on from another position; bare clients can't be told."""
        if self.welcomed is not None:
            self.welcomed = self._world.redis.epoch, self._world.redis.last
            self._page.let_in(self)

    def cut(self) -> None:
        """End it: what is under way is lost."""
        if not self.ended:
            self.ended = True
            self._buffer = b""
            if self.daemon.alive:
                self.client.connection_lost(None)

    # What the client asks of its socket and its transport.

    def send(self, data: bytes) -> int:
        """Take what the network takes (socket.socket.send)."""
        taken = len(data) if self._room is None else min(self._room, len(data))
        if not taken:
            raise BlockingIOError
        self._note(data[:taken])
        self._leave(data[:taken])
        return taken

    def fileno(self) -> int:
        """Be no file."""
        return -1

    def write(self, data: Any) -> None:
        """Take everything (asyncio.WriteTransport.write)."""
        if self.ended:
            return
        data = bytes(data)
        self._note(data)
        room = 0 if self._buffer else len(data) if self._room is None else self._room
        self._leave(data[:room])
        self._buffer += data[room:]
        if self._buffer and not self._paused:
            self._paused = True
            self.client.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Return what is held back."""
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Agree that nothing may be held back silently."""
        assert (high, low) == (0, None)

    def write_eof(self) -> None:
        """Agree."""

    def abort(self) -> None:
        """Drop the connection."""
        self.closing = True
        asyncio.get_running_loop().call_soon(self._page.lost, self, None)

    # On the way.

    def _leave(self, data: bytes) -> None:
        if self._room is None:
            self._arrive(data)
        else:
            self._room -= len(data)
            self._underway += data

    def _note(self, data: bytes) -> None:
        """See what the daemon writes."""
        self._unparsed = bytearray(self._unparsed + data)
        for opcode, payload in self._parse(self._unparsed):
            moment = self._world.tick()
            self._written.append(Written(self._parsed, opcode, payload, moment))
            if opcode == Opcode.CLOSE:
                self.closing = True
            if opcode == Opcode.TEXT:
                self._page.written(self, json.loads(payload), moment)

    def _parse(self, data: bytearray) -> Iterator[tuple[int, bytes]]:
        if not self._upgraded:
            head = data.find(b"\r\n\r\n") + 4
            assert head > 4
            self._upgraded = True
            self._parsed += head
            del data[:head]
        # RFC 6455 section 5.2, for frames of a server that are not long.
        while data:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4]), 4
            if len(data) < head + size:
                return
            opcode, payload = data[0] & 15, bytes(data[head : head + size])
            self._parsed += head + size
            del data[: head + size]
            yield opcode, payload

    def _arrive(self, data: bytes) -> None:
        self._arrived += len(data)
        while self._written and self._written[0].end <= self._arrived and not self.ended:
            frame = self._written.pop(0)
            if frame.opcode == Opcode.TEXT:
                self._page.read(self, json.loads(frame.payload), frame.moment)
            elif frame.opcode == Opcode.PING:
                asyncio.get_running_loop().call_soon(self.hear, PONG)
            elif frame.opcode == Opcode.CLOSE:
                code = Close.parse(frame.payload).code
                asyncio.get_running_loop().call_soon(self._page.lost, self, code)
