from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import select
import socket
from typing import TYPE_CHECKING

import pytest
from neighbours import batch, entries, entry, let_in
from raws import REQUEST, text
from serving import Serving, alive, serving
from structlog.testing import capture_logs
from waiting import until
from websockets.frames import Close, Frame, Opcode

from notifyd.core.batch import Positioned
from notifyd.core.login import Login, Refused, Result
from notifyd.core.protocol import CloseCode, text_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from raws import Raw

    from notifyd.core.protocol import Hello
    from notifyd.daemon.client import Client

CLOSE = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)
PING = Frame(Opcode.PING, b"Xyzzy").serialize(mask=True)


def fill(client: Client) -> int:
    """Fill the kernel's buffer behind the client's back; return how many bytes it took."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += client._socket.send(b"x")
    return taken


async def test_direct_write() -> None:
    """What is written goes straight to the socket: it is there before the loop has turned."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        client.write(text_frame(b"Xyzzy"))
        # The loop stands still meanwhile.
        raw.socket.settimeout(5)
        assert raw.socket.recv(100) == text_frame(b"Xyzzy")
        assert client.owed == 0


async def test_kernel_takes_nothing() -> None:
    """A write that finds the kernel's buffer full arrives later, whole."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        client = await house.client("alice")
        fill(client)
        client.write(b"Xyzzy")
        assert client.owed == 5
        data = b""
        while not data.endswith(b"Xyzzy"):
            data = data[-10:] + await raw.receive()
        await until(lambda: client.owed == 0)


async def test_partial_writes() -> None:
    """However little the kernel takes at once, every byte arrives, and in order."""
    async with serving(send_buffer=4096, bare_buffer=10_000_000) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        client = await house.client("alice")
        await house.bring(*(batch(*entries(n, n + 63, 1000)) for n in range(0, 1024, 64)))
        assert client.owed > 900_000
        assert await raw.ids(1024, most=5000) == [f"{n}-0" for n in range(1024)]
        await until(lambda: client.owed == 0)


async def test_direct_again() -> None:
    """Once the transport owes nothing any more, writes are direct again, and still in order."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        client = await house.client("alice")
        for first in range(0, 400, 100):
            await house.bring(batch(*entries(first, first + 98, 1000)))
            assert client.owed > 0
            assert await raw.ids(99) == [f"{first + n}-0" for n in range(99)]
            await until(lambda: client.owed == 0)
            await house.bring(batch(*entries(first + 99, first + 99, 10)))
            assert client.owed == 0
            assert await raw.ids(1) == [f"{first + 99}-0"]


async def test_reading_while_it_is_written() -> None:
    """A client that reads all the time gets everything in order, whichever way it was written."""
    async with serving(send_buffer=4096, bare_buffer=10_000_000) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        client = await house.client("alice")
        reading = asyncio.create_task(raw.ids(1000))
        for n in range(1000):
            await house.bring(batch(*entries(n, n, 50 + n * 37 % 5000)))
            await asyncio.sleep(0)
        assert await reading == [f"{n}-0" for n in range(1000)]
        assert client.events == 1000


async def test_nothing_overtakes(folder: Path) -> None:
    """While the transport holds back an answer, an event doesn't overtake it."""
    async with serving(unix=f"{folder}/s", send_buffer=4096) as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        filler = fill(client)
        await raw.send(PING)
        await until(lambda: client.owed)
        # The kernel has room again before the loop turns.
        while filler:
            filler -= len(raw.socket.recv(filler))
        client.write(text_frame(b"event"))
        assert client.owed == 14
        data = b""
        while len(data) < 14:
            data += await raw.receive()
        assert data == Frame(Opcode.PONG, b"Xyzzy").serialize(mask=False) + text_frame(b"event")


async def test_write_that_goes_out_after_all() -> None:
    """Where the transport could write everything at once, the next write is direct again."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        client.pause_writing()
        client.write(b"1")
        assert client._send is not None
        client.write(b"2")
        assert [await raw.receive(1), await raw.receive(1)] == [b"1", b"2"]


async def test_taken() -> None:
    """While it owes something, what the peer takes is counted, whatever is written meanwhile."""
    async with serving(send_buffer=4096) as house:
        raw, client = await house.mute(bare=True)
        await house.bring(batch(*entries(1, 10, 10_000)))
        before = client.taken
        await house.bring(batch(*entries(11, 14, 10_000)))
        # The kernels have some of it, but nobody reads.
        assert client.taken < before + 15_000
        assert await raw.ids(5) == ["1-0", "2-0", "3-0", "4-0", "5-0"]
        await until(lambda: client.taken > before + 30_000)
        assert client.taken < before + 70_000


async def test_answers_are_not_taken() -> None:
    """What waits to be written is not taken, answers to the client's own pings included."""
    async with serving(send_buffer=4096, messages_per_second=1000) as house:
        raw, client = await house.mute(bare=True)
        await house.bring(batch(*entries(1, 10, 10_000)))
        before, owed = client.taken, client.owed
        await raw.send(Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 200)
        await until(lambda: client.owed > owed + 20_000)
        assert client.taken >= before


async def test_taken_of_the_lost() -> None:
    """Of a connection that is gone there is nothing to be asked, and no error."""
    async with serving() as house:
        raw, client = await house.mute(bare=True)
        raw.reset()
        await until(lambda: client._socket.fileno() == -1)
        assert client.taken >= client.owed == 0


async def test_phases_of_the_behind() -> None:
    """A client is behind or live as it is told, and neither when it is closing."""
    async with serving() as house:
        _, client = await house.mute(bare=True)
        client.fell_behind()
        assert house.server.phases()["behind"] == 1
        client.caught_up()
        assert house.server.phases()["live"] == 1
        client.close(CloseCode.RESTART)
        client.fell_behind()
        client.caught_up()
        assert house.server.phases()["closing"] == 1


async def test_unix_socket(folder: Path) -> None:
    """Clients on a Unix socket are served alike."""
    async with serving(unix=f"{folder}/s") as house:
        client = await house.enter()
        await house.bring(batch(*entries(1, 1, 10)))
        assert json.loads(await client.recv())["id"] == "1-0"


async def test_pings_are_answered() -> None:
    """A client's ping is answered (RFC 6455 section 5.5.3)."""
    async with serving() as house:
        client = await house.enter()
        async with asyncio.timeout(5):
            await (await client.ping())


async def test_error_of_a_write() -> None:
    """A write to a connection that was reset ends it, and raises nothing."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        with capture_logs() as logs:
            raw.reset()
            # The kernel knows before the loop does.
            select.select([client._socket], [], [], 5)
            client.write(text_frame(b"Xyzzy"), 1)
            await until(lambda: not house.server.clients)
        assert (logs[0]["code"], logs[0]["reason"]) == (1006, "Connection reset by peer")
        assert (logs[0]["events"], client.owed) == (0, 0)


async def test_reset() -> None:
    """A client that resets the connection is lost, with the kernel's word for it."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        await house.client("alice")
        with capture_logs() as logs:
            raw.reset()
            await until(lambda: not house.server.clients)
        assert (logs[0]["code"], logs[0]["reason"]) == (1006, "Connection reset by peer")


async def test_reset_while_it_owes() -> None:
    """A client that resets the connection while bytes wait for it is lost alike."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        await house.client("alice")
        await house.bring(batch(*entries(1, 50, 1000)))
        raw.reset()
        await house.bring(batch(*entries(51, 100, 1000)))
        await until(lambda: not house.server.clients)
        assert len(house.hub) == 0


async def test_half_close() -> None:
    """A client that ends its stream without a Close is let go, after what it is still owed."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        await house.client("alice")
        await house.bring(batch(*entries(1, 50, 1000)))
        raw.socket.shutdown(socket.SHUT_WR)
        await until(lambda: len(house.hub) == 0)
        await house.bring(batch(*entries(51, 51, 1000)))
        assert await raw.ids(50) == [f"{n}-0" for n in range(1, 51)]
        assert await raw.frame() is None
        await until(lambda: house.server.stats.closed[1006] == 1)


async def test_close_by_the_client() -> None:
    """A client's Close is answered with its code, and from then on nothing else is written."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        await raw.send(CLOSE)
        await until(lambda: not client.writable)
        client.write(text_frame(b"Xyzzy"), 1)
        await house.bring(batch(*entries(1, 1, 10)))
        assert await raw.close_code() == 1000
        assert client.events == 0


async def test_close_is_read_by_a_writing_peer() -> None:
    """A peer that goes on writing after our Close gets to read it all the same."""
    async with serving(farewell=0.1) as house:
        raw = await house.raw()
        await raw.handshake()
        await raw.send(Frame(Opcode.BINARY, b"\0").serialize(mask=True) + text("more") * 50)
        await raw.send(text("Xyzzy"))
        assert await raw.close_code() == 4400
        await until(lambda: not house.server.clients)


async def test_nothing_after_half_a_frame() -> None:
    """A Close queues behind what the client is owed: it never cuts into a frame."""
    async with serving(send_buffer=4096) as house:
        raw = await house.raw(receive_buffer=4096)
        await raw.handshake("alice")
        client = await house.client("alice")
        await house.bring(batch(*entries(0, 49, 1000)))
        assert client.owed > 0
        client.close(CloseCode.RESTART)
        await house.bring(batch(*entries(50, 99, 1000)))
        assert await raw.ids(50) == [f"{n}-0" for n in range(50)]
        assert await raw.close_code() == 1012
        await until(lambda: client.owed == 0)
        client.write(text_frame(b"Xyzzy"))
        await raw.send(CLOSE)
        assert await raw.receive() == b""


async def test_closing_twice() -> None:
    """Who is closed again while closing is dropped; the code and the reason are the first."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        with capture_logs() as logs:
            client.close(CloseCode.TRY_LATER, "the first")
            client.close(CloseCode.RESTART, "the second")
            await until(lambda: not house.server.clients)
        assert (logs[0]["code"], logs[0]["reason"]) == (1013, "the first")


async def test_closing_who_is_gone() -> None:
    """Closing who was dropped already does nothing, and counts for nothing."""
    async with serving() as house:
        raw = await house.raw()
        await raw.handshake("alice")
        client = await house.client("alice")
        client.abort()
        client.close(CloseCode.RESTART)
        await until(lambda: not house.server.clients)
        client.close(CloseCode.RESTART)
        assert house.server.stats.closed == {1006: 1}


async def test_recycled_descriptor() -> None:
    """Nothing is written to who has left, even if the descriptor is somebody else's by now."""
    async with serving() as house:
        old = await house.raw()
        await old.handshake("old")
        gone = await house.client("old")
        sock, number = gone._socket, gone._socket.fileno()
        await house.bring(batch(entry(1)))
        # The kernel gives out the lowest number that is free: the clients' own shan't have it.
        socks = [socket.socket() for _ in range(5)]
        gone.abort()
        gone.write(text_frame(b"to the dead"), 1)
        await until(lambda: sock.fileno() == -1)
        young = [await house.raw(sock=sock) for sock in socks]
        for n, raw in enumerate(young):
            await raw.handshake(f"young{n}")
        clients = [await house.client(f"young{n}") for n in range(5)]
        assert number in [client._socket.fileno() for client in clients]
        gone.write(text_frame(b"to the dead"), 1)
        gone.resume_writing()
        gone.write(text_frame(b"to the dead"), 1)
        await house.bring(batch(entry(2)))
        assert [await raw.ids(1) for raw in young] == [["2-0"]] * 5
        assert {client.owed for client in clients} == {0}
        assert gone.events == 1


async def ends_with_close(house: Serving, raw: Raw) -> None:
    """End with the closing handshake, begun by the client."""
    await raw.handshake("alice")
    await house.client("alice")
    await raw.send(PING + CLOSE)
    assert await raw.close_code() == 1000


async def ends_with_our_close(house: Serving, raw: Raw) -> None:
    """End with the closing handshake, begun by the server."""
    await raw.handshake("alice")
    (await house.client("alice")).close(CloseCode.TRY_LATER)
    await raw.send(CLOSE)
    assert await raw.close_code() == 1013


async def ends_unanswered(house: Serving, raw: Raw) -> None:
    """End by the deadline, our Close being unanswered."""
    await raw.handshake("alice")
    (await house.client("alice")).close(CloseCode.TRY_LATER)
    assert await raw.close_code() == 1013


async def ends_with_reset(house: Serving, raw: Raw) -> None:
    """End with a RST."""
    await raw.handshake("alice")
    await house.client("alice")
    raw.reset()


async def ends_with_reset_while_it_owes(house: Serving, raw: Raw) -> None:
    """End with a RST while bytes wait to be written."""
    await raw.handshake("alice")
    await house.client("alice")
    await house.bring(batch(*entries(1, 400, 1000)))
    raw.reset()


async def ends_with_eof(house: Serving, raw: Raw) -> None:
    """End with the end of the client's stream."""
    await raw.handshake("alice")
    await house.client("alice")
    raw.socket.close()


async def ends_with_failed_write(house: Serving, raw: Raw) -> None:
    """End with an error of our write."""
    await raw.handshake("alice")
    client = await house.client("alice")
    raw.reset()
    client.write(text_frame(b"Xyzzy"))


async def ends_too_slow(house: Serving, raw: Raw) -> None:
    """End with more bytes owed than allowed."""
    await raw.handshake("alice")
    await house.client("alice")
    await house.bring(batch(*entries(1, 3000, 1000)))


async def ends_behind(house: Serving, raw: Raw) -> None:
    """End with a RST while it is behind and owes something."""
    await house.bring(Positioned("e", "0-0", None))
    await raw.handshake('{"token": "alice"}')
    await house.client("alice")
    for number in range(1, 11):
        await house.bring(batch(*entries(number, number, 60_000)))
    assert len(house.feeder) == 1
    raw.reset()


async def ends_suspended(house: Serving, raw: Raw) -> None:
    """End with the closing handshake while it has no audience."""
    await house.bring(Positioned("e", "0-0", None))
    await raw.handshake('{"token": "alice"}')
    house.feeder.put(await house.client("alice"), "alice", None, (0, 0))
    await raw.send(CLOSE)
    assert await raw.close_code() == 1000


async def ends_ahead(house: Serving, raw: Raw) -> None:
    """End with the end of the client's stream while it is ahead."""
    await house.bring(Positioned("e", "1-0", None))
    house.shelf.add(entry(1), entry(9))
    await raw.handshake('{"token": "alice", "since": "9-0"}')
    await house.client("alice")
    raw.socket.close()


async def ends_located(house: Serving, raw: Raw) -> None:
    """End with a RST while it is asked whether the history reaches back."""
    await house.bring(Positioned("e", "5-0", None))
    house.shelf.away = True
    await raw.handshake('{"token": "alice", "since": "1-0"}')
    await until(lambda: house.shelf.asked)
    raw.reset()
    await until(lambda: not house.server.clients)
    house.shelf.away = False


async def ends_silent(_house: Serving, raw: Raw) -> None:
    """End with the time for the handshake."""
    await raw.send(REQUEST)


async def ends_without_hello(_house: Serving, raw: Raw) -> None:
    """End with the time for the first message."""
    await raw.handshake()
    assert await raw.close_code() == 4408


async def ends_refused(_house: Serving, raw: Raw) -> None:
    """End with a refused token."""
    await raw.handshake("refused")
    assert await raw.close_code() == 4401


async def ends_failed(_house: Serving, raw: Raw) -> None:
    """End with an authentication that breaks."""
    await raw.handshake("broken")
    assert await raw.close_code() == 1011


async def ends_not_upgraded(_house: Serving, raw: Raw) -> None:
    """End with a request that is no handshake."""
    await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.head()).startswith("HTTP/1.1 426 ")


async def ends_with_foreign_origin(_house: Serving, raw: Raw) -> None:
    """End with an origin that isn't allowed."""
    await raw.send(REQUEST + b"Origin: https://foreign.example\r\n\r\n")
    assert (await raw.head()).startswith("HTTP/1.1 403 ")


async def ends_with_nonsense(_house: Serving, raw: Raw) -> None:
    """End with bytes that aren't HTTP."""
    await raw.send(b"\x16\x03\x01\r\n\r\n")
    assert await raw.receive() == b""


async def ends_with_bad_frame(_house: Serving, raw: Raw) -> None:
    """End with bytes that aren't a frame."""
    await raw.handshake()
    await raw.send(b"\xff" * 20)
    assert await raw.close_code() == 1002


async def ends_with_bad_hello(_house: Serving, raw: Raw) -> None:
    """End with a first message that is no hello."""
    await raw.handshake('{"token": 1}')
    assert await raw.close_code() == 4400


async def ends_while_authenticating(house: Serving, raw: Raw) -> None:
    """End with a RST while the authentication is under way."""
    await raw.handshake("slow")
    await until(lambda: house.server.phases()["authenticating"])
    raw.reset()


async def let_some_in(hello: Hello, address: str | None) -> Login:
    """Refuse some tokens, break on others, and take time for the third kind."""
    match hello.token:
        case "refused":
            raise Refused(Result.INVALID)
        case "broken":
            raise RuntimeError("Xyzzy")
        case "slow":
            await asyncio.sleep(0.3)
    return await let_in(hello, address)


async def test_forgotten_at_once() -> None:
    """Who is gone isn't waited for any more: nothing keeps its client in memory."""
    async with serving(farewell=60) as house:
        raw = await house.raw()
        await raw.handshake("alice")
        await house.client("alice")
        raw.reset()
        await until(lambda: not house.server.clients and not alive(house.server))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the collector off, so that only reference counts free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "end",
    [
        ends_with_close,
        ends_with_our_close,
        ends_unanswered,
        ends_with_reset,
        ends_with_reset_while_it_owes,
        ends_with_eof,
        ends_with_failed_write,
        ends_too_slow,
        ends_behind,
        ends_suspended,
        ends_ahead,
        ends_located,
        ends_silent,
        ends_without_hello,
        ends_refused,
        ends_failed,
        ends_not_upgraded,
        ends_with_foreign_origin,
        ends_with_nonsense,
        ends_with_bad_frame,
        ends_with_bad_hello,
        ends_while_authenticating,
    ],
)
async def test_released(end: Callable[[Serving, Raw], Awaitable[None]]) -> None:
    """However a connection ends, its client is gone from memory without the collector."""
    handshake = 0.2 if end is ends_silent else 10
    hello = 0.2 if end is ends_without_hello else 10
    async with serving(
        let_some_in, handshake=handshake, hello=hello, farewell=0.2, send_buffer=4096
    ) as house:
        await end(house, await house.raw(receive_buffer=4096))
        await until(lambda: not house.server.clients and not alive(house.server))
        assert (len(house.hub), len(house.feeder)) == (0, 0)
