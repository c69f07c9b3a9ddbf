"""A daemon as it is assembled, but for Redis, Django and the sockets."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from daemon.promises_site import Authenticator, Tickets

from notifyd.core import history, hub
from notifyd.core.batch import Positioned
from notifyd.core.options import Auth, Config, Server
from notifyd.core.positions import parse_position
from notifyd.daemon import (
    assembly,
    auth,
    bus,
    logins,
    rechecks,
    rechecks_readings,
    rechecks_sweep,
    relay,
    relay_feeder,
    timers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from daemon.promises_outside import Loop
    from daemon.promises_world import World

    from notifyd.core.batch import Batch
    from notifyd.core.positions import Position
    from notifyd.daemon.client import Client

# Everything is as small as the tests' streams are: a few events fill the memory of a daemon, and
# make a client slow.
CONFIG = Config(
    server=Server(
        history=1200,
        buffer=300,
        bare_buffer=500,
        total_buffer=3000,
        max_connections=1000,
        ping_interval=0.1,
        ping_timeout=20.0,
        messages_per_second=1e9,
    ),
    auth=Auth(sweep=30.0, ticket_ttl=60.0),
)


class _Gate:
    """Where a fan-out lets others have their turn; closed, it stays there."""

    def __init__(self) -> None:
        self.left: int | None = None
        """How many more may pass; None: all."""
        self._opened = asyncio.Event()

    def close(self, left: int) -> None:
        """Let pass so many more."""
        self.left = left

    def open(self) -> None:
        """Let everybody pass."""
        self.left = None
        self._opened.set()
        self._opened = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Stand in for asyncio.sleep."""
        await asyncio.sleep(seconds)
        if self.left == 0:
            await self._opened.wait()
        elif self.left is not None:
            self.left -= 1


_gate: contextvars.ContextVar[_Gate] = contextvars.ContextVar("gate")


class _Asyncio:
    """Stand in for the module in the relay: where it sleeps, the daemon's gate decides."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await _gate.get().sleep(seconds)


class Daemon:
    """A daemon, from its start to its end, and how far it has read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self._gate = _Gate()
        self.epoch: str | None = None
        self._read: Position = (0, 0)
        self._queue: asyncio.Queue[Batch | Positioned] = asyncio.Queue()
        bus_ = SimpleNamespace(archive=world.redis, stream=self._stream, pubsub=self._pubsub)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bus, "Bus", lambda *_, **__: bus_)
            patch.setattr(auth, "Authenticator", self._authenticator)
            patch.setattr(assembly, "Tickets", lambda words, **_: Tickets(world.site, words))
            self.parts = assembly.Assembly(CONFIG, world.metrics)
        self.parts.ledger._most = 1
        logins_: Any = self.parts.logins
        logins_.entered = functools.partial(self._entered, logins_.entered)
        context = contextvars.copy_context()
        context.run(_gate.set, self._gate)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work, context=context) for work in self.parts.run()]

    def _authenticator(self, vocabulary: Any, **options: Any) -> Authenticator:
        return Authenticator(self.world.site, vocabulary, options["position"])

    def _entered(self, entered: Callable[[Client], Any], client: Client) -> Any:
        link: Any = client._socket
        link.let_in()
        return entered(client)

    async def _stream(self) -> AsyncIterator[Batch | Positioned]:
        while True:
            yield await self._queue.get()

    async def _pubsub(self) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        raise AssertionError
        yield

    @property
    def held(self) -> bool:
        """Whether it is in the middle of a fan-out."""
        return self.parts.relay.one_at_a_time.locked()

    @property
    def gated(self) -> bool:
        """Whether it may be waiting for leave to go on."""
        return self._gate.left is not None

    def read(self, most: int, hold: int | None) -> None:
        """Read what the stream has, and stay in the middle of the fan-out if there is one."""
        if self.world.redis.away:
            return
        for item in self.world.redis.read(self.epoch, self._read, most):
            if isinstance(item, Positioned):
                self.epoch, self._read = item.epoch, parse_position(item.last_id)
                self.world.jumped(self)
            else:
                self._read = parse_position(item.entries[-1][0] or "")
            self._queue.put_nowait(item)
        if hold is not None:
            self._gate.close(hold)

    def go_on(self) -> None:
        """Finish the fan-out."""
        self._gate.open()

    def turn(self) -> None:
        """Do what is due by the clock."""
        self.parts.server.tick(asyncio.get_running_loop().time())

    def end(self) -> None:
        """Be killed."""
        self.alive = False
        admission: Any = self.parts.server._admission
        for task in (*self._tasks, *admission._tasks):
            task.cancel()

    def check(self) -> None:
        """Find everything at work that has to be, and everybody gone who was sent away."""
        for task in self._tasks:
            if task.done():
                task.result()
        assert not self.held or self._gate.left is not None, "the lock was never given back"


def make_small(patch: pytest.MonkeyPatch, loop: Loop) -> None:
    """Make everything else small, let every turn be a short one, and the time that of the loop."""
    patch.setattr(history, "BLOCK_BYTES", 600)
    patch.setattr(hub, "_MOST_RULES", 2)
    patch.setattr(relay, "_SLICE", 1)
    patch.setattr(relay_feeder, "_SLICE", 1)
    patch.setattr(timers, "_SLOTS", 2)
    patch.setattr(rechecks, "AT_ONCE", 2)
    patch.setattr(rechecks_sweep, "AT_ONCE", 2)
    patch.setattr(relay, "asyncio", _Asyncio())
    for module in (logins, rechecks, rechecks_readings, rechecks_sweep, relay, relay_feeder):
        patch.setattr(module, "time", loop)
