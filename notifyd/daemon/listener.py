"""The sockets that clients connect to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from notifyd.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Found = tuple[int, int, int, str, tuple[Any, ...]]

log = structlog.stdlib.get_logger()

_BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel cuts it to net.core.somaxconn."""

_AT_ONCE: Final = 64
"""Connections accepted before other work has its turn."""

_PAUSE: Final = 1.0
"""Seconds without accepting after an error: mostly, descriptors or memory have run out."""

_ABSENT: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""What a host without IPv6 says of an IPv6 address: that it has none, or no such protocol."""

_CHOICES: Final = 20
"""Ports that are tried for port 0: the kernel's choice for one address may be taken at another."""

_LOCALHOST: Final = ("::1", "127.0.0.1")
"""What localhost is (RFC 6761 section 6.3), also where /etc/hosts names only one of them."""


class ListenError(Fault):
    """An address could not be listened on; the text says which, why, and what to do."""


class Listener:
    """Accepts connections and gives them away, as a socket and the peer's address.

    A socket that is `lent` goes on listening elsewhere: its file, if it has one, is left alone.
    """

    def __init__(
        self,
        sock: socket.socket,
        accepted: Callable[[socket.socket, str], None],
        *,
        lent: bool = False,
    ) -> None:
        self._socket = sock
        self._unix = sock.family == socket.AF_UNIX
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self._accepts = True
        self._lent = lent
        self._loop.add_reader(sock, self._accept)

    @property
    def address(self) -> str:
        """The address it listens on, in the form of the configuration."""
        name = self._socket.getsockname()
        if self._socket.family == socket.AF_UNIX:
            return f"unix:{name}"
        host = f"[{name[0]}]" if self._socket.family == socket.AF_INET6 else name[0]
        return f"{host}:{name[1]}"

    def detach(self) -> socket.socket:
        """Stop accepting, and return the socket, which goes on listening, also after close()."""
        self._accepts = False
        self._loop.remove_reader(self._socket)
        if self._resume is not None:
            self._resume.cancel()
        return self._socket

    def close(self) -> None:
        """Stop listening; connections that still wait in the queue are refused."""
        if not self._accepts:
            return
        self.detach()
        if self._unix and not self._lent:
            with contextlib.suppress(OSError):
                Path(self._socket.getsockname()).unlink()
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            sock.setblocking(False)
            self._accepted(sock, "unix" if self._unix else peer[0])

    def _pause(self, error: OSError) -> None:
        # Without a pause the loop would spin: the connection stays in the queue. The errors that
        # are not about us but about that connection (accept(2)) are too rare to be told apart.
        log.error("listener.paused", address=self.address, error=error.strerror, retry_in=_PAUSE)
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(
            _PAUSE, self._loop.add_reader, self._socket, self._accept
        )


def bind(
    host: str | None,
    port: int,
    path: str | None,
    *,
    inherited: Sequence[socket.socket] = (),
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Return listening sockets for a host and port, one for each of its addresses, or for a path.

    With port 0 all of them share the port that the kernel chose for the first. Those `inherited`
    are taken where they listen already. With `reuse_port` other processes may listen at the same
    address, and the kernel gives each its share of the connections (SO_REUSEPORT of socket(7)).
    Raises ListenError.
    """
    heirs = {name(sock): sock for sock in inherited}
    if path is not None:
        return [heirs.get(path) or _bind_unix(path)]
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        found = [
            each
            for known in (_LOCALHOST if host == "localhost" else (host,))
            for each in socket.getaddrinfo(known, port, type=socket.SOCK_STREAM, flags=flags)
        ]
    except socket.gaierror as error:
        raise ListenError(f"can't listen on {host}:{port}: {error.strerror}") from error
    choices = 1 if port else _CHOICES
    while True:
        choices -= 1
        try:
            return _bind_all(dict.fromkeys(found), port, heirs, reuse_port=reuse_port)
        except OSError as error:
            if not choices or error.errno != errno.EADDRINUSE:
                words = f"can't listen on {host}:{port}: {_advice(error)}"
                raise ListenError(words) from error


def name(sock: socket.socket) -> Any:
    """Return where a socket listens: its path, or address and port without IPv6's further parts."""
    address = sock.getsockname()
    return address if isinstance(address, str) else address[:2]


def _bind_all(
    found: Iterable[Found], port: int, heirs: Mapping[Any, socket.socket], *, reuse_port: bool
) -> list[socket.socket]:
    """Return a listening socket for each address that this host has."""
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, _, _, _, address in found:
        chosen = sockets[0].getsockname()[1] if sockets else port
        place = (address[0], chosen, *address[2:])
        try:
            sockets.append(heirs.get(place[:2]) or _bind_tcp(family, place, reuse_port=reuse_port))
        except OSError as error:
            failures.append(error)
    # A host without IPv6 still resolves localhost to ::1: one family is enough, unless the other
    # belongs to somebody else, whom clients would reach in our place.
    taken = [error for error in failures if error.errno not in _ABSENT]
    if taken or not sockets:
        for sock in sockets:
            sock.close()
        raise (taken or failures)[0]
    return sockets


def _bind_tcp(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        # As open as a TCP port: who comes in is decided by tokens, not by the file's mode.
        Path(path).chmod(0o666)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"can't listen on unix:{path}: {_advice(error)}") from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket that a dead process left behind; one that answers is left alone."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # One whose queue is full would keep us waiting; that it has a queue is answer enough.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            Path(path).unlink()


def _advice(error: OSError) -> str:
    advice = {
        errno.EADDRINUSE: "another program listens there: stop it, or change [server] listen; if it"
        " is another notifyd that shall share the port, both need [server] reuse_port = true",
        errno.EACCES: "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE, Unix sockets a"
        " directory that the daemon may write to",
        errno.ENOENT: "the directory does not exist",
    }
    return advice.get(error.errno or 0, error.strerror or str(error))
