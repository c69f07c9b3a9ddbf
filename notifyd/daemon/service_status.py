"""What `notifyd status` is told: the state of all parts, how much happens, and what goes wrong."""

from __future__ import annotations

import datetime as dt
import heapq
import os
import time
from typing import TYPE_CHECKING, Any, Final

import notifyd
from notifyd.core.login import Result
from notifyd.core.positions import format_position
from notifyd.core.rates import Rates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.client import Client
    from notifyd.daemon.logs_recent import Recent
    from notifyd.daemon.overview import Overview
    from notifyd.daemon.service_reload import ReloadStats

_WINDOW: Final = 10.0
"""Seconds that the rates are about."""

_SAMPLE: Final = 1.0
"""Seconds between two looks at the counters."""

SLOWEST: Final = 10
"""How many slow clients are named."""


class Status:
    """Answers `notifyd status`; have `turned` called at every turn of the service's timer."""

    def __init__(
        self, parts: Assembly, overview: Overview, reloads: ReloadStats, recent: Recent
    ) -> None:
        self._parts = parts
        self._overview = overview
        self._reloads = reloads
        self._recent = recent
        self._started = time.monotonic()
        self._rates = Rates(_WINDOW, _SAMPLE)

    def turned(self, now: float) -> None:
        """Look at the counters if it is time to, by any monotonic clock."""
        if self._rates.due(now):
            counters = {
                "events": sum(self._parts.relay.stats.events.values()),
                "deliveries": self._overview.deliveries,
                "logins": self._parts.authenticator.results[Result.OK],
            }
            self._rates.add(now, counters)

    async def command(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer `status`."""
        parts, relay = self._parts, self._parts.relay
        rates = self._rates.per_second()
        return {
            "version": notifyd.__version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started, 3),
            "configuration": self._configuration(),
            "failing": dict(self._overview.failing()),
            "listeners": self._overview.listeners,
            "connections": parts.server.phases(),
            "users": parts.hub.users,
            "audiences": parts.hub.audiences,
            "rechecks_waiting": len(parts.rechecks),
            "history_seconds": round(parts.history.seconds, 3),
            "bus": self._bus(),
            "events": dict(relay.stats.events),
            "rejected": sum(relay.stats.rejected.values()),
            "deliveries": self._overview.deliveries,
            "authentications": dict(parts.authenticator.results),
            "per_second": {name: round(rate, 1) for name, rate in rates.items()},
            "slowest_clients": self._slowest(),
            "recent_errors": self._recent.lines(),
        }

    def _configuration(self) -> dict[str, Any]:
        read_at = dt.datetime.fromtimestamp(self._reloads.succeeded_at, dt.UTC)
        return {
            "read_at": read_at.isoformat(timespec="seconds"),
            "last_reload_successful": self._reloads.successful,
        }

    def _bus(self) -> dict[str, Any]:
        stats, relay = self._parts.bus.stats, self._parts.relay
        away = stats.down_since
        return {
            "up": stats.up,
            "address": self._parts.bus.address,
            "away_seconds": None if away is None else round(time.monotonic() - away, 1),
            "epoch": relay.epoch,
            "last_id": relay.last_id,
            "lag": round(relay.stats.lag, 3),
            "proof_age": {source: round(age, 1) for source, age in stats.ages().items()},
            "reconnects": stats.reconnects,
            "gaps": stats.gaps,
        }

    def _slowest(self) -> list[dict[str, Any]]:
        """Return the clients that owe the most, and then those that are the furthest behind."""
        parts = self._parts
        slow = {*parts.debts.owing, *parts.feeder.members}
        rows = [(client.owed, parts.feeder.lag(client), client.number, client) for client in slow]
        return [
            {
                "user": client.user,
                "address": client.address or client.peer,
                "connection": number,
                "owed": owed,
                "behind_seconds": behind,
                "position": self._position(client),
            }
            for owed, behind, number, client in heapq.nlargest(SLOWEST, rows)
        ]

    def _position(self, client: Client) -> str | None:
        position = self._parts.feeder.position(client)
        return self._parts.relay.last_id if position is None else format_position(position)
