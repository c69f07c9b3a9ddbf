"""The crowd of scrape.py: thousands of connections, of which the slowest counts.

It does as little as possible with what it receives. Commands come on standard input, one a line,
each answered by one line when it is done:

    connect     connect all clients, and wait until each was let in
    event       wait until every client has got one more event; answers when the last one had it, in
                seconds of CLOCK_MONOTONIC (clock_gettime(2)), which all processes share
    leave       drop all connections

Usage: scrape_load.py HOST PORT FILE-OF-TOKENS CLIENTS
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from websockets.frames import Frame, Opcode

AT_ONCE = 100
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
WELCOME = b'{"notifyd":"welcome"'
EVENT = b'"model": "article"'
"""What is in each event once, and in nothing else."""

PING = b"\x89\x00"
"""An empty one. What else is sent is ASCII in short frames, and does not contain this."""

CLOSE = 0x88
"""The first byte of a Close; its code and reason follow (RFC 6455 section 5.5.1)."""

PONG = Frame(Opcode.PONG, b"").serialize(mask=True)


class Crowd:
    """The clients."""

    def __init__(self, host: str, port: int, tokens: list[str], count: int) -> None:
        self._address = (host, port)
        self._tokens = [*islice(cycle(tokens), count)]
        self._sockets: dict[int, socket.socket] = {}
        self._epoll = select.epoll()

    def connect(self) -> str:
        """Connect all, some at a time."""
        for start in range(0, len(self._tokens), AT_ONCE):
            some = self._tokens[start : start + AT_ONCE]
            for token in some:
                self._open(token)
            self._count(WELCOME, len(some))
        return "done"

    def event(self) -> str:
        """Wait for an event, and return when the last client got it."""
        self._count(EVENT, len(self._sockets))
        return str(time.monotonic())

    def leave(self) -> str:
        """Drop all connections."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        return "done"

    def _open(self, token: str) -> None:
        sock = socket.create_connection(self._address)
        hello = Frame(Opcode.TEXT, json.dumps({"token": token}).encode()).serialize(mask=True)
        sock.sendall(REQUEST + hello)
        sock.setblocking(False)
        self._sockets[sock.fileno()] = sock
        self._epoll.register(sock, select.EPOLLIN)

    def _count(self, what: bytes, times: int) -> None:
        """Read until that has come so many times. A frame is small, and comes in one piece."""
        while times > 0:
            for fd, _ in self._epoll.poll():
                data = self._sockets[fd].recv(1 << 16)
                if not data or data[0] == CLOSE:
                    sys.exit(f"a connection was closed: {data[4:]!r}")
                times -= data.count(what)
                if PING in data:
                    self._sockets[fd].send(PONG)


def main() -> None:
    """Serve the commands on standard input."""
    host, port, tokens, count = sys.argv[1:]
    lines = Path(tokens).read_text(encoding="ascii").split()
    crowd = Crowd(host, int(port), lines, int(count))
    commands = {"connect": crowd.connect, "event": crowd.event, "leave": crowd.leave}
    for line in sys.stdin:
        print(commands[line.split()[0]](), flush=True)


main()
