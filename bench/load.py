"""The clients: thousands of connections in one process that counts the events that arrive.

It does as little as possible with what it receives, so that it is not the one being measured.
Commands come on standard input, one a line, each answered by one line when it is done:

    connect COUNT    open so many more connections, and send each one's token
    settle 0         wait until every connection has received an event since it was opened
    rest 0           wait until nothing has come for a while, then begin to count
    expect COUNT     wait until every connection has received so many events more

Usage: load.py HOST PORT FILE-OF-TOKENS EXTENSIONS

EXTENSIONS is the value of Sec-WebSocket-Extensions to offer; what is compressed stays so.
"""

from __future__ import annotations

import base64
import itertools
import os
import select
import socket
import sys
from pathlib import Path

from websockets.frames import Frame, Opcode

AT_ONCE = 50
QUIET = 1.0
"""Seconds without an event after which all that were under way have come."""

EXTENDED = 126
"""The length in a frame's second byte that says it follows in two more (RFC 6455 section 5.2)."""


class Load:
    """The connections of one server."""

    def __init__(self, host: str, port: int, tokens: list[str], extensions: str) -> None:
        self._address = (host, port)
        self._offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        self._tokens = itertools.cycle(tokens)
        self._sockets: dict[int, socket.socket] = {}
        self._events: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        self._cold: set[int] = set()
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """Do what is commanded, and answer pings meanwhile."""
        while line := self._next_line():
            command, value = line.split()
            commands = {
                "connect": self._connect,
                "settle": self._settle,
                "rest": self._rest,
                "expect": self._expect,
            }
            commands[command](int(value))
            print("done", flush=True)

    def _next_line(self) -> str:
        while not self._poll(None):
            pass
        return sys.stdin.readline()

    def _connect(self, count: int) -> None:
        for start in range(0, count, AT_ONCE):
            fresh = [self._open() for _ in range(min(AT_ONCE, count - start))]
            for sock in fresh:
                self._finish_handshake(sock)
            for sock in fresh:
                token = Frame(Opcode.TEXT, next(self._tokens).encode())
                sock.sendall(token.serialize(mask=True))
                sock.setblocking(False)
                self._sockets[sock.fileno()] = sock
                self._events[sock.fileno()] = 0
                self._cold.add(sock.fileno())
                self._epoll.register(sock.fileno(), select.EPOLLIN)
            self._poll(0)

    def _settle(self, _: int) -> None:
        while self._cold:
            self._poll(None)

    def _rest(self, _: int) -> None:
        before = -1
        while (now := sum(self._events.values())) != before:
            before = now
            self._poll(QUIET)
        self._events = dict.fromkeys(self._events, 0)

    def _expect(self, count: int) -> None:
        while any(events < count for events in self._events.values()):
            self._poll(None)
        for fd in self._events:
            self._events[fd] -= count

    def _poll(self, timeout: float | None) -> bool:
        """Take what has arrived; return whether a command is among it."""
        commanded = False
        for fd, _ in self._epoll.poll(timeout):
            if fd == sys.stdin.fileno():
                commanded = True
                continue
            data = self._sockets[fd].recv(1 << 20)
            if not data:
                sys.exit("a connection was closed")
            self._take(fd, self._partial.pop(fd, b"") + data)
        return commanded

    def _take(self, fd: int, data: bytes) -> None:
        start, size = 0, len(data)
        while start + 2 <= size:
            length, header = data[start + 1], 2
            if length == EXTENDED:
                length, header = int.from_bytes(data[start + 2 : start + 4]), 4
            end = start + header + length
            if end > size:
                break
            opcode = data[start] & 0x0F
            if opcode == Opcode.TEXT:
                self._cold.discard(fd)
                self._events[fd] += 1
            elif opcode == Opcode.PING:
                pong = Frame(Opcode.PONG, data[start + header : end])
                self._sockets[fd].send(pong.serialize(mask=True))
            else:
                sys.exit(f"a frame of kind {opcode}: {data[start:end]!r}")
            start = end
        if start < size:
            self._partial[fd] = data[start:]

    def _open(self) -> socket.socket:
        sock = socket.create_connection(self._address)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"{self._offer}\r\n".encode()
        )
        return sock

    @staticmethod
    def _finish_handshake(sock: socket.socket) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        if b" 101 " not in answer.split(b"\r\n", 1)[0]:
            sys.exit(f"no handshake: {answer[:80]!r}")


def main() -> None:
    """Serve the commands on standard input."""
    host, port, tokens, extensions = sys.argv[1:]
    Load(host, int(port), Path(tokens).read_text(encoding="ascii").split(), extensions).serve()


main()
