"""The configuration changes while the daemon runs, and nobody is disconnected."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM
from e2e.service_manager import ServiceManager
from servers import RedisServer
from waiting import until
from websockets.exceptions import InvalidStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from e2e.clients import Pages

ORIGIN = "https://www.example.com"


@pytest.fixture
def site(folder: Path, redis_server: RedisServer, template: Path) -> Iterator[Site]:
    """Give a site of the test's own."""
    shutil.copy(template, folder / "newsroom.sqlite3")
    with Site(folder, redis_server.url) as site:
        yield site


class Configured:
    """A daemon with a configuration file that tests rewrite."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.file = folder / "notifyd.toml"
        self.manager = ServiceManager(folder / "notify")
        self.daemon = Daemon(folder, site, NOTIFY_SOCKET=self.manager.path)
        self.redis = site.environment["NEWSROOM_REDIS"]

    def write(self, **sections: dict[str, Any]) -> None:
        """Write the file."""
        text = ""
        for section, options in sections.items():
            text += f"[{section}]\n"
            text += "".join(f"{name} = {json.dumps(each)}\n" for name, each in options.items())
        self.file.write_text(text)

    def reload(self) -> tuple[int, str]:
        """Type `notifyd reload`; return its exit code and what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "notifyd", "reload", "--config", str(self.file)],
            env=self.daemon.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        # Ten messages that nobody reads are as many as the kernel keeps.
        self.manager.heard()
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
async def configured(folder: Path, site: Site) -> AsyncIterator[Configured]:
    """Give a running daemon with an empty configuration file."""
    configured = Configured(folder, site)
    configured.write()
    with configured.manager:
        configured.daemon.start("--config", str(configured.file))
        try:
            configured.daemon.wait_for_bus()
            yield configured
        finally:
            assert configured.daemon.stop() == 0


async def test_origins_and_limits(configured: Configured, site: Site, pages: Pages) -> None:
    """New clients are held to the new origins and limits, and those who are there stay."""
    daemon = configured.daemon
    page = await pages.hello(daemon, site.token("nadia"))
    with pytest.raises(InvalidStatus):
        await pages.connect(daemon.addresses[0], origin=ORIGIN)
    configured.write(server={"origins": [ORIGIN], "max_connections_per_user": 1})
    code, words = configured.reload()
    assert (code, words) == (0, "changed: server.origins, server.max_connections_per_user\n")
    other = await pages.connect(daemon.addresses[0], origin=ORIGIN)
    await other.connection.send(json.dumps({"token": site.token("nadia")}))
    assert (await other.closed())[0] == 4429
    assert page.open
    assert daemon.metric("config_last_reload_successful") == 1


@pytest.mark.long
async def test_a_bad_configuration(configured: Configured, site: Site, pages: Pages) -> None:
    """Where there is a fault nothing changes: the command and the log tell all of them."""
    daemon = configured.daemon
    page = await pages.hello(daemon, site.token("nadia"))
    socket = daemon.environment.pop("NOTIFYD_CONTROL_SOCKET")
    faulty = {"drain": -1, "max_message": 1}
    configured.write(control={"socket": socket}, server=faulty, log={"level": "debug"})
    code, words = configured.reload()
    daemon.environment["NOTIFYD_CONTROL_SOCKET"] = socket
    assert code == 1
    assert "server.drain" in words
    assert "server.max_message" in words
    assert "Nothing has changed" in words
    assert daemon.metric("config_last_reload_successful") == 0
    [line] = daemon.events("config.rejected", level="error")
    assert len(line["faults"]) == 2
    assert not daemon.events("connection.opened")
    assert page.open
    status = json.loads(daemon.command("status", "--json").stdout)
    assert status["configuration"]["last_reload_successful"] is False
    # The service manager was told of both ends of it.
    heard = configured.manager.heard()
    assert heard[heard.index("RELOADING=1") + 1].startswith("MONOTONIC_USEC=")
    assert heard.count("READY=1") == 2
    await until(lambda: "the latest reload failed" in configured.manager.heard()[-1])


@pytest.mark.long
async def test_the_level_of_the_log(configured: Configured, site: Site, pages: Pages) -> None:
    """The log tells more from then on; SIGHUP does what the command does."""
    daemon = configured.daemon
    configured.write(log={"level": "debug"})
    daemon.process.send_signal(signal.SIGHUP)
    await until(lambda: daemon.events("config.reloaded", changed=["log.level"]))
    await pages.hello(daemon, site.token("nadia"))
    assert daemon.events("connection.opened", level="debug")


@pytest.mark.long
async def test_the_level_of_a_part(configured: Configured, site: Site, pages: Pages) -> None:
    """One part of the log tells more from then on, and the others what they told before."""
    daemon = configured.daemon
    configured.write(log={"levels": ["connection=debug"]})
    assert configured.reload() == (0, "changed: log.levels\n")
    await pages.hello(daemon, site.token("nadia"))
    assert daemon.events("connection.opened", level="debug")
    assert {line["event"] for line in daemon.events(level="debug")} == {"connection.opened"}
    configured.write(log={"levels": ["conection=debug"]})
    code, words = configured.reload()
    assert code == 1
    assert "did you mean connection?" in words


async def test_acknowledgements(configured: Configured, site: Site, pages: Pages) -> None:
    """Pages that come from then on are asked to acknowledge more events, or none."""
    daemon = configured.daemon
    asked = []
    for part in (1, 0):
        configured.write(server={"acknowledge": part})
        assert configured.reload() == (0, "changed: server.acknowledge\n")
        page = await pages.hello(daemon, site.token("nadia"))
        asked.append((await page.control("welcome")).get("ack"))
    assert asked == [1, None]


async def test_what_needs_a_restart(configured: Configured) -> None:
    """What can't change while the daemon runs is named, and stays as it was."""
    configured.write(auth={"threads": 3}, server={"drain": 1.5})
    code, words = configured.reload()
    assert code == 0
    assert words == (
        "changed: server.drain\nfor a restart, which disconnects nobody: auth.threads\n"
    )


@pytest.mark.long
async def test_another_redis(
    configured: Configured, site: Site, pages: Pages, folder: Path, redis_server: RedisServer
) -> None:
    """The bus moves to another Redis; clients stay, are told to load anew, and get its events."""
    daemon = configured.daemon
    page = await pages.hello(daemon, site.token("nadia"))
    (folder / "other").mkdir()
    with RedisServer(folder / "other") as other:
        configured.write(redis={"url": other.url})
        assert configured.reload() == (0, "changed: redis.url\n")
        await page.control("resync")
        # The Redis that was left is not taken for one that failed.
        for line in daemon.events("bus.disconnected"):
            assert line["error"] == "[redis] url was changed to this address"
        rule = json.dumps({"everyone": True})
        for number, server in enumerate((redis_server, other)):
            bus: Any = server.client()
            bus.xadd(STREAM, {"event": json.dumps({"number": number}), "to": rule})
        event = await page.event()
        assert event["number"] == 1
        assert page.open
        assert daemon.metric("redis_up") == 1
        configured.write()
        assert configured.reload() == (0, "changed: redis.url\n")


@pytest.mark.long
async def test_a_promoted_replica(
    configured: Configured, site: Site, pages: Pages, folder: Path, redis_server: RedisServer
) -> None:
    """At a Redis with the same history the bus goes on, and no client has to load anything anew."""
    daemon = configured.daemon
    page = await pages.hello(daemon, site.token("nadia"))
    rule = json.dumps({"everyone": True})
    (folder / "other").mkdir()
    with RedisServer(folder / "other") as other:
        bus: Any = other.client()
        bus.replicaof("127.0.0.1", redis_server.port)
        await until(lambda: bus.info("replication")["master_link_status"] == "up")
        redis_server.stop()
        bus.replicaof("NO", "ONE")
        # While the daemon is nowhere connected.
        bus.xadd(STREAM, {"event": json.dumps({"number": 1}), "to": rule})
        configured.write(redis={"url": other.url})
        assert configured.reload() == (0, "changed: redis.url\n")
        await page.event(number=1)
        assert page.open
        assert not page.controls("resync")
        assert daemon.metric("gaps_total") == 0


@pytest.mark.long
async def test_secrets(configured: Configured) -> None:
    """A reload tells no password, neither where it fails nor where it succeeds."""
    for url in ("redis://:Xyzzy-Plugh@127.0.0.1:1/0", "rediss//:Xyzzy-Plugh@x"):
        configured.write(redis={"url": url})
        _, words = configured.reload()
        assert "Xyzzy" not in words
    assert not re.search("Xyzzy", configured.daemon.log)
