from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from neighbours import batch, entry, let_in
from serving import serving
from waiting import until

from notifyd.core.acknowledgements import Acknowledgement
from notifyd.core.batch import Positioned

if TYPE_CHECKING:
    from serving import Serving
    from websockets.asyncio.client import ClientConnection

    from notifyd.core.login import Login
    from notifyd.core.protocol import Hello

OK, REPLAYED, UNKNOWN, LIMITED = Acknowledgement


def milliseconds(ahead: float = 0.0) -> int:
    """Return the time in milliseconds, or one that is so many seconds ahead."""
    return int((time.time() + ahead) * 1000)


async def acknowledge(house: Serving, client: ClientConnection, id_: str) -> None:
    """Say that an event has arrived, and wait until that was counted."""
    before = house.sample.stats.acknowledgements.total()
    await client.send(json.dumps({"notifyd": "ack", "id": id_}))
    await until(lambda: house.sample.stats.acknowledgements.total() > before)


async def receive(house: Serving, client: ClientConnection, moment: int) -> str:
    """Have an event relayed that was published then, and return its id as a client gets it."""
    await house.bring(batch(entry(moment)))
    return str(json.loads(await client.recv())["id"])


async def test_observed() -> None:
    """The time from an event's publication to its acknowledgement is observed, with its id."""
    async with serving() as house:
        client = await house.enter("alice")
        published = time.time()
        id_ = await receive(house, client, milliseconds())
        await asyncio.sleep(0.05)
        await acknowledge(house, client, id_)
        elapsed = time.time() - published
        [(seconds, observed)] = house.latencies
        assert observed == id_
        assert 0.05 <= seconds <= elapsed + 0.001
        assert house.sample.stats.acknowledgements == {OK: 1}


@pytest.mark.parametrize("id_", ["", "x", "1-1", "99999999999999-0", "18446744073709551616-0"])
async def test_made_up(id_: str) -> None:
    """What no client can have got is counted and changes nothing."""
    async with serving() as house:
        client = await house.enter("alice")
        await receive(house, client, milliseconds())
        await acknowledge(house, client, id_)
        assert house.sample.stats.acknowledgements == {UNKNOWN: 1}
        assert house.latencies == []


async def test_missed_before() -> None:
    """What was published before the connection was opened does not count."""
    async with serving() as house:
        await house.bring(Positioned("e", f"{milliseconds()}-0", None))
        id_ = f"{milliseconds()}-0"
        await house.bring(batch((id_, entry(1)[1])))
        await asyncio.sleep(0.01)
        client = await house.enter("alice")
        await acknowledge(house, client, id_)
        assert house.sample.stats.acknowledgements == {REPLAYED: 1}
        assert house.latencies == []


async def test_clocks_disagree() -> None:
    """A latency below 0 (Redis' clock is ahead) counts as 0, and is counted as such."""
    async with serving() as house:
        client = await house.enter("alice")
        await acknowledge(house, client, await receive(house, client, milliseconds(60)))
        assert [seconds for seconds, _ in house.latencies] == [0]
        assert house.sample.stats.clamped == 1


async def test_before_the_login() -> None:
    """Whoever is not let in yet has got nothing to acknowledge."""
    wait = asyncio.Event()

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await wait.wait()
        return await let_in(hello, address)

    async with serving(authenticate) as house:
        moment = milliseconds()
        await house.bring(Positioned("e", f"{moment}-0", None))
        client = await house.connect()
        await client.send("alice")
        await acknowledge(house, client, f"{moment}-0")
        assert house.sample.stats.acknowledgements == {UNKNOWN: 1}
        wait.set()


async def test_one_in_a_second() -> None:
    """However often and from however many pages a user acknowledges, one in a second counts."""
    async with serving() as house:
        pages = [await house.enter("alice") for _ in range(3)]
        other = await house.enter("bob")
        id_ = await receive(house, other, milliseconds())
        started = time.monotonic()
        for page in pages * 3:
            await acknowledge(house, page, id_)
        await acknowledge(house, other, id_)
        most = 2 + int(time.monotonic() - started)
        stats = house.sample.stats.acknowledgements
        assert 2 <= len(house.latencies) <= most
        assert stats[OK] == len(house.latencies)
        assert stats[OK] + stats[LIMITED] == 10


@pytest.mark.parametrize("acknowledge", [0.25, 0.0])
async def test_welcome(acknowledge: float) -> None:
    """Pages are told in the welcome what part to acknowledge, if any."""
    async with serving(acknowledge=acknowledge) as house:
        client = await house.enter('{"token": "alice"}')
        assert json.loads(await client.recv()).get("ack", 0.0) == acknowledge


async def test_nothing_is_asked_of_bare_clients() -> None:
    """A client that sent a bare token is told nothing, and need not say anything."""
    async with serving(acknowledge=1.0) as house:
        client = await house.enter("alice")
        assert await receive(house, client, milliseconds())
        assert not house.sample.stats.acknowledgements
