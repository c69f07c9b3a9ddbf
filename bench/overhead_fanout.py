"""A daemon's way from the bus to the sockets, to be counted by valgrind: the daemon's own parts.

Clients are connected by socket pairs and come as those of another process do, without a handshake.
What is between Redis and the relay is left out: it would make the share of what observes smaller.

Everything is built once. Then each experiment runs in a fork of its own, whose counts go to a file
of its own (`%p` in --callgrind-out-file); its process id is printed.

Usage: overhead_fanout.py KIND EXPERIMENT COUNT [EXPERIMENT COUNT...]

KIND says what is taken out (overhead_without.py). EXPERIMENT is CLIENTSxBATCH: batches of so many
events, each for all clients; COUNT is how many batches. Or it is `timer`, `scrape` or
`openmetrics`: turns of the service's timer and scrapes, with a hundred clients.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import django
import overhead_without
from django.conf import settings

# Whoever imports notifyd's parts first decides which ones there are.
TAKEN = overhead_without.take_out(sys.argv[1])

from notifyd.core.audience import Audience  # noqa: E402 - see above
from notifyd.core.batch import Batch, Positioned  # noqa: E402 - the same
from notifyd.core.handover import Admitted, ClientState, Kind  # noqa: E402 - the same
from notifyd.core.login import Login  # noqa: E402 - the same
from notifyd.core.options import Config, Redis  # noqa: E402 - the same
from notifyd.daemon import logs, relay, service  # noqa: E402 - the same
from notifyd.daemon.assembly import Assembly  # noqa: E402 - the same
from notifyd.daemon.metrics import Metrics  # noqa: E402 - the same
from notifyd.daemon.overview import Overview  # noqa: E402 - the same
from notifyd.daemon.service_reload import ReloadStats  # noqa: E402 - the same
from notifyd.daemon.service_status import Status  # noqa: E402 - the same

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from notifyd.core.batch import RawEntry

# Nobody connects to it: the relay is given its batches here.
CONFIG = Config(redis=Redis(url="redis://localhost"))
CONTENT_TYPE = 7
SCRAPED = 100
WARM = 60
TICK = 0.25
"""Seconds between two turns of the timer."""

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def fan_out(clients: int, batch: int, count: int) -> list[socket.socket]:
    """Relay so many batches; return the clients' ends, which have to stay open."""
    parts = Assembly(CONFIG, Metrics())
    ends = await connect(parts, clients)
    await parts.relay.run(batches(batch, count))
    assert len(parts.hub) == len(ends), "somebody was lost"
    return ends


async def observe(what: str, count: int) -> list[socket.socket]:
    """Turn the timer, or scrape, so many times; return the same."""
    metrics = Metrics()
    parts = Assembly(CONFIG, metrics)
    reloads = ReloadStats()
    overview = Overview(parts, reloads)
    overview.wire(metrics)
    status = Status(parts, overview, reloads, logs.remember())
    ends = await connect(parts, SCRAPED)
    await parts.relay.run(batches(1, 1))
    for number in range(count):
        if what == "timer":
            overview.turned(0.0)
            status.turned(number * TICK)
        else:
            metrics.render(OPENMETRICS if what == "openmetrics" else "")
    assert len(parts.hub) == len(ends), "somebody was lost"
    return ends


async def connect(parts: Assembly, clients: int) -> list[socket.socket]:
    """Have that many clients of as many users, who all see the same; return their ends."""
    await parts.relay.run(position())
    seen = Audience.build(parts.vocabulary, content_types=[CONTENT_TYPE])
    at = parts.relay.position
    ours, ends, states = [], [], []
    for number in range(clients):
        mine, end = socket.socketpair()
        mine.setblocking(False)
        ours.append(mine)
        ends.append(end)
        admitted = Admitted(Login(str(number), seen), at)
        states.append(ClientState(Kind.GREETED, "unix", "unix", 0.0, admitted=admitted))
    await parts.succession.take(ours, states)
    # Each is behind until it was found to have missed nothing.
    feeding = asyncio.ensure_future(parts.relay.feed())
    while len(parts.feeder):  # noqa: ASYNC110 - it has no event of its own
        await asyncio.sleep(0)
    feeding.cancel()
    return ends


async def position() -> AsyncIterator[Positioned]:
    """Tell where the stream is."""
    yield Positioned("epoch", f"{int(time.time() * 1000)}-0", None)


async def batches(size: int, count: int) -> AsyncIterator[Batch]:
    """Bring so many batches of so many events; they were published when they are brought."""
    for number in range(count):
        now = int(time.time() * 1000)
        yield Batch("stream", [entry(f"{now}-{number * size + each + 1}") for each in range(size)])


def entry(id_: str) -> RawEntry:
    """Return an event such as the guide's, of about 200 bytes."""
    event = {
        "model": "article",
        "object": "The first thing that happened today",
        "message": "Changed Title and Body.",
        "timestamp": "2026-11-23T12:00:00.000001+00:00",
        "user": "nadia",
        "content_type_id": CONTENT_TYPE,
        "object_id": "1",
    }
    return id_, {b"event": json.dumps(event).encode()}


def run(experiment: str, count: int) -> list[socket.socket]:
    """Do one of the experiments, and return what has to stay open: nobody is to say goodbye."""
    if "x" not in experiment:
        return asyncio.run(observe(experiment, count))
    clients, batch = map(int, experiment.split("x"))
    return asyncio.run(fan_out(clients, batch, count))


def main() -> None:
    """Do each experiment in a fork; say which process did it."""
    # The clock of valgrind's processor is fifty times slow: by it every turn would be over at once.
    vars(relay)["_TURN"] = math.inf
    # Django is there, but nobody logs in.
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        AUTHENTICATION_BACKENDS=["sesame.backends.ModelBackend"],
        SECRET_KEY="bench",  # noqa: S106 - it signs nothing
    )
    django.setup()
    # As the service does it, the collector comes seldom.
    gc.set_threshold(*vars(service)["_COLLECT"])
    gc.freeze()
    for statement in TAKEN:
        print("taken", statement)
    # The interpreter adapts its code as it runs (PEP 659), which is over after that.
    warm = [run(experiment, WARM) for experiment in ("1x1", "10x10", "timer")]
    for experiment, count in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            ends = run(experiment, int(count))
            os._exit(0 if ends else 1)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"{experiment} has failed")
        print("done", experiment, count, pid)
    assert warm, "what has to stay open"


main()
