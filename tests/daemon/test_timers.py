from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import AUDIENCE, batch, entries, entry
from raws import PONG, REQUEST, text
from serving import DAY, serving
from sinks import Sink
from structlog.testing import capture_logs
from waiting import until
from websockets.frames import Opcode

from notifyd.core.batch import Positioned
from notifyd.core.protocol import ticket_frame

if TYPE_CHECKING:
    from raws import Raw
    from serving import Serving


async def pings(raw: Raw, count: int) -> list[bytes]:
    """Read that many frames, answer the pings among them, and return all of them."""
    frames: list[bytes] = []
    while len(frames) < count:
        frame = await raw.frame()
        assert frame is not None
        frames.append(bytes(frame.data))
        if frame.opcode is Opcode.PING:
            await raw.send(PONG)
    return frames


@pytest.mark.parametrize("data", [b"", b"GET / HTT", REQUEST])
async def test_no_handshake(data: bytes) -> None:
    """Who doesn't finish the handshake in time is dropped."""
    async with serving(handshake=0.05) as house:
        raw = await house.raw()
        with capture_logs() as logs:
            await raw.send(data)
            assert await raw.receive() == b""
            await until(lambda: not house.server.clients)
        assert [line["event"] for line in logs] == ["connection.refused"]
        assert logs[0]["detail"] == "no handshake in time"
        assert (house.server.stats.opened, house.server.stats.refused) == (0, {"timeout": 1})


async def test_no_hello() -> None:
    """Who says nothing in time is closed with 4408, and dropped if that isn't answered."""
    async with serving(hello=0.1, farewell=0.1) as house:
        raw = await house.raw()
        await raw.handshake()
        with capture_logs() as logs:
            assert await raw.close_code() == 4408
            await until(lambda: not house.server.clients)
        assert (logs[0]["code"], logs[0]["reason"]) == (4408, "no hello in time")


async def test_one_deadline_at_a_time() -> None:
    """Who is being closed has the time for that, whatever it was waited for before."""
    async with serving(hello=0.1, farewell=60) as house:
        raw = await house.raw()
        await raw.send(REQUEST + b"\r\n" + text("{}"))
        await raw.head()
        assert await raw.close_code() == 4400
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.2
        await until(lambda: loop.time() > end)
        assert house.server.phases()["closing"] == 1


async def test_no_deadline_for_the_authentication() -> None:
    """Once the first message is said, the client's time stops: the rest is ours."""
    async with serving(hello=0.05) as house:
        raw = await house.raw()
        await raw.send(REQUEST + b"\r\n" + text("alice"))
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.1
        await until(lambda: loop.time() > end)
        assert len(house.hub) == 1


async def test_refused_peer_that_stays() -> None:
    """A peer that was refused and doesn't go is dropped."""
    async with serving(farewell=0.05) as house:
        raw = await house.raw()
        await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.head()).startswith("HTTP/1.1 426 ")
        await until(lambda: not house.server.clients)


async def test_pings_of_a_bare_client() -> None:
    """A client that sent a bare token gets the protocol's ping only, once every interval."""
    async with serving() as house:
        raw, client = await house.mute(bare=True)
        for count in range(1, 4):
            turn(house, count)
            assert await raw.receive() == b"\x89\x00"
            await raw.send(PONG)
            await until(lambda: not client.session.awaiting_pong)


async def test_interval() -> None:
    """Pings come in the interval that is set."""
    async with serving(interval=0.05) as house:
        raw = await house.raw()
        await raw.handshake("alice")
        assert await pings(raw, 4) == [b""] * 4


async def test_pings_of_a_hello_client() -> None:
    """A client that said hello gets the ping that pages see, with its position, and the other."""
    async with serving(interval=0.05, messages_per_second=1000) as house:
        raw = await house.raw()
        await raw.handshake('{"token": "alice"}')
        await house.client("alice")
        frames = await pings(raw, 3)
        assert frames[1:] == [b'{"notifyd":"ping","last_id":null}', b""]
        await house.bring(batch(entry(5, "{}", to='{"users": ["bob"]}')))
        while frames[-2:] != [b'{"notifyd":"ping","last_id":"5-0"}', b""]:
            frames += await pings(raw, 1)


def turn(house: Serving, count: int = 1) -> None:
    """Ping everybody, so many intervals from now."""
    house.server.tick(asyncio.get_running_loop().time() + count * DAY + 1)


async def behind(house: Serving, since: str) -> Raw:
    """Return a client that is ahead of the relay, which is at 5."""
    house.shelf.add(entry(1))
    await house.bring(Positioned("e", "5-0", None))
    house.shelf.add(entry(99))
    raw = await house.raw()
    await raw.handshake(json.dumps({"token": "alice", "since": since}))
    assert (await raw.message())["recovered"] is True
    return raw


async def test_both_pings_in_one_write() -> None:
    """Both pings come in one write."""
    async with serving() as house:
        raw, _ = await house.mute()
        turn(house)
        assert await raw.receive() == b'\x81\x21{"notifyd":"ping","last_id":null}\x89\x00'


async def test_ping_of_a_client_that_is_behind() -> None:
    """A client that is behind is told its own position, and the relay's when it is live."""
    async with serving() as house:
        raw = await behind(house, "7-0")
        await house.bring(batch(entry(6)))
        turn(house)
        assert await raw.message() == {"notifyd": "ping", "last_id": "7-0"}
        await raw.send(PONG)
        await house.bring(batch(entry(7)))
        await until(lambda: house.server.phases()["live"])
        await house.bring(batch(entry(8, "{}", to='{"users": ["bob"]}')))
        turn(house, 2)
        assert await raw.message() == {"notifyd": "ping", "last_id": "8-0"}


async def test_ping_of_a_client_that_is_suspended() -> None:
    """While a client gets nothing its position stays, whatever is relayed to others."""
    async with serving() as house:
        await house.bring(Positioned("e", "5-0", None))
        raw, client = await house.mute()
        house.feeder.put(client, "alice", None, (5, 0))
        await house.bring(batch(entry(6)))
        turn(house)
        assert await raw.message() == {"notifyd": "ping", "last_id": "5-0"}


async def test_ping_of_a_bare_client_that_is_behind() -> None:
    """A client that knows no control frames gets the protocol's ping, wherever it is."""
    async with serving() as house:
        await house.bring(Positioned("e", "5-0", None))
        raw, client = await house.mute(bare=True)
        house.feeder.put(client, "alice", None, (5, 0))
        turn(house)
        assert await raw.receive() == b"\x89\x00"


async def test_no_ping_within_a_fanout() -> None:
    """A ping that is due while events are written follows them, and has their position."""
    async with serving() as house:
        await house.bring(Positioned("e", "5-0", None))
        raw, client = await house.mute()
        late: Any = Sink(lambda _: turn(house))
        house.hub.join(late, "late", AUDIENCE)
        await house.bring(batch(*entries(6, 7)))
        assert client.session.awaiting_pong
        assert await raw.ids(2) == ["6-0", "7-0"]
        assert await raw.message() == {"notifyd": "ping", "last_id": "7-0"}
        house.hub.leave(late, "late")


async def in_order(raw: Raw, last: str) -> int:
    """Read to that event, make sure that no ping is behind an event; return how many there were."""
    position, pings = 0, 0
    while True:
        message = await raw.message()
        if message.get("id") == last:
            return pings
        at = int(message.get("id", message.get("last_id", "")).partition("-")[0])
        assert at > position if "id" in message else at >= position
        position = at
        pings += message.get("notifyd") == "ping"


@pytest.mark.long
@pytest.mark.parametrize("buffer", [3_000, 262_144])
async def test_pings_are_never_behind_an_event(buffer: int) -> None:
    """Whenever the timer fires, no ping's position lies behind an event written before it."""
    async with serving(
        interval=0.02, buffer=buffer, send_buffer=4096, messages_per_second=100_000
    ) as house:
        await house.bring(Positioned("e", "1-0", None), batch(*entries(2, 40, 1000)))
        others: list[Any] = [Sink(delay=0.0002) for _ in range(100)]
        for each in others:
            house.hub.join(each, "others", AUDIENCE)
        raws = [await house.raw(receive_buffer=4096) for _ in range(8)]
        for n, raw in enumerate(raws):
            await raw.handshake(json.dumps({"token": f"{n}", "since": f"{1 + n * 5}-0"}))
        reading = asyncio.gather(*(in_order(raw, "9999-0") for raw in raws))
        for n in range(41, 101):
            await house.bring(batch(*entries(10 * n, 10 * n + n % 9, 1000)))
        await until(lambda: len(house.hub) == 108)
        await house.bring(batch(entry(9999)))
        assert min(await reading) > 3
        for each in others:
            house.hub.leave(each, "others")


async def test_lifetime() -> None:
    """A client whose lifetime is over when its turn has come is closed with 4410."""
    async with serving() as house:
        raw, client = await house.mute()
        now = asyncio.get_running_loop().time()
        client.expires = now + 1.5 * DAY
        turn(house)
        assert (await raw.message())["notifyd"] == "ping"
        await raw.send(PONG)
        await until(lambda: not client.session.awaiting_pong)
        with capture_logs() as logs:
            turn(house, 2)
            assert await raw.close_code() == 4410
            raw.socket.close()
            await until(lambda: not house.server.clients)
        assert logs[0]["reason"] == "connection lifetime over"


async def test_lifetime_of_a_bare_client() -> None:
    """That holds for everybody."""
    async with serving() as house:
        raw, client = await house.mute(bare=True)
        client.expires = 0
        turn(house)
        assert await raw.close_code() == 4410


async def test_tickets() -> None:
    """A new ticket, when it is due, stands before the pings, in the same write."""
    async with serving() as house:
        house.doorkeeper.frame = ticket_frame("abcd", 900)
        raw, client = await house.mute()
        client.renews = asyncio.get_running_loop().time() + DAY / 2
        turn(house)
        ping = b'\x81\x21{"notifyd":"ping","last_id":null}\x89\x00'
        assert await raw.receive() == house.doorkeeper.frame + ping


@pytest.mark.parametrize("renews", [math.inf, 0])
async def test_no_ticket(renews: float) -> None:
    """Before that time, or where there can't be one, the pings come alone."""
    async with serving() as house:
        house.doorkeeper.frame = ticket_frame("abcd", 900) if renews else b""
        raw, client = await house.mute()
        client.renews = renews
        turn(house)
        assert await raw.message() == {"notifyd": "ping", "last_id": None}


async def test_no_ticket_for_a_bare_client() -> None:
    """Who sent a bare token gets no ticket."""
    async with serving() as house:
        house.doorkeeper.frame = ticket_frame("abcd", 900)
        raw, client = await house.mute(bare=True)
        client.renews = 0
        turn(house)
        assert await raw.receive() == b"\x89\x00"


async def test_no_answer() -> None:
    """Who doesn't answer a ping is dropped, and counted as vanished."""
    async with serving(interval=0.05, answer=0.04) as house:
        raw = await house.raw()
        await raw.handshake("alice")
        with capture_logs() as logs:
            assert await raw.close_code() is None
            await until(lambda: not house.server.clients)
        assert (logs[0]["code"], logs[0]["reason"]) == (1006, "no answer to a ping")
        assert house.server.stats.closed == {1006: 1}


async def test_answers() -> None:
    """Who answers the pings stays, and the answers are no messages that could be too many."""
    async with serving(answer=30, messages_per_second=1) as house:
        await house.enter("alice")
        session = (await house.client("alice")).session
        now = asyncio.get_running_loop().time()
        for count in range(1, 10):
            house.server.tick(now + count * DAY + 1)
            assert session.awaiting_pong
            await until(lambda: not session.awaiting_pong)
            house.server.tick(now + count * DAY + 32)
        assert len(house.hub) == 1


async def test_stall() -> None:
    """Who has answered the last ping is not dropped because the daemon stood still since then."""
    async with serving(answer=30) as house:
        await house.enter("alice")
        session = (await house.client("alice")).session
        now = asyncio.get_running_loop().time()
        house.server.tick(now + DAY + 1)
        assert session.awaiting_pong
        await until(lambda: not session.awaiting_pong)
        house.server.tick(now + 3 * DAY)
        assert session.awaiting_pong
        await until(lambda: not session.awaiting_pong)
        assert len(house.hub) == 1


async def test_crowd_is_spread() -> None:
    """Clients that came together are not pinged together."""
    async with serving(answer=30) as house:
        for n in range(10):
            await house.enter(f"user{n}")
        sessions = [client.session for client in house.server.clients]
        now = asyncio.get_running_loop().time()
        pinged = []
        for step in range(1, 102):
            before = sum(session.awaiting_pong for session in sessions)
            house.server.tick(now + DAY / 100 * step)
            pinged.append(sum(session.awaiting_pong for session in sessions) - before)
        # By rounding, a step may reach two slots.
        assert sum(pinged) == 10
        assert max(pinged) <= 2
