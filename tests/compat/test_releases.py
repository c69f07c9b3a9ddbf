"""App and daemon of the tree, each beside the other part of a release.

The releases are the tags one minor version away at most; until there is one, HEAD stands for it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from browser.chromium import Browser, missing
from compat.apps import App, environment
from compat.compatsite.deeds import PEOPLE, RECIPIENTS, label
from compat.releases import is_repository, neighbours, tags, unpack
from daemons import ROOT, Daemon, Site
from e2e.clients import Pages
from pages import listens
from servers import RedisServer, free_port
from waiting import wait_until

import notifyd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.long

REVISIONS = neighbours(notifyd.__version__, tags()) or {"none yet": "HEAD"}


@pytest.fixture(scope="module", params=REVISIONS.values(), ids=str)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder with what is in the wheel of a release."""
    if not is_repository():
        pytest.skip("this is no repository, and has no releases")
    return unpack(request.param, tmp_path_factory.mktemp("release"))


class World(NamedTuple):
    """A site and a daemon of different versions, with the daemon's port for the site's pages."""

    app: App
    daemon: Daemon


@pytest.fixture(params=["app", "daemon"])
def world(request: pytest.FixtureRequest, release: Path, folder: Path) -> Iterator[World]:
    """Give the tree's site beside the release's daemon, or the other way round."""
    places = {"app": ROOT, "daemon": ROOT} | {request.param: release}
    port = free_port()
    with RedisServer(folder) as redis:

        def surroundings(part: str) -> dict[str, str]:
            url = f"ws://localhost:{port}/"
            return environment(folder, redis.url, places[part], url)

        site = Site(folder, redis.url)
        site.environment = surroundings("daemon")
        daemon = Daemon(folder, site, server_listen=f"localhost:{port}", server_drain="0")
        with App(surroundings("app")) as app:
            app.do("prepare")
            with daemon:
                assert is_of(places["daemon"], site.environment)
                assert is_of(places["app"], app.environment)
                daemon.wait_for_bus()
                yield World(app, daemon)


def is_of(place: Path, environment: Mapping[str, str]) -> bool:
    """Tell whether that is where Python finds notifyd."""
    words = [sys.executable, "-P", "-c", "import notifyd; print(notifyd.__file__)"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip() == f"{place}/notifyd/__init__.py"


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    """Give the WebSockets of the people."""
    opened = Pages()
    yield opened
    await opened.close()


@contextlib.contextmanager
def serving(app: App) -> Iterator[str]:
    """Have the site answer browsers, at the address that is given."""
    port = free_port()
    words = [sys.executable, "-m", "django", "runserver", "--noreload", str(port)]
    process = subprocess.Popen(words, env=app.environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 20)
        yield f"http://localhost:{port}/"
    finally:
        process.terminate()
        process.wait()


def theirs(name: str) -> list[str]:
    """Return what somebody should hear of, in order."""
    return [event for event, names in RECIPIENTS.items() if name in names]


async def test_events(world: World, pages: Pages) -> None:
    """Everybody connects with the app's token, and gets from the daemon what is for them."""
    connected = {}
    for name in PEOPLE:
        answer = world.app.do("ask", name)
        connected[name] = await pages.hello(world.daemon, answer["token"])
    world.app.do("act")
    for name, page in connected.items():
        await page.event(label="everyone")
        assert [label(event) for event in page.events] == theirs(name)
        assert page.events[-1]["text"] == "Grüße, \u2603"
    assert world.daemon.events("event.rejected") == []


def test_script(world: World) -> None:
    """The app's notifyd.js gets events in a browser, and comes back when the daemon does."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    with serving(world.app) as site, Browser() as browser, browser.tab() as tab:
        tab.go(f"{site}admin/")
        cookie = f"sessionid={world.app.do('open_session', 'nadia')}; path=/"
        tab.run("document.cookie = arguments[0]", cookie)
        tab.go(site)
        tab.wait_for("open")
        world.daemon.stop()
        # The daemon has said when to come back.
        assert tab.wait_for("waiting")["retry_in"] is not None
        world.daemon.start()
        tab.wait_for("open", 40)
        world.app.do("act")
        tab.event(label="everyone")
        assert [label(event) for event in tab.told("event")] == theirs("nadia")
