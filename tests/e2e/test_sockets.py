"""Sockets that somebody else has opened, as systemd passes them to a service."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from daemons import Daemon
from servers import free_port
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from daemons import Site
    from e2e.clients import Pages

    Activate = Callable[[int, Daemon], subprocess.Popen[bytes]]

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd is not installed"
)


@pytest.fixture
def activate(folder: Path) -> Iterator[Activate]:
    """Open a socket named `public` at a port, whose first client starts the daemon."""
    processes: list[subprocess.Popen[bytes]] = []

    def activate(port: int, daemon: Daemon) -> subprocess.Popen[bytes]:
        # What a shell calls the functions that it hands on is no name of a variable to systemd.
        variables = [
            f"--setenv={name}={value}"
            for name, value in daemon.environment.items()
            if name.isidentifier()
        ]
        command = [
            *("systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=public"),
            *(*variables, sys.executable, "-m", "notifyd", "run"),
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stderr=log)
        processes.append(process)
        said = (folder / "log").read_text
        wait_until(lambda: "Listening on" in said() or process.poll() is not None)
        assert process.poll() is None, said()
        return process

    yield activate
    for process in processes:
        process.kill()
        process.wait()


async def test_named(folder: Path, site: Site, activate: Activate, pages: Pages) -> None:
    """Who connects before the daemon runs waits in the queue, and is served."""
    port = free_port()
    daemon = Daemon(folder, site, server_listen="systemd:public")
    process = activate(port, daemon)
    page = await pages.connect(f"127.0.0.1:{port}", open_timeout=20)
    await page.connection.send(json.dumps({"token": site.token("nadia")}))
    await page.control("welcome")
    process.send_signal(signal.SIGTERM)
    assert (await page.closed())[0] == 1012
    assert process.wait(20) == 0


def test_another_name(folder: Path, site: Site, activate: Activate) -> None:
    """A name that was not passed ends with 78 and says which names were."""
    port = free_port()
    process = activate(port, Daemon(folder, site, server_listen="systemd:web"))
    with socket.create_connection(("127.0.0.1", port)):
        pass
    assert process.wait(20) == 78
    words = (folder / "log").read_text()
    assert "server.listen = systemd:web: systemd has passed no socket of that name" in words
    assert "(there is: public)" in words
    assert "Traceback" not in words
