"""What runs on the day: site, database, Redis, daemon and Prometheus, all of them real."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from daemons import Daemon, Site
from day.prometheus import Prometheus
from e2e.service_manager import ServiceManager
from postgres import PostgresServer
from servers import LOOPBACK, RedisServer, free_port
from waiting import until

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

PUBLISH_EVERY: Final = 0.2
"""Seconds between two events of the site."""

LOOK_EVERY: Final = 0.2
"""Seconds between two looks at Prometheus' alerts and at what the service manager is told."""

PATIENCE: Final = 90.0
"""Seconds that anything may take to be seen."""

# A daemon of the day holds this many pages, and no more when it is said to be full.
ROOM: Final = {"max_connections": 500}


class World:
    """Everything, running; and what Prometheus' alerts were, and when (Unix times).

    `ends` has the servers until it is closed, also those of a world that could not be completed.
    """

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        # In a folder of its own: the server may run as another user, who owns it.
        databases = ends.enter_context(tempfile.TemporaryDirectory(prefix="notifyd-"))
        self.postgres = ends.enter_context(PostgresServer(Path(databases)))
        self.postgres.create("newsroom")
        self.redis = ends.enter_context(RedisServer(folder, persistent=True))
        parts = self.postgres.parts("newsroom")
        database = f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/newsroom"
        self.site = ends.enter_context(Site(folder, self.redis.url, database))
        self.site.fill()
        self.manager = ends.enter_context(ServiceManager(folder / "notify"))
        self.address = f"{LOOPBACK}:{free_port()}"
        self.unix = str(folder / "public")
        self.file = folder / "notifyd.toml"
        admin = f"{LOOPBACK}:{free_port()}"
        self.daemon = Daemon(
            folder,
            self.site,
            server_listen=f"{self.address},unix:{self.unix}",
            admin_listen=admin,
            redis_timeout="1",
            NOTIFY_SOCKET=self.manager.path,
        )
        self.configure()
        self.prometheus = ends.enter_context(Prometheus(folder, admin))
        # For each alert when it was pending before it fired, first firing, and last firing.
        self.pending: dict[str, float] = {}
        self.fired: dict[str, float] = {}
        self.firing: dict[str, float] = {}
        # What the service manager was told last, and what chapters leave to others and to tests.
        self.status = ""
        self.old_token = ""
        self.morning = 0.0
        self.killed = 0.0
        self.noticed: dict[str, float] = {}
        self._asking = asyncio.Lock()
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.daemon.__exit__)

    def configure(self, **server: object) -> None:
        """Write the daemon's configuration file; what is named replaces what it has always."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in (ROOM | server).items()]
        self.file.write_text("\n".join(["[server]", *lines, ""]))

    def start(self) -> None:
        """Start the daemon."""
        self.daemon.start("--config", str(self.file))

    async def reload(self) -> bool:
        """Type `notifyd reload`, and return whether the daemon took the configuration."""
        done = await asyncio.to_thread(self.daemon.command, "reload", "--config", str(self.file))
        return bool(done.returncode == 0)

    async def watch(self) -> None:
        """Begin to look at the alerts, once Prometheus has found the daemon.

        That takes it five seconds from its start, whatever the day's factor.
        """
        await until(lambda: self.prometheus.value('up{job="notifyd"}') == 1, PATIENCE)
        await until(lambda: not self.prometheus.alerts(), PATIENCE)
        self._tasks.append(asyncio.create_task(self._watch()))

    def keep(self, *people: Any) -> None:
        """Have people there for the rest of the day."""
        self._tasks += [asyncio.create_task(each) for each in people]

    async def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the site something, by a method of it; its shell answers one at a time."""
        async with self._asking:
            return await asyncio.to_thread(question, *arguments)

    async def token(self, username: str, scope: str = "notifyd") -> str:
        """Return a new token, as the site's view would."""
        return str(await self.ask(self.site.token, username, scope))

    async def publish(self) -> None:
        """Have the site publish events with notify(), through every outage, until cancelled."""
        # A shell of its own: another one answers questions meanwhile.
        with Site(self.file.parent, self.redis.url, self.site.database) as newsroom:
            article = newsroom.content_type("article")
            newsroom.run(_BEGIN)
            while True:
                await asyncio.to_thread(newsroom.run, _NOTIFY.format(article=article))
                await asyncio.sleep(PUBLISH_EVERY)

    async def seen(self, alert: str) -> None:
        """Wait until an alert fires."""
        await until(lambda: alert in self.firing_now(), PATIENCE)

    def firing_now(self) -> set[str]:
        """Return the alerts that fired at the latest look."""
        return {name for name, at in self.firing.items() if at >= self._looked}

    async def quiet(self) -> None:
        """Wait until no alert is firing or pending."""
        await until(lambda: not self._present, PATIENCE)

    async def _watch(self) -> None:
        self._looked = time.time()
        self._present: set[str] = set()
        while True:
            alerts = await asyncio.to_thread(self.prometheus.alerts)
            self._looked = time.time()
            self._present = {alert["labels"]["alertname"] for alert in alerts}
            # What was pending and passed by itself is forgotten: its alert may come later.
            passed = self.pending.keys() - self.fired.keys() - self._present
            for name in passed:
                del self.pending[name]
            for alert in alerts:
                name = alert["labels"]["alertname"]
                self.pending.setdefault(name, self._looked)
                if alert["state"] == "firing":
                    self.fired.setdefault(name, self._looked)
                    self.firing[name] = self._looked
            told = [line for line in self.manager.heard() if line.startswith("STATUS=")]
            self.status = told[-1] if told else ""
            await asyncio.sleep(LOOK_EVERY)


# During the outage the site would complain of each event, here on the terminal of the tests.
_BEGIN: Final = """
import logging
from notifyd.django import notify
logging.getLogger("notifyd").addHandler(logging.NullHandler())
"""

_NOTIFY: Final = """
notify({{"model": "article", "words": "Something has happened"}}, content_types=[{article}])
"""
