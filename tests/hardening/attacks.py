"""Attacks on the real daemon: its house, a witness who behaves, and what the daemon says of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families
from raws import REQUEST, Raw
from waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Close, Frame, Opcode

if TYPE_CHECKING:
    import redis
    from daemons import Daemon, Site
    from servers import RedisServer

EVENTS = "{notifyd}:events"
CHANNEL = "events"
EVERYONE = '{"everyone": true}'
WITNESS = "127.0.0.2"
# In every request, and never to be seen in the log.
SESSION = "sessionid-of-somebody-else"
PASSWORD = "open-sesame-of-the-bus"
KEY = "open-sesame-of-the-tokens"
HEAD = REQUEST.replace(b"GET / ", f"GET /?token={SESSION} ".encode()) + (
    f"Cookie: sessionid={SESSION}\r\nAuthorization: Bearer {SESSION}\r\n".encode()
)
HANDSHAKE = HEAD + b"\r\n"
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Prints a token for somebody whom the database doesn't know.
NOBODY = """
import sesame.tokens_v2
print(sesame.tokens_v2.create_token(User(pk=2**31 - 1, password=""), "notifyd"), end="")
"""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class House:
    """A running daemon with its site and its Redis."""

    def __init__(self, site: Site, daemon: Daemon, server: RedisServer) -> None:
        self.site = site
        self.daemon = daemon
        self.server = server
        # Read once: the log, where they are, grows.
        self.host, _, port = daemon.addresses[0].rpartition(":")
        self.port = int(port)
        self.admin = str(daemon.events("listener.opened", serves="admin")[0]["address"])
        self.redis: redis.Redis = server.client(password=PASSWORD, decode_responses=True)
        self.secrets = {SESSION, PASSWORD, KEY}

    def token(self, name: str, scope: str = "notifyd") -> str:
        """Return a new token of a user."""
        return self.secret(self.site.token(name, scope))

    def secret(self, text: str) -> str:
        """Note a text that must not be logged."""
        self.secrets.add(text)
        return text

    def spotless(self, since: int = 0) -> None:
        """Make sure that the log, from that character on, has no traceback and no secret."""
        log = self.daemon.log[since:]
        assert "raceback" not in log, log
        assert '"service.error"' not in log, log
        assert [secret for secret in self.secrets if secret in log] == []

    def publish(self, event: object, to: str = EVERYONE) -> str:
        """Add an event to the stream, and return its id."""
        return str(self.redis.xadd(EVENTS, {"event": json.dumps(event), "to": to}))

    async def enter(self, name: str, address: str = "127.0.0.1", **options: Any) -> Witness:
        """Return a well-behaved client that was let in and welcomed."""
        hello = json.dumps({"token": self.token(name)})
        client = await self.connect(address, **options)
        await client.send(hello)
        async with asyncio.timeout(10):
            assert json.loads(await client.recv())["notifyd"] == "welcome"
        return Witness(client)

    async def connect(self, address: str = "127.0.0.1", **options: Any) -> ClientConnection:
        """Return a well-behaved client after its handshake."""
        quiet = {"compression": None, "ping_interval": None, "proxy": None, "max_queue": None}
        where = {"local_addr": (address, 0), "close_timeout": 2}
        return await connect(f"ws://{self.host}:{self.port}/", **{**quiet, **where, **options})

    def samples(self) -> Samples:
        """Return all metrics."""
        with HTTP.open(f"http://{self.admin}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name.removeprefix("notifyd_"), frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def connections(self) -> float:
        """Return how many connections the daemon has, whatever their state."""
        return sum(value for (name, _), value in self.samples().items() if name == "connections")


class Witness:
    """Somebody who is connected and behaves."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client

    async def event(self) -> dict[str, Any]:
        """Return the next event, control frames skipped."""
        async with asyncio.timeout(10):
            while "notifyd" in (event := json.loads(await self.client.recv())):
                pass
        return dict(event)

    async def sees(self, house: House, *others: Witness) -> None:
        """Make sure that an event published now is the next one that it and the others get."""
        id_ = house.publish({"after": "the attack"})
        for each in (self, *others):
            assert await each.event() == {"id": id_, "after": "the attack"}


class Attacker(Raw):
    """A client that sends and reads what the test says, and knows a Close when it sees one."""

    async def end(self) -> Close | None:
        """Read up to the Close, None if the connection ends without one, and hang up."""
        close = None
        with contextlib.suppress(ConnectionError):
            while close is None and (frame := await self.frame()):
                close = Close.parse(frame.data) if frame.opcode is Opcode.CLOSE else None
        self.socket.close()
        return close

    async def flood(self, data: bytes) -> None:
        """Send as much as the daemon takes before it hangs up; why it did is to be read still."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    async def answer(self) -> str:
        """Read an HTTP response to its end, and hang up."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := await self.receive():
                data += more
        self.socket.close()
        return data.decode()


class Attack:
    """What one test does to a house: the witness, and what has changed since it began."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._ends = contextlib.AsyncExitStack()
        self._expected: Counter[str] | None = None

    async def __aenter__(self) -> Self:
        self.witness = await self.house.enter("nadia", WITNESS)
        self._ends.push_async_callback(self.witness.client.close)
        self._from = len(self.house.daemon.log)
        self._before = self.house.samples()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.aclose()

    async def finish(self) -> None:
        """Make sure that the witness goes on, that nothing is left over, and nothing leaked."""
        assert self.house.daemon.process.poll() is None, self.house.daemon.log
        await self.witness.sees(self.house)
        await until(lambda: self.house.connections() == 1)
        if self._expected is not None:
            assert Counter(self.names()) == self._expected, self.lines()
        self.house.spotless(self._from)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged since the attack began; at level debug only what is amiss."""
        text = self.house.daemon.log[self._from :]
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [line for line in lines if line["level"] != "debug"]

    def names(self) -> list[str]:
        """Return the names of the events that were logged."""
        return [line["event"] for line in self.lines()]

    async def logged(self, *names: str) -> list[dict[str, Any]]:
        """Wait for these lines of the log, return them, and allow no others until the end."""
        self._expected = Counter(names)
        await until(lambda: len(self.lines()) >= len(names))
        assert Counter(self.names()) == self._expected, self.lines()
        return self.lines()

    def counted(self, name: str, **labels: str) -> float:
        """Return by how much a metric has grown."""
        key = (name, frozenset(labels.items()))
        return self.house.samples().get(key, 0) - self._before.get(key, 0)

    async def connected(self, address: str = "127.0.0.1", *, receive_buffer: int = 0) -> Attacker:
        """Return an attacker who is connected over TCP and no more."""
        sock = socket.socket()
        self._ends.callback(sock.close)
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(sock, (self.house.host, self.house.port))
        return Attacker(sock)

    async def upgraded(
        self, *frames: bytes, address: str = "127.0.0.1", headers: str = "", **options: Any
    ) -> Attacker:
        """Return an attacker after the handshake who has sent these frames."""
        attacker = await self.connected(address, **options)
        await attacker.send(HEAD + headers.encode() + b"\r\n")
        assert (await attacker.head()).startswith("HTTP/1.1 101 ")
        await attacker.send(b"".join(frames))
        return attacker

    async def entered(self, name: str = "omar", **options: Any) -> Attacker:
        """Return an attacker who has logged in."""
        token = json.dumps({"token": self.house.token(name)})
        attacker = await self.upgraded(frame(token), **options)
        welcome = await attacker.frame()
        assert welcome is not None
        assert json.loads(bytes(welcome.data))["notifyd"] == "welcome"
        return attacker

    async def closed(
        self, attacker: Attacker, code: int, *before: str, label: str = ""
    ) -> dict[str, Any]:
        """Make sure that the connection ends with that code, counted and logged; return the line.

        `before` are the lines of the log before it.
        """
        close = await attacker.end()
        assert (close.code if close else 1006) == code
        line = (await self.logged(*before, "connection.closed"))[-1]
        assert line["event"] == "connection.closed"
        assert line["code"] == code
        assert self.counted("connections_closed_total", code=label or str(code)) == 1
        return line

    async def denied(self, attacker: Attacker, result: str, code: int = 4401) -> dict[str, Any]:
        """Make sure that a log-in fails with that result; return its line."""
        await self.closed(attacker, code, "auth.failed")
        line = self.lines()[0]
        assert line["result"] == result
        assert self.counted("authentications_total", result=result) == 1
        return line

    async def refused(self, attacker: Attacker, status: int | None, reason: str) -> dict[str, Any]:
        """Make sure that the handshake is refused with that status, or silently; return its line.

        Raises ValueError if there is more than one line.
        """
        answer = await attacker.answer()
        assert answer.startswith(f"HTTP/1.1 {status} ") if status else answer == ""
        [line] = await self.logged("connection.refused")
        assert line["reason"] == reason
        assert self.counted("connections_refused_total", reason=reason) == 1
        return line

    async def rejected(self, reason: str, source: str) -> dict[str, Any]:
        """Make sure that an entry of the bus is rejected for that reason; return its line."""
        [line] = await self.logged("event.rejected")
        assert (line["reason"], line["source"]) == (reason, source)
        assert self.counted("events_rejected_total", reason=reason) == 1
        return line


def frame(data: str | bytes, opcode: Opcode = Opcode.TEXT, **bits: bool) -> bytes:
    """Return a frame as clients send it."""
    payload = data.encode() if isinstance(data, str) else data
    # The library's own serialization judges; what it would refuse is made of what it allows.
    return Frame(opcode, payload, **bits).serialize(mask=True)


def header(first: int, length: int, *, masked: bool = True) -> bytes:
    """Return the first bytes of a frame, legal or not (RFC 6455 section 5.2)."""
    mask = 0x80 if masked else 0
    if length < 126:
        return bytes([first, mask | length])
    return bytes([first, mask | 127]) + length.to_bytes(8, "big")
