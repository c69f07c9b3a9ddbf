"""Every command as an operator types it: what it prints, and the exit code it ends with."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from daemons import ROOT, Daemon, Site
from e2e.flow import STREAM, fall_behind
from e2e.service_manager import ServiceManager
from servers import LOOPBACK, RedisServer, free_port
from waiting import until, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from e2e.clients import Pages

COMMANDS = ("run", "check", "config", "status", "tail", "explain", "publish", "disconnect", "token")
WATCHED = "{watched}:events"
# Needs percent-encoding nowhere, and occurs nowhere else.
PASSWORD = "sup3r-s3cret"


@pytest.fixture(scope="module")
def bus(redis: RedisServer) -> Any:
    """Give a client of the bus."""
    return redis.client(decode_responses=True)


def long(*cases: Sequence[Any]) -> list[Any]:
    """Leave the further cases of a test to the long suite: each starts a command."""
    return [pytest.param(*case, marks=pytest.mark.long) for case in cases]


def is_plain(errors: str, sentences: int | None = None) -> bool:
    """Tell whether the errors are (so many) lines for people."""
    lines = errors.splitlines()
    return all(line.startswith("notifyd: ") for line in lines) and (
        sentences is None or len(lines) == sentences
    )


# notifyd


def test_version(daemon: Daemon) -> None:
    """`notifyd --version` tells the version."""
    done = daemon.command("--version")
    assert re.fullmatch(r"notifyd \d+\.\d+\.\d+\n", done.stdout)
    assert done.returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_help(daemon: Daemon, command: str) -> None:
    """Every command explains itself."""
    done = daemon.command(command, "--help")
    assert done.returncode == 0
    assert f"usage: notifyd {command} " in done.stdout
    assert "--config FILE" in done.stdout


def test_help_lists_the_commands(daemon: Daemon) -> None:
    """`notifyd --help` names every command."""
    listed = daemon.command("--help").stdout
    assert [name for name in COMMANDS if f"\n    {name} " not in listed] == []


@pytest.mark.parametrize("arguments", [[], ["fly"], ["token"]])
def test_wrong_command_line(daemon: Daemon, arguments: list[str]) -> None:
    """A wrong command line ends with 2 and shows how it is written."""
    done = daemon.command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: notifyd ")


# notifyd run: what keeps it from running


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({"NOTIFYD_SERVER_LISTEN": "nowhere"}, "server.listen"),
        ({"NOTIFYD_SERVER_LISTEN": "0.0.0.0:0"}, 'origins = ["https://www.example.com"]'),
        ({"NOTIFYD_LOG_LEVEL": "loud"}, "debug, info, warning, error, critical"),
        *long(
            ({"NOTIFYD_REDIS_URL": "redis+sentinel://a:1/s/0"}, "Sentinel"),
            ({"DJANGO_SETTINGS_MODULE": ""}, "set [django] settings, or DJANGO_SETTINGS_MODULE"),
            ({"DJANGO_SETTINGS_MODULE": "no.such"}, "Set [django] path to the directory that has"),
            ({"DJANGO_SETTINGS_MODULE": "careless"}, "Set SESAME_MAX_AGE, to 30"),
            ({"NEWSROOM_REDIS": "memcached://127.0.0.1"}, "set [redis] url"),
        ),
    ],
)
def test_bad_configuration(
    home: Path, daemon: Daemon, environment: dict[str, str], advice: str
) -> None:
    """`notifyd run` without a usable configuration ends with 78 and says what to do."""
    (home / "careless.py").write_text("from newsroom.settings import *\nSESAME_MAX_AGE = None\n")
    path = {"PYTHONPATH": f"{home}:{ROOT / 'site'}"}
    done = daemon.command("run", environment=path | environment, timeout=20)
    assert done.returncode == 78
    assert is_plain(done.stderr)
    assert advice in done.stderr


def test_bad_file(home: Path, daemon: Daemon) -> None:
    """All faults of a configuration are told at once, each in a line with its place."""
    file = home / "bad.toml"
    file.write_text('[server]\nping_interval = -1\nbuffer = "big"\n[log]\nformat = "xml"\n')
    done = daemon.command("run", "--config", str(file), environment={"NOTIFYD_LOG_FORMAT": ""})
    named = re.findall(r"^notifyd: ([a-z_.]+) = ", done.stderr, re.MULTILINE)
    assert done.returncode == 78
    assert {"server.ping_interval", "server.buffer"} <= {*named}
    assert str(file) in done.stderr


def test_missing_file(home: Path, daemon: Daemon) -> None:
    """A configuration file that is named has to exist."""
    done = daemon.command("run", "--config", str(home / "missing.toml"))
    assert done.returncode == 78
    assert "missing.toml does not exist; create it or correct --config." in done.stderr


@pytest.mark.parametrize("which", ["public", *long(["admin"], ["control"])])
def test_taken_address(home: Path, daemon: Daemon, which: str) -> None:
    """A daemon whose place is taken ends with 1 and one sentence that says by what it is named."""
    free = {
        "NOTIFYD_SERVER_LISTEN": f"{LOOPBACK}:0",
        "NOTIFYD_ADMIN_LISTEN": f"{LOOPBACK}:0",
        "NOTIFYD_CONTROL_SOCKET": str(home / "another"),
    }
    [admin] = daemon.events("listener.opened", serves="admin")
    name, taken = {
        "public": ("NOTIFYD_SERVER_LISTEN", daemon.addresses[0]),
        "admin": ("NOTIFYD_ADMIN_LISTEN", admin["address"]),
        "control": ("NOTIFYD_CONTROL_SOCKET", str(home / "notifyd.control")),
    }[which]
    done = daemon.command("run", environment={**free, name: taken}, timeout=20)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 1
    assert len(lines) == 1
    assert taken in lines[0]
    assert name.removeprefix("NOTIFYD_").replace("_", "] ").lower() in lines[0]


# notifyd run: its end, and the service manager


@pytest.fixture
def mortal(folder: Path, site: Site) -> Iterator[Daemon]:
    """Give a daemon for one test, which may end it, in the care of a service manager."""
    watched = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "1000000"}
    with Daemon(folder, site, **watched, server_drain="3", server_close_timeout="2") as running:
        yield running


@pytest.fixture
def systemd(folder: Path) -> Iterator[ServiceManager]:
    """Give the service manager; to be asked for before the daemon."""
    with ServiceManager(folder / "notify") as manager:
        yield manager


@pytest.mark.parametrize("number", [signal.SIGTERM, *long([signal.SIGINT])])
async def test_stop(
    systemd: ServiceManager, mortal: Daemon, site: Site, pages: Pages, number: signal.Signals
) -> None:
    """A daemon that is told to stop asks its clients to come back, closes them and ends with 0."""
    page = await pages.hello(mortal, site.token("nadia"))
    bare = await pages.bare(mortal, site.token("omar", scope=""))
    code = await asyncio.to_thread(mortal.stop, number)
    assert [await each.closed() for each in (page, bare)] == [(1012, "service restart")] * 2
    assert 0 <= page.controls("closing")[0]["retry_in"] <= 3
    assert bare.texts == []
    assert code == 0
    assert [line["connections"] for line in mortal.events("service.stopping")] == [2]
    assert mortal.events()[-1]["event"] == "service.stopped"
    assert "STOPPING=1" in systemd.heard()


@pytest.mark.long
async def test_stop_beside_a_silent_client(
    systemd: ServiceManager, mortal: Daemon, site: Site, pages: Pages
) -> None:
    """While it waits for its last clients it is not ready, takes no others, and then ends."""
    assert "READY=1" in systemd.heard()
    page = await pages.hello(mortal, site.token("nadia"))
    page.connection.transport.pause_reading()
    mortal.process.terminate()
    await until(lambda: mortal.get("/readyz")[0] == 503)
    assert "draining" in json.loads(mortal.get("/readyz")[1])["failing"]
    with pytest.raises(ConnectionRefusedError):
        await pages.connect(mortal.addresses[0])
    assert await asyncio.to_thread(mortal.process.wait, 10) == 0
    page.connection.transport.abort()


@pytest.mark.long
def test_service_manager(systemd: ServiceManager, mortal: Daemon) -> None:
    """The service manager hears that it is ready, what it does, that it lives and that it stops."""
    wait_until(lambda: systemd.heard().count("WATCHDOG=1") >= 2)
    assert mortal.stop() == 0
    heard = systemd.heard()
    assert heard.index("READY=1") < heard.index("STOPPING=1")
    states = [each.removeprefix("STATUS=") for each in heard if each.startswith("STATUS=")]
    assert re.match(r"0 clients of 0 users, Redis (connected|away), 0 deliveries", states[0])
    assert states[-1] == "Stopped; 0 connections cut"


def test_sockets_are_removed(folder: Path, site: Site) -> None:
    """A daemon that ends takes its Unix sockets with it."""
    with Daemon(folder, site, server_listen=f"unix:{folder}/public") as running:
        assert {each.name for each in folder.iterdir() if each.is_socket()} == {
            "public",
            "notifyd.control",
        }
        running.stop()
    assert [each.name for each in folder.iterdir() if each.is_socket()] == []


# notifyd check, notifyd config


def test_check(daemon: Daemon) -> None:
    """`notifyd check` looks at everything and ends with 0 where all is well."""
    done = daemon.command("check")
    assert done.stdout.splitlines() == [
        "ok: configuration and site settings",
        "ok: Redis answers",
        "ok: database answers",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_check_a_file(home: Path, redis: RedisServer, daemon: Daemon) -> None:
    """A file is enough, and a slip in it is told with the nearest option."""
    file = home / "notifyd.toml"
    file.write_text(
        f"""
        [server]
        ping_intervall = 20
        [redis]
        url = "{redis.url}"
        [django]
        settings = "newsroom.settings"
        path = "{ROOT / "site"}"
        """
    )
    nothing = {"PYTHONPATH": "", "DJANGO_SETTINGS_MODULE": "", "NEWSROOM_REDIS": ""}
    done = daemon.command("check", "--config", str(file), environment=nothing)
    assert done.returncode == 0, done.stderr
    assert "warning: server.ping_intervall" in done.stdout
    assert "the nearest one is server.ping_interval" in done.stdout


@pytest.mark.long
def test_check_without_servers(daemon: Daemon) -> None:
    """Redis and the database are looked at both, and each fault names what is out of reach."""
    port = free_port()
    away = {
        "NEWSROOM_REDIS": f"redis://:{PASSWORD}@{LOOPBACK}:{port}/1",
        "NEWSROOM_DATABASE": f"postgresql://me:{PASSWORD}@{LOOPBACK}:{port}/newsroom",
    }
    done = daemon.command("check", environment=away)
    first, redis, database = done.stdout.splitlines()
    assert first == "ok: configuration and site settings"
    assert redis.startswith("fault: Redis: ")
    assert f"{LOOPBACK}:{port}" in redis
    assert database.startswith("fault: database: OperationalError: ")
    assert (done.returncode, done.stderr) == (1, "")
    assert PASSWORD not in done.stdout


def test_config(daemon: Daemon) -> None:
    """`notifyd config` prints TOML with every option, where it came from, and no password."""
    url = f"redis://user:{PASSWORD}@{LOOPBACK}/1"
    done = daemon.command("config", environment={"NOTIFYD_REDIS_URL": url})
    assert tomllib.loads(done.stdout)["redis"]["url"] == f"redis://user:***@{LOOPBACK}/1"
    assert "timeout = 1.0  # environment NOTIFYD_REDIS_TIMEOUT" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_config_of_the_site(daemon: Daemon) -> None:
    """Where the configuration leaves Redis open, the address of the site's cache is shown."""
    url = f"redis://:{PASSWORD}@{LOOPBACK}:7777/1"
    done = daemon.command("config", environment={"NEWSROOM_REDIS": url})
    assert tomllib.loads(done.stdout)["redis"]["url"] == f"redis://:***@{LOOPBACK}:7777/1"


# notifyd status


async def test_status(daemon: Daemon, site: Site, pages: Pages) -> None:
    """`notifyd status` shows who is connected and how the bus does, a line for each value."""
    await pages.hello(daemon, site.token("nadia"))
    done = daemon.command("status")
    values = done.stdout.partition("\n\n")[0]
    rows = dict(re.split("  +", line, maxsplit=1) for line in values.splitlines())
    assert done.returncode == 0
    assert (rows["users"], rows["ready"], rows["bus up"]) == ("1", "yes", "yes")
    assert "live 1" in rows["connections"].split(", ")
    assert rows["bus address"].startswith("redis://")
    assert rows["listeners"] == ", ".join(daemon.addresses)


def test_status_is_quick() -> None:
    """A command that only asks the daemon does not import what the daemon is made of."""
    code = "import sys; from notifyd.cli import main; main(['status']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={}
    )
    assert "no daemon listens" in done.stderr
    assert {"django", "redis"}.isdisjoint(done.stdout.split())


async def test_status_as_json(daemon: Daemon, site: Site, pages: Pages) -> None:
    """`notifyd status --json` is one JSON object for programs."""
    await pages.hello(daemon, site.token("nadia"))
    status = json.loads(daemon.command("status", "--json").stdout)
    assert status["pid"] == daemon.process.pid
    assert status["connections"]["live"] == 1
    assert status["bus"]["up"] is True
    assert status["failing"] == {}


async def test_status_of_what_happens(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """The status has what happens a second, and the latest warnings with how often they came."""
    page = await pages.hello(daemon, site.token("nadia"))
    bus.xadd(STREAM, {"event": "[]", "to": '{"everyone": true}'})
    for _ in range(2):
        bus.xadd(STREAM, {"event": "{}", "to": '{"everyone": true}'})
    await page.count(2)

    def status() -> dict[str, Any]:
        return dict(json.loads(daemon.command("status", "--json").stdout))

    rates = await until(lambda: (found := status()["per_second"])["events"] and found)
    assert rates["deliveries"] >= rates["events"] > 0
    [line] = [line for line in status()["recent_errors"] if line["event"] == "event.rejected"]
    assert (line["reason"], line["level"]) == ("not_object", "warning")
    assert re.search(r"\n\nrecent errors\n  .*  event.rejected ", daemon.command("status").stdout)


@pytest.mark.long
async def test_status_of_a_slow_client(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """The status names the clients that owe the most, and how far behind they are."""
    page = await pages.hello(daemon, site.token("nadia"))
    await fall_behind(page, daemon, bus)
    [client] = json.loads(daemon.command("status", "--json").stdout)["slowest_clients"]
    assert (client["user"], client["address"]) == (site.key("nadia"), "127.0.0.1")
    assert client["owed"] > 0
    assert client["behind_seconds"] > 0
    assert "\n\nslowest clients\n" in daemon.command("status").stdout
    page.connection.transport.resume_reading()
    await page.count(200)


def watch(daemon: Daemon, output: int, *arguments: str) -> subprocess.Popen[str]:
    """Start `notifyd status --watch` as from a terminal."""
    command = [sys.executable, "-m", "notifyd", "status", "--watch", *arguments]
    return subprocess.Popen(
        ["env", "--default-signal=INT", *command],
        env=daemon.environment | {"LINES": "12", "COLUMNS": "30"},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_status_watched(daemon: Daemon) -> None:
    """`notifyd status --watch` draws the page over itself every second, until Ctrl-C."""
    screen, line = pty.openpty()
    process = watch(daemon, line)
    os.close(line)
    seen = b""
    while seen.count(b"\x1b[J") < 2:
        seen += os.read(screen, 65536)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    os.close(screen)
    _, first, second = re.split(r"\x1b\[H", seen.decode())
    assert (process.returncode, errors) == (130, "")
    assert first.startswith("version ")
    assert "\x1b[2J" not in first + second
    assert [line for line in first.splitlines() if len(line) > 30 + len("\x1b[K")] == []
    assert len(first.splitlines()) <= 12


@pytest.mark.long
def test_status_watched_by_a_program(daemon: Daemon) -> None:
    """`notifyd status --watch --json` prints a line each time."""
    process = watch(daemon, subprocess.PIPE, "--json")
    assert process.stdout is not None
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert first["uptime"] < second["uptime"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 130


def test_status_without_a_daemon(home: Path, daemon: Daemon) -> None:
    """Where no daemon runs, one sentence says where it was looked for."""
    nowhere = str(home / "nowhere")
    done = daemon.command("status", environment={"NOTIFYD_CONTROL_SOCKET": nowhere})
    assert (done.returncode, done.stdout) == (1, "")
    assert is_plain(done.stderr, sentences=1)
    assert nowhere in done.stderr


# notifyd tail


def start_tail(
    daemon: Daemon, *arguments: str, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Start `notifyd tail` as from a terminal: it may be interrupted.

    Where the tests run in the background, they and all they start ignore Ctrl-C (bash(1), SIGNALS).
    """
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "notifyd", "tail", *arguments],
        env=daemon.environment | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def tail(daemon: Daemon, bus: Any) -> Iterator[subprocess.Popen[str]]:
    """Give `notifyd tail` once it reads a stream and a channel that nobody else does."""
    process = start_tail(daemon, NOTIFYD_REDIS_PREFIX="watched", NOTIFYD_REDIS_CHANNEL="watched")
    wait_until(lambda: bus.exists(WATCHED) and bus.pubsub_numsub("watched")[0][1])
    yield process
    process.kill()
    process.communicate()
    bus.delete(WATCHED)


def test_tail(bus: Any, tail: subprocess.Popen[str]) -> None:
    """`notifyd tail` prints what passes on the bus, one JSON object a line, until Ctrl-C."""
    assert tail.stdout is not None
    id_ = bus.xadd(WATCHED, {"event": '{"n": 1}', "to": '{"users": [7]}', "more": "é"})
    entry = {"id": id_, "event": {"n": 1}, "to": {"users": [7]}, "more": "é"}
    assert json.loads(tail.stdout.readline()) == entry
    bus.publish("watched", "not JSON")
    assert json.loads(tail.stdout.readline()) == {"channel": "watched", "event": "not JSON"}
    tail.send_signal(signal.SIGINT)
    assert tail.communicate() == ("", "")
    assert tail.returncode == 130


def test_tail_filtered(daemon: Daemon, bus: Any) -> None:
    """`notifyd tail` can show only some of what the stream has, and what comes then."""
    first = bus.xadd(STREAM, {"event": '{"content_type_id": 3, "text": "é"}'})
    shown, *_ = [
        bus.xadd(STREAM, {"event": f'{{"content_type_id": 3, "text": "{text}"}}', "to": to})
        for text, to in (("é", '{"users": [7]}'), ("e", '{"users": [7]}'), ("é", '{"users": [8]}'))
    ]
    options = ("--since", first, "--source", "stream", "--content-type", "3", "--user", "7")
    process = start_tail(daemon, *options, "--grep", "é")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == shown
    last = bus.xadd(STREAM, {"event": '{"content_type_id": 3, "n": "é"}', "to": '{"users": [7]}'})
    assert json.loads(process.stdout.readline())["id"] == last
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")


@pytest.mark.parametrize(
    ("environment", "beginning"),
    [({"NO_COLOR": ""}, "\x1b[2m"), *long(({"NO_COLOR": "1"}, ""), ({"TERM": "dumb"}, ""))],
)
def test_tail_on_a_terminal(
    daemon: Daemon, bus: Any, environment: dict[str, str], beginning: str
) -> None:
    """On a terminal a line is for people, in colours unless the environment forbids them."""
    id_ = bus.xadd(STREAM, {"event": '{"text": "\\u001b[2J"}', "to": '{"users": [7]}'})
    screen, line = pty.openpty()
    terminal = {"TERM": "xterm"} | environment
    process = start_tail(daemon, "--since", "60", "--user", "7", stdout=line, **terminal)
    os.close(line)
    with os.fdopen(screen, encoding="utf-8") as shown:
        words = next(words for words in shown if id_ in words)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert words.startswith(beginning)
    assert ("\x1b" in words) is bool(beginning)
    assert '{"text": "\\u001b[2J"}' in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "neither an id"),
        (["--since", "1-"], "neither an id"),
        (["--since", "inf"], "neither an id"),
        (["--since", "60", "--source", "pubsub"], "the channel has no past"),
    ],
)
def test_tail_of_no_past(daemon: Daemon, arguments: list[str], words: str) -> None:
    """A beginning that can't be is a wrong command line."""
    done = daemon.command("tail", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_tail_without_redis(daemon: Daemon) -> None:
    """While Redis is away `notifyd tail` says so, beside the events, and goes on."""
    url = f"redis://:{PASSWORD}@{LOOPBACK}:{free_port()}/0"
    process = start_tail(daemon, NOTIFYD_REDIS_URL=url)
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    assert (line["event"], process.poll()) == ("bus.disconnected", None)
    process.kill()
    assert PASSWORD not in json.dumps(line) + "".join(process.communicate())


def test_tail_into_a_pipe_that_closes(bus: Any, tail: subprocess.Popen[str]) -> None:
    """`notifyd tail | head` ends without a complaint."""
    assert tail.stdout is not None
    assert tail.stderr is not None
    tail.stdout.close()
    bus.xadd(WATCHED, {"event": "{}"})
    assert tail.wait(10) == 0
    assert tail.stderr.read() == ""


# notifyd publish


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--everyone"], {"everyone": True}),
        *long(
            (["--user", "1", "--user", "2"], {"users": ["1", "2"]}),
            (
                ["--group", "3", "--permission", "articles.view_article", "--content-type", "4"],
                {"groups": ["3"], "permissions": ["articles.view_article"], "content_types": ["4"]},
            ),
        ),
    ],
)
def test_publish(daemon: Daemon, bus: Any, options: list[str], rule: dict[str, Any]) -> None:
    """`notifyd publish` adds the event with its audience to the stream and prints the id."""
    done = daemon.command("publish", *options, '{"text": "é", "n": 1}')
    [[id_, fields]] = bus.xrevrange(STREAM, count=1)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{id_}\n", "")
    assert fields["event"] == '{"text":"é","n":1}'
    assert json.loads(fields["to"]) == rule


def test_publish_from_standard_input(daemon: Daemon, bus: Any) -> None:
    """A dash reads the event from standard input; its content type is audience enough."""
    done = daemon.command("publish", "-", input='{"content_type_id": 1}\n')
    assert bus.xrevrange(STREAM, count=1) == [
        (done.stdout.strip(), {"event": '{"content_type_id":1}'})
    ]


def test_publish_in_a_trace(daemon: Daemon, bus: Any) -> None:
    """`notifyd publish --traceparent` has the event belong to a trace."""
    header = f"00-{'4' * 32}-{'b' * 16}-01"
    done = daemon.command("publish", "--everyone", "--traceparent", header, "{}")
    [[id_, fields]] = bus.xrevrange(STREAM, count=1)
    assert (done.stdout, fields["traceparent"]) == (f"{id_}\n", header)


def test_publish_in_no_trace(daemon: Daemon) -> None:
    """What is no trace is refused as a mistake of the command line."""
    done = daemon.command("publish", "--everyone", "--traceparent", "00", "{}")
    assert done.returncode == 2
    assert "traceparent must be 00-TRACE-PARENT-FLAGS" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (['{"n": ', "--everyone"], "not JSON"),
        (["[1]", "--everyone"], "not a JSON object"),
        *long(
            (['{"n": NaN}', "--everyone"], "JSON"),
            (['{"id": 1}', "--everyone"], "the keys id and notifyd are reserved"),
            (['{"n": 1}'], "neither an audience rule nor a content_type_id"),
            (['{"n": 1}', "--permission", "view"], '"app.codename"'),
            ([json.dumps({"n": "x" * 70_000}), "--everyone"], "at most 65536 are allowed"),
        ),
    ],
)
def test_publish_refuses(daemon: Daemon, bus: Any, arguments: list[str], words: str) -> None:
    """What no daemon would relay is refused in one sentence, and not written."""
    before = bus.xinfo_stream(STREAM)["last-generated-id"]
    done = daemon.command("publish", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert is_plain(done.stderr, sentences=1)
    assert words in done.stderr
    assert bus.xinfo_stream(STREAM)["last-generated-id"] == before


def test_publish_without_redis(daemon: Daemon) -> None:
    """Where Redis is away, one sentence says which."""
    address = f"redis://{LOOPBACK}:{free_port()}/0"
    away = {"NOTIFYD_REDIS_URL": address.replace("//", f"//:{PASSWORD}@")}
    done = daemon.command("publish", "--everyone", "{}", environment=away)
    assert done.returncode == 1
    assert is_plain(done.stderr, sentences=1)
    assert address in done.stderr


# notifyd disconnect


async def test_disconnect(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """`notifyd disconnect` closes a user's connections, and tells all daemons of the site."""
    nadia, other = [await pages.hello(daemon, site.token(name)) for name in ("nadia", "omar")]
    done = daemon.command("disconnect", "--user", site.key("nadia"))
    assert (done.returncode, done.stderr) == (0, "")
    assert await nadia.closed() == (4403, "access revoked")
    assert other.open
    [id_, fields] = bus.xrevrange(STREAM, count=1)[0]
    assert fields == {"control": f'{{"disconnect": {{"users": ["{site.key("nadia")}"]}}}}'}
    lines = [
        "connections closed at this daemon: 1",
        f"other daemons read of it in the stream: {id_}",
    ]
    assert done.stdout.splitlines() == lines


def test_disconnect_without_redis(daemon: Daemon, redis: RedisServer, site: Site) -> None:
    """Without Redis nobody can be told, and the command says so."""
    with redis.stopped():
        done = daemon.command("disconnect", "--user", site.key("nadia"))
    assert (done.returncode, done.stdout) == (1, "")
    assert is_plain(done.stderr, sentences=1)
    assert "Redis was not told" in done.stderr
    daemon.wait_for_bus()


# notifyd token


async def test_token(daemon: Daemon, pages: Pages) -> None:
    """`notifyd token` prints a token that a hello and a bare first message log in with."""
    hello, bare = (daemon.command("token", "nadia").stdout.strip() for _ in range(2))
    await pages.hello(daemon, hello)
    await pages.bare(daemon, bare)


async def test_unscoped_token(daemon: Daemon, site: Site, pages: Pages) -> None:
    """`notifyd token --unscoped` prints one like the guide's: good as a bare message, no more."""
    unscoped = daemon.command("token", "--unscoped", "nadia").stdout.strip()
    site.run("from sesame.utils import get_user")
    assert site.value(f"get_user({unscoped!r}).username") == "nadia"
    await pages.bare(daemon, unscoped)
    refused = await pages.connect(daemon.addresses[0])
    await refused.connection.send(json.dumps({"token": unscoped}))
    assert await refused.closed() == (4401, "authentication failed")


def test_token_of_nobody(daemon: Daemon) -> None:
    """A token for a user that doesn't exist is refused in one sentence."""
    done = daemon.command("token", "bob")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "notifyd: There is no user 'bob'.\n"


@pytest.mark.long
def test_token_without_a_database(home: Path, daemon: Daemon) -> None:
    """Without its database the command ends in one sentence, too."""
    empty = {"NEWSROOM_DATABASE": str(home / "empty.sqlite3")}
    done = daemon.command("token", "nadia", environment=empty)
    assert (done.returncode, done.stdout) == (1, "")
    assert is_plain(done.stderr, sentences=1)


# Secrets


async def outputs(daemon: Daemon, *commands: tuple[str, ...]) -> str:
    """Return everything that commands print."""
    done = [await asyncio.to_thread(daemon.command, *words) for words in commands]
    return "".join(each.stdout + each.stderr for each in done)


@pytest.mark.long
async def test_secrets(folder: Path, template: Path, pages: Pages) -> None:
    """No token and no password is in any output, nor in the log at its most talkative."""
    with (
        RedisServer(folder, arguments=["--requirepass", PASSWORD]) as server,
        Site(folder, f"redis://:{PASSWORD}@{LOOPBACK}:{server.port}/0", str(template)) as site,
    ):
        tokens = [site.token("nadia"), site.token("omar", scope=""), site.token("omar")[:-4]]
        good, bare, spoilt = tokens
        async with Daemon(folder, site, log_level="debug", redis_timeout="0.5") as daemon:
            daemon.wait_for_bus()
            await pages.hello(daemon, good)
            await pages.bare(daemon, bare)
            for first in (spoilt, json.dumps({"token": spoilt}), json.dumps({"ticket": spoilt})):
                refused = await pages.connect(daemon.addresses[0])
                await refused.connection.send(first)
                assert (await refused.closed())[0] == 4401
            writing = ("publish", "--everyone", "{}")
            seen = await outputs(daemon, ("check",), ("config",), ("status",), writing)
            server.stop(signal.SIGKILL)
            await until(lambda: daemon.events("bus.disconnected"))
            seen += await outputs(daemon, ("check",), writing)
            seen += daemon.get("/metrics")[1] + daemon.get("/readyz")[1]
    seen += daemon.log
    assert {"auth.failed", "connection.opened"} <= {line["event"] for line in daemon.events()}
    assert [secret for secret in (PASSWORD, *tokens) if secret in seen] == []


@pytest.mark.long
async def test_wrong_password(folder: Path, template: Path) -> None:
    """A password that Redis refuses is complained of without being shown."""
    with (
        RedisServer(folder, arguments=["--requirepass", "another"]) as server,
        Site(folder, f"redis://:{PASSWORD}@{LOOPBACK}:{server.port}/0", str(template)) as site,
        Daemon(folder, site, log_level="debug") as daemon,
    ):
        [line] = daemon.events("bus.disconnected", source="stream")
        seen = await outputs(daemon, ("check",), ("publish", "--everyone", "{}"))
    assert "check the user and the password" in line["hint"]
    assert seen.count("check the user and the password") == 2
    assert PASSWORD not in daemon.log + seen
