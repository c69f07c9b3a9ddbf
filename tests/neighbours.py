"""What stands in for the server's neighbours: the bus, its archive, and Django."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notifyd.core.audience import Audience, Vocabulary
from notifyd.core.batch import Batch, Extent, Page, Positioned, Unavailable
from notifyd.core.login import Login
from notifyd.core.positions import parse_position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from notifyd.core.batch import RawEntry
    from notifyd.core.positions import Position
    from notifyd.core.protocol import Hello
    from notifyd.daemon.client import Client

# Entries that the archive returns at once.
COUNT = 4

WORDS = Vocabulary()
AUDIENCE = Audience.build(WORDS, content_types=[7])


def entry(
    number: int, event: str = '{"content_type_id": 7}', **fields: str
) -> tuple[str, dict[bytes, bytes]]:
    """Return an entry of the stream, its id made of the number."""
    return f"{number}-0", {k.encode(): v.encode() for k, v in {"event": event, **fields}.items()}


def entries(first: int, last: int, size: int = 0) -> list[RawEntry]:
    """Return entries from one number to the other, each about `size` bytes long."""
    event = f'{{"content_type_id": 7, "filler": "{"x" * size}"}}'
    return [entry(number, event) for number in range(first, last + 1)]


def control(number: int, body: str) -> RawEntry:
    """Return a control entry."""
    return f"{number}-0", {b"control": body.encode()}


def batch(*some: RawEntry) -> Batch:
    """Return a batch of the stream."""
    return Batch("stream", [*some])


def pubsub(*events: str) -> Batch:
    """Return a batch that came by Pub/Sub."""
    return Batch("pubsub", [(None, {b"event": event.encode()}) for event in events])


async def source(*items: Batch | Positioned) -> AsyncIterator[Batch | Positioned]:
    """Stand in for the bus."""
    for item in items:
        yield item


async def nothing() -> None:
    """Do nothing."""


class Shelf:
    """Stand in for the archive: what the stream has kept is a list."""

    def __init__(self) -> None:
        self.epoch = "e"
        self.entries: list[RawEntry] = []
        self.last: Position = (0, 0)
        self.asked: list[str] = []
        self.away = False
        self.meanwhile: Callable[[], Awaitable[object]] = nothing
        """What happens while an answer is on its way."""

    async def extent(self) -> Extent:
        """Return how far it reaches."""
        extent = self._extent("extent")
        await self.meanwhile()
        return extent

    async def forward(self, after: Position, until: Position) -> Page:
        """Return the oldest entries behind `after`."""
        extent = self._extent("forward")
        found = self._between(after, until)
        await self.meanwhile()
        return Page(extent, found[:COUNT], complete=len(found) < COUNT)

    async def backward(self, until: Position, after: Position) -> Page:
        """Return the newest entries up to `until`."""
        extent = self._extent("backward")
        found = self._between(after, until)
        await self.meanwhile()
        return Page(extent, found[-COUNT:], complete=len(found) < COUNT)

    async def controls(self, until: Position) -> tuple[Extent, list[RawEntry]]:
        """Return the control entries up to `until`."""
        extent = self._extent("controls")
        found = self._between((0, 0), until)
        await self.meanwhile()
        return extent, [each for each in found if b"control" in each[1]]

    def add(self, *some: RawEntry) -> None:
        """Put entries on it."""
        self.entries += some
        self.last = parse_position(str(self.entries[-1][0]))

    def trim(self, first: int) -> None:
        """Take away the entries before that number."""
        self.entries = [each for each in self.entries if parse_position(str(each[0])) >= (first, 0)]

    def _between(self, after: Position, until: Position) -> list[RawEntry]:
        return [e for e in self.entries if after < parse_position(str(e[0])) <= until]

    def _extent(self, question: str) -> Extent:
        self.asked.append(question)
        if self.away:
            raise Unavailable("away")
        first = parse_position(str(self.entries[0][0])) if self.entries else self.last
        return Extent(self.epoch, first, self.last)


class Doorkeeper:
    """Stand in for the logins: whom `authenticate` lets in stays what it says."""

    def __init__(self, authenticate: Callable[[Hello, str | None], Awaitable[Login]]) -> None:
        self._authenticate = authenticate
        self.stale = 0
        self.renewed = 0
        self.ticket: tuple[str | None, float | None] = (None, None)
        self.frame = b""
        self.renewing: Callable[[], Awaitable[Login | None]] = nothing
        """What happens while somebody is read again, and what comes out if that has changed."""
        self.entering: Callable[[], None] = lambda: None
        """What happens when somebody is let in."""

    async def log_in(self, hello: Hello, address: str | None) -> Login:
        """Return what the test says."""
        return await self._authenticate(hello, address)

    async def renew(self, login: Login) -> Login:
        """Return what has become of it."""
        self.renewed += 1
        return await self.renewing() or login

    def overtaken(self, _login: Login) -> bool:
        """Say so as often as the test wants it."""
        self.stale -= 1
        return self.stale >= 0

    def entered(self, _client: Client) -> tuple[str | None, float | None]:
        """Return the test's ticket."""
        self.entering()
        return self.ticket

    def ticket_frame(self, _client: Client, _now: float) -> bytes:
        """Return the test's frame."""
        return self.frame


async def let_in(hello: Hello, _address: str | None) -> Login:
    """Stand in for Django: the token is the user, and all see the same."""
    assert hello.token is not None
    return Login(hello.token, AUDIENCE)
