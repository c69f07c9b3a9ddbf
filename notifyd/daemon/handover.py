"""Live sockets on their way to another process, and the state that goes with them.

They are queued inside a pair of Unix sockets, of which only one end travels: a service manager that
keeps each of ten thousand descriptors by itself takes its time with every one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from notifyd.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

STATE: Final = "notifyd-state"
CLIENTS: Final = "notifyd-clients"
"""The names of the two descriptors where a service manager keeps them."""

AT_ONCE: Final = 253
"""Descriptors in one message: SCM_MAX_FD of unix(7)."""

_FULL: Final = {errno.ETOOMANYREFS, errno.EAGAIN, errno.ENOBUFS, errno.EMFILE}
"""What the kernel says when no more descriptors may be in flight (unix(7)), or no more fit."""

_QUEUE: Final = 4 * 1024 * 1024
"""Bytes asked for the queue; each message takes about 1 KiB of them."""

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

_COUNT: Final = struct.Struct("!I")


class HandoverError(Fault):
    """A hand-over failed; the text says why."""


def memory(data: bytes) -> int:
    """Return a descriptor of sealed memory that holds the data (memfd_create(2))."""
    descriptor = os.memfd_create(STATE, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def contents(descriptor: int) -> bytes:
    """Return what a descriptor holds, from its beginning, wherever others have read to."""
    size, data = os.fstat(descriptor).st_size, b""
    while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
        data += more
    return data


def enqueue(sockets: Sequence[socket.socket]) -> tuple[socket.socket, int]:
    """Queue sockets, and return the queue's reading end and how many the kernel took.

    Those stay open in this process, too, until it closes them or ends.
    """
    queue, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    taken = 0
    with writer:
        writer.setblocking(False)
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE)
        for start in range(0, len(sockets), AT_ONCE):
            some = [each.fileno() for each in sockets[start : start + AT_ONCE]]
            try:
                socket.send_fds(writer, [b"."], some)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                break
            taken += len(some)
    return queue, taken


def dequeue(queue: socket.socket) -> Iterator[socket.socket]:
    """Yield the sockets of a queue, in their order."""
    queue.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            data, descriptors, _, _ = socket.recv_fds(queue, 1, AT_ONCE, socket.MSG_CMSG_CLOEXEC)
            for descriptor in descriptors:
                sock = socket.socket(fileno=descriptor)
                sock.setblocking(False)
                yield sock
            if not data:
                return


class Reception:
    """Where a successor waits for what its predecessor gives: a Unix socket at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The file gets the mode of the socket that is bound to it: it is never wider.
        os.fchmod(self._listener.fileno(), 0o600)
        self._listener.bind(path)
        self._listener.listen(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        Path(self.path).unlink(missing_ok=True)

    def receive(self, patience: float) -> tuple[int, socket.socket, list[socket.socket]]:
        """Return the state's descriptor, the clients' queue, and listening sockets.

        Waits so many seconds. Raises HandoverError.
        """
        try:
            self._listener.settimeout(patience)
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(patience)
                data, descriptors, _, _ = socket.recv_fds(
                    peer, _COUNT.size, AT_ONCE, socket.MSG_CMSG_CLOEXEC
                )
        except OSError as error:
            raise HandoverError(f"the running daemon gave nothing: {error}") from error
        if len(data) < _COUNT.size or len(descriptors) != _COUNT.unpack(data)[0]:
            for each in descriptors:
                os.close(each)
            raise HandoverError("the running daemon ended before it gave anything")
        state, queue, *listeners = descriptors
        sockets = [socket.socket(fileno=each) for each in (queue, *listeners)]
        for sock in sockets:
            sock.setblocking(False)
        return state, sockets[0], sockets[1:]


def reach(path: str) -> socket.socket:
    """Return a connection to the successor that waits at a path. Raises HandoverError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise HandoverError(f"nobody waits at {path}: {error.strerror}") from error
    return sock


def give(successor: socket.socket, descriptors: Sequence[int]) -> None:
    """Give a successor the state, the queue, and listening sockets. Raises HandoverError."""
    try:
        socket.send_fds(successor, [_COUNT.pack(len(descriptors))], descriptors)
    except OSError as error:
        raise HandoverError(f"the successor took nothing: {error.strerror}") from error
