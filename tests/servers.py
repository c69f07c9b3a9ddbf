"""Real Redis servers for the tests: private, in a folder of their own, on free ports."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Self

import redis
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOOPBACK = "127.0.0.1"

# Below the kernel's range for outgoing connections. From inside that range, a client that keeps
# dialling a stopped server would sooner or later be given the very port it dials, connect to
# itself, and keep the server from coming back. Each is given once, so that two of a test differ;
# and one after the other, so that tests that run beside these are seldom near.
_FIRST, _END = 10_000, 32_768
_START = random.randrange(_FIRST, _END)
_ports: Iterator[int] = itertools.cycle([*range(_START, _END), *range(_FIRST, _START)])


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on at the moment."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port


class RedisServer:
    """A redis-server that a test may kill, freeze and start again at the same addresses.

    `folder` must have a short path: a Unix socket's is limited to 107 bytes (unix(7)). With
    `persistent`, every write is on the disk before it is answered, so a server that was killed
    comes back with its data. `arguments` are further options of its command line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        persistent: bool = False,
        arguments: Sequence[str] = (),
        program: str = "redis-server",
    ) -> None:
        self.folder = folder
        self.persistent = persistent
        self.arguments = tuple(arguments)
        self.program = program
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the clients it gave out, for good."""
        for client in self._clients:
            client.close()
        self.stop(signal.SIGKILL)

    @property
    def url(self) -> str:
        """The address over TCP."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The address over the Unix socket."""
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int:
        """The process, for a test that looks at it from outside."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """Return a client without retries, closed together with the server."""
        client = redis.Redis.from_url(self.unix_url, socket_timeout=10, **options)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers with its data loaded."""
        if self._process is not None:
            return
        # The environment stays out of it: a locale of the user's changes the error messages.
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                self._command(),
                env={"PATH": os.environ["PATH"]},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: process.poll() is not None or self._answers())
        if process.poll() is not None:
            self._process = None
            raise RuntimeError(f"redis-server did not start:\n{self.log()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server, if it runs, with SIGTERM or SIGKILL, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        # A frozen process takes SIGTERM only once it continues.
        process.send_signal(signal.SIGCONT)
        process.wait(timeout=10)

    def pause(self) -> None:
        """Freeze the server: the kernel still accepts connections, but nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server continue."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def stopped(self, how: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """Have no server for the length of a block."""
        self.stop(how)
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have a frozen server for the length of a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def log(self) -> str:
        """Return what the server has logged."""
        return self._log.read_text(errors="replace")

    def _command(self) -> list[str]:
        options = {
            "--bind": LOOPBACK,
            "--port": str(self.port),
            "--unixsocket": str(self.socket),
            "--dir": str(self.folder),
            "--logfile": str(self._log),
            "--save": "",
            "--appendonly": "yes" if self.persistent else "no",
            "--appendfsync": "always",
        }
        words = [word for option in options.items() for word in option]
        return [self.program, *words, *self.arguments]

    def _answers(self) -> bool:
        try:
            with contextlib.closing(redis.Redis.from_url(self.unix_url)) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            # A server that asks for a password does answer.
            return True
        except redis.ConnectionError:
            # Not there yet, or still loading its data.
            return False
