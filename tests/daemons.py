"""The real daemon as a process, beside the real site: what end-to-end tests start and talk to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

# What a developer's or a service manager's environment says to every program, and would say to
# ours: it starts with none of it.
_FOREIGN = re.compile(
    r"NOTIFYD_.*|OTEL_.*|NOTIFY_SOCKET|WATCHDOG_.*|(RUNTIME|CREDENTIALS)_DIRECTORY|JOURNAL_STREAM|.*_proxy",
    re.IGNORECASE,
)

# The admin listener is on this machine: no proxy of the user's settings could reach it.
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# A process that has the site's Django set up and runs what it is told: starting one for every
# question would take half a second each.
_SHELL = """
import contextlib, io, json, sys
import django
django.setup()
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from articles.models import Article, Comment
names = dict(globals())
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(json.loads(line), names)
    print(json.dumps(printed.getvalue()), flush=True)
"""

# Passwords are hashed badly, and so quickly: nobody logs in with one of these. What is filled in is
# no news for anybody, and there may be no Redis. Whatever the demonstration's people may do, in the
# tests nadia is an editor, omar a reporter.
_FILL = """
from django.core.management import call_command
from django.test.utils import override_settings
may = {"editors": ["article", "comment"], "reporters": ["comment"]}
with override_settings(
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    NOTIFYD={"ENABLED": False},
):
    call_command("migrate", verbosity=0)
    call_command("seed")
    for name, models in may.items():
        permissions = Permission.objects.filter(codename__in=[f"view_{each}" for each in models])
        group = Group.objects.get(name=name)
        group.permissions.set(permissions)
        user = User.objects.get(username={"editors": "nadia", "reporters": "omar"}[name])
        user.groups.set([group])
"""


def clean_environment() -> dict[str, str]:
    """Return our environment without what is addressed to a daemon."""
    return {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}


class Site:
    """The newsroom with a database and a Redis of its own.

    `database` is a path or a URL as the newsroom's settings take them; without one it is a file
    in the folder. `settings` are further variables of the environment.
    """

    def __init__(self, folder: Path, redis_url: str, database: str = "", **settings: str) -> None:
        self.database = database or str(folder / "newsroom.sqlite3")
        self.environment = {
            **clean_environment(),
            "PYTHONPATH": str(ROOT / "site"),
            "DJANGO_SETTINGS_MODULE": "newsroom.settings",
            "NEWSROOM_DATABASE": self.database,
            "NEWSROOM_REDIS": redis_url,
            **settings,
        }
        self._shell: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """Return how the site's Python is called."""
        return [sys.executable]

    def run(self, code: str) -> str:
        """Run Python in the site's shell, and return what it prints.

        What one call defines, the next can use. Users, Groups and so on are imported already.
        """
        if self._shell is None:
            self._shell = subprocess.Popen(
                [*self.command(), "-c", _SHELL],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(json.dumps(code) + "\n")
        self._shell.stdin.flush()
        answer = self._shell.stdout.readline()
        assert answer, "the site's shell has failed: its traceback is on standard error"
        return str(json.loads(answer))

    def value(self, expression: str) -> Any:
        """Return the value of a Python expression in the site's shell, as JSON has it."""
        return json.loads(self.run(f"import json\nprint(json.dumps({expression}))"))

    def fill(self) -> None:
        """Create the tables and the people: admin, nadia and omar, and ines, who is inactive."""
        self.run(_FILL)

    def key(self, username: str) -> str:
        """Return the primary key of a user."""
        return str(self.value(f"User.objects.get(username={username!r}).pk"))

    def content_type(self, model: str) -> int:
        """Return the primary key of a model's content type."""
        return int(self.value(f"ContentType.objects.get(model={model!r}).pk"))

    def token(self, username: str, scope: str = "notifyd") -> str:
        """Return a new token of a user; with an empty scope, as the guide makes them."""
        self.run("from sesame.utils import get_token")
        user = f"User.objects.get(username={username!r})"
        return str(self.value(f"get_token({user}, scope={scope!r})"))

    def close(self) -> None:
        """End the shell."""
        if self._shell is not None:
            self._shell.communicate()
            self._shell = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Daemon:
    """`notifyd run` as a process, on free ports. Several in one folder need different names.

    `options` are those of the configuration, in small letters, or other variables of its
    environment, in capitals.
    """

    def __init__(self, folder: Path, site: Site, name: str = "notifyd", **options: str) -> None:
        self._folder = folder
        self.environment = {
            **site.environment,
            "NOTIFYD_SERVER_LISTEN": "127.0.0.1:0",
            "NOTIFYD_ADMIN_LISTEN": "127.0.0.1:0",
            "NOTIFYD_CONTROL_SOCKET": str(folder / f"{name}.control"),
            "NOTIFYD_LOG_FORMAT": "json",
            **{
                key if key.isupper() else f"NOTIFYD_{key.upper()}": value
                for key, value in options.items()
            },
        }
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, once it was started."""
        assert self._process is not None
        return self._process

    def start(self, *arguments: str) -> None:
        """Start it and wait until it says it has."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "notifyd", "run", *arguments],
                env=self.environment,
                cwd=self._folder,
                stderr=log,
            )
        wait_until(lambda: self.process.poll() is not None or self.events("service.started"), 30)
        assert self.process.poll() is None, self.log

    def take_over(self) -> list[dict[str, Any]]:
        """Let another process take over from this one, and return what this one has logged."""
        predecessor = self.process
        self._log.rename(before := self._log.with_suffix(".before"))
        self.start("--take-over")
        assert predecessor.wait(20) == 0
        return [json.loads(line) for line in before.read_text().splitlines()]

    def wait_for_bus(self) -> None:
        """Wait until both of its links to Redis work."""
        wait_until(lambda: self.metric("redis_up") == 1, 20)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have it frozen for the length of a block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def events(self, name: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """Return the log's lines, or those of one event with these fields; every line is JSON."""
        # The last line may have come in part only.
        lines = [json.loads(line) for line in self.log.splitlines(keepends=True) if "\n" in line]
        return [
            line
            for line in lines
            if name in {None, line["event"]} and fields.items() <= line.items()
        ]

    @property
    def log(self) -> str:
        """Everything it has written to standard error."""
        return self._log.read_text()

    @property
    def addresses(self) -> list[str]:
        """The addresses for WebSockets, in the order of the configuration."""
        opened = self.events("listener.opened")
        return [each["address"] for each in opened if each.get("serves") != "admin"]

    def get(self, path: str) -> tuple[int, str]:
        """Fetch a page of the admin listener: its status and its text."""
        [admin] = self.events("listener.opened", serves="admin")
        try:
            with _HTTP.open(f"http://{admin['address']}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return one sample of /metrics; its name is without the prefix."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"notifyd_{name}" and labels.items() <= sample.labels.items():
                    return sample.value
        raise LookupError(f"no metric notifyd_{name} with {labels}")

    def command(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run another command of notifyd with the same configuration."""
        return subprocess.run(
            [sys.executable, "-m", "notifyd", *arguments],
            env=self.environment | more.pop("environment", {}),
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            **more,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self.process.kill()
        self.process.wait()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        # In a thread, so that the test's clients can answer when they are told to leave.
        await asyncio.to_thread(self.__exit__)
