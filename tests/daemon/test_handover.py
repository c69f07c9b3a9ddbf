from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from notifyd.daemon import handover


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Return so many pairs of connected sockets."""
    return [socket.socketpair() for _ in range(count)]


def test_memory_is_sealed() -> None:
    """The state can be read, and by nobody be changed any more, wherever others have read to."""
    descriptor = handover.memory(b"state" * 100_000)
    os.lseek(descriptor, 7, os.SEEK_SET)
    assert handover.contents(descriptor) == b"state" * 100_000
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    os.close(descriptor)


@pytest.mark.parametrize("count", [0, 1, 253, 254, 600])
def test_a_queue_keeps_the_order(count: int) -> None:
    """Sockets come out as they went in, more of them than fit in a message, and stay connected."""
    given = pairs(count)
    queue, taken = handover.enqueue([ours for ours, _ in given])
    assert taken == count
    for ours, _ in given:
        ours.close()
    found = [*handover.dequeue(queue)]
    assert len(found) == count
    for number, ((_, peer), sock) in enumerate(zip(given, found, strict=True)):
        sock.send(str(number).encode())
        assert peer.recv(10) == str(number).encode()
        sock.close()
        peer.close()
    queue.close()


def test_the_kernel_takes_no_more() -> None:
    """What the kernel doesn't let be under way stays with us, and what it took comes out."""
    script = (
        "import os, resource, socket\n"
        "from notifyd.daemon import handover\n"
        # The limit is not for root, who alone may read what was imported, perhaps.
        "if not os.geteuid(): os.setuid(65_534)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (400, 800))\n"
        "queue, taken = handover.enqueue([socket.socket()] * 700)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (800, 800))\n"
        "print(taken, len([*handover.dequeue(queue)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "506 506\n", done.stderr


def test_giving_to_a_successor(folder: Path) -> None:
    """A successor that waits gets the state, the queue, and listening sockets."""
    with handover.Reception(str(folder / "reception")) as reception:
        ours, theirs = socket.socketpair()
        state = handover.memory(b"state")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            successor = handover.reach(reception.path)
            handover.give(successor, [state, ours.fileno(), listener.fileno()])
            got, queue, [listening] = reception.receive(10)
            assert listening.getsockname() == listener.getsockname()
        assert handover.contents(got) == b"state"
        for each in (successor, queue, listening, ours, theirs):
            each.close()
    assert not os.path.lexists(reception.path)


def test_nobody_waits(folder: Path) -> None:
    """Where no successor waits, that is said."""
    with pytest.raises(handover.HandoverError, match="nobody waits"):
        handover.reach(str(folder / "nowhere"))


def test_nothing_comes(folder: Path) -> None:
    """A predecessor that gives nothing, or ends, is not waited for for ever."""
    with handover.Reception(str(folder / "reception")) as reception:
        with pytest.raises(handover.HandoverError, match="gave nothing"):
            reception.receive(0.01)
        handover.reach(reception.path).close()
        with pytest.raises(handover.HandoverError, match="ended before"):
            reception.receive(10)


def test_the_reception_is_ours(folder: Path) -> None:
    """Nobody else may give a successor anything."""
    with handover.Reception(str(folder / "reception")) as reception:
        assert stat.S_IMODE(Path(reception.path).stat().st_mode) == 0o600
        successor = handover.reach(reception.path)
        reception.__exit__()
        with pytest.raises(handover.HandoverError, match="took nothing"):
            handover.give(successor, [0] * 254)
        successor.close()
