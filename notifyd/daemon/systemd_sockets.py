"""What the service manager passes to this process when it starts (sd_listen_fds(3))."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_FIRST: Final = 3
"""The number of the first descriptor that is passed: SD_LISTEN_FDS_START."""

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

_UNNAMED: Final = "unknown"


class Passed:
    """The descriptors that were passed, by their names; their order means nothing.

    The variables that tell of them are removed: they are for this process alone.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        told, count, names = (environ.pop(name, "") for name in _VARIABLES)
        self._descriptors: dict[str, list[int]] = {}
        if told != str(pid) or not count.isdecimal():
            return
        named = names.split(":") if names else []
        for number in range(int(count)):
            descriptor = _FIRST + number
            fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            name = named[number] if number < len(named) else _UNNAMED
            self._descriptors.setdefault(name, []).append(descriptor)

    @property
    def names(self) -> list[str]:
        """Return the names of what was not taken yet."""
        return [*self._descriptors]

    def take(self, name: str) -> list[int]:
        """Return the descriptors of that name, which are the caller's from now on."""
        return self._descriptors.pop(name, [])

    def sockets(self, name: str) -> list[socket.socket]:
        """Return the sockets of that name, the caller's as well."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in self.take(name)]
        for sock in sockets:
            sock.setblocking(False)
        return sockets

    def listeners(self) -> dict[str, list[socket.socket]]:
        """Return the stream sockets that listen, by their names, the caller's from now on.

        What has a name in common with something else, a datagram socket for example, stays here.
        """
        listening = [
            name for name, each in self._descriptors.items() if all(_listens(one) for one in each)
        ]
        return {name: self.sockets(name) for name in listening}

    def close(self) -> None:
        """Close what nobody has taken."""
        for name in self.names:
            for descriptor in self.take(name):
                os.close(descriptor)


def _listens(descriptor: int) -> bool:
    """Return whether this is a stream socket that listens, and no FIFO, for example."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    sock = socket.socket(fileno=descriptor)
    try:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return sock.type == socket.SOCK_STREAM and bool(listens)
    finally:
        sock.detach()
