"""Clients that follow no rule but the test's."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side, State

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)

PONG = Frame(Opcode.PONG, b"").serialize(mask=True)


def text(message: str) -> bytes:
    """Return a text frame as clients send it."""
    return Frame(Opcode.TEXT, message.encode()).serialize(mask=True)


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

    async def message(self, most: int = 65536) -> dict[str, Any]:
        """Return the next text as what it says; pings are answered, and passed over."""
        while frame := await self.frame(most):
            if frame.opcode is Opcode.TEXT:
                return dict(json.loads(bytes(frame.data)))
            assert frame.opcode is Opcode.PING, frame
            await self.send(PONG)
        raise AssertionError("the stream has ended")

    async def ids(self, count: int, most: int = 65536) -> list[str]:
        """Return the ids of the next so many events, whatever comes between them."""
        found: list[str] = []
        while len(found) < count:
            message = await self.message(most)
            if "notifyd" not in message:
                found.append(message["id"])
        return found

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
