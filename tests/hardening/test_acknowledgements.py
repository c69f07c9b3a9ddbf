"""Attacks on a figure: acknowledgements of what never was, and more of them than anybody needs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import frame
from waiting import until

if TYPE_CHECKING:
    from hardening.attacks import Attack

pytestmark = pytest.mark.long


def ack(id_: str) -> bytes:
    """Return the frame of an acknowledgement."""
    return frame(json.dumps({"notifyd": "ack", "id": id_}))


@pytest.mark.parametrize(
    "id_",
    [
        *("", "0", "1-1", "-1-0", "1e300-0", "NaN-0", "99999999999999-0", "0x10-0", "\u0661-0"),
        *("18446744073709551615-18446744073709551615", "9" * 3000, "9" * 3000 + "-0", "\x00"),
        *("{}", '","x":"', "1-1\n# HELP x"),
    ],
    ids=lambda id_: id_[:20],
)
async def test_made_up(attack: Attack, id_: str) -> None:
    """An id that was never given out is counted, and neither observed nor logged."""
    attacker = await attack.entered()
    await attacker.send(ack(id_))
    await until(lambda: attack.counted("acknowledgements_total", result="unknown") == 1)
    assert attack.counted("client_latency_seconds_count") == 0
    await attack.logged()
    attacker.reset()
    await attack.logged("connection.closed")


async def test_from_the_future(attack: Attack) -> None:
    """Whoever guesses the ids that come next does not make events look fast."""
    attacker = await attack.entered()
    time, _, number = attack.house.publish({"n": 1}).partition("-")
    await attack.witness.event()
    await attacker.send(ack(f"{time}-{int(number) + 1}") + ack(f"{int(time) + 60_000}-0"))
    await until(lambda: attack.counted("acknowledgements_total", result="unknown") == 2)
    assert attack.counted("client_latency_seconds_count") == 0
    attacker.reset()
    await attack.logged("connection.closed")


async def test_replayed(attack: Attack) -> None:
    """Whoever connects anew and acknowledges what is old does not make events look slow."""
    id_ = attack.house.publish({"n": 1})
    await attack.witness.event()
    attacker = await attack.entered()
    await attacker.send(ack(id_) * 3)
    await until(lambda: attack.counted("acknowledgements_total", result="replayed") == 3)
    assert attack.counted("client_latency_seconds_count") == 0
    attacker.reset()
    await attack.logged("connection.closed")


async def test_flood_of_many(attack: Attack) -> None:
    """However often a user acknowledges by many connections, one in a second counts."""
    attackers = [await attack.entered() for _ in range(8)]
    loop = asyncio.get_running_loop()
    id_ = attack.house.publish({"n": 1})
    await attack.witness.event()
    started = loop.time()
    for attacker in attackers:
        await attacker.send(ack(id_) * 5)
    await until(
        lambda: (
            sum(
                attack.counted("acknowledgements_total", result=result)
                for result in ("ok", "limited")
            )
            == 40
        )
    )
    observed = attack.counted("client_latency_seconds_count")
    assert 1 <= observed <= 1 + int(loop.time() - started)
    for attacker in attackers:
        attacker.reset()
    await attack.logged(*["connection.closed"] * 8)
