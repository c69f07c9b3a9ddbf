from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import batch, entries, entry, let_in
from raws import REQUEST, text
from serving import serving
from structlog.testing import capture_logs
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from notifyd.core.batch import Positioned
from notifyd.core.happenings import Phase
from notifyd.core.login import Refused, Result
from notifyd.core.records import EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving import Serving
    from websockets.asyncio.client import ClientConnection
    from websockets.datastructures import Headers

    from notifyd.core.login import Login
    from notifyd.core.protocol import Hello

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def refusal(house: Serving, **options: Any) -> tuple[int, Headers]:
    """Ask for a WebSocket in vain; return the status and the headers of the answer."""
    with pytest.raises(InvalidStatus) as caught:
        await house.connect(**options)
    return caught.value.response.status_code, caught.value.response.headers


async def messages(client: ClientConnection) -> tuple[list[Any], int]:
    """Read to the end; return what was said, and the code of the Close, 0 if there was none."""
    said = []
    try:
        async with asyncio.timeout(10):
            while True:
                said.append(json.loads(await client.recv()))
    except ConnectionClosed as closed:
        return said, closed.rcvd.code if closed.rcvd else 0


def lines(logs: list[Any], event: str) -> list[Mapping[str, Any]]:
    """Return the log lines of that event."""
    return [line for line in logs if line["event"] == event]


async def test_last_word() -> None:
    """One line tells the whole story of a connection."""
    async with serving() as house:
        with capture_logs() as logs:
            client = await house.enter("alice")
            await house.bring(batch(entry(1), entry(2)))
            await client.close()
            await until(lambda: not house.server.clients)
        [line] = lines(logs, "connection.closed")
        assert 0 < line.pop("seconds") < 10  # type: ignore[attr-defined]
        story = {"code": 1000, "reason": "closed by the client", "events": 2, "user": "alice"}
        assert line == {"event": "connection.closed", "log_level": "info"} | story | {
            "address": "127.0.0.1",
            "connection": 1,
        }
        [line] = lines(logs, "connection.opened")
        assert (line["log_level"], line["connection"]) == ("debug", 1)


async def test_farewells() -> None:
    """How a user's latest connection ended is remembered."""
    async with serving() as house:
        client = await house.enter("alice")
        assert house.server.farewells.latest("alice") is None
        await client.close()
        await until(lambda: not house.server.clients)
        farewell = house.server.farewells.latest("alice")
        assert farewell is not None
        assert farewell[:2] == (1000, "closed by the client")


async def test_connections_have_numbers() -> None:
    """The log tells connections apart, also those that one user has from one address."""
    async with serving() as house:
        with capture_logs() as logs:
            for _ in range(2):
                client = await house.enter("alice")
                await client.close()
            await until(lambda: not house.server.clients)
        assert [line["connection"] for line in lines(logs, "connection.closed")] == [1, 2]


async def test_counts() -> None:
    """Connections are counted when they open, and by their code when they close."""
    async with serving() as house:
        for _ in range(3):
            await (await house.enter("alice")).close()
        await (await house.enter("alice")).close(1001)
        await until(lambda: not house.server.clients)
        assert house.server.stats.opened == 4
        assert house.server.stats.closed == {1000: 3, 1001: 1}


async def test_phases() -> None:
    """Clients are counted by how far their conversation has come."""

    async def authenticate(hello: Hello, address: str | None) -> Login:
        if hello.token == "slow":
            await asyncio.Event().wait()
        return await let_in(hello, address)

    async with serving(authenticate) as house:
        assert house.server.phases() == {phase.value: 0 for phase in Phase}
        await house.bring(Positioned("e", "1-0", None))
        await house.raw()
        await house.connect()
        await house.enter("alice")
        await house.enter("bob")
        house.feeder.put(await house.client("bob"), "bob", None, (1, 0))
        await (await house.raw()).handshake("slow")
        await (await house.raw()).handshake("{}")
        await until(lambda: set(house.server.phases().values()) == {1})


async def test_messages_of_a_client() -> None:
    """What means nothing is counted, an acknowledgement isn't, and neither does anything else."""
    async with serving() as house:
        client = await house.enter("alice")
        await client.send('{"notifyd": "ack", "id": "1-0"}')
        for message in ("Xyzzy", b"Xyzzy", '{"notifyd": "Xyzzy"}'):
            await client.send(message)
        await until(lambda: house.server.stats.ignored == 3)
        await house.bring(batch(entry(1)))
        assert json.loads(await client.recv())["id"] == "1-0"


async def test_too_many_messages() -> None:
    """A client that says more than it may is closed with 4429."""
    async with serving(messages_per_second=10) as house:
        client = await house.enter("alice")
        for _ in range(30):
            await client.send("Xyzzy")
        assert await messages(client) == ([], 4429)


async def test_plain_request() -> None:
    """A plain GET is told that there is a WebSocket here."""
    async with serving() as house:
        raw = await house.raw()
        with capture_logs() as logs:
            await raw.send(GET)
            head = await raw.head()
            while await raw.receive():
                pass
        assert head.startswith("HTTP/1.1 426 ")
        assert "Upgrade: websocket\r\n" in head
        [line] = lines(logs, "connection.refused")
        assert (line["reason"], line["address"]) == ("not_websocket", "127.0.0.1")
        assert (line["origin"], line["hint"]) == (None, None)
        assert house.server.stats.refused == {"not_websocket": 1}
        assert house.server.stats.opened == 0


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\r\n\r\n", b"x" * 20_000])
async def test_malformed_request(nonsense: bytes) -> None:
    """What is no request is refused, and said so once."""
    async with serving(farewell=0.1) as house:
        raw = await house.raw()
        with capture_logs() as logs:
            await raw.send(nonsense)
            await until(lambda: house.server.stats.refused == {"malformed": 1})
            await until(lambda: not house.server.clients)
        assert [line["event"] for line in logs] == ["connection.refused"]


async def test_foreign_origin() -> None:
    """Pages of other sites are refused, and the log shows the line that would admit them."""
    async with serving(origins=[None, Origin("https://a.example")]) as house:
        with capture_logs() as logs:
            status, _ = await refusal(house, origin=Origin("https://b.example"))
        assert status == 403
        [line] = lines(logs, "connection.refused")
        assert (line["reason"], line["origin"]) == ("origin", "https://b.example")
        assert line["hint"] == 'add to [server]: origins = ["https://b.example"]'
        assert house.server.stats.refused == {"origin": 1}


async def test_allowed_origin() -> None:
    """Pages of the configured sites are let in, and who sends no Origin is no page."""
    async with serving(origins=[None, re.compile(r"https://\w+\.example")]) as house:
        await house.enter("alice", origin=Origin("https://a.example"))
        await house.enter("bob")
        assert house.server.stats.refused == {}


async def test_full() -> None:
    """Beyond the most connections there may be, others are asked to come back later."""
    async with serving(max_connections=2) as house:
        first = await house.enter("alice")
        await house.enter("bob")
        with capture_logs() as logs:
            status, headers = await refusal(house)
        assert (status, headers["Retry-After"]) == (503, "10")
        assert lines(logs, "connection.refused")[0]["reason"] == "full"
        await first.close()
        await until(lambda: len(house.server.clients) == 1)
        await house.enter("carol")


async def test_refused_while_draining() -> None:
    """While the server drains, who comes is asked to come back later."""
    async with serving() as house:
        mute = await house.raw()
        await mute.handshake("alice")
        await house.client("alice")
        draining = asyncio.create_task(house.server.drain(0, 5))
        await mute.close_code()
        with capture_logs() as logs:
            status, headers = await refusal(house)
        assert (status, headers["Retry-After"]) == (503, "10")
        assert lines(logs, "connection.refused")[0]["reason"] == "draining"
        mute.reset()
        await draining


async def test_request_in_pieces() -> None:
    """The handshake may come a byte at a time, and the first message right behind it."""
    async with serving() as house:
        raw = await house.raw()
        for byte in REQUEST + b"\r\n" + text("alice"):
            await raw.send(bytes([byte]))
        await house.client("alice")


async def test_everything_at_once() -> None:
    """The handshake and the first message may come in one packet."""
    async with serving() as house:
        raw = await house.raw()
        await raw.send(REQUEST + b"\r\n" + text('{"token": "alice"}'))
        assert (await raw.head()).startswith("HTTP/1.1 101 ")
        frame = await raw.frame()
        assert frame is not None
        assert b"welcome" in frame.data


async def test_resync() -> None:
    """Who knows control frames is told that events may be missing, the others are not."""
    async with serving() as house:
        bare, hello = await house.enter("bare"), await house.enter('{"token": "hello"}')
        await house.bring(Positioned("e", "5-0", "a gap"), batch(entry(6)))
        assert json.loads(await hello.recv())["notifyd"] == "welcome"
        resync = {"notifyd": "resync", "reason": "a gap", "epoch": "e", "last_id": "5-0"}
        assert json.loads(await hello.recv()) == resync
        assert json.loads(await bare.recv())["id"] == json.loads(await hello.recv())["id"] == "6-0"


async def test_leaving_while_behind() -> None:
    """Who is lost while it is behind is forgotten there, too."""
    async with serving() as house:
        await house.bring(Positioned("e", "1-0", None))
        client = await house.enter("alice")
        house.feeder.put(await house.client("alice"), "alice", None, (1, 0))
        await client.close()
        await until(lambda: not house.server.clients)
        assert (len(house.feeder), len(house.hub)) == (0, 0)


async def test_drain() -> None:
    """Who knows control frames is told when to come back, then all are closed with 1012."""
    async with serving() as house:
        hellos = [await house.enter(f'{{"token": "{n}"}}') for n in range(10)]
        bare = await house.enter("bare")
        for hello in hellos:
            assert json.loads(await hello.recv())["notifyd"] == "welcome"
        await house.server.drain(3, 5)
        assert house.server.clients == set()
        times = []
        for hello in hellos:
            [closing], code = await messages(hello)
            assert (closing.pop("notifyd"), [*closing], code) == ("closing", ["retry_in"], 1012)
            times.append(closing["retry_in"])
        assert await messages(bare) == ([], 1012)
        assert 0 <= min(times) < max(times) <= 3


async def test_drain_of_the_mute() -> None:
    """Who doesn't answer in time is dropped."""
    async with serving() as house:
        raws = [await house.raw() for _ in range(3)]
        await raws[0].handshake('{"token": "alice"}')
        await raws[1].handshake()
        await until(lambda: len(house.server.clients) == 3)
        began = time.monotonic()
        await house.server.drain(0, 0.2)
        assert 0.2 <= time.monotonic() - began < 2
        assert house.server.clients == set()
        assert [await raw.close_code() for raw in raws] == [1012, 1012, None]


async def test_drain_of_the_slow() -> None:
    """Who is owed much is told, too, where the patience suffices to read it."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        await house.client("alice")
        await house.bring(batch(*entries(1, 10, 60_000)))
        draining = asyncio.create_task(house.server.drain(0, 10))
        assert await raw.close_code() == 1012
        raw.socket.close()
        await draining


async def test_drain_of_those_just_accepted() -> None:
    """Nobody is left behind whose connection was accepted in the last moment."""
    async with serving() as house:
        raw = await house.raw()
        house.listener._accept()
        assert house.server.clients == set()
        await house.server.drain(0, 5)
        assert await raw.receive() == b""


async def test_drain_of_nobody() -> None:
    """Without clients there is nothing to wait for."""
    async with serving() as house:
        began = time.monotonic()
        await house.server.drain(5, 5)
        assert time.monotonic() - began < 1


async def test_reset_before_anything() -> None:
    """Clients that cut the connection as soon as it is made harm nobody."""
    async with serving() as house:
        for _ in range(50):
            (await house.raw()).reset()
        await house.enter("alice")
        await until(lambda: len(house.server.clients) == 1)


async def storm(house: Serving) -> None:
    """Let many clients come and go in many ways while events are relayed."""
    since = '{"token": "since", "since": "5-0"}'
    messages = [None, "1", "2", "bare", '{"token": "hello"}', "{}", "\0" * 5000, since]
    await house.bring(Positioned("e", "1-0", None))

    async def come_and_go(number: int) -> None:
        first = messages[number % 8]
        raw = await house.raw(receive_buffer=4096)
        await raw.send(GET if first is None else REQUEST + b"\r\n" + text(first))
        if number % 3:
            await raw.head()
            if first is not None and number % 5 < 2:
                await raw.frame()
        raw.reset() if number % 2 else raw.socket.close()

    going = [asyncio.create_task(come_and_go(number)) for number in range(240)]
    n = 0
    while not all(task.done() for task in going):
        n += 1
        await house.bring(batch(entry(2 * n), *entries(2 * n + 1, 2 * n + 1, 60_000)))
        await asyncio.sleep(0)
    await asyncio.gather(*going)
    await until(lambda: not house.server.clients)
    assert (len(house.hub), house.hub.audiences, len(house.feeder)) == (0, 0, 0)
    assert sum(house.server.stats.closed.values()) == house.server.stats.opened


async def test_storm() -> None:
    """However clients come and go, nothing of them stays, and all that is logged is documented."""

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await asyncio.sleep(0)
        if hello.token == "1":
            raise Refused(Result.EXPIRED)
        if hello.token == "2":
            raise ValueError
        return await let_in(hello, address)

    with capture_logs() as logs:
        async with serving(
            authenticate, send_buffer=4096, buffer=50_000, history=500_000, farewell=0.1
        ) as house:
            await storm(house)
    assert {line["event"] for line in logs} >= {"auth.failed", "auth.error", "connection.refused"}
    for line in logs:
        documented = EVENTS[line["event"]]
        assert line["log_level"] == documented.level
        assert {*line} == {"event", "log_level", *documented.fields}
