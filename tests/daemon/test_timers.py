from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from serving import REQUEST, TICK, batch, entry, serving, text
from structlog.testing import capture_logs
from waiting import until
from websockets.frames import Frame, Opcode

if TYPE_CHECKING:
    from serving import Raw

PONG = Frame(Opcode.PONG, b"").serialize(mask=True)


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
    """A client that sent a bare token gets the protocol's ping only, every interval."""
    async with serving(interval=0.05) as house:
        raw = await house.raw()
        await raw.handshake("alice")
        began = asyncio.get_running_loop().time()
        assert await pings(raw, 4) == [b""] * 4
        assert asyncio.get_running_loop().time() - began > 0.15 - 2 * TICK


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


async def test_both_pings_in_one_write() -> None:
    """Both pings come in one write."""
    async with serving(interval=0.05) as house:
        raw = await house.raw()
        await raw.handshake('{"token": "alice"}')
        assert (await raw.frame()) is not None
        assert await raw.receive() == b'\x81\x21{"notifyd":"ping","last_id":null}\x89\x00'


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
    async with serving(interval=60, answer=30, messages_per_second=1) as house:
        await house.enter("alice")
        session = (await house.client("alice")).session
        now = asyncio.get_running_loop().time()
        for later in range(0, 600, 60):
            house.server.tick(now + later + 61)
            assert session.awaiting_pong
            await until(lambda: not session.awaiting_pong)
            house.server.tick(now + later + 92)
        assert len(house.hub) == 1


async def test_stall() -> None:
    """Who has answered the last ping is not dropped because the daemon stood still since then."""
    async with serving(interval=60, answer=30) as house:
        await house.enter("alice")
        session = (await house.client("alice")).session
        now = asyncio.get_running_loop().time()
        house.server.tick(now + 61)
        assert session.awaiting_pong
        await until(lambda: not session.awaiting_pong)
        house.server.tick(now + 200)
        assert session.awaiting_pong
        await until(lambda: not session.awaiting_pong)
        assert len(house.hub) == 1


async def test_crowd_is_spread() -> None:
    """Clients that came together are not pinged together."""
    async with serving(interval=60, answer=30) as house:
        for n in range(10):
            await house.enter(f"user{n}")
        sessions = [client.session for client in house.server.clients]
        now = asyncio.get_running_loop().time()
        pinged = []
        for step in range(1, 102):
            before = sum(session.awaiting_pong for session in sessions)
            house.server.tick(now + 0.6 * step)
            pinged.append(sum(session.awaiting_pong for session in sessions) - before)
        # By rounding, a step may reach two slots.
        assert sum(pinged) == 10
        assert max(pinged) <= 2
