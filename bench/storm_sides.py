"""The two sides of the storm: a server that is killed and started again, and its crowd.

Each has a Redis of its own, which is not killed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import redis
from compare import HERE, HOST, PATIENCE, free_port, process, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

POLL = 0.05
"""Seconds between two questions to a server that starts, or lets clients in."""

LONGEST = 600.0
"""Seconds after which a storm has failed."""

AGAIN = 2.0
"""Seconds after which a client of the guide that has not got its event was not in when it came."""

CPUS = os.sched_getaffinity(0)
SERVERS = {min(CPUS)}
CROWDS = CPUS - SERVERS or CPUS
"""The processors on which the servers and the crowds run, so that one does not slow the other."""


@dataclass(frozen=True)
class Site:
    """What both servers work for. `environment` names its database, `gone` one that isn't there."""

    folder: Path
    environment: Mapping[str, str]
    gone: str
    content_type: int


@dataclass(frozen=True)
class Storm:
    """What one storm took, in seconds until all had everything.

    `server` and `crowd` are the processor time spent, `lost` counts connections that were lost and
    made again.
    """

    seconds: float
    server: float
    crowd: float
    lost: int


class Side(ABC):
    """A server with its Redis and its crowd of so many clients."""

    tokens: ClassVar[str]
    """The file with the crowd's tokens."""
    crowd: ClassVar[str] = "storm_load.py"
    """Its program."""

    def __init__(self, site: Site, clients: int) -> None:
        self._site = site
        self._clients = clients
        self._serial = itertools.count(1)
        self._port, self._redis_port, self.admin_port = free_port(), free_port(), free_port()
        self._redis: Any = redis.Redis(host=HOST, port=self._redis_port)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Start the Redis and the crowd; stop them at the end, and the server if there is one."""
        start = functools.partial(process, environment=self._site.environment)
        with contextlib.ExitStack() as stack:
            stack.enter_context(start("redis-server", "--port", self._redis_port, "--save", ""))
            wait_for_port(self._redis_port)
            load = HERE / self.crowd, HOST, self._port, self._site.folder / self.tokens
            with _on(CROWDS):
                self._load = stack.enter_context(start(sys.executable, *load, self._clients))
            yield

    @contextlib.contextmanager
    def serving(self, database: str | None = None) -> Iterator[None]:
        """Start the server, with another database perhaps; at the end, kill it."""
        environment = {**self._site.environment, **self._environment()}
        if database is not None:
            environment["NEWSROOM_DATABASE"] = database
        command = [sys.executable, *map(str, self._command())]
        with _on(SERVERS):
            self._server = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, text=True
            )
        with self._server:
            try:
                deadline = time.monotonic() + PATIENCE
                while not self._ready():
                    if time.monotonic() > deadline or self._server.poll() is not None:
                        sys.exit(f"{command} did not start")
                    time.sleep(POLL)
                yield
            finally:
                self._server.kill()
        self.ask("leave", "")

    def storm(self, kind: str, missed: list[str]) -> Storm:
        """Have the crowd return and get what it has missed; then try that all of it is live."""
        before = _processor(self._server.pid)
        self._tell("storm", f"{kind} {json.dumps(missed)}")
        seconds, crowd, lost = self._hear_all_in().split()
        server = _processor(self._server.pid) - before
        self.ask("live", self.publish())
        return Storm(float(seconds), server, float(crowd), int(lost))

    @abstractmethod
    def publish(self) -> str:
        """Publish an event, and return what clients get."""

    @abstractmethod
    def _environment(self) -> dict[str, str]:
        """Return the environment of the server, beside the site's."""

    @abstractmethod
    def _command(self) -> list[object]:
        """Return the arguments that make Python the server."""

    @abstractmethod
    def _ready(self) -> bool:
        """Tell whether the server has started."""

    def _hear_all_in(self) -> str:
        """Return what the crowd says when all are in and have what they wait for."""
        return self._hear()

    def _event(self) -> dict[str, object]:
        """Return an event such as the guide's, of about 200 bytes."""
        number = next(self._serial)
        return {
            "model": "article",
            "object": f"The {number}th thing that happened today",
            "message": "Changed Title and Body.",
            "timestamp": f"2026-11-23T12:00:00.{number:06}+00:00",
            "user": "nadia",
            "content_type_id": self._site.content_type,
            "object_id": str(number),
        }

    def ask(self, command: str, argument: str) -> str:
        """Have the crowd do something, and return its answer."""
        self._tell(command, argument)
        return self._hear()

    def _tell(self, command: str, argument: str) -> None:
        assert self._load.stdin is not None
        self._load.stdin.write(f"{command} {argument}\n")
        self._load.stdin.flush()

    def _hear(self) -> str:
        assert self._load.stdout is not None
        if not self._crowd_speaks(LONGEST):
            sys.exit(f"the crowd of {type(self).__name__} is not in after {LONGEST:.0f} s")
        line = self._load.stdout.readline()
        if not line:
            sys.exit(f"the crowd of {type(self).__name__} failed")
        return line.rstrip("\n")

    def _crowd_speaks(self, seconds: float) -> bool:
        assert self._load.stdout is not None
        return bool(select.select([self._load.stdout], [], [], seconds)[0])


class Guide(Side):
    """The guide's server. What is published while it is away is lost.

    Its clients are told nothing when they are let in, so it is asked how many are; then all of
    them get an event, and have everything.
    """

    tokens = "tokens"

    def publish(self) -> str:
        """Publish an event, and return what clients get."""
        event = json.dumps(self._event())
        self._redis.publish("events", event)
        return event

    def _environment(self) -> dict[str, str]:
        return {}

    def _command(self) -> list[object]:
        url = f"redis://{HOST}:{self._redis_port}"
        return [HERE / "guide_server.py", HOST, self._port, url]

    def _ready(self) -> bool:
        # It listens to Redis last.
        return bool(self._redis.pubsub_numsub("events")[0][1])

    def _hear_all_in(self) -> str:
        while not self._crowd_speaks(POLL):
            if self._let_in() == self._clients:
                self.publish()
                # One that was lost behind our back has to return, and get another event.
                self._crowd_speaks(AGAIN)
        return self._hear()

    def _let_in(self) -> int:
        self._server.send_signal(signal.SIGUSR1)
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


class Notifyd(Side):
    """The daemon, with its options as they are."""

    tokens = "scoped"

    def publish(self) -> str:
        """Publish an event, and return what clients get."""
        event = json.dumps(self._event())
        key = self._redis.xadd("{notifyd}:events", {"event": event})
        return f'{{"id": "{key.decode()}", {event[1:]}'

    def _environment(self) -> dict[str, str]:
        return {
            "NOTIFYD_SERVER_LISTEN": f"{HOST}:{self._port}",
            "NOTIFYD_ADMIN_LISTEN": f"{HOST}:{self.admin_port}",
            "NOTIFYD_CONTROL_SOCKET": str(self._site.folder / "control"),
            "NOTIFYD_REDIS_URL": f"redis://{HOST}:{self._redis_port}",
            "NOTIFYD_LOG_LEVEL": "warning",
            # So that whatever is read of the database is read for those who return.
            "NOTIFYD_AUTH_SWEEP": "3600",
        }

    def _command(self) -> list[object]:
        return ["-m", "notifyd", "run"]

    def _ready(self) -> bool:
        url = f"http://{HOST}:{self.admin_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def _on(cpus: set[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these processors."""
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CPUS)


def _processor(pid: int) -> float:
    """Return the seconds of processor time used so far: proc(5), utime and stime."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
