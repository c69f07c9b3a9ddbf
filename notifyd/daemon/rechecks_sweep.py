"""The sweep: everybody is read anew every few minutes, because not every change has a signal."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, Generic

import structlog

from notifyd.core.deadlines import Agenda
from notifyd.core.login import Refused
from notifyd.daemon.rechecks import AT_ONCE, PATIENCE
from notifyd.daemon.rechecks_readings import Member

if TYPE_CHECKING:
    from notifyd.core.hub import Hub
    from notifyd.daemon.rechecks_readings import Readings

log = structlog.stdlib.get_logger()

_STEP: Final = 1.0
"""Seconds between two looks at who is due."""

_JITTER: Final = 0.2
"""The part of the interval over which those who came together are spread."""


class Sweep(Generic[Member]):
    """Reads each connected user anew, `interval` seconds after the last time at most.

    Their clients stay live meanwhile. If it fails they keep what they may see, and the failure is
    logged and counted: only orders are so urgent that nobody may go on without being read. Another
    interval counts for each user when the present one is over.
    """

    def __init__(self, hub: Hub[Member], readings: Readings[Member], *, interval: float) -> None:
        self._hub = hub
        self._readings = readings
        self.interval = interval
        self._agenda = Agenda[str]()

    def entered(self, user: str, read_at: float) -> None:
        """Take in a user who was read at that Unix time, unless the user is in already."""
        if user not in self._agenda:
            self._schedule(user, time.time() - read_at)

    async def run(self) -> None:
        """Read those who are due, for ever."""
        while True:
            await asyncio.sleep(min(_STEP, self.interval / 10))
            while users := self._agenda.due(time.monotonic(), AT_ONCE):
                await self._sweep([user for user in users if user in self._hub])

    def _schedule(self, user: str, age: float = 0.0) -> None:
        spread = 1 - _JITTER * random.random()  # noqa: S311 - no secret
        self._agenda.add(user, time.monotonic() + max(0.0, self.interval * spread - age))

    async def _sweep(self, users: list[str]) -> None:
        if not users:
            return
        try:
            reading = await self._readings.read(users, PATIENCE)
        except Refused as refused:
            log.error("sweep.failed", users=len(users), detail=str(refused))  # noqa: TRY400 - the database's fault, at every attempt
        else:

            def apply() -> None:
                for user in users:
                    reading.apply(user, suspended=False)

            self._readings.at_boundary(apply)
        for user in users:
            self._schedule(user)
