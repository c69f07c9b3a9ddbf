"""Attacks by sheer amount: of events, of clients that don't read, of tokens."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import EVENTS, EVERYONE, HANDSHAKE, NOBODY, WITNESS, Attack, frame
from waiting import until

from notifyd.core.positions import parse_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from hardening.attacks import House

pytestmark = pytest.mark.long

PADDING = "x" * 60_000
MEMORY = "process_resident_memory_bytes"


def publish(house: House, number: int, padding: str = "") -> list[str]:
    """Publish that many events in one pipeline, and return their ids."""
    with house.redis.pipeline() as pipe:
        for n in range(number):
            event = json.dumps({"n": n, "padding": padding})
            pipe.xadd(EVENTS, {"event": event, "to": EVERYONE})
        return [*map(str, pipe.execute())]


async def test_flood_of_events(attack: Attack) -> None:
    """Twenty thousand events at once arrive, each once and in order, many in one write."""
    publishing = asyncio.create_task(asyncio.to_thread(publish, attack.house, 20_000))
    received = [await attack.witness.event() for _ in range(20_000)]
    ids = await publishing
    assert [event["id"] for event in received] == ids
    assert attack.counted("fanout_seconds_count") < 400
    await attack.logged()


async def flood(attack: Attack) -> None:
    """Publish 20 MB that the witness sees as it comes, and nobody needs memory for."""
    before = attack.house.samples()[MEMORY, frozenset()]
    for _ in range(22):
        ids = await asyncio.to_thread(publish, attack.house, 15, PADDING)
        assert [(await attack.witness.event())["id"] for _ in ids] == ids
    # The history itself may take 32 MiB of it.
    assert attack.house.samples()[MEMORY, frozenset()] - before < 70_000_000
    in_time = attack.counted("broadcast_latency_seconds_bucket", le="2.5")
    assert in_time == attack.counted("broadcast_latency_seconds_count")


async def test_clients_that_never_read(attack: Attack) -> None:
    """Whoever takes no events falls behind, and neither neighbours nor memory suffer."""
    attackers = [await attack.entered("admin", receive_buffer=4096) for _ in range(8)]
    await flood(attack)
    await attack.logged(*["client.behind"] * 8)
    assert attack.counted("clients_behind_total") == 8
    assert attack.counted("slow_clients_total") == 0
    for attacker in attackers:
        attacker.reset()
    await attack.logged(*["client.behind", "connection.closed"] * 8)


async def test_clients_that_never_read_again(build: Callable[..., House]) -> None:
    """Whoever takes no events for some time is closed as too slow."""
    async with Attack(build(server_progress_timeout="1")) as attack:
        for _ in range(8):
            await attack.entered("admin", receive_buffer=4096)
        await flood(attack)
        await attack.logged(*["client.behind", "client.slow", "connection.closed"] * 8)
        assert attack.counted("slow_clients_total") == 8
        assert attack.counted("connections_closed_total", code="4420") == 8
        await attack.finish()


async def test_bare_clients_that_never_read(attack: Attack) -> None:
    """Whoever can't be told that something was missed is closed when it owes too much."""
    for _ in range(8):
        token = frame(attack.house.token("admin"))
        await attack.upgraded(token, receive_buffer=4096)
    await until(lambda: attack.house.connections() == 9)
    await until(lambda: attack.counted("authentications_total", result="ok") == 8)
    await flood(attack)
    await attack.logged(*["client.slow", "connection.closed"] * 8)
    assert attack.counted("connections_closed_total", code="4420") == 8


async def test_clients_that_read_slowly(attack: Attack) -> None:
    """Whoever is slow gets everything all the same, in order, however long it takes."""
    attacker = await attack.entered(receive_buffer=4096)
    await flood(attack)
    ids = await attacker.ids(330)
    assert ids == sorted({*ids}, key=parse_position)
    attacker.reset()
    await attack.logged("client.behind", "connection.closed")


async def try_token(house: House, data: bytes) -> int:
    """Send a handshake and a token together, and return the close code."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (house.host, house.port))
        await loop.sock_sendall(sock, data)
        answer = b""
        # Behind the head comes the Close: two bytes of header, two of the code.
        while len(answer.partition(b"\r\n\r\n")[2]) < 4:
            answer += await loop.sock_recv(sock, 4096)
        return int.from_bytes(answer.partition(b"\r\n\r\n")[2][2:4], "big")


@pytest.mark.parametrize("guesses", [1_000, 10_000])
async def test_bad_tokens(build: Callable[..., House], guesses: int) -> None:
    """Who guesses tokens is soon turned away unheard, and nobody else is kept from logging in."""
    house = build()
    data = HANDSHAKE + frame(house.secret(house.site.run(NOBODY)))
    codes: Counter[int] = Counter()

    async def guess() -> None:
        while codes.total() < guesses:
            codes[await try_token(house, data)] += 1

    async with Attack(house) as attack:
        began = time.monotonic()
        guessing = asyncio.gather(*(guess() for _ in range(40)))
        while not guessing.done():
            guest = await house.enter("omar", WITNESS)
            await attack.witness.sees(house, guest)
            await guest.client.close()
        await guessing
        refused = attack.counted("authentications_total", result="rate_limited")
        assert codes == {4401: codes.total() - refused, 4429: refused}
        assert codes[4401] == attack.counted("authentications_total", result="invalid")
        # The burst, ten more in each second, and those that were in the threads at its end.
        assert 100 <= codes[4401] <= 100 + 10 * (time.monotonic() - began) + 20
        await attack.finish()
