"""The parts of the daemon: each built once, with the others that it needs as plain arguments.

They stand in the order of an event's way. What is built first reaches what is built later only by
a function that is called later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from notifyd.core.audience import Vocabulary
from notifyd.core.history import History
from notifyd.core.hub import Hub
from notifyd.core.ledger import Ledger
from notifyd.core.positions import format_position
from notifyd.daemon import auth, bus
from notifyd.daemon.admission import Admission
from notifyd.daemon.control import ControlError
from notifyd.daemon.logins import Logins
from notifyd.daemon.peers import Peers
from notifyd.daemon.rechecks import Rechecks
from notifyd.daemon.rechecks_past import Past
from notifyd.daemon.rechecks_readings import Readings
from notifyd.daemon.rechecks_sweep import Sweep
from notifyd.daemon.relay import Relay
from notifyd.daemon.relay_backlog import Backlog
from notifyd.daemon.relay_feeder import Feeder
from notifyd.daemon.server import Server
from notifyd.daemon.server_acknowledgements import Sample
from notifyd.daemon.server_debts import Debts
from notifyd.daemon.server_succession import Succession
from notifyd.daemon.service_limits import failures, most_connections, policy, times
from notifyd.daemon.tickets import Tickets
from notifyd.daemon.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from notifyd.core.audience import Audience
    from notifyd.core.handover import State
    from notifyd.core.login import Login
    from notifyd.core.positions import Position
    from notifyd.core.traceparent import Passage
    from notifyd.daemon.client import Client
    from notifyd.daemon.config import Config
    from notifyd.daemon.metrics import Metrics


_FAILURES: Final = frozenset({"auth.failures_per_second", "auth.failures_burst"})
"""Where neither has changed, who has failed so far is still known after a reload."""


class Assembly:
    """Everything between the bus and the browsers. Build it inside a running event loop.

    `trace` is called for each event whose trace is recorded.
    """

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        *,
        trace: Callable[[Passage], None] | None = None,
    ) -> None:
        self.config = config
        self.hub: Hub[Client] = Hub()
        self.ledger = Ledger()
        self.history = History(config.server.history)
        self.bus = bus.Bus(
            config.redis.url,
            prefix=config.redis.prefix,
            channel=config.redis.channel,
            timeout=config.redis.timeout,
            history=config.redis.history,
        )
        self.feeder = Feeder(
            self.hub,
            self.history,
            left_behind=lambda client: self.debts.left_behind(client),  # noqa: PLW0108 - built later
        )
        self.relay = Relay(
            self.hub,
            self.history,
            self.feeder,
            obey=lambda position, order: self.rechecks.obey(position, order),  # noqa: PLW0108 - built later
            restarted=self._restarted,
            observe_latency=metrics.observe_latency,
            observe_fanout=metrics.fanout_seconds.observe,
            trace=trace,
        )
        self.backlog = Backlog(
            self.history,
            self.feeder,
            self.bus.archive,
            epoch=lambda: self.relay.epoch,
            guard=self.relay.one_at_a_time,
        )
        self.vocabulary = Vocabulary()
        self.authenticator = self._build_authenticator(self.vocabulary, metrics)
        self._build_rechecks(metrics)
        self._build_logins(self.vocabulary)
        self._build_server(metrics)

    async def reconfigure(self, config: Config, changed: Collection[str]) -> None:
        """Take over what a reload may change; the rest of the configuration is as it was.

        All at once, but for the bus: when it moves, that is awaited.
        """
        self.config, options = config, config.server
        self.history.most = options.history
        self._peers.trust(options.trusted_proxies)
        self._timers.configure(times(options))
        self.admission.configure(
            path=options.path,
            most_per_address=options.max_connections_per_address,
            most_per_user=options.max_connections_per_user,
            acknowledge=options.acknowledge,
        )
        self.debts.configure(
            buffer=options.buffer,
            bare_buffer=options.bare_buffer,
            total_buffer=options.total_buffer,
        )
        self.server.configure(policy(options), max_connections=most_connections(options))
        self.authenticator.timeout = config.auth.timeout
        if not _FAILURES.isdisjoint(changed):
            self.authenticator.limit(failures(config.auth))
        self.logins.configure(ttl=config.auth.ticket_ttl, lifetime=config.auth.lifetime)
        self.sweep.interval = config.auth.sweep
        if "redis.url" in changed:
            await self.bus.move(config.redis.url)

    def run(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run for as long as the daemon does."""
        return [
            self.relay.run(self.bus.stream()),
            self.relay.run(self.bus.pubsub()),
            self.relay.feed(),
            self.backlog.run(),
            self.rechecks.run(),
            self.sweep.run(),
        ]

    def resume(self, state: State) -> None:
        """Go on from where another process has stopped, before anything runs here."""
        if state.epoch is None or state.position is None:
            return
        self.bus.resume(state.epoch, format_position(state.position))
        self.relay.resume(state.epoch, state.position)
        self.ledger.reset(state.position)

    async def disconnect(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer `notifyd disconnect`: by the bus, so that every daemon of the site does it."""
        users = arguments.get("users")
        if not isinstance(users, list) or not users or not all(type(u) is str for u in users):
            raise ControlError("say whom to disconnect: a list of primary keys of users")
        here = sum(map(self.hub.connections, users))
        options = self.config.redis
        try:
            id_ = await bus.order(
                options.url,
                prefix=options.prefix,
                body={"disconnect": {"users": users}},
                maxlen=options.maxlen,
            )
        except bus.BusError as error:
            raise ControlError(f"Redis was not told, and perhaps nobody: {error}") from error
        return {"users": users, "connections": here, "id": id_}

    def _build_authenticator(self, vocabulary: Vocabulary, metrics: Metrics) -> auth.Authenticator:
        options = self.config.auth
        return auth.Authenticator(
            vocabulary,
            threads=options.threads,
            timeout=options.timeout,
            statement_timeout=options.statement_timeout,
            unscoped=options.unscoped,
            failures=failures(options),
            observe=metrics.authentication_seconds.observe,
            position=lambda: self.relay.last_id,
        )

    def _build_rechecks(self, metrics: Metrics) -> None:
        self.readings = Readings(
            self.hub,
            self.ledger,
            self.authenticator.read,
            put=self._put,
            at_boundary=self.relay.at_boundary,
        )
        self.rechecks = Rechecks(self.hub, self.readings, observe=metrics.recheck_seconds.observe)
        self.sweep = Sweep(self.hub, self.readings, interval=self.config.auth.sweep)

    def _build_logins(self, vocabulary: Vocabulary) -> None:
        options = self.config.auth
        self.logins = Logins(
            self.authenticator,
            Tickets(vocabulary, ttl=options.ticket_ttl, lifetime=options.lifetime),
            self.ledger,
            Past(self.ledger, self.bus.archive, epoch=lambda: self.relay.epoch),
            self.relay,
            ttl=options.ticket_ttl,
            lifetime=options.lifetime,
            entered=self.sweep.entered,
        )

    def _build_server(self, metrics: Metrics) -> None:
        options = self.config.server
        self._peers = Peers(options.trusted_proxies)
        self.admission = Admission(
            self.hub,
            self.relay,
            self.logins,
            self.backlog,
            self._peers.address,
            path=options.path,
            most_per_address=options.max_connections_per_address,
            most_per_user=options.max_connections_per_user,
            acknowledge=options.acknowledge,
            ping=options.ping_interval,
        )
        self._timers = Timers(
            self.relay,
            times(options),
            interval=options.ping_interval,
            position_of=self._position_of,
            ticket_frame=self.logins.ticket_frame,
        )
        self.debts = Debts(
            self.feeder,
            self.relay,
            self._timers,
            buffer=options.buffer,
            bare_buffer=options.bare_buffer,
            total_buffer=options.total_buffer,
        )
        self.sample = Sample(
            lambda: self.relay.begun,
            history=self.config.redis.history,
            observe=metrics.observe_client_latency,
        )
        self.server = Server(
            self.relay,
            self.admission,
            self._timers,
            self.debts,
            policy(options),
            leave=self.feeder.leave,
            acknowledged=self.sample.acknowledged,
            max_connections=most_connections(options),
        )
        self.succession = Succession(
            self.server, self.relay, place_of=self._place_of, settle=self._settle
        )

    def _put(self, client: Client, user: str, audience: Audience | None) -> None:
        position = self.relay.position
        assert position is not None, "without a position nobody is suspended"
        self.feeder.put(client, user, audience, position)

    def _place_of(self, client: Client) -> tuple[Position, bool] | None:
        position = self.feeder.position(client)
        return None if position is None else (position, self.feeder.audience(client) is not None)

    def _settle(
        self, client: Client, login: Login, position: Position | None, *, known: bool
    ) -> None:
        """Let a client of another process have events from a position on."""
        self.sweep.entered(login.user, login.read_at)
        if position is None:
            # That process never reached Redis, and this one has not yet.
            self.hub.join(client, login.user, login.audience)
            client.caught_up()
            return
        self.feeder.put(client, login.user, login.audience if known else None, position)
        if not known:
            self.rechecks.require(login.user)

    def _restarted(self, position: Position, reason: str) -> None:
        self.server.resync(reason)
        self.rechecks.restart(position)

    def _position_of(self, client: Client) -> str | None:
        position = self.feeder.position(client)
        return None if position is None else format_position(position)
