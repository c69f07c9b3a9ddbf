"""What happens to the bus while clients are connected, by somebody's mistake or by bad luck."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from hardening.attacks import EVENTS, PASSWORD
from hardening.conftest import inhabited
from servers import free_port
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hardening.attacks import Attack, House

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def house(seeded: Path) -> Iterator[House]:
    """Give a house whose bus may be broken, and that notices soon."""
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        path = shutil.copy(seeded, Path(name) / "newsroom.sqlite3")
        with inhabited(Path(name), str(path), redis_timeout="0.5") as house:
            yield house


async def lost(attack: Attack, hint: str) -> None:
    """Wait until the daemon has lost the bus, and has told why."""
    await until(lambda: not up(attack))
    await until(lambda: any(hint in str(line.get("hint", "")) for line in attack.lines()))


async def found(attack: Attack) -> None:
    """Wait until the daemon has the bus again; it told each cause once for each of its links."""
    await until(lambda: up(attack), 30)
    assert attack.witness.client.close_code is None
    told = Counter((each["event"], each.get("source"), each.get("hint")) for each in attack.lines())
    assert max(told.values()) == 1, attack.lines()


def up(attack: Attack) -> bool:
    """Tell whether both links of the daemon work."""
    return attack.house.samples()["redis_up", frozenset()] == 1


def loaded(attack: Attack) -> bool:
    """Tell whether Redis has read its data again and can be used."""
    try:
        return bool(attack.house.redis.ping())
    except redis.ConnectionError:
        # Not there yet, or still loading its data.
        return False


async def test_string_at_the_streams_key(attack: Attack) -> None:
    """Another program's key in the stream's place is named as such; once gone, clients resync."""
    attack.house.redis.set(EVENTS, "mine")
    await lost(attack, "another program uses a key of the bus")
    attack.house.redis.delete(EVENTS)
    await found(attack)
    while (heard := json.loads(await attack.witness.client.recv())["notifyd"]) == "ping":
        continue
    assert heard == "resync"
    assert attack.counted("gaps_total") == 1
    await attack.logged("bus.disconnected", "bus.gap", "bus.connected")


async def test_wrong_password(attack: Attack) -> None:
    """A password that is no longer right is named as the cause, and not shown."""
    client = attack.house.redis
    client.config_set("requirepass", attack.house.secret("another-password"))
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)
    await lost(attack, "check the user and the password")
    client.config_set("requirepass", PASSWORD)
    await found(attack)
    assert attack.counted("gaps_total") == 0


async def test_demoted_master(attack: Attack) -> None:
    """A Redis that became a replica is no longer believed, though it still answers."""
    attack.house.redis.replicaof("127.0.0.1", free_port())
    await lost(attack, "")
    await attack.logged("bus.demoted")
    attack.house.redis.replicaof("NO", "ONE")
    await found(attack)
    await attack.logged("bus.demoted", "bus.connected")


async def test_redis_killed(attack: Attack) -> None:
    """Clients stay while Redis is gone, and get what was published before it was found again."""
    with attack.house.server.stopped():
        await lost(attack, "")
    await until(lambda: loaded(attack))
    id_ = attack.house.publish({"after": "the outage"})
    assert await attack.witness.event() == {"id": id_, "after": "the outage"}
    await found(attack)


async def test_redis_frozen(attack: Attack) -> None:
    """A Redis that is connected but silent counts as gone, and nothing published is lost."""
    with attack.house.server.paused():
        await lost(attack, "")
    await found(attack)
    assert attack.counted("gaps_total") == 0


async def test_stream_deleted(attack: Attack) -> None:
    """Whoever flushes the bus makes another history: clients are told, and go on in it."""
    attack.house.redis.flushall()
    message = json.loads(await attack.witness.client.recv())
    assert message["notifyd"] == "resync"
    assert attack.counted("gaps_total") == 1
    await attack.logged("bus.gap")
