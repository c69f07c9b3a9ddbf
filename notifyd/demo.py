"""The demo: the newsroom, a private Redis and the daemon, opened together and closed together.

Everything it keeps is in one folder: var/demo of a checkout, else notifyd-demo among the user's
state. The database outlives the demo; what passes through Redis does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from notifyd.core.literals import literal
from notifyd.demo_check import check
from notifyd.demo_ports import Port, refuse_taken
from notifyd.demo_processes import DemoError, Program, finished, running, while_running
from notifyd.demo_redis import answers_redis, find_redis, redis_options
from notifyd.demo_texts import CONFIGURATION, INVITATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

__all__ = ["Demo", "DemoError", "default_state"]

_PACKAGE: Final = Path(__file__).resolve().parent
_CHECKOUT: Final = _PACKAGE.parent

_PACKED: Final = _PACKAGE / "demo_site"
"""The newsroom as a wheel carries it; a checkout has it in site/."""

_NAMES: Final = {"redis": "Redis", "site": "The site", "daemon": "The daemon"}
"""What the programs are called, by the names of their logs."""

_REST: Final = 5.0
"""Seconds for which a program that has ended is missed: long enough to look at what that does."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# What is said to another daemon or another site, or puts packages where nobody looks for them.
_FOREIGN: Final = re.compile(
    r"NOTIFYD_.*|NEWSROOM_.*|NOTIFY_SOCKET|WATCHDOG_.*|(RUNTIME|CREDENTIALS)_DIRECTORY"
    r"|JOURNAL_STREAM|DJANGO_SETTINGS_MODULE|SECRET_KEY|DEBUG"
    r"|PIP_(USER|TARGET|PREFIX|ROOT|NO_BINARY|ONLY_BINARY|DRY_RUN|REQUIREMENT|CONSTRAINT)"
)


def default_state(environ: Mapping[str, str]) -> Path:
    """Return the folder of a demo that was given none."""
    if not _PACKED.exists():
        return _CHECKOUT / "var" / "demo"
    # A relative path is to be ignored (XDG Base Directory Specification).
    home = Path(environ.get("XDG_STATE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".local" / "state") / "notifyd-demo"


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Where the demo is opened, and for whom: real people, or the check, which plays them."""

    state: Path
    site_port: int
    port: int
    admin_port: int
    check: bool = False

    def run(self) -> int:
        """Open the newsroom until a signal comes or the check has passed; return the exit code.

        Raises DemoError.
        """
        with (
            _locked(self.state),
            # A Unix socket's path has at most 107 bytes (unix(7)), which `state` may exceed.
            tempfile.TemporaryDirectory(prefix="notifyd-demo-") as sockets,
        ):
            return asyncio.run(self._until_signal(Path(sockets)))

    async def _until_signal(self, sockets: Path) -> int:
        work = asyncio.create_task(self._work(sockets))
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        await asyncio.wait([work])
        if not work.cancelled():
            work.result()
            return 0
        _say(f"\nClosed. The data stays in {self.state}")
        # A check that was interrupted has proved nothing.
        return 1 if self.check else 0

    async def _work(self, sockets: Path) -> None:
        refuse_taken(
            [
                Port(self.site_port, "the site", "--site-port"),
                Port(self.port, "the daemon", "--port"),
                Port(self.admin_port, "metrics", "--admin-port"),
            ]
        )
        _say(f"==> The demo of notifyd, in {self.state}")
        site = _PACKED if _PACKED.exists() else _CHECKOUT / "site"
        redis = f"unix://{sockets}/redis?db=0"
        configuration = self._configure(site, redis, sockets / "control")
        environment = self._environment(site, redis)
        async with contextlib.AsyncExitStack() as stack:

            async def start(
                name: str, *command: str, answers: Callable[[], Awaitable[bool]]
            ) -> Program:
                program = running(
                    *(_NAMES[name], *command),
                    answers=answers,
                    environment=environment,
                    log=self.state / f"{name}.log",
                )
                return await stack.enter_async_context(program)

            server = await find_redis(self.state, environment, _say)
            socket = sockets / "redis"
            bus = await start(
                *("redis", server, *redis_options(socket)), answers=lambda: answers_redis(socket)
            )
            await bus.ready()
            _say(f"    redis     {server}, on a Unix socket")

            manage = (sys.executable, str(site / "manage.py"))
            await self._fill(manage, environment)
            _say(f"    database  {environment['NEWSROOM_DATABASE']}")

            pages = await start(
                *("site", *manage, "runserver", "--noreload", f"127.0.0.1:{self.site_port}"),
                answers=lambda: _answers(self.site_port, "/admin/login/"),
            )
            daemon = await start(
                *("daemon", sys.executable, "-m", "notifyd", "run"),
                *("--config", str(configuration)),
                answers=lambda: _answers(self.admin_port, "/readyz"),
            )
            await pages.ready()
            _say(f"    site      {self._address}")
            await daemon.ready()
            _say(f"    daemon    {environment['NEWSROOM_WEBSOCKET']}")

            await self._visit([bus, pages, daemon], configuration)

    async def _visit(self, programs: Sequence[Program], configuration: Path) -> None:
        """Let people in. What ends meanwhile is for them to see, and for the check a failure."""
        if self.check:
            ends = [program.ended() for program in programs]
            await while_running(ends, check(self._address, _say))
        else:
            self._invite(configuration, [program.pid for program in programs])
            kept = [program.kept(_REST, _say) for program in programs]
            await while_running(kept, asyncio.Event().wait())

    @property
    def _address(self) -> str:
        return f"http://localhost:{self.site_port}/"

    @property
    def _database(self) -> Path:
        return self.state / "newsroom.sqlite3"

    def _configure(self, site: Path, redis: str, control: Path) -> Path:
        path = self.state / "notifyd.toml"
        text = CONFIGURATION.format(
            configuration=shlex.quote(str(path)),
            database=shlex.quote(str(self._database)),
            port=self.port,
            admin_port=self.admin_port,
            control=literal(str(control)),
            redis=literal(redis),
            site=literal(str(site)),
        )
        path.write_text(text)
        return path

    def _environment(self, site: Path, redis: str) -> dict[str, str]:
        ours = {name: text for name, text in os.environ.items() if not _FOREIGN.fullmatch(name)}
        paths = [str(site), *filter(None, [ours.get("PYTHONPATH")])]
        return {
            **ours,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "NEWSROOM_DATABASE": str(self._database),
            "NEWSROOM_REDIS": redis,
            "NEWSROOM_WEBSOCKET": f"ws://localhost:{self.port}/",
        }

    async def _fill(self, manage: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Create what the database lacks; what it has stays."""
        for name, command in (
            ("Creating the tables", ("migrate", "--verbosity=0")),
            ("Seeding the newsroom", ("seed",)),
        ):
            log = self.state / f"{command[0]}.log"
            await finished(name, *manage, *command, environment=environment, log=log)

    def _invite(self, configuration: Path, pids: Sequence[int]) -> None:
        words = INVITATION.format(
            address=self._address,
            admin_port=self.admin_port,
            command=_command(),
            configuration=shlex.quote(str(configuration)),
            logs=self.state / "*.log",
            pids=dict(zip(_NAMES, pids, strict=True)),
            rest=_REST,
        )
        _say(words)


@contextlib.contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Have the folder for the length of a block, to the exclusion of other demos."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("a+")
    except OSError as error:
        words = f"{state} can't be used: {error.strerror}. Choose another folder: --state DIR"
        raise DemoError(words) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            words = f"The demo is open already (process {lock.read().strip()}), with its data in"
            way = "Close it first, or choose another folder and other ports: --state DIR"
            raise DemoError(f"{words} {state}. {way}") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


async def _answers(port: int, path: str) -> bool:
    """Tell whether GET answers 200; no proxy of the user's settings is asked."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    with contextlib.closing(writer):
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return b" 200 " in await reader.readline()


def _command() -> str:
    """Return how the other commands are typed here: not everybody has notifyd on PATH."""
    program = sys.argv[0]
    typed = [program] if Path(program).name == "notifyd" else [sys.executable, "-m", "notifyd"]
    return shlex.join(typed)


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - it talks to a person
