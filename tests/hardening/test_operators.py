"""What an operator, a full disk or a dead database does to the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hardening.attacks import Attack, frame
from hardening.conftest import inhabited
from hardening.test_floods import publish
from postgres import PostgresServer
from servers import free_port
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hardening.attacks import House

pytestmark = pytest.mark.long

SECRET = "open-sesame-of-the-database"


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """Give a PostgreSQL server that may be stopped."""
    with (
        tempfile.TemporaryDirectory(prefix="notifyd-") as name,
        PostgresServer(Path(name)) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def house(postgres_server: PostgresServer) -> Iterator[House]:
    """Give a house whose database is that server, with little patience, and with two doors."""
    where = f"{postgres_server.user}:{SECRET}@{postgres_server.host}:{postgres_server.port}"
    patience = {"auth_timeout": "2", "auth_statement_timeout": "1"}
    with tempfile.TemporaryDirectory(prefix="notifyd-") as name:
        doors = f"127.0.0.1:0,unix:{name}/public"
        database = f"postgresql://{where}/postgres"
        with inhabited(Path(name), database, server_listen=doors, **patience) as house:
            house.secret(SECRET)
            house.site.fill()
            yield house


async def test_database_stopped(attack: Attack, postgres_server: PostgresServer) -> None:
    """While the database is away nobody can log in and all others go on; later it is used again."""
    house = attack.house
    token = frame(house.token("omar"))
    house.site.close()
    with postgres_server.stopped():
        await attack.closed(await attack.upgraded(token), 1013, "auth.error", "auth.failed")
        assert attack.counted("authentications_total", result="error") == 1
        await attack.witness.sees(house)
        status, words = house.daemon.get("/readyz")
        assert (status, [*json.loads(words)["failing"]]) == (503, ["database"])
    await (await house.enter("omar")).client.close()
    assert house.daemon.get("/readyz") == (200, "ok")
    await attack.logged("auth.error", "auth.failed", "connection.closed", "connection.closed")


async def test_database_frozen(attack: Attack, postgres_server: PostgresServer) -> None:
    """A database that does not answer costs a client its time, and nobody else anything."""
    house = attack.house
    token = frame(house.token("omar"))
    house.site.close()
    with postgres_server.paused():
        began = time.monotonic()
        attackers = [await attack.upgraded(token) for _ in range(20)]
        await attack.witness.sees(house)
        closes = [await attacker.end() for attacker in attackers]
        assert {close and close.code for close in closes} == {1013}
        assert time.monotonic() - began < 10
        assert house.daemon.get("/readyz")[0] == 503
    await (await house.enter("omar")).client.close()
    assert house.daemon.get("/readyz") == (200, "ok")
    results = [line["result"] for line in attack.lines() if line["event"] == "auth.failed"]
    assert len(results) == 20
    assert {*results} <= {"timeout", "error"}


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


async def test_no_descriptors_left(attack: Attack) -> None:
    """Out of descriptors the daemon stops accepting for a while, says so, and recovers."""
    pid = attack.house.daemon.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + 5, limits[1]))
    attackers = [await attack.connected() for _ in range(20)]
    await until(lambda: "listener.paused" in attack.names())
    await attack.witness.sees(attack.house)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    for attacker in attackers:
        attacker.socket.close()
    await (await attack.house.enter("omar")).client.close()
    await until(lambda: {*attack.names()} == {"listener.paused", "connection.closed"})


async def test_second_daemon(attack: Attack, folder: Path) -> None:
    """A daemon whose addresses are taken says which in a sentence, and leaves the other alone."""
    house = attack.house
    doors = (f"{house.host}:{house.port}", house.daemon.addresses[1])
    attempts = {
        "another daemon listens at": {},
        f"can't listen on {house.admin}": {
            "NOTIFYD_CONTROL_SOCKET": f"{folder}/second",
            "NOTIFYD_SERVER_LISTEN": "127.0.0.1:0",
            "NOTIFYD_ADMIN_LISTEN": house.admin,
        },
    }
    for number, door in enumerate(doors):
        attempts[f"can't listen on {door}"] = {
            "NOTIFYD_CONTROL_SOCKET": f"{folder}/{number}",
            "NOTIFYD_SERVER_LISTEN": door,
        }
    run = functools.partial(asyncio.to_thread, house.daemon.command, "run", timeout=30)
    seconds = await asyncio.gather(*(run(environment=each) for each in attempts.values()))
    for words, second in zip(attempts, seconds, strict=True):
        assert second.returncode == 1
        assert "raceback" not in second.stderr, second.stderr
        assert second.stderr.splitlines()[-1].startswith(f"notifyd: {words}"), second.stderr


async def test_termination_during_a_flood(build: Callable[..., House]) -> None:
    """SIGTERM is obeyed in the middle of a flood, clients that don't read or no."""
    house = build(server_drain="0")
    async with Attack(house) as attack:
        for _ in range(5):
            await attack.entered("omar", receive_buffer=4096)
        publishing = asyncio.create_task(asyncio.to_thread(publish, house, 20_000, "x" * 300))
        await attack.witness.event()
        house.daemon.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(house.daemon.process.wait, 20)
        assert code == 0
        await publishing
        await until(lambda: attack.witness.client.close_code)
        assert attack.witness.client.close_code == 1012
        assert attack.names()[-1] == "service.stopped"


# As from a shell: into a program that is gone, onto a disk that is full, and into nothing.
@pytest.mark.parametrize("redirection", ["2> >(exit)", "2> /dev/full", "2>&-"])
async def test_no_place_for_the_log(attack: Attack, folder: Path, redirection: str) -> None:
    """A log that can't be written is never worth the daemon's life, nor its exit code."""
    house = copy.copy(attack.house)
    house.port, house.admin = free_port(), f"127.0.0.1:{free_port()}"
    changes = {
        "NOTIFYD_SERVER_LISTEN": f"127.0.0.1:{house.port}",
        "NOTIFYD_ADMIN_LISTEN": house.admin,
        "NOTIFYD_CONTROL_SOCKET": f"{folder}/control",
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"exec {sys.executable} -m notifyd run {redirection}"),
        env=house.daemon.environment | changes,
    )
    try:
        await until(lambda: reads_bus(house), 20)
        for _ in range(3):
            await (await house.enter("nadia")).client.close()
        guest = await house.enter("omar")
        await attack.witness.sees(house, guest)
        process.terminate()
        await guest.client.wait_closed()
        assert guest.client.close_code == 1012
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def reads_bus(house: House) -> bool:
    """Tell whether the daemon is there and knows its place in the stream."""
    try:
        return house.samples()["redis_up", frozenset()] == 1
    except OSError:
        return False
