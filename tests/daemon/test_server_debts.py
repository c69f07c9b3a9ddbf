from __future__ import annotations

import asyncio
import functools
import json
import select
import time
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import AUDIENCE, batch, control, entries, entry
from serving import DAY, Serving, serving
from structlog.testing import capture_logs
from waiting import until

from notifyd.core.batch import Positioned
from notifyd.core.history import BLOCK_BYTES

if TYPE_CHECKING:
    from raws import Raw

    from notifyd.core.controls import Order
    from notifyd.core.positions import Position
    from notifyd.daemon.client import Client

BUFFER = 262_144

# Nearly nothing is in the kernel: what a client doesn't read is owed.
debtors = functools.partial(serving, send_buffer=4096)


def ids(first: int, last: int) -> list[str]:
    """Return the ids from one number to the other."""
    return [f"{n}-0" for n in range(first, last + 1)]


def lines(logs: list[Any], event: str) -> list[dict[str, Any]]:
    """Return the log lines of that event."""
    return [{**line} for line in logs if line["event"] == event]


async def begin(house: Serving) -> None:
    """Have the position known."""
    await house.bring(Positioned("e", "1-0", None))


async def flood(house: Serving, first: int, last: int, size: int = 30_000) -> None:
    """Relay large events, each in a batch of its own."""
    for number in range(first, last + 1):
        await house.bring(batch(*entries(number, number, size)))


async def behind(house: Serving) -> tuple[Raw, Client]:
    """Return a client that owes so much that it is behind: 600 KB, entries 2 to 21."""
    await begin(house)
    raw, client = await house.mute()
    await flood(house, 2, 21)
    assert house.feeder.position(client) is not None
    return raw, client


async def test_falling_behind() -> None:
    """A client that owes more than a buffer is behind from then on, which is logged and counted."""
    async with debtors() as house:
        with capture_logs() as logs:
            _, client = await behind(house)
        assert house.server.phases()["behind"] == len(house.feeder) == house.debts.behind == 1
        [line] = lines(logs, "client.behind")
        assert BUFFER < line.pop("owed") < BUFFER + 31_000
        assert line == {"event": "client.behind", "log_level": "info", "user": "alice"} | {
            "address": "127.0.0.1",
            "connection": 1,
        }
        assert BUFFER < client.owed < BUFFER + 31_000


async def test_catching_up() -> None:
    """When it reads again it gets everything once and in order, and is live at the end."""
    async with debtors() as house:
        raw, client = await behind(house)
        assert await raw.ids(20) == ids(2, 21)
        await until(lambda: house.server.phases()["live"] == 1)
        await house.bring(batch(*entries(22, 23)))
        assert await raw.ids(2) == ids(22, 23)
        assert (client.events, house.debts.slow, len(house.feeder)) == (22, 0, 0)


async def test_owing_a_buffer() -> None:
    """A client that owes no more than a buffer is live."""
    async with debtors() as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 9)
        assert 200_000 < client.owed < BUFFER
        assert (house.server.phases()["live"], house.debts.behind) == (1, 0)
        assert await raw.ids(8) == ids(2, 9)


async def test_owing_no_more_than_that() -> None:
    """However much is relayed, a client that is behind owes a chunk and a batch at most."""
    async with debtors() as house:
        raw, client = await behind(house)
        most = []
        for number in range(22, 80, 2):
            await flood(house, number, number + 1)
            assert await raw.ids(1) == [f"{number // 2 - 9}-0"]
            most.append(client.owed)
        assert max(most) < BUFFER + 62_000
        assert most[-1] < BLOCK_BYTES + 62_000


@pytest.mark.parametrize("size", [10, 1000, 60_000])
async def test_reading_by_fits_and_starts(size: int) -> None:
    """However it reads, and whatever flows meanwhile, nothing is lost, doubled or out of order."""
    async with debtors(buffer=20_000) as house:
        await begin(house)
        raw, client = await house.mute()
        read: list[str] = []
        last = 1
        for turn in range(60):
            count = min(200_000 // size, 400)
            await house.bring(batch(*entries(last + 1, last + count, size)))
            last += count
            for _ in range([0, 1, count, 2 * count][turn % 4]):
                if len(read) < last - 1:
                    read += await raw.ids(1)
        read += await raw.ids(last - 1 - len(read))
        assert read == ids(2, last)
        assert (client.events, house.debts.slow) == (last - 1, 0)
        assert house.debts.behind > 0


async def test_behind_again() -> None:
    """A client falls behind as often as it owes too much."""
    async with debtors() as house:
        raw, client = await behind(house)
        assert await raw.ids(20) == ids(2, 21)
        await until(lambda: client.owed == 0)
        await flood(house, 22, 41)
        assert house.debts.behind == 2
        assert await raw.ids(20) == ids(22, 41)


async def test_slow_client_delays_nobody() -> None:
    """While one client doesn't read, the others get their events at once."""
    async with debtors() as house:
        _, slow = await behind(house)
        quick = await house.enter("quick")
        for n in range(22, 72):
            began = time.perf_counter()
            await flood(house, n, n)
            assert json.loads(await quick.recv())["id"] == f"{n}-0"
            assert time.perf_counter() - began < 3
        assert slow.owed < BUFFER + 31_000


@pytest.mark.parametrize("message", ["alice", '{"token": "alice"}'])
@pytest.mark.parametrize("size", [100, 10_000, 60_000])
async def test_burst(message: str, size: int) -> None:
    """A burst of a million bytes harms no client that reads."""
    async with serving() as house:
        await begin(house)
        client = await house.enter(message)
        last = 1 + 1_000_000 // size
        await house.bring(*(batch(each) for each in entries(2, last, size)))
        said = [json.loads(await client.recv()) for _ in range(last - 1 + message.count("{"))]
        assert [each["id"] for each in said if "id" in each] == ids(2, last)
        assert house.debts.slow == 0


async def test_bare_client() -> None:
    """A client that can't be told that it has missed something may owe more, and is then closed."""
    async with debtors() as house:
        await begin(house)
        raw, client = await house.mute(bare=True)
        with capture_logs() as logs:
            await flood(house, 2, 34)
            assert (client.owed > 900_000, logs) == (True, [])
            await flood(house, 35, 50)
        [line] = logs
        assert 1_048_576 < line.pop("owed") < 1_048_576 + 31_000
        assert line.pop("detail") == "it owes more than it may"
        assert line == {"event": "client.slow", "log_level": "warning", "user": "alice"} | {
            "address": "127.0.0.1",
            "connection": 1,
        }
        assert (house.debts.slow, house.debts.behind, len(house.hub)) == (1, 0, 0)
        received = await raw.ids(30)
        assert received == ids(2, 31)
        assert await raw.close_code() == 4420


async def test_before_the_position_is_known() -> None:
    """While there is no position to be behind at, everybody is served like a bare client."""
    async with debtors(bare_buffer=400_000) as house:
        raw, client = await house.mute()
        client.write(bytes(399_000))
        assert house.server.phases()["live"] == 1
        client.write(bytes(400_000))
        assert (house.debts.slow, house.server.phases()["closing"]) == (1, 1)
        raw.reset()


async def test_close_that_is_never_read() -> None:
    """A client that doesn't even read its Close is dropped."""
    async with debtors(bare_buffer=200_000, farewell=0.1) as house:
        await house.mute(bare=True)
        with capture_logs() as logs:
            await flood(house, 2, 12)
            await until(lambda: not house.server.clients)
        [line] = lines(logs, "connection.closed")
        assert (line["code"], line["reason"]) == (4420, "it owes more than it may")


async def test_no_progress() -> None:
    """A client that is behind and takes nothing for its time is closed with 4420."""
    async with debtors(progress=20, farewell=60) as house:
        with capture_logs() as logs:
            raw, _ = await behind(house)
            house.server.tick(asyncio.get_running_loop().time() + 21)
            # What the kernels took of it in the beginning was progress, perhaps.
            house.server.tick(asyncio.get_running_loop().time() + 42)
        [line] = lines(logs, "client.slow")
        assert (line["detail"], line["user"]) == ("it takes nothing any more", "alice")
        assert house.debts.slow == 1
        assert await raw.close_code() == 4420


async def test_little_progress() -> None:
    """A client that takes something within each such time is never closed, however slow it is."""
    async with debtors(progress=20, farewell=60) as house:
        raw, client = await behind(house)
        now = asyncio.get_running_loop().time()
        read: list[str] = []
        while len(read) < 20:
            read += await raw.ids(1)
            await until(lambda: client.owed or not len(house.feeder))
            now += 21
            house.server.tick(now)
        assert (read, house.debts.slow) == (ids(2, 21), 0)


async def test_progress_ends() -> None:
    """The time is given anew from one progress to the next, and ends when there is none."""
    async with debtors(progress=20, farewell=60) as house:
        raw, _ = await behind(house)
        now = asyncio.get_running_loop().time()
        await raw.ids(1)
        house.server.tick(now + 21)
        assert house.debts.slow == 0
        house.server.tick(now + 40)
        assert house.debts.slow == 0
        house.server.tick(now + 42)
        assert house.debts.slow == 1


async def test_progress_of_the_live() -> None:
    """A client that is live again, takes what it owes, and owes as much anew makes progress."""
    async with debtors(progress=20, farewell=60) as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 20)
        read: list[str] = []
        # It is live as soon as the rest is on its way.
        while not house.server.phases()["live"]:
            read += await raw.ids(1)
        now, owed = asyncio.get_running_loop().time(), client.owed
        assert owed > 40_000
        read += await raw.ids(1)
        await flood(house, 21, 23, 20_000)
        assert (client.owed > owed, house.server.phases()["live"]) == (True, 1)
        house.server.tick(now + 21)
        assert house.debts.slow == 0
        assert read + await raw.ids(22 - len(read)) == ids(2, 23)


async def test_pings_of_the_slow() -> None:
    """A client that is behind is not taken for dead while it takes what stands before the ping."""
    async with debtors(answer=30, progress=1e9) as house:
        raw, client = await behind(house)
        now = asyncio.get_running_loop().time()
        for count in range(1, 10):
            house.server.tick(now + count * DAY + 1)
            assert client.session.awaiting_pong
            await raw.ids(1)
            house.server.tick(now + count * DAY + 32)
        assert len(house.hub) == 1


async def test_pings_of_the_slow_who_are_live() -> None:
    """Neither is one that owes less than a buffer."""
    async with debtors(answer=30, progress=1e9) as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 9)
        now = asyncio.get_running_loop().time()
        house.server.tick(now + DAY + 1)
        assert client.session.awaiting_pong
        await raw.ids(1)
        house.server.tick(now + DAY + 32)
        assert (len(house.hub), await raw.ids(7)) == (1, ids(3, 9))


async def test_pings_of_those_who_have_just_taken_everything() -> None:
    """Who has taken what stood before the ping has the time of the next one to answer."""
    async with debtors(answer=30, progress=1e9) as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 6)
        await flood(house, 7, 7, 10)
        now = asyncio.get_running_loop().time()
        house.server.tick(now + DAY + 1)
        assert client.owed > 100_000
        # It has read all but what is in the kernel's buffers, among that the ping.
        await raw.ids(5)
        await until(lambda: client.owed == 0)
        house.server.tick(now + DAY + 32)
        assert len(house.hub) == 1
        house.server.tick(now + 2 * DAY + 1)
        assert client.session.awaiting_pong
        house.server.tick(now + 2 * DAY + 32)
        assert len(house.hub) == 0


async def test_suspended_while_falling_behind() -> None:
    """Who is suspended by the same batch that makes it fall behind stays suspended."""
    orders: list[Position] = []

    def obey(position: Position, _: Order) -> None:
        orders.append(position)
        house.feeder.put(client, "alice", None, position)

    async with debtors(obey=obey) as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 9)
        await house.bring(batch(*entries(10, 12, 60_000), control(13, "{}")), batch(entry(14)))
        assert (orders, house.server.phases()["behind"]) == ([(13, 0)], 1)
        assert await raw.ids(11) == ids(2, 12)
        await until(lambda: client.owed == 0)
        await until(lambda: not house.feeder.wanted.is_set())
        assert house.feeder.position(client) == (13, 0)
        house.feeder.put(client, "alice", AUDIENCE, (14, 0))
        assert await raw.ids(1) == ["14-0"]


async def test_gap_while_a_client_owes() -> None:
    """A client that is behind when the history changes is told, and goes on in the new one."""
    async with debtors() as house:
        raw, client = await behind(house)
        position = house.feeder.position(client)
        assert position is not None
        await house.bring(Positioned("f", "5-0", "another history"), batch(*entries(6, 7)))
        assert await raw.ids(position[0] - 1) == ids(2, position[0])
        resync = {"notifyd": "resync", "reason": "another history", "epoch": "f"}
        assert await raw.message() == resync | {"last_id": "5-0"}
        assert await raw.ids(2) == ids(6, 7)


async def older(house: Serving, first: int, **asked: str) -> Raw:
    """Return a client that resumes from before memory, when the stream begins at a number."""
    house.shelf.add(*entries(1, 30))
    await house.bring(Positioned("e", "30-0", None))
    raw = await house.raw()

    async def trim() -> None:
        if house.shelf.asked[-1] != "extent":
            house.shelf.trim(first)

    house.shelf.meanwhile = trim
    await raw.handshake(json.dumps({"token": "alice", **asked}))
    return raw


async def test_left_behind() -> None:
    """Whom the stream has left while it was being fed is told to load its state, and goes on."""
    async with serving(history=2000) as house:
        raw = await older(house, 20, since="5-0")
        assert (await raw.message())["recovered"] is True
        message = await raw.message()
        while "id" in message:
            message = await raw.message()
        assert message == {
            "notifyd": "resync",
            "reason": "the history does not reach back to where you were",
            "epoch": "e",
            "last_id": "30-0",
        }
        await house.bring(batch(entry(31)))
        assert await raw.ids(1) == ["31-0"]
        assert (house.debts.slow, house.server.phases()["live"]) == (0, 1)


async def test_left_behind_while_it_owes() -> None:
    """Whom the stream has left because it is slow is closed with 4420."""
    async with debtors(history=100_000) as house:
        raw, client = await behind(house)
        house.shelf.trim(21)
        await raw.ids(5)
        with capture_logs() as logs:
            house.debts.left_behind(client)
        assert lines(logs, "client.slow")[0]["detail"] == "the history has left it"
        assert await raw.close_code() == 4420


async def test_left_behind_and_bare() -> None:
    """Who can't be told that the stream has left it is closed with 4420."""
    async with serving() as house:
        await begin(house)
        raw, client = await house.mute(bare=True)
        house.feeder.put(client, "alice", None, (1, 0))
        house.debts.left_behind(client)
        assert await raw.close_code() == 4420


async def test_left_behind_and_lost() -> None:
    """Whose connection turns out to be gone when it is told so is forgotten."""
    async with serving() as house:
        await begin(house)
        raw, client = await house.mute()
        house.feeder.put(client, "alice", None, (1, 0))
        raw.reset()
        # The kernel knows before the loop does.
        select.select([client._socket], [], [], 5)
        house.debts.left_behind(client)
        assert (len(house.feeder), len(house.hub)) == (0, 0)
        house.debts.too_slow(client, "nobody hears it")
        assert house.debts.slow == 0


async def test_leaving_while_it_is_about_to_fall_behind() -> None:
    """Who is gone before the batch is over does not fall behind."""

    def obey(_position: Position, _order: Order) -> None:
        client.abort()

    async with debtors(obey=obey) as house:
        await begin(house)
        _, client = await house.mute()
        await flood(house, 2, 9)
        await house.bring(batch(*entries(10, 12, 60_000), control(13, "{}")))
        assert (len(house.feeder), len(house.hub), house.debts.behind) == (0, 0, 0)


async def test_worst_go_first() -> None:
    """Where all together owe too much, those that owe the most are closed."""
    async with debtors(bare_buffer=10_000_000, total_buffer=1_000_000) as house:
        _, worst = await house.mute("worst", bare=True)
        with capture_logs() as logs:
            worst.write(bytes(600_000))
            _, bad = await house.mute("bad", bare=True)
            good = await house.enter("good")
            bad.write(bytes(500_000))
            await flood(house, 1, 2)
            await until(lambda: house.debts.slow)
        [line] = lines(logs, "client.slow")
        assert (line["user"], line["detail"]) == (
            "worst",
            "all clients together owe more than they may",
        )
        assert [json.loads(await good.recv())["id"] for _ in range(2)] == ids(1, 2)
        assert len(house.hub) == 2


async def test_worst_are_dropped_where_closing_is_not_enough() -> None:
    """Who doesn't take its Close, and still owes too much, is dropped; it counts as slow once."""
    async with debtors(total_buffer=500_000, farewell=60) as house:
        _, client = await house.mute(bare=True)
        with capture_logs() as logs:
            client.write(bytes(600_000))
            await until(lambda: not house.server.clients)
        assert [line["event"] for line in logs] == ["client.slow", "connection.closed"]
        assert (house.debts.slow, house.server.stats.closed) == (1, {4420: 1})


async def test_what_was_taken_is_owed_no_more() -> None:
    """What clients have taken counts for nothing in what all may owe together."""
    async with debtors(bare_buffer=10_000_000, total_buffer=500_000) as house:
        raw, client = await house.mute(bare=True)
        for _ in range(4):
            await flood(house, 1, 10)
            assert await raw.ids(10) == ids(1, 10)
            await until(lambda: client.owed == 0)
        assert (house.debts.slow, house.debts._owing) == (0, set())


async def test_suspended_and_slow() -> None:
    """A client that is suspended while it owes something must take it all the same."""
    async with debtors(progress=20, farewell=60) as house:
        await begin(house)
        raw, client = await house.mute()
        await flood(house, 2, 5)
        house.feeder.put(client, "alice", None, (5, 0))
        house.server.tick(asyncio.get_running_loop().time() + 21)
        house.server.tick(asyncio.get_running_loop().time() + 42)
        assert await raw.close_code() == 4420


async def test_filtered_while_behind() -> None:
    """A client that is behind gets of what it has missed what its user may see."""
    async with debtors() as house:
        raw, _ = await behind(house)
        await house.bring(
            batch(entry(22, "{}", to='{"users": ["bob"]}'), entry(23, '{"content_type_id": 8}')),
            batch(entry(24, "{}", to='{"users": ["alice"]}')),
        )
        assert await raw.ids(21) == [*ids(2, 21), "24-0"]
