"""The script of the day: what happens, in order, and which alerts it is to raise.

Every alert is raised by one chapter, and by nothing before it. What holds an alert for as long as
its `for` lasts waits until Prometheus says that it fires.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from day.outage import outage
from day.readers import Page, dawdling, look_in, say, stay_bare
from day.shrinking import SCRAPE
from e2e.flow import STREAM
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from day.world import World

EDITORS: Final = 60
REPORTERS: Final = 20
BARE: Final = 10

QUIET: Final = 20
"""Scrapes without anything to tell."""

STORM: Final = 25
"""Pages that connect in a second when all do."""


MAX_AGE: Final = 31
"""Seconds after which a token is too old for the newsroom."""


class Chapter(NamedTuple):
    """A part of the day: its name, what happens, and the alerts that it raises."""

    title: str
    happen: Callable[[World], Awaitable[None]]
    raises: tuple[str, ...] = ()


async def morning(world: World) -> None:
    """Let people come, and the day be an ordinary one."""
    await asyncio.to_thread(world.start)
    await world.watch()
    await come(world)
    world.keep(world.publish())
    world.old_token = await world.token("nadia")
    world.morning = time.time()
    await until(lambda: time.time() > world.morning + QUIET * SCRAPE, 60)
    assert not world.fired, f"an ordinary morning raises {[*world.fired]}"


async def come(world: World) -> None:
    """Let people come: pages that stay, and clients of the guide's."""
    people = ["nadia"] * EDITORS + ["omar"] * REPORTERS
    pages = [Page(world.address, partial(world.token, name)) for name in people]
    world.keep(*(page.stay() for page in pages))
    bare = [await world.token("nadia", "") for _ in range(BARE)]
    world.keep(*(stay_bare(world.address, token) for token in bare))
    await there(world)


async def there(world: World) -> None:
    """Wait until all pages are connected."""
    pages = EDITORS + REPORTERS
    await until(lambda: world.daemon.metric("connections", state="live") >= pages, 30)


async def standstill(world: World) -> None:
    """Let the machine stand still while much is published."""
    with world.daemon.paused():
        await burst(world, {"model": "article"}, count=300, rule={"everyone": True})
        await asyncio.sleep(3 * SCRAPE)


async def burst(world: World, event: dict[str, Any], *, count: int, rule: dict[str, Any]) -> None:
    """Publish much at once, as a program that knows the contract of the stream."""
    client = world.redis.client()
    fields: dict[Any, Any] = {"event": json.dumps(event), "to": json.dumps(rule)}

    def write() -> None:
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.xadd(STREAM, fields)
            pipeline.execute()

    await asyncio.to_thread(write)


async def guesses(world: World) -> None:
    """Let somebody try tokens, and come with that of a user who is inactive."""
    tried = [f"{number:032}" for number in range(60)]
    for token in (*tried, await world.token("ines")):
        await say(world.address, json.dumps({"token": token}), come_from="127.0.0.2")


async def late(world: World) -> None:
    """Let pages come with a token of the morning."""
    await until(lambda: time.time() > world.morning + MAX_AGE, 60)
    for _ in range(5):
        await say(world.address, json.dumps({"token": world.old_token}), come_from="127.0.0.3")


async def dawdlers(world: World) -> None:
    """Let some take nothing of what they are sent, and one take it late."""
    await world.ask(world.site.run, "User.objects.create_user('sven')")
    rule = {"users": [await world.ask(world.site.key, "sven")]}
    async with contextlib.AsyncExitStack() as ends:
        for _ in range(8):
            token = await world.token("sven", "")
            await ends.enter_async_context(dawdling(world.unix, token))
        hello = json.dumps({"token": await world.token("sven")})
        late = await ends.enter_async_context(dawdling(world.unix, hello))
        welcome = json.loads(await late.recv())
        assert welcome["notifyd"] == "welcome"
        await until(lambda: world.daemon.metric("authentications_total", result="ok") >= 98, 30)
        await burst(world, {"filling": "x" * 50_000}, count=60, rule=rule)
        await until(lambda: world.daemon.metric("slow_clients_total") >= 8, 30)
        await until(lambda: world.daemon.metric("clients_behind_total") >= 1, 30)
        # A guide's publisher, whose event has no place that the one who is behind could come to.
        world.redis.client().publish("events", json.dumps({"content_type_id": 1, "late": True}))
        got = 0
        while got < 60:
            got += "filling" in json.loads(await late.recv())


async def nonsense(world: World) -> None:
    """Let a program write what is no event, and clients say what means nothing."""
    await burst(world, {"id": "taken"}, count=3, rule={"everyone": True})
    await burst(world, {"words": "for nobody"}, count=2, rule={})
    for _ in range(5):
        hello = json.dumps({"token": await world.token("nadia")})
        await say_more(world, hello)


async def say_more(world: World, hello: str) -> None:
    """Say something that means nothing behind a hello, and go."""
    async with dawdling(world.unix, hello) as connection:
        await connection.recv()
        await connection.send('{"words": "hello?"}')


async def permissions(world: World) -> None:
    """Take a permission away, and give it back."""
    change = (
        "group = Group.objects.get(name='editors')\n"
        "permission = Permission.objects.get(codename='view_article')\n"
        "group.permissions.{}(permission)"
    )
    for what in ("remove", "add"):
        before = world.daemon.metric("recheck_seconds_count")
        await world.ask(world.site.run, change.format(what))
        await until(lambda: world.daemon.metric("recheck_seconds_count") > before, 30)  # noqa: B023 - at once


async def storm(world: World) -> None:
    """Let many pages connect at once, for as long as it takes to be seen."""
    pages: set[asyncio.Task[None]] = set()
    while "NotifydReconnectStorm" not in world.firing_now():
        for _ in range(STORM // 5):
            task = asyncio.create_task(look_in(world.address))
            pages.add(task)
            task.add_done_callback(pages.discard)
        await asyncio.sleep(0.2)
    await asyncio.gather(*pages)


async def too_many(world: World) -> None:
    """Let the limit be too small for the pages there are, and then large enough again."""
    world.configure(max_connections=50)
    assert await world.reload()
    while "NotifydFull" not in world.firing_now():
        await look_in(world.address)
        await asyncio.sleep(SCRAPE / 2)
    world.configure()
    assert await world.reload()


async def mistake(world: World) -> None:
    """Let the configuration have a fault for a while."""
    world.configure(max_connections="many")
    assert not await world.reload()
    await world.seen("NotifydReloadFailed")
    world.configure()
    assert await world.reload()


async def no_database(world: World) -> None:
    """Let the database be away while somebody wants in."""
    with world.postgres.stopped():
        hello = json.dumps({"token": world.old_token})
        await say(world.address, hello, come_from="127.0.0.3")
        await world.seen("NotifydNotReady")
    await until(lambda: world.daemon.get("/readyz")[0] == 200, 30)


async def upgrade(world: World) -> None:
    """Let another process take over, as at an upgrade."""
    await asyncio.to_thread(world.daemon.take_over)
    await there(world)
    taken = 'increase(notifyd_handover_connections_total{result="taken"}[4s])'
    await until(lambda: (world.prometheus.value(taken) or 0) > 0, 30)


async def crashes(world: World) -> None:
    """Let the daemon be killed and started again, several times; at last it stays away."""
    for _ in range(4):
        await asyncio.to_thread(world.daemon.stop, signal.SIGKILL)
        await asyncio.to_thread(world.start)
        page = world.daemon.get("/metrics")[1]
        [started] = re.findall(r"^process_start_time_seconds (\S+)$", page, re.MULTILINE)
        # Prometheus has to see each of them.
        await until(
            lambda: world.prometheus.value("process_start_time_seconds") == float(started),  # noqa: B023 - at once
            30,
        )
    await world.seen("NotifydRestartLoop")
    await asyncio.to_thread(world.daemon.stop, signal.SIGKILL)
    await world.seen("NotifydDown")
    await asyncio.to_thread(world.start)
    await there(world)


async def descriptors(world: World) -> None:
    """Let the limit of descriptors be just above what is in use."""
    pid = world.daemon.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = world.prometheus.value("process_open_fds")
    assert used is not None
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (int(used * 1.15), usual[1]))
    await world.seen("NotifydDescriptorsRunningOut")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


async def flushed(world: World) -> None:
    """Let Redis come back without its data."""
    await asyncio.to_thread(world.redis.client().flushall)
    await world.seen("NotifydEventsLost")


async def evening(world: World) -> None:
    """Let it become quiet."""
    await world.quiet()


SCRIPT: Final = (
    Chapter("an ordinary morning", morning),
    Chapter(
        "the machine stands still while much is published",
        standstill,
        (
            "NotifydEventLoopBlocked",
            "NotifydLatencyBudgetBurning",
            "NotifydLatencyBudgetBurningFast",
        ),
    ),
    Chapter("somebody guesses tokens", guesses, ("NotifydAuthenticationFailures",)),
    Chapter("some take nothing of what they are sent", dawdlers, ("NotifydSlowClients",)),
    Chapter("a program writes nonsense", nonsense, ("NotifydEventsRejected",)),
    Chapter("a permission is taken and given", permissions),
    Chapter("pages come too late", late),
    Chapter("all pages connect at once", storm, ("NotifydReconnectStorm",)),
    Chapter("there are too many", too_many, ("NotifydFull",)),
    Chapter("the configuration has a fault", mistake, ("NotifydReloadFailed",)),
    Chapter("Redis is killed, and comes back", outage, ("NotifydRedisAway",)),
    Chapter("the database is away", no_database, ("NotifydNotReady",)),
    Chapter("an upgrade", upgrade),
    Chapter("the daemon crashes again and again", crashes, ("NotifydRestartLoop", "NotifydDown")),
    Chapter("Redis loses its data", flushed, ("NotifydEventsLost",)),
    Chapter("descriptors run out", descriptors, ("NotifydDescriptorsRunningOut",)),
    Chapter("a quiet evening", evening),
)
