"""People in the newsroom's admin, each with a browser, beside the real daemon."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser.webserver import WebServer
from daemons import Daemon
from servers import LOOPBACK
from waiting import wait_until
from websockets.sync.server import ServerConnection, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from browser.chromium import Browser, Tab
    from daemons import Site
    from servers import RedisServer

    Enter = Callable[..., Tab]

pytestmark = pytest.mark.long

ARTICLES = "/admin/articles/article/"
COMMENTS = "/admin/articles/comment/"
KEYS = {"id", "model", "object", "message", "timestamp", "user", "content_type_id", "object_id"}

# Who is shown what in which order, the newest first, as the list of events has it.
TOASTS = "return [...document.querySelectorAll('#live-events li')].map((each) => each.innerText)"


def change(tab: Tab, site: Site, headline: str) -> str:
    """Change the first article's headline in the admin as a person does; return its key."""
    key = str(site.value("Article.objects.order_by('pk').first().pk"))
    address = tab.run("return location.origin")
    tab.go(f"{address}{ARTICLES}{key}/change/")
    tab.fill(headline=headline)
    tab.press("[name=_save]")
    return key


def comment(tab: Tab, text: str) -> None:
    """Add a comment to an article."""
    tab.go(f"{tab.run('return location.origin')}{COMMENTS}add/")
    tab.run("document.querySelector('[name=article]').selectedIndex = 1")
    tab.fill(author="Lena", text=text)
    tab.press("[name=_save]")


def publish(redis: RedisServer, site: Site, **keys: object) -> None:
    """Publish that omar has added an article, or something like it."""
    event = {
        "model": "article",
        "object": "The lighthouse keeper retires",
        "message": "Added.",
        "timestamp": dt.datetime.now(dt.UTC).isoformat(),
        "user": "omar",
        "content_type_id": site.content_type("article"),
        "object_id": "1",
    }
    redis.client().xadd("{notifyd}:events", {"event": json.dumps(event | keys)})


def toasts(tab: Tab) -> list[str]:
    """Return what the list of events shows, the newest first."""
    return [str(text) for text in tab.run(TOASTS)]


def first_wait(tab: Tab) -> dict[str, Any]:
    """Return what the page has said of its first wait, which may be over."""
    tab.wait_for("waiting")
    return next(each for each in tab.told("state") if each["state"] == "waiting")


@contextlib.contextmanager
def stand_in(port: int, *codes: int) -> Iterator[list[str]]:
    """Have somebody else at the daemon's port, who closes one connection with each code.

    Give the first messages. After the last code there is nobody any more.
    """
    heard: list[str] = []
    closing = iter(codes)

    def refuse(connection: ServerConnection) -> None:
        heard.append(str(connection.recv()))
        connection.close(next(closing, 1013))

    with serve(refuse, LOOPBACK, port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield heard
        finally:
            server.shutdown()
            thread.join()


def test_they_see_each_other(enter: Enter, site: Site) -> None:
    """Two people with the admin open see each other's edits arrive as they happen."""
    nadia, omar = enter("nadia", ARTICLES), enter("omar", ARTICLES)
    for tab in (nadia, omar):
        tab.wait_for("open")
    change(omar, site, "The harbour thaws")
    assert nadia.event(user="omar")["object"] == "The harbour thaws"
    omar.wait_for("open")
    comment(nadia, "We skate no more.")
    assert omar.event(user="nadia")["model"] == "comment"


def test_detail_of_an_event(enter: Enter, site: Site) -> None:
    """The detail of notifyd:event has the seven keys of the admin's events, and the id."""
    nadia, omar = enter("nadia"), enter("omar")
    nadia.wait_for("open")
    key = change(omar, site, "A new headline")
    event = nadia.event(user="omar")
    assert event.keys() == KEYS
    assert (event["model"], event["object"]) == ("article", "A new headline")
    assert event["message"] == "Changed Headline."
    assert event["content_type_id"] == site.content_type("article")
    assert str(event["object_id"]) == key
    assert dt.datetime.fromisoformat(event["timestamp"]).tzinfo == dt.UTC


def test_nothing_without_permission(enter: Enter, site: Site) -> None:
    """Who may not see articles hears nothing of them, but does hear of comments."""
    rosa, omar = enter("rosa"), enter("omar")
    rosa.wait_for("open")
    change(omar, site, "Not for rosa")
    comment(omar, "For rosa too.")
    # The stream keeps the order: what came before this would have come by now.
    rosa.event(model="comment")
    assert [event["model"] for event in rosa.told("event")] == ["comment"]
    assert len(toasts(rosa)) == 1


def test_deleted(enter: Enter, site: Site) -> None:
    """The others also hear of what was deleted by the action for many objects at once."""
    nadia, omar = enter("nadia"), enter("omar")
    nadia.wait_for("open")
    comment(omar, "A passing thought")
    key = site.value("Comment.objects.order_by('pk').last().pk")
    omar.press(f"[name=_selected_action][value='{key}']", leads_on=False)
    omar.run("document.querySelector('[name=action]').value = 'delete_selected'")
    omar.press("[name=index]")
    omar.press("#content [type=submit]")
    nadia.event(model="comment", message="")
    assert "Deleted." in toasts(nadia)[0]
    # What is gone has no page; the one below tells of when it was added, and had.
    links = "return document.querySelectorAll('#live-events li:first-child a').length"
    assert nadia.run(links) == 0


def test_toast(enter: Enter, site: Site) -> None:
    """A toast says who changed what and when, and its link leads there."""
    nadia, omar = enter("nadia", ARTICLES), enter("omar")
    nadia.wait_for("open")
    change(omar, site, "<img src=x onerror=alert(1)> & more")
    nadia.event(user="omar")
    [shown] = toasts(nadia)
    assert "omar · article · " in shown
    assert "<img src=x onerror=alert(1)> & more" in shown
    assert "Changed Headline." in shown
    nadia.press("#live-events a")
    assert nadia.run("return document.querySelector('[name=headline]').value").startswith("<img")


def test_few_toasts(enter: Enter, redis: RedisServer, site: Site) -> None:
    """The list stays short: the newest five are shown."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    for number in range(7):
        publish(redis, site, object=f"No. {number}")
    nadia.event(object="No. 6")
    names = "return [...document.querySelectorAll('#live-events a')].map((link) => link.text)"
    assert nadia.run(names) == [f"No. {number}" for number in (6, 5, 4, 3, 2)]


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/logout/"])
def test_nobody_logged_in(path: str, enter: Enter, browser: Browser, newsroom: WebServer) -> None:
    """A page that nobody has logged in to see, or that says good-bye, has no script."""
    if path == "/admin/logout/":
        tab = enter("nadia")
        tab.press("#logout-form button")
        assert "Logged out" in tab.text("h1")
        assert_no_script(tab)
    else:
        with browser.tab() as tab:
            tab.go(f"{newsroom.address}{path}")
            assert_no_script(tab)


def assert_no_script(tab: Tab) -> None:
    """Check that a page knows nothing of notifyd."""
    assert tab.state is None
    assert tab.run("return document.querySelector('script[data-token-url]')") is None
    assert tab.run("return document.getElementById('live-state')") is None


def test_popups_are_part_of_their_page(enter: Enter) -> None:
    """A popup of the admin has no connection of its own."""
    nadia = enter("nadia", f"{ARTICLES}add/?_popup=1")
    assert_no_script(nadia)


def test_daemon_dies_and_returns(
    enter: Enter, daemon: Daemon, redis: RedisServer, site: Site
) -> None:
    """When the daemon is killed the page waits, and gets what it missed once it is back."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    daemon.stop(signal.SIGKILL)
    first = first_wait(nadia)
    assert first["code"] == 1006
    assert 0 <= first["retry_in"] <= 2
    publish(redis, site, object="While it was dead")
    daemon.start()
    nadia.event(60, object="While it was dead")
    publish(redis, site, object="After the crash")
    nadia.event(object="After the crash")
    assert nadia.told("resync") == []


def test_from_where_it_was_made(
    enter: Enter, daemon: Daemon, redis: RedisServer, site: Site
) -> None:
    """What happens between the making of a page and its connection reaches it all the same."""
    daemon.stop()
    nadia = enter("nadia")
    publish(redis, site, object="On its way")
    daemon.start()
    nadia.event(60, object="On its way")
    assert nadia.told("resync") == []


def test_daemon_restarts(enter: Enter, daemon: Daemon, redis: RedisServer, site: Site) -> None:
    """When the daemon restarts it says when to come back, and the page comes back just then."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    daemon.stop()
    first = first_wait(nadia)
    assert first["code"] == 1012
    assert 0 <= first["retry_in"] <= 1
    nadia.hasten()
    daemon.start()
    nadia.wait_for("open")
    publish(redis, site, object="After the restart")
    nadia.event(object="After the restart")


def test_states(enter: Enter, daemon: Daemon) -> None:
    """The detail of notifyd:state tells the state, what led there, and how long it lasts."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    daemon.stop(signal.SIGKILL)
    daemon.start()
    nadia.wait_for("open")
    told = nadia.told("state")
    assert [each.keys() for each in told] == [{"state", "code", "retry_in"}] * len(told)
    states = [each["state"] for each in told]
    assert states[:4] == ["connecting", "open", "waiting", "connecting"]
    assert set(states[4:-1]) <= {"waiting", "connecting"}
    assert [each["retry_in"] is None for each in told] == [state != "waiting" for state in states]


def test_dot(enter: Enter, daemon: Daemon) -> None:
    """The header of the admin shows the state in a word."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    assert nadia.text("#live-state") == "LIVE"
    daemon.stop(signal.SIGKILL)
    wait_until(lambda: nadia.text("#live-state") in {"RECONNECTING", "CONNECTING"})
    nadia.run("notifyd.close()")
    assert nadia.text("#live-state") == "STOPPED"


def test_ticket(enter: Enter, daemon: Daemon) -> None:
    """A page that comes back shows its ticket and its position, and asks the site for nothing."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    # Three tries of it may be over before the daemon is back.
    nadia.hold()
    daemon.stop(signal.SIGKILL)
    nadia.wait_for("waiting")
    daemon.start()
    nadia.hurry()
    nadia.wait_for("open")
    sent = [
        json.loads(text)
        for texts in nadia.run("return sockets.map((s) => s.sent)")
        for text in texts
    ]
    assert [hello.keys() for hello in sent] == [
        {"token", "since", "epoch"},
        *[{"ticket", "since", "epoch"}] * (len(sent) - 1),
    ]
    assert len(sent) >= 2
    asked = "return performance.getEntriesByType('resource').filter("
    asked += "(each) => each.name.endsWith('/notifyd/token/')).length"
    assert nadia.run(asked) == 1


@pytest.mark.parametrize("part", ["1", "0"])
def test_acknowledgements(
    enter: Enter,
    daemon: Daemon,
    home: Path,
    redis: RedisServer,
    site: Site,
    port: int,
    *,
    part: str,
) -> None:
    """How long events take to a page is measured where the daemon asks for it, and only there."""
    daemon.stop()
    options = {"server_listen": f"{LOOPBACK}:{port}", "server_acknowledge": part}
    with Daemon(home, site, f"acknowledged-{part}", **options) as asking:
        nadia = enter("nadia")
        nadia.wait_for("open")
        publish(redis, site, object="Acknowledged")
        id_ = nadia.event(object="Acknowledged")["id"]
        said = "return sockets.flatMap((socket) => socket.sent).filter((each) => /ack/.test(each))"
        if part == "0":
            assert nadia.run(said) == []
            return
        assert [json.loads(text) for text in nadia.run(said)] == [{"notifyd": "ack", "id": id_}]
        wait_until(lambda: asking.metric("acknowledgements_total", result="ok") == 1)
        assert asking.metric("client_latency_seconds_count") == 1
        assert 0 <= asking.metric("client_latency_seconds_sum") < 10


def test_session_has_ended(enter: Enter, daemon: Daemon, site: Site) -> None:
    """Once the session has ended the page gets no further token, and stops."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    site.run("from django.contrib.sessions.models import Session\nSession.objects.all().delete()")
    nadia.hasten()
    daemon.stop()
    assert nadia.wait_for("stopped") == {"state": "stopped", "code": 401, "retry_in": None}
    assert "again" in nadia.run("return document.getElementById('live-state').title")


def test_another_session(enter: Enter, daemon: Daemon) -> None:
    """A page of a session before this one is not connected for the one of now."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    # Another tab would log out and in again, which renews what forms are protected with.
    nadia.driver.delete_cookie("csrftoken")
    nadia.driver.add_cookie({"name": "csrftoken", "value": "x" * 32})
    nadia.hasten()
    daemon.stop()
    assert nadia.wait_for("stopped")["code"] == 403


def test_access_revoked(enter: Enter, daemon: Daemon, port: int) -> None:
    """After the code for revoked access the page stops."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    daemon.stop()
    with stand_in(port, 4403) as heard:
        assert nadia.wait_for("stopped")["code"] == 4403
    assert len(heard) == 1


def test_refused_twice(enter: Enter, daemon: Daemon, home: Path, site: Site, port: int) -> None:
    """A daemon that takes no ticket, because its site has another key, is shown two tokens."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    nadia.hold()
    daemon.stop(signal.SIGKILL)
    nadia.wait_for("waiting")
    options = {"SECRET_KEY": "another key", "server_listen": f"{LOOPBACK}:{port}", "log_fold": "0"}
    with Daemon(home, site, "stranger", **options) as stranger:
        nadia.hurry()
        assert nadia.wait_for("stopped")["code"] == 4401
        assert len(stranger.events("auth.failed", result="invalid")) == 3


def test_silence_is_noticed(enter: Enter, daemon: Daemon, redis: RedisServer, site: Site) -> None:
    """A daemon that says nothing any more is given up, and found again when it is back."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    with daemon.paused():
        assert nadia.wait_for("waiting", 40)["code"] is None
        assert nadia.run("return sockets.filter((socket) => socket.readyState < 2).length") == 0
    nadia.wait_for("open", 90)
    publish(redis, site, object="Awake again")
    nadia.event(object="Awake again")


def test_resync(enter: Enter, redis: RedisServer) -> None:
    """When events may be missing the page is told why, and says so."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    redis.client().flushall()
    [resync] = wait_until(lambda: nadia.told("resync"), 30)
    assert resync["notifyd"] == "resync"
    assert resync["reason"]
    assert "Load the page again" in toasts(nadia)[0]


def test_leaving(enter: Enter, daemon: Daemon) -> None:
    """A page that is left leaves the daemon, too."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    before = daemon.metric("connections", state="live")
    nadia.go("about:blank")
    wait_until(lambda: daemon.metric("connections", state="live") == before - 1)


def test_one_connection_for_each_page(enter: Enter) -> None:
    """A page makes one WebSocket, however many people are there and whatever happens."""
    nadia = enter("nadia", ARTICLES)
    nadia.wait_for("open")
    nadia.hurry()
    nadia.run("document.dispatchEvent(new Event('visibilitychange'))")
    assert nadia.run("return sockets.length") == 1


def test_no_token_is_told(enter: Enter, daemon: Daemon) -> None:
    """No token is written to the console or into the page, in good times or bad ones."""
    nadia = enter("nadia")
    nadia.wait_for("open")
    daemon.stop(signal.SIGKILL)
    nadia.wait_for("waiting")
    [[text]] = nadia.run("return sockets.slice(0, 1).map((socket) => socket.sent)")
    token = json.loads(text)["token"]
    assert token not in "".join(nadia.console())
    assert token not in nadia.run("return document.documentElement.outerHTML")


def has_violated(tab: Tab) -> bool:
    """Tell whether the console has complained about the page's policy since the last time."""
    return any("Content Security Policy" in line for line in tab.console())


def test_strict_policy(enter: Enter, home: Path, redis: RedisServer, site: Site) -> None:
    """A page that allows no script but its own site's works, and violates nothing."""
    path = f"{site.environment['PYTHONPATH']}:{Path(__file__).parent}"
    settings = {"DJANGO_SETTINGS_MODULE": "strict", "PYTHONPATH": path}
    with WebServer(site, home / "strict.log", **settings) as server:
        nadia = enter("nadia", ARTICLES, server.address)
        nadia.wait_for("open")
        publish(redis, site, object="Within the rules")
        nadia.event(object="Within the rules")
        assert "Within the rules" in toasts(nadia)[0]
        assert not has_violated(nadia)
        # Its console would have said so.
        nadia.run(
            "const s = document.createElement('script'); s.text = '1'; document.body.append(s)"
        )
        wait_until(lambda: has_violated(nadia))


def test_picture(enter: Enter, tmp_path: Path, site: Site) -> None:
    """What README shows is nadia's page with what two others have just done."""
    # With SCREENSHOT=docs/images/newsroom.png in the environment it is written there.
    site.run("Article.objects.filter(pk=1).update(headline='The harbour freezes over')")
    nadia = enter("nadia", ARTICLES, width=1200, height=740, scale=1.5)
    nadia.wait_for("open")
    omar, rosa = enter("omar"), enter("rosa")
    change(omar, site, "The harbour thaws")
    key = site.value("Comment.objects.get(author='Amira').pk")
    rosa.go(f"{rosa.run('return location.origin')}{COMMENTS}{key}/change/")
    rosa.fill(text="At last! And they do take bicycles.")
    rosa.press("[name=_save]")
    nadia.event(user="rosa")
    path = Path(os.environ.get("SCREENSHOT", tmp_path / "newsroom.png"))
    wait_until(lambda: nadia.run("return document.getAnimations().length") == 0)
    nadia.photograph(path)
    assert len(toasts(nadia)) == 2
    assert 10_000 < path.stat().st_size < 200_000
