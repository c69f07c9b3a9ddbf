from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from notifyd.daemon.systemd_store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(folder: Path) -> Iterator[socket.socket]:
    """Give the service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "notify"))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def store(manager: socket.socket) -> Store:
    """Give a store at that manager."""
    return Store({"NOTIFY_SOCKET": manager.getsockname()})


def hear(manager: socket.socket) -> tuple[list[str], list[int]]:
    """Return the assignments of a message, and its descriptors."""
    data, descriptors, _, _ = socket.recv_fds(manager, 4096, 8)
    return data.decode().splitlines(), descriptors


def test_keeping(manager: socket.socket, store: Store) -> None:
    """A descriptor goes with its name, and stays when its peer hangs up."""
    reading, writing = os.pipe()
    store.keep("notifyd-state", reading)
    words, [kept] = hear(manager)
    assert words == ["FDSTORE=1", "FDNAME=notifyd-state", "FDPOLL=0"]
    assert os.path.samestat(os.fstat(kept), os.fstat(reading))
    for each in (reading, writing, kept):
        os.close(each)


def test_forgetting(manager: socket.socket, store: Store) -> None:
    """What was taken is kept no longer."""
    store.forget("notifyd-state")
    assert hear(manager) == (["FDSTOREREMOVE=1", "FDNAME=notifyd-state"], [])


def test_settling(manager: socket.socket, store: Store) -> None:
    """It waits until the manager has come to everything that was sent."""

    def answer() -> None:
        words, [barrier] = hear(manager)
        assert words == ["BARRIER=1"]
        os.close(barrier)

    answering = threading.Thread(target=answer)
    answering.start()
    store.settle(10)
    answering.join()


def test_a_manager_that_hangs(manager: socket.socket, store: Store) -> None:
    """One that doesn't answer is not waited for for ever."""
    assert manager.fileno()
    with pytest.raises(TimeoutError, match="does not answer"):
        store.settle(0.01)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_no_manager(environ: dict[str, str]) -> None:
    """Where no service manager is, there is no store."""
    assert not Store(environ).available


def test_an_abstract_address() -> None:
    """An address that begins with @ is one without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0notifyd-test-{os.getpid()}")
        manager.settimeout(10)
        store = Store({"NOTIFY_SOCKET": f"@notifyd-test-{os.getpid()}"})
        assert store.available
        store.forget("x")
        assert manager.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=x"
