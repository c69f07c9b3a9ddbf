"""The daemon as a whole: its parts are built by `assembly`; here is their start and their stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from typing import TYPE_CHECKING, Any, Final

import structlog

import notifyd
from notifyd.daemon import control, logs, tracing
from notifyd.daemon.assembly import Assembly
from notifyd.daemon.endpoints import Endpoints
from notifyd.daemon.metrics import Metrics
from notifyd.daemon.overview import Overview
from notifyd.daemon.service_explain import Explain
from notifyd.daemon.service_handover import Handover, ask, kept
from notifyd.daemon.service_listeners import Listeners
from notifyd.daemon.service_reload import Reload
from notifyd.daemon.service_status import Status
from notifyd.daemon.systemd import Notifier
from notifyd.daemon.systemd_sockets import Passed
from notifyd.daemon.systemd_store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.daemon.config import Config
    from notifyd.daemon.listener import Listener
    from notifyd.daemon.service_handover import Inheritance

log = structlog.stdlib.get_logger()

_TICK: Final = 0.25
"""Seconds between two turns of the one timer for all clients."""

_COLLECT: Final = (10_000, 10, 50)
"""When the collector runs (gc.set_threshold). A client leaves no cycle behind, and of ten thousand
that return together every one would be looked at several times, for an eighth of the work."""

_SPARE: Final = 5.0
"""Seconds that the rest of a stop may take: Redis and the database are left."""

_FLUSH: Final = 1.0
"""Seconds that the last spans may take to be sent, at the very end of a stop."""

_REPORT_EVERY: Final = 5.0
"""Seconds between two status lines for `systemctl status`, and two looks at a database away."""


class Service:
    """The daemon. Build it inside a running event loop from a configuration that was resolved.

    `read` returns the configuration as it is now, and warnings; it raises ConfigError. With
    `take_over` the service first takes the clients of the daemon that runs, which then ends.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], tuple[Config, list[str]]],
        *,
        take_over: bool = False,
    ) -> None:
        self._take_over = take_over
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self.metrics = Metrics()
        self._notifier = Notifier()
        self._spans = tracing.start(os.environ)
        trace = self._spans.passed if self._spans else None
        self._parts = parts = Assembly(config, self.metrics, trace=trace)
        self._reload = Reload(parts, self._notifier, read)
        self._overview = Overview(parts, self._reload.stats)
        self._overview.wire(self.metrics)
        self._status = Status(parts, self._overview, self._reload.stats, logs.remember())
        self._endpoints = Endpoints(
            render=self.metrics.render,
            ready=self._overview.failing,
            details=self._overview.details,
        )
        self._passed = Passed(os.environ, os.getpid())
        self._store = Store(os.environ)
        self._handover = Handover(parts, self._store, stop=self._stop.set)
        commands = {
            "status": self._status.command,
            "explain": Explain(parts, self._overview).command,
            "disconnect": parts.disconnect,
            "handover": self._handover.command,
            "reload": self._reload.command,
        }
        self._control = control.ControlServer(
            config.control.socket or control.default_path(os.environ), commands
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then close the clients, or hand them over, and return.

        Raises ListenError where an address is taken, ControlError where a daemon runs already,
        HandoverError where one that was asked for its clients gave none.
        """
        self._catch_signals()
        gc.set_threshold(*_COLLECT)
        log.info("service.starting", version=notifyd.__version__, pid=os.getpid())
        inheritance = await self._inherit()
        if inheritance is not None:
            inheritance.resume(self._parts)
        async with contextlib.AsyncExitStack() as stack:
            await self._open_listeners(stack, inheritance)
            if inheritance is not None:
                await inheritance.take(self._parts)
            async with asyncio.TaskGroup() as tasks:
                work = [*self._parts.run(), self._tick(), self._report()]
                running = [tasks.create_task(each) for each in work]
                await _any_of(self._parts.bus.decided, self._stop)
                if not self._stop.is_set():
                    self._be_ready()
                await self._stop.wait()
                if self._handover.wanted:
                    await self._hand_over()
                else:
                    await self._close_clients()
                for task in running:
                    task.cancel()
            await self._parts.bus.close()
            await self._parts.authenticator.close()
        self._handover.deliver()
        if self._spans is not None:
            self._spans.close(_FLUSH)
        # Folded lines come before the last one.
        logs.flush()
        log.info("service.stopped")

    def _be_ready(self) -> None:
        # What lives as long as the process is not looked at again by the collector.
        gc.collect()
        gc.freeze()
        self._notifier.ready()
        log.info("service.started", redis="stream" in self._parts.bus.stats.proofs)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)

    def _reload_by_signal(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload.signalled())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _open_listeners(
        self, stack: contextlib.AsyncExitStack, inheritance: Inheritance | None
    ) -> None:
        await self._control.start()
        stack.push_async_callback(self._control.close)
        inherited = inheritance.listeners if inheritance else ()
        listeners = Listeners(self._parts.config, self._passed, inherited)
        await listeners.open(stack, self._endpoints, self._parts.server.accepted)
        self._listeners = listeners.public
        self._overview.listeners = [each.address for each in self._listeners]

    async def _inherit(self) -> Inheritance | None:
        """Return what another process has left, to the service manager or on request."""
        if self._take_over:
            return await ask(self._control.path)
        return kept(self._passed, self._store)

    async def _hand_over(self) -> None:
        self._overview.stopping = True
        self._notifier.stopping()
        self._notifier.status("Handing connections over")
        await self._handover.prepare([each.detach() for each in self._listeners])

    async def _close_clients(self) -> None:
        options = self._parts.config.server
        self._overview.stopping = True
        log.info("service.stopping", connections=len(self._parts.server.clients))
        self._notifier.stopping()
        self._notifier.status("Closing connections")
        # The closing handshakes, and the aborts of those who don't finish theirs.
        self._notifier.extend(2 * options.close_timeout + _SPARE)
        for each in self._listeners:
            each.close()
        await self._parts.server.drain(options.drain, options.close_timeout)
        self._notifier.status(f"Stopped; {len(self._parts.server.clients)} connections cut")

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        watchdog = self._notifier.watchdog_interval(os.environ, os.getpid())
        fed = loop.time()
        due = loop.time()
        while True:
            due += _TICK
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            self._overview.turned(now - due)
            self._status.turned(now)
            # After a stall, go on from here: the turns that were missed are over.
            due = max(due, now - _TICK)
            self._parts.server.tick(now)
            logs.tick()
            if watchdog is not None and now - fed >= watchdog:
                self._notifier.watchdog()
                fed = now

    async def _report(self) -> None:
        while True:
            self._notifier.status(self._overview.line())
            self._parts.authenticator.probe()
            await asyncio.sleep(_REPORT_EVERY)


async def _any_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log.error("service.error", message=context["message"], error=repr(error) if error else None)
