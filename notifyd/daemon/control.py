"""The control socket: how the commands of `notifyd` talk to the running daemon.

One JSON object in a line each way, {"command": "status", ...} and its result or {"error": "..."},
then the connection is closed. The socket is a file; only root and the daemon's user may use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from notifyd.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()

DEADLINE: Final = 5.0
"""Seconds in which a request must be complete."""

ANSWER_DEADLINE: Final = 30.0
"""Seconds that a command may take, as seen by who asks."""

MAX_REQUEST: Final = 262_144
"""Bytes of a request: an event of the largest size as a text within JSON, and room around it."""

_MODE: Final = stat.S_IRUSR | stat.S_IWUSR
_UCRED: Final = struct.Struct("=iII")

Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Takes the request's keys beside `command` and returns the answer, an object that JSON has."""


class ControlError(Fault):
    """What went wrong at the control socket and what to do about it, in words for a terminal."""


class ControlServer:
    """The daemon's end.

    A command that can't do what it is asked raises ControlError; the text is the answer.
    """

    def __init__(self, path: str, commands: Mapping[str, Command]) -> None:
        self.path = Path(path)
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._exchanges: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket left behind by a dead daemon is replaced.

        Raises ControlError where another daemon listens or the path can't be used.
        """
        listener = _bind(self.path)
        self._status = self.path.stat()
        self._server = await asyncio.start_unix_server(
            self._connected, sock=listener, limit=MAX_REQUEST
        )

    async def close(self) -> None:
        """Remove the socket and drop whoever is still connected; may be called again."""
        if self._server is None:
            return
        with contextlib.suppress(FileNotFoundError):
            # Another daemon may have put a socket of its own there since.
            if os.path.samestat(self.path.stat(), self._status):
                self.path.unlink()
        self._server.close()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = asyncio.ensure_future(self._exchange(reader, writer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        # Not at the end of the exchange itself: one that is cancelled before it begins has none.
        exchange.add_done_callback(lambda _: writer.transport.abort())

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                answer = await self._answer(reader, writer)
            except ControlError as error:
                answer = json.dumps({"error": str(error)})
            writer.write(answer.encode() + b"\n")
            async with asyncio.timeout(DEADLINE):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except OSError:
            # Who asked did not wait for the answer.
            pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        pid, uid, _ = _peer(writer.get_extra_info("socket"))
        if uid not in {0, os.geteuid()}:
            raise ControlError("only root and the daemon's own user may use the control socket")
        request = await _receive(reader)
        name = request.pop("command", None)
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            raise ControlError(f"unknown command; there are: {', '.join(sorted(self._commands))}")
        log.info("control.command", command=name, uid=uid, pid=pid)
        try:
            return json.dumps(await command(request))
        except ControlError:
            raise
        except Exception as error:
            log.exception("control.failed", command=name)
            raise ControlError("the command failed: the daemon's log says why") from error


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        async with asyncio.timeout(DEADLINE):
            line = await reader.readuntil(b"\n")
    except TimeoutError:
        raise ControlError(f"no request within {DEADLINE:g} s") from None
    except asyncio.LimitOverrunError:
        raise ControlError(f"the request is longer than {MAX_REQUEST} bytes") from None
    except asyncio.IncompleteReadError:
        raise ControlError("the request is not a line") from None
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("the request is not JSON") from None
    if not isinstance(request, dict):
        raise ControlError("the request is not a JSON object")
    return request


async def ask(path: str, command: str, **arguments: Any) -> dict[str, Any]:
    """Send a command to the daemon that listens at `path` and return its answer.

    Raises ControlError where there is no daemon, no permission, or the daemon refuses.
    """
    request = json.dumps({"command": command, **arguments}).encode() + b"\n"
    if len(request) > MAX_REQUEST:
        raise ControlError(f"the request is longer than {MAX_REQUEST} bytes")
    try:
        async with asyncio.timeout(ANSWER_DEADLINE):
            line = await _converse(path, request)
    except TimeoutError:
        raise ControlError(
            f"the daemon at {path} did not answer within {ANSWER_DEADLINE:g} s: see its log"
        ) from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise ControlError(
            f"no daemon listens at {path}: start it, or if it runs elsewhere, "
            "give its path as [control] socket or NOTIFYD_CONTROL_SOCKET"
        ) from None
    except PermissionError:
        raise ControlError(
            f"no permission to use {path}: run this as root or as the daemon's user"
        ) from None
    except OSError as error:
        raise ControlError(f"can't talk to the daemon at {path}: {error}") from error
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ControlError(f"the daemon at {path} gave no answer: see its log")
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


def answers(path: str) -> bool:
    """Tell whether a daemon listens at `path`. Raises ControlError where that can't be known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except BlockingIOError:
            # Its queue is full.
            return True
        except OSError as error:
            raise ControlError(f"can't talk to the daemon at {path}: {error.strerror}") from error
        return True


async def _converse(path: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.transport.abort()


def default_path(environ: Mapping[str, str]) -> str:
    """Return where the socket is unless configured: in the directory that systemd gives us.

    Sources: RuntimeDirectory= in systemd.exec(5), of whose directories the first is ours;
    XDG_RUNTIME_DIR in the XDG Base Directory Specification. With neither, the service's.
    """
    if directories := environ.get("RUNTIME_DIRECTORY"):
        return f"{directories.partition(':')[0]}/control"
    return f"{environ.get('XDG_RUNTIME_DIR') or '/run'}/notifyd/control"


def find(environ: Mapping[str, str]) -> str:
    """Return where a running daemon's socket is: at `default_path`, or else the service's.

    Whoever has logged in has an XDG_RUNTIME_DIR, and asks for the daemon that systemd runs.
    """
    path = default_path(environ)
    service = default_path({})
    return service if not os.path.lexists(path) and os.path.lexists(service) else path


def _bind(path: Path) -> socket.socket:
    """Return a listening socket at `path` that nobody else could reach at any moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            _remove_stale(path)
            # Linux gives the file the mode of the socket it is bound to: it is never wider.
            os.fchmod(listener.fileno(), _MODE)
            listener.bind(str(path))
            listener.listen()
    except OSError as error:
        listener.close()
        raise ControlError(f"can't listen at {path} ([control] socket): {error}") from error
    except ControlError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # Two daemons that start at once must not take each other's socket for a stale one.
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        # Nothing is there, or something that bind() refuses to replace.
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            # Its queue is full: somebody listens.
            pass
    raise ControlError(
        f"another daemon listens at {path}: stop it first, or give this one a path "
        "of its own as [control] socket"
    )


def _peer(sock: socket.socket) -> tuple[int, int, int]:
    # SO_PEERCRED (unix(7)): the pid, uid and gid of the peer when it connected.
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(credentials)
    return pid, uid, gid
