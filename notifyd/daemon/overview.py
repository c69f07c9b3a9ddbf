"""What the daemon says of itself: readiness and metrics, read from its parts when asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from notifyd.daemon.metrics_table import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.metrics import Metrics
    from notifyd.daemon.service_reload import ReloadStats

_PATIENCE: Final = 5.0
"""Seconds without Redis before readiness turns red: a blip should not empty a load balancer."""

_STALL: Final = 0.1
"""Seconds that the event loop may be late without having stalled: less is everyday work."""


class Overview:
    """Looks at the parts of a service; the service tells it the rest, in its public attributes."""

    def __init__(self, parts: Assembly, reloads: ReloadStats) -> None:
        self._parts = parts
        self._reloads = reloads
        self._hub = parts.hub
        self._server = parts.server
        self._relay = parts.relay
        self._bus = parts.bus
        self._authenticator = parts.authenticator
        self.listeners: list[str] = []
        self.stopping = False
        self._loop_lag = 0.0
        self._stalled = 0.0

    def turned(self, late: float) -> None:
        """Take note that the event loop has run a timer, this many seconds late."""
        self._loop_lag = late
        if late > _STALL:
            self._stalled += late

    def line(self) -> str:
        """Return the state in words, for `systemctl status`."""
        redis = "Redis connected" if self._bus.stats.up else "Redis away"
        reload = "" if self._reloads.successful else ", the latest reload failed"
        return (
            f"{len(self._hub)} clients of {self._hub.users} users, {redis}, "
            f"{self.deliveries} deliveries{reload}"
        )

    @property
    def deliveries(self) -> int:
        """How many events were written to clients, live and later."""
        return self._relay.stats.deliveries + self._parts.feeder.stats.deliveries

    def failing(self) -> Mapping[str, str]:
        """Return the checks of readiness that fail, each with words; none: ready."""
        failing = {}
        if self.stopping:
            failing["draining"] = "the daemon is stopping"
        if not self.listeners:
            failing["listeners"] = "not listening yet"
        away = self._bus.stats.down_since
        if away is not None and time.monotonic() - away >= _PATIENCE:
            failing["redis"] = f"away for {time.monotonic() - away:.0f} s"
        if self._authenticator.database is False:
            waiting = len(self._parts.rechecks)
            users = f"; {waiting} connected users get nothing until then" if waiting else ""
            failing["database"] = f"it could not be read the last time{users}"
        return failing

    def details(self) -> Mapping[str, Any]:
        """Return what `/readyz?verbose` tells: every check, and how sure the bus is."""
        failing, stats = self.failing(), self._bus.stats
        return {
            "failing": dict(failing),
            "checks": {check: failing.get(check, "ok") for check in CHECKS},
            "bus": {
                "up": stats.up,
                "last_id": self._relay.last_id,
                "proof_age": {source: round(age, 3) for source, age in stats.ages().items()},
            },
        }

    def _passed(self) -> Mapping[str, bool]:
        failing = self.failing()
        return {check: check not in failing for check in CHECKS}

    def wire(self, metrics: Metrics) -> None:
        """Let the metrics read their counters and gauges here, at each scrape."""
        server, relay, link = self._server.stats, self._relay.stats, self._bus.stats
        replay, sample = self._parts.feeder.stats, self._parts.sample.stats
        readers: dict[str, Callable[[], Any]] = {
            "ready": self._passed,
            "connections": self._server.phases,
            "connections_opened_total": lambda: server.opened,
            "connections_closed_total": lambda: server.closed,
            "connections_refused_total": lambda: server.refused,
            "authentications_total": lambda: self._authenticator.results,
            "events_total": lambda: relay.events,
            "events_rejected_total": lambda: relay.rejected,
            "deliveries_total": lambda: relay.deliveries + replay.deliveries,
            "delivered_bytes_total": lambda: relay.delivered_bytes + replay.delivered_bytes,
            "replayed_total": lambda: replay.deliveries,
            "pubsub_missed_total": lambda: relay.missed,
            "broadcast_latency_clamped_total": lambda: relay.clamped,
            "client_latency_clamped_total": lambda: sample.clamped,
            "acknowledgements_total": lambda: sample.acknowledgements,
            "bus_lag_seconds": lambda: relay.lag,
            "bus_proof_age_seconds": link.ages,
            "redis_up": lambda: int(link.up),
            "redis_reconnects_total": lambda: link.reconnects,
            "events_recovered_total": lambda: link.recovered,
            "gaps_total": lambda: link.gaps,
            "handover_connections_total": lambda: self._parts.succession.results,
            "history_seconds": lambda: self._parts.history.seconds,
            "rechecks_total": lambda: self._parts.readings.results,
            "rechecks_waiting": lambda: len(self._parts.rechecks),
            "clients_behind_total": lambda: self._parts.debts.behind,
            "slow_clients_total": lambda: self._parts.debts.slow,
            "messages_ignored_total": lambda: server.ignored,
            "event_loop_lag_seconds": lambda: self._loop_lag,
            "event_loop_stall_seconds_total": lambda: self._stalled,
            "config_last_reload_successful": lambda: int(self._reloads.successful),
            "config_last_reload_success_timestamp_seconds": lambda: self._reloads.succeeded_at,
        }
        for name, reader in readers.items():
            metrics.read(name, reader)
