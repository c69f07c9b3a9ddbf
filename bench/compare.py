"""Two servers side by side: the same clients, events and measurements, in alternating rounds.

What is measured is the server's own: processor time per delivered event, from /proc/PID/stat, and
memory per client, as the growth of its resident set between two numbers of clients. Machines are
shared and noisy: only ratios taken in one run mean anything.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import platform
import random
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
HOST = "127.0.0.1"
READERS = 50
# What browsers and the websockets library offer by default.
DEFLATE = "permessage-deflate; client_max_window_bits"
PATIENCE = 60.0


@dataclass(frozen=True)
class Plan:
    """How large an experiment is: clients at the two readings of memory, rounds, events in each.

    `deflate`: the clients offer compression. notifyd declines it, websockets.serve accepts it.
    """

    few: int
    many: int
    rounds: int
    events: int
    deflate: bool


@dataclass(frozen=True)
class Figures:
    """What one server cost: microseconds of processor per delivery, bytes of memory per client."""

    cpu: float
    memory: float


@dataclass(frozen=True)
class Site:
    """A Django site both servers work for: its folder, environment, and what its readers see."""

    folder: Path
    environment: Mapping[str, str]
    content_type: int


class Contender:
    """A server with a Redis and a crowd of clients of its own."""

    def __init__(self, name: str, site: Site, extensions: str) -> None:
        self.name = name
        self._site = site
        self._extensions = extensions
        self._serial = itertools.count(1)
        self._port, self._redis_port = free_port(), free_port()
        self._redis = redis.Redis(host=HOST, port=self._redis_port)
        self.costs: list[float] = []
        self.memory = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start everything; stop it at the end."""
        url = f"redis://{HOST}:{self._redis_port}"
        environment = {
            **self._site.environment,
            "NOTIFYD_SERVER_LISTEN": f"{HOST}:{self._port}",
            "NOTIFYD_ADMIN_LISTEN": f"{HOST}:0",
            "NOTIFYD_CONTROL_SOCKET": str(self._site.folder / "control"),
            "NOTIFYD_REDIS_URL": url,
            "NOTIFYD_LOG_LEVEL": "warning",
            # The crowd comes all at once, and here nobody minds waiting.
            "NOTIFYD_AUTH_TIMEOUT": "300",
        }
        guide = [HERE / "guide_server.py", HOST, self._port, url]
        command = guide if self.name == "guide" else ["-m", "notifyd", "run"]
        start = functools.partial(process, environment=environment)
        with contextlib.ExitStack() as stack:
            stack.enter_context(start("redis-server", "--port", self._redis_port, "--save", ""))
            wait_for_port(self._redis_port)
            self._server = stack.enter_context(start(sys.executable, *command))
            wait_for_port(self._port)
            tokens = self._site.folder / "tokens"
            self._load = stack.enter_context(
                start(sys.executable, HERE / "load.py", HOST, self._port, tokens, self._extensions)
            )
            yield

    def connect(self, few: int, many: int) -> None:
        """Connect the clients, and read the memory they take."""
        self._command("connect", few)
        self._settle()
        before = self._resident()
        self._command("connect", many - few)
        self._settle()
        self.memory = (self._resident() - before) / (many - few)

    def _settle(self) -> None:
        # A client of the guide is told nothing when it was let in: the first event tells.
        self._tell("settle", 0)
        assert self._load.stdout is not None
        while not select.select([self._load.stdout], [], [], 0.25)[0]:
            self._redis.publish("events", self._event())
        self._hear()
        self._command("rest", 0)

    def relay(self, count: int) -> None:
        """Publish events one at a time, each when the last one has reached every client."""
        for _ in range(count):
            self._redis.publish("events", self._event())
            self._command("expect", 1)

    def _event(self) -> bytes:
        """Return an event such as the guide's, of about 200 bytes."""
        number = next(self._serial)
        event = {
            "model": "article",
            "object": f"The {number}th thing that happened today",
            "message": "Changed Title and Body.",
            "timestamp": f"2026-11-23T12:00:00.{number:06}+00:00",
            "user": "nadia",
            "content_type_id": self._site.content_type,
            "object_id": str(number),
        }
        return json.dumps(event).encode()

    def measure(self, clients: int, events: int) -> None:
        """Do one round and note its cost."""
        before = self._processor()
        self.relay(events)
        self.costs.append((self._processor() - before) / (clients * events) * 1e6)

    def figures(self) -> Figures:
        """Return the median cost of the rounds, and the memory."""
        return Figures(statistics.median(self.costs), self.memory)

    def _command(self, name: str, value: int) -> None:
        self._tell(name, value)
        self._hear()

    def _tell(self, name: str, value: int) -> None:
        assert self._load.stdin is not None
        self._load.stdin.write(f"{name} {value}\n")
        self._load.stdin.flush()

    def _hear(self) -> None:
        assert self._load.stdout is not None
        if self._load.stdout.readline() != "done\n":
            sys.exit(f"the clients of {self.name} failed")

    def _processor(self) -> float:
        """Return the seconds of processor time used so far: proc(5), utime and stime."""
        stat = Path(f"/proc/{self._server.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _resident(self) -> int:
        """Return the resident set in bytes: proc(5), statm."""
        pages = int(Path(f"/proc/{self._server.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def compare(plan: Plan) -> dict[str, Figures]:
    """Run the experiment and return each server's figures."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder, contextlib.ExitStack() as stack:
        site = prepare(Path(folder))
        offer = DEFLATE if plan.deflate else ""
        contenders = [Contender(name, site, offer) for name in ("guide", "notifyd")]
        for contender in contenders:
            stack.enter_context(contender.running())
            progress(f"{contender.name}: connecting {plan.many} clients")
            contender.connect(plan.few, plan.many)
        for number in range(1, plan.rounds + 1):
            progress(f"round {number} of {plan.rounds}")
            for contender in contenders:
                contender.measure(plan.many, plan.events)
        return {contender.name: contender.figures() for contender in contenders}


def prepare(folder: Path) -> Site:
    """Make the site's database and its readers, each with a token."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "bench_settings",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "site")]),
        "NEWSROOM_DATABASE": str(folder / "newsroom.sqlite3"),
    }
    made = subprocess.run(
        [sys.executable, HERE / "people.py", str(READERS)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    content_type, *tokens = made.stdout.split()
    (folder / "tokens").write_text("\n".join(tokens), encoding="ascii")
    return Site(folder, environment, int(content_type))


@contextlib.contextmanager
def process(*command: object, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program with its standard input and output connected to us; stop it at the end."""
    running = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.terminate()


def free_port() -> int:
    """Return a TCP port that nobody listens on, below those that outgoing connections get."""
    while True:
        port = random.randrange(10_000, 32_768)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port


def wait_for_port(port: int) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                sys.exit(f"nobody listens on port {port}")
            time.sleep(0.05)
        else:
            return


def progress(words: str) -> None:
    """Say what is being done."""
    print(words, file=sys.stderr, flush=True)


def ratios(figures: Mapping[str, Figures]) -> Figures:
    """Return notifyd's figures as parts of the guide's."""
    guide, notifyd = figures["guide"], figures["notifyd"]
    return Figures(notifyd.cpu / guide.cpu, notifyd.memory / guide.memory)


def machine() -> str:
    """Return what the figures were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {system}"
