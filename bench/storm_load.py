"""The crowd: thousands of clients that all return at once, and check what they get.

It does as little as possible for each, so that it is not the one being measured: hellos are made
before the clock runs, and missed events that come in one piece are compared in one piece. Commands
come on standard input, one a line, each answered by one line when it is done:

    storm KIND EVENTS   return as KIND says, until all have what they wait for: answers with the
                        seconds that took, the seconds of processor time that this process spent
                        on it, and how many connections were lost and made again
    live EVENT          wait until all have received one more event
    leave               drop all connections

EVENTS are strings in a JSON array. KIND is `bare` (a bare token; waits for any event, since nothing
else tells that it was let in), `token` or `ticket` (what the hello has in it, with the position and
the epoch from the last time if there was one; waits for the welcome, and then exactly these events
in this order).

Usage: storm_load.py HOST PORT FILE-OF-TOKENS CLIENTS
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from itertools import cycle, islice
from pathlib import Path

from websockets.frames import Frame, Opcode

UNANSWERED = 4000
"""Handshakes under way at a time, as many as both servers let wait to be accepted. More would be
told by the kernel to come again in a second, in two, in four, and that would be measured."""

AT_ONCE = 50
"""Connections opened before what has arrived is looked at."""

EXTENDED = 126
"""The length in a frame's second byte that says it follows in two more (RFC 6455 section 5.2)."""

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONTROL = b'{"notifyd":"'
WELCOME = b'{"notifyd":"welcome"'


class Client:
    """One of the crowd. What is below `welcome` is about its present connection."""

    __slots__ = ("got", "hello", "partial", "sock", "token", "upgraded", "waits", "welcome")

    def __init__(self, token: str) -> None:
        self.token = token
        self.hello = b""
        self.welcome = b""
        self.connect(None)

    def connect(self, sock: socket.socket | None) -> None:
        """Take a new connection."""
        self.sock = sock
        self.upgraded = False
        self.waits = True
        self.partial = b""
        # Events; less than none before the welcome.
        self.got = -1


class Crowd:
    """The clients of one server."""

    def __init__(self, host: str, port: int, tokens: list[str], count: int) -> None:
        self._address = (host, port)
        self._clients = [Client(token) for token in islice(cycle(tokens), count)]
        self._by_fd: dict[int, Client] = {}
        self._absent: deque[Client] = deque()
        self._epoll = select.epoll()
        self._bare = False
        self._events: list[bytes] = []
        self._frames = b""
        self._since: str | None = None
        self._unanswered = self._waiting = self._lost = 0

    def storm(self, argument: str) -> str:
        """Have all return."""
        kind, _, events = argument.partition(" ")
        self._bare = kind == "bare"
        self._expect(json.loads(events))
        for client in self._clients:
            client.hello = _masked(client.token if self._bare else self._hello(client, kind))
        if self._events:
            self._since = json.loads(self._events[-1])["id"]
        self._absent.extend(self._clients)
        self._waiting, self._lost = len(self._clients), 0
        began, worked = time.perf_counter(), time.process_time()
        while self._waiting:
            self._open_some()
            self._poll()
        return f"{time.perf_counter() - began} {time.process_time() - worked} {self._lost}"

    def live(self, argument: str) -> str:
        """Wait until all have received one more event."""
        self._expect([*map(bytes.decode, self._events), argument])
        self._since = json.loads(argument).get("id")
        self._waiting = len(self._clients)
        for client in self._clients:
            client.waits = True
            if self._bare:
                client.got = 0
        while self._waiting:
            self._poll()
        return "done"

    def leave(self, _: str) -> str:
        """Drop all connections."""
        for client in self._by_fd.values():
            assert client.sock is not None
            client.sock.close()
        self._by_fd.clear()
        return "done"

    def _expect(self, events: list[str]) -> None:
        self._events = [event.encode() for event in events]
        self._frames = b"".join(
            Frame(Opcode.TEXT, event).serialize(mask=False) for event in self._events
        )

    def _hello(self, client: Client, kind: str) -> str:
        hello = {"token": client.token}
        if client.welcome:
            welcome = json.loads(client.welcome)
            if kind == "ticket":
                hello = {"ticket": welcome["ticket"]}
            hello |= {"since": self._since or welcome["last_id"], "epoch": welcome["epoch"]}
        return json.dumps(hello)

    def _open_some(self) -> None:
        for _ in range(AT_ONCE):
            if not self._absent or self._unanswered >= UNANSWERED:
                return
            sock = socket.socket()
            sock.connect(self._address)
            sock.sendall(REQUEST)
            sock.setblocking(False)
            client = self._absent.popleft()
            client.connect(sock)
            self._by_fd[sock.fileno()] = client
            self._epoll.register(sock, select.EPOLLIN)
            self._unanswered += 1

    def _poll(self) -> None:
        more = self._absent and self._unanswered < UNANSWERED
        for fd, _ in self._epoll.poll(0 if more else None):
            client = self._by_fd[fd]
            assert client.sock is not None
            try:
                data = client.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self._lose(client)
            elif client.upgraded:
                self._take(client, client.partial + data)
            else:
                self._shake(client, client.partial + data)

    def _lose(self, client: Client) -> None:
        """Have a client return whose connection was lost."""
        assert client.sock is not None
        del self._by_fd[client.sock.fileno()]
        client.sock.close()
        self._unanswered -= not client.upgraded
        self._waiting += not client.waits
        self._lost += 1
        if self._lost > len(self._clients):
            sys.exit("too many connections were lost")
        self._absent.append(client)

    def _shake(self, client: Client, data: bytes) -> None:
        """Take the answer to the handshake request, and say hello."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            client.partial = data
            return
        if b" 101 " not in head[:20]:
            sys.exit(f"no handshake: {head[:80]!r}")
        assert client.sock is not None
        client.partial = b""
        client.upgraded = True
        self._unanswered -= 1
        try:
            client.sock.sendall(client.hello)
        except (BrokenPipeError, ConnectionResetError):
            # The end of the stream follows, and tells.
            return
        self._take(client, rest)

    def _take(self, client: Client, data: bytes) -> None:
        """Take frames."""
        start, size = 0, len(data)
        while start + 2 <= size:
            if client.got == 0 and self._events and data.startswith(self._frames, start):
                client.got = len(self._events)
                start += len(self._frames)
                continue
            length, header = data[start + 1], 2
            if length == EXTENDED:
                length, header = int.from_bytes(data[start + 2 : start + 4]), 4
            end = start + header + length
            if end > size:
                break
            self._take_frame(client, data[start] & 0x0F, data[start + header : end])
            start = end
        client.partial = data[start:]
        if client.waits and client.got >= (1 if self._bare else len(self._events)):
            client.waits = False
            self._waiting -= 1

    def _take_frame(self, client: Client, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            assert client.sock is not None
            client.sock.send(Frame(Opcode.PONG, payload).serialize(mask=True))
        elif opcode != Opcode.TEXT:
            sys.exit(f"a frame of kind {opcode}: {payload!r}")
        elif self._bare:
            client.got = 1
        elif payload.startswith(CONTROL):
            self._take_control(client, payload)
        elif client.got < 0:
            sys.exit(f"an event before the welcome: {payload!r}")
        elif client.got == len(self._events) or payload != self._events[client.got]:
            sys.exit(f"not the event that is due after {client.got}: {payload!r}")
        else:
            client.got += 1

    def _take_control(self, client: Client, payload: bytes) -> None:
        if payload.startswith(WELCOME):
            if client.welcome and b'"recovered":true' not in payload:
                sys.exit(f"not all that was missed can be had: {payload!r}")
            client.welcome = payload
            client.got = 0
        elif b'"resync"' in payload[:24]:
            sys.exit(f"not all that was missed was had: {payload!r}")


def _masked(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)


def main() -> None:
    """Serve the commands on standard input."""
    host, port, tokens, count = sys.argv[1:]
    lines = Path(tokens).read_text(encoding="ascii").split()
    crowd = Crowd(host, int(port), lines, int(count))
    commands = {"storm": crowd.storm, "live": crowd.live, "leave": crowd.leave}
    for line in sys.stdin:
        name, _, argument = line.rstrip("\n").partition(" ")
        print(commands[name](argument), flush=True)


main()
