from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from notifyd.daemon.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stand for systemd: the socket that it names, which is all that its protocol asks for."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "notify"))
        receiver.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", receiver.getsockname())
        yield receiver


@pytest.fixture
def notifier(systemd: socket.socket) -> Iterator[Notifier]:  # noqa: ARG001 - must be there first
    """Give a notifier of the daemon that this systemd has started."""
    notifier = Notifier()
    yield notifier
    notifier.close()


def test_states(systemd: socket.socket, notifier: Notifier) -> None:
    """Each state is one message of its own."""
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()
    messages = [systemd.recv(10_000) for _ in range(3)]
    assert messages == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_status_is_utf8(systemd: socket.socket, notifier: Notifier) -> None:
    """The words of the status arrive as UTF-8, whatever the script."""
    notifier.status("42 Clients · größer → 通知")
    assert systemd.recv(10_000).decode() == "STATUS=42 Clients · größer → 通知"


@pytest.mark.parametrize("text", ["a\nREADY=1", "a \r\n\tREADY=1", "a\0READY=1", "a\udcffREADY=1"])
def test_status_is_one_assignment(text: str, systemd: socket.socket, notifier: Notifier) -> None:
    """Nothing in the words of the status can begin another assignment, or spoil the message."""
    notifier.status(text)
    assert systemd.recv(10_000) == b"STATUS=a READY=1"


def test_status_is_bounded(systemd: socket.socket, notifier: Notifier) -> None:
    """The longest words make a message that systemd still takes."""
    notifier.status("𝄞" * 5_000)
    assert 4_000 < len(systemd.recv(10_000)) <= 4_096


def test_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + receiver.getsockname()[1:].decode())
        notifier = Notifier()
        notifier.ready()
        assert receiver.recv(100) == b"READY=1"
        notifier.close()


def test_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not started by systemd, nothing is sent and nothing is raised."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.status("ready")
    notifier.close()


def test_nobody_listens_any_more(systemd: socket.socket, notifier: Notifier) -> None:
    """A systemd that doesn't listen any more is no reason to fail."""
    systemd.close()
    notifier.watchdog()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_nobody_has_ever_listened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that isn't there is no reason to fail."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
    notifier = Notifier()
    notifier.ready()
    notifier.close()


def test_closed_twice(notifier: Notifier) -> None:
    """A notifier that is closed says nothing more, and may be closed again."""
    notifier.close()
    notifier.close()
    notifier.ready()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_PID": "42"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval: float | None) -> None:
    """Signs of life are due at half the watchdog's time, if it watches this process."""
    assert Notifier.watchdog_interval(environ, 42) == interval


def test_reloading(systemd: socket.socket, notifier: Notifier) -> None:
    """A reload begins with one message that has the time, by the clock that systemd reads."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    words = systemd.recv(10_000).decode().splitlines()
    assert words[0] == "RELOADING=1"
    name, _, value = words[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_more_time(systemd: socket.socket, notifier: Notifier) -> None:
    """More time is asked for in microseconds."""
    notifier.extend(2.5)
    assert systemd.recv(10_000) == b"EXTEND_TIMEOUT_USEC=2500000"
