"""The world of the guide "Integrate with Django", acted out; prints what happened as JSON.

Usage: guide_world.py FOLDER

It wants a network of its own, in which the guide's ports are free. Redis is at 127.0.0.1:6379; a
site with the guide's settings publishes there what is done in its admin; and beside it runs
`notifyd run` without a word of configuration. What should have happened is up to whoever reads
what is printed: test_guide.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.request import urlopen

import django
import redis
from django.core.management import call_command
from django.test import Client
from django.utils.module_loading import import_string
from e2e.terminal import Terminal
from newsrooms import model
from redis.client import PubSub
from waiting import until, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.asyncio.client import ClientConnection

ADDRESS = "ws://localhost:8888/"
PAGE = Origin("http://localhost:8000")

# Whoever may only add or delete sees nothing of a model, by the guide's rule.
READERS = {
    "viewer": ["view_article", "view_session"],
    "changer": ["change_comment", "change_article", "change_user"],
    "stranger": ["add_article", "delete_article", "add_comment"],
}


class Channel:
    """What Redis really carries: a subscriber like redis-cli's."""

    def __init__(self) -> None:
        # Kept, because its end would be the end of its connections.
        self._client = redis.Redis(db=1)
        self._subscriber: Any = PubSub(self._client.connection_pool)
        self._subscriber.subscribe("events")
        wait_until(lambda: self._subscriber.get_message(timeout=1))

    def next(self) -> str:
        """Return the next message."""
        message = wait_until(lambda: self._subscriber.get_message(timeout=1))
        return str(message["data"].decode())


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a program run for the length of a block; its output goes where our errors go."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def redis_answers() -> bool:
    """Tell whether Redis is there."""
    with contextlib.suppress(redis.ConnectionError), redis.Redis() as client:
        return bool(client.ping())
    return False


def metric(name: str) -> int | None:
    """Return what the daemon's metrics say, None while it is not there."""
    with contextlib.suppress(OSError), urlopen("http://127.0.0.1:9488/metrics") as answer:
        found = re.search(rf"^notifyd_{name} (\d+)", answer.read().decode(), re.MULTILINE)
        return int(found[1]) if found else None
    return None


def live() -> int | None:
    """Return how many clients the daemon has let in."""
    return metric('connections{state="live"}')


def person(name: str) -> Any:
    """Return a user as the site has it now."""
    return model("auth.User").objects.get(username=name)


def token(name: str) -> str:
    """Return a token as the guide makes it."""
    return str(import_string("sesame.utils.get_token")(person(name)))


def change_an_article(headline: str) -> None:
    """Log in to the admin, and change an article's headline there."""
    browser = Client(SERVER_NAME="localhost")
    who = {"username": "admin", "password": "newsroom"}
    browser.post("/admin/login/?next=/admin/", who)
    article = model("articles.Article").objects.first()
    changes = {"headline": headline, "text": "Rewritten."}
    answer = browser.post(f"/admin/articles/article/{article.pk}/change/", changes)
    assert answer.status_code == 302, answer.content.decode()


def in_terminal(channel: Channel) -> dict[str, str]:
    """Paste a token into the terminal, and let somebody else change something."""
    with Terminal(ADDRESS) as terminal:
        terminal.paste(token("nadia"))
        wait_until(lambda: live() == 1)
        change_an_article("Über Nacht: the harbour thaws")
        published = channel.next()
        return {"published": published, "screen": terminal.shows(published[-20:])}


def refused_in_terminal() -> str:
    """Paste something else, and return the screen."""
    with Terminal(ADDRESS) as terminal:
        terminal.paste("not a token")
        return terminal.shows("Connection closed")


def hosts() -> list[str]:
    """Return what localhost is: both loopback addresses, unless this machine has no IPv6."""
    ipv6 = Path("/proc/net/if_inet6")
    return ["127.0.0.1", "[::1]"] if ipv6.exists() and ipv6.read_text() else ["127.0.0.1"]


async def in_page(host: str, channel: Channel) -> dict[str, str]:
    """Do what a page of the development server does, and let somebody change something."""
    websocket = await enter(host, await asyncio.to_thread(token, "nadia"))
    await until(lambda: live() == 1)
    await asyncio.to_thread(change_an_article, f"Seen over {host}")
    received = await websocket.recv()
    await websocket.close()
    await until(lambda: live() == 0)
    return {"published": channel.next(), "received": str(received)}


async def enter(host: str, first_message: str) -> ClientConnection:
    """Return a connection as a page would have it after its `onopen`."""
    websocket = await connect(f"ws://{host}:8888/", origin=PAGE, proxy=None)
    await websocket.send(first_message)
    return websocket


async def refusal(first_message: str) -> list[object]:
    """Return how the daemon closes a connection with that first message."""
    websocket = await enter("localhost", first_message)
    await websocket.wait_closed()
    return [websocket.close_code, websocket.close_reason]


def refusals() -> dict[str, list[object]]:
    """Try tokens that are no good."""
    then = time.time() - 31
    with patch("time.time", lambda: then):
        expired = token("nadia")
    bad = {"expired": expired, "invalid": token("nadia")[:-1] + "!", "inactive": token("ines")}
    return {kind: asyncio.run(refusal(text)) for kind, text in bad.items()}


def may_see(name: str, content_type: Any) -> bool:
    """Apply the guide's rule: whoever has the permission to view or to change a model."""
    app, model = content_type.app_label, content_type.model
    return any(person(name).has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))


def act_on_everything(channel: Channel) -> list[tuple[Any, str]]:
    """Log an action on each content type as the admin does; return what was published."""
    entries = model("admin.LogEntry").objects
    published = []
    for content_type in model("contenttypes.ContentType").objects.all():
        entries.create(
            user=person("admin"),
            content_type=content_type,
            object_id="1",
            object_repr=f"A {content_type.model}",
            action_flag=2,
            change_message=[{"changed": {"fields": ["Name"]}}],
        )
        published.append((content_type, channel.next()))
    return published


async def listen(name: str, received: list[str]) -> None:
    """Collect what a user is sent, until the daemon ends it."""
    websocket = await enter("localhost", await asyncio.to_thread(token, name))
    with contextlib.suppress(ConnectionClosed):
        while True:
            received.append(str(await websocket.recv()))


async def by_permission(channel: Channel, stop: Callable[[], None]) -> dict[str, Any]:
    """Let everybody listen at once, and compare with what the rule says they get."""
    received: dict[str, list[str]] = {name: [] for name in (*READERS, "admin")}
    listening = [asyncio.create_task(listen(*each)) for each in received.items()]
    await until(lambda: live() == len(received))
    published = await asyncio.to_thread(act_on_everything, channel)
    # The superuser gets everything; what was not sent to the others by then never is.
    await until(lambda: len(received["admin"]) == len(published))
    stop()
    await asyncio.gather(*listening)

    def expected(name: str) -> list[str]:
        return [text for content_type, text in published if may_see(name, content_type)]

    return {
        name: {"expected": await asyncio.to_thread(expected, name), "received": texts}
        for name, texts in received.items()
    }


def set_up() -> None:
    """Fill the site: with the newsroom's people and the readers."""
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("seed", stdout=sys.stderr)
    for name, codenames in READERS.items():
        permissions = model("auth.Permission").objects.filter(codename__in=codenames)
        model("auth.User").objects.create_user(name).user_permissions.set(permissions)


def act(folder: Path) -> dict[str, Any]:
    """Act everything out, and return what happened."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = ("redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    with running(*server):
        wait_until(redis_answers)
        set_up()
        with running(sys.executable, "-m", "notifyd", "run") as daemon:
            wait_until(lambda: metric("redis_up") == 1, 30)
            channel = Channel()
            found = {
                "terminal": in_terminal(channel),
                "refused in terminal": refused_in_terminal(),
                "pages": {host: asyncio.run(in_page(host, channel)) for host in hosts()},
                "refusals": refusals(),
                "readers": asyncio.run(by_permission(channel, daemon.terminate)),
            }
        return found | {"exit code": daemon.returncode}


if __name__ == "__main__":
    json.dump(act(Path(sys.argv[1])), sys.stdout)
