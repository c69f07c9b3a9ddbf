"""The composition root: builds every part, joins them, and owns their start and their stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import resource
import signal
from typing import TYPE_CHECKING, Any, Final

import structlog

import notifyd
from notifyd.core.addresses import parse_address
from notifyd.core.audience import Vocabulary
from notifyd.core.hub import Hub
from notifyd.core.limits import Buckets
from notifyd.core.login import Refused, Result
from notifyd.core.session import Policy
from notifyd.daemon import auth, bus, control, listener
from notifyd.daemon.admission import Admission
from notifyd.daemon.endpoints import Endpoints
from notifyd.daemon.metrics import Metrics
from notifyd.daemon.overview import Overview
from notifyd.daemon.peers import Peers
from notifyd.daemon.relay import Relay
from notifyd.daemon.server import Server
from notifyd.daemon.systemd import Notifier
from notifyd.daemon.timers import Timers

if TYPE_CHECKING:
    from notifyd.core.login import Login
    from notifyd.core.protocol import Hello
    from notifyd.daemon.client import Client
    from notifyd.daemon.config import Config

log = structlog.stdlib.get_logger()

_TICK: Final = 0.25
"""Seconds between two turns of the one timer for all clients."""

_STATUS_EVERY: Final = 5.0
"""Seconds between two status lines for `systemctl status`."""

_RESERVED_DESCRIPTORS: Final = 200
"""Left to the database, Redis, the admin listener and the log when connections fill the rest."""

_KERNEL_DESCRIPTORS: Final = 1_048_576
"""The kernel's own bound on descriptors, /proc/sys/fs/nr_open, as it is everywhere."""

_ADDRESSES: Final = 10_000
"""Addresses whose failed authentications are remembered at a time."""

_LOOPBACK_ORIGINS: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


class Service:
    """The daemon. Build it inside a running event loop from a configuration that was resolved."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._listeners: list[listener.Listener] = []
        self.metrics = Metrics()
        self._notifier = Notifier()
        self._hub: Hub[Client] = Hub()
        self._relay = Relay(
            self._hub,
            # The server exists later: it needs the relay.
            resync=lambda reason: self._server.resync(reason),  # noqa: PLW0108 - see above
            observe_latency=self.metrics.broadcast_latency_seconds.observe,
            observe_fanout=self.metrics.fanout_seconds.observe,
        )
        self._bus = bus.Bus(
            config.redis.url,
            prefix=config.redis.prefix,
            channel=config.redis.channel,
            timeout=config.redis.timeout,
            history=config.redis.history,
        )
        self._authenticator = auth.Authenticator(
            Vocabulary(),
            threads=config.auth.threads,
            timeout=config.auth.timeout,
            statement_timeout=config.auth.statement_timeout,
            unscoped=config.auth.unscoped,
            failures=Buckets(
                config.auth.failures_per_second, config.auth.failures_burst, _ADDRESSES
            ),
            observe=self.metrics.authentication_seconds.observe,
        )
        self._server = self._build_server(config)
        self._overview = Overview(
            self._hub, self._server, self._relay, self._bus, self._authenticator
        )
        self._overview.wire(self.metrics)
        self._endpoints = Endpoints(render=self.metrics.render, ready=self._overview.failing)
        self._control = control.ControlServer(
            config.control.socket or control.default_path(os.environ),
            {"status": self._overview.status},
        )

    def _build_server(self, config: Config) -> Server:
        options = config.server
        admission = Admission(
            self._hub,
            self._relay,
            self._authenticate,
            Peers(options.trusted_proxies).address,
            path=options.path,
            most_per_address=options.max_connections_per_address,
            most_per_user=options.max_connections_per_user,
            ping=options.ping_interval,
        )
        timers = Timers(
            handshake=options.handshake_timeout,
            hello=options.hello_timeout,
            farewell=options.close_timeout,
            interval=options.ping_interval,
            answer=options.ping_timeout,
        )
        policy = Policy(
            # No Origin: not a browser, and so no page that could misuse somebody's session.
            origins=[None, *(options.origins or [_LOOPBACK_ORIGINS])],
            max_message=options.max_message,
            messages_per_second=options.messages_per_second,
        )
        return Server(
            self._hub,
            self._relay,
            admission,
            timers,
            policy,
            max_connections=options.max_connections or _room(_descriptors()),
            buffer=options.buffer,
            total_buffer=options.total_buffer,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then close the clients and return.

        Raises ListenError where an address is taken, ControlError where a daemon runs already.
        """
        self._catch_signals()
        log.info("service.starting", version=notifyd.__version__, pid=os.getpid())
        async with contextlib.AsyncExitStack() as stack:
            await self._open_listeners(stack)
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._relay.run(self._bus.stream())),
                    tasks.create_task(self._relay.run(self._bus.pubsub())),
                    tasks.create_task(self._tick()),
                    tasks.create_task(self._report()),
                ]
                await _any_of(self._bus.decided, self._stop)
                if not self._stop.is_set():
                    self._be_ready()
                await self._stop.wait()
                await self._close_clients()
                for task in running:
                    task.cancel()
            await self._bus.close()
            await self._authenticator.close()
        log.info("service.stopped")

    def _be_ready(self) -> None:
        # What lives as long as the process is not looked at again by the collector.
        gc.collect()
        gc.freeze()
        self._notifier.ready()
        log.info("service.started", redis=self._bus.stats.proof is not None)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _open_listeners(self, stack: contextlib.AsyncExitStack) -> None:
        admin = parse_address(self._config.admin.listen)
        await self._control.start()
        stack.push_async_callback(self._control.close)
        try:
            await self._endpoints.start(host=admin.host, port=admin.port, path=admin.path or None)
        except OSError as error:
            words = (
                f"can't listen on {self._config.admin.listen} ([admin] listen): {error.strerror}"
            )
            raise listener.ListenError(words) from error
        stack.push_async_callback(self._endpoints.close)
        for text in self._config.server.listen:
            address = parse_address(text)
            for sock in listener.bind(address.host, address.port, address.path or None):
                opened = listener.Listener(sock, self._server.accepted)
                stack.callback(opened.close)
                self._listeners.append(opened)
                self._overview.listeners.append(opened.address)
                log.info("listener.opened", address=opened.address)
        log.info("listener.opened", address=self._endpoints.address, serves="admin")

    async def _close_clients(self) -> None:
        options = self._config.server
        self._overview.stopping = True
        log.info("service.stopping", connections=len(self._server.clients))
        self._notifier.stopping()
        self._notifier.status("Closing connections")
        for each in self._listeners:
            each.close()
        await self._server.drain(options.drain, options.close_timeout)
        self._notifier.status(f"Stopped; {len(self._server.clients)} connections cut")

    async def _authenticate(self, hello: Hello, address: str | None) -> Login:
        if hello.token is None:
            self._authenticator.results[Result.INVALID] += 1
            raise Refused(Result.INVALID, "a ticket, which this version does not know")
        return await self._authenticator.authenticate(hello.token, bare=hello.bare, address=address)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        watchdog = self._notifier.watchdog_interval(os.environ, os.getpid())
        fed = loop.time()
        due = loop.time()
        while True:
            due += _TICK
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            self._overview.loop_lag = now - due
            # After a stall, go on from here: the turns that were missed are over.
            due = max(due, now - _TICK)
            self._server.tick(now)
            if watchdog is not None and now - fed >= watchdog:
                self._notifier.watchdog()
                fed = now

    async def _report(self) -> None:
        while True:
            self._notifier.status(self._overview.line())
            await asyncio.sleep(_STATUS_EVERY)


async def _any_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _descriptors() -> int:
    """Raise the limit on open descriptors as far as it goes, and return it (getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _KERNEL_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _room(descriptors: int) -> int:
    """Return how many connections fit beside everything else that needs a descriptor."""
    return max(descriptors - _RESERVED_DESCRIPTORS, descriptors // 2)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log.error("service.error", message=context["message"], error=repr(error) if error else None)
