"""`notifyd explain`: who gets an event, who does not, and why."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM, fall_behind
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.clients import Pages
    from servers import RedisServer


@pytest.fixture(scope="module")
def bus(redis: RedisServer) -> Any:
    """Give a client of the bus."""
    return redis.client(decode_responses=True)


def explain(daemon: Daemon, *arguments: str) -> dict[str, Any]:
    """Return the explanation of an event."""
    done = daemon.command("explain", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def named(found: dict[str, Any], verdict: str) -> list[str]:
    """Return the users who have a verdict."""
    return [row["user"] for row in found["users"][verdict]["named"]]


async def test_everybody(daemon: Daemon, site: Site, pages: Pages) -> None:
    """A future event is explained by its content type: who gets it, and what the others lack."""
    nadia, omar = site.key("nadia"), site.key("omar")
    for name in ("nadia", "nadia", "omar"):
        await pages.hello(daemon, site.token(name))
    article = str(site.content_type("article"))
    found = explain(daemon, "--content-type", article)
    demand = f"the permission to view or change content type {article}"
    assert found["demands"] == [demand]
    assert named(found, "gets") == [nadia]
    assert found["users"]["gets"]["connections"] == 2
    assert found["users"]["may_not"]["named"] == [{"user": omar, "why": [f"lacks {demand}"]}]
    page = daemon.command("explain", "--content-type", article).stdout
    assert f"\nget it: 1 user, 2 connections\n  {nadia}\n" in page
    assert f"\nmay not see it: 1 user, 1 connection\n  {omar}  lacks {demand}\n" in page


async def test_as_it_is(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """Who gets an event by the explanation gets it when it comes, and nobody else does."""
    keys = {name: site.key(name) for name in ("nadia", "omar")}
    clients = {name: await pages.hello(daemon, site.token(name)) for name in keys}
    event = {"content_type_id": site.content_type("article")}
    found = explain(daemon, json.dumps(event))
    for content in (event, {"content_type_id": site.content_type("comment")}):
        bus.xadd(STREAM, {"event": json.dumps(content)})
    for client in clients.values():
        await client.event(content_type_id=site.content_type("comment"))
    got = [key for name, key in keys.items() if event.items() <= clients[name].events[0].items()]
    assert named(found, "gets") == got == [keys["nadia"]]


async def test_stored(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """An event of the stream is explained by its id, with those whom it names and nobody sees."""
    await pages.hello(daemon, site.token("nadia"))
    rule = {"users": [site.key("nadia"), "no such user"]}
    id_ = bus.xadd(STREAM, {"event": "{}", "to": json.dumps(rule)})
    found = explain(daemon, id_)
    assert found["id"] == id_
    assert named(found, "gets") == [site.key("nadia")]
    assert found["users"]["not_connected"]["named"] == [
        {"user": "no such user", "why": ["not connected to this daemon"]}
    ]


async def test_absent_user(daemon: Daemon, site: Site, pages: Pages) -> None:
    """Of a user who is not connected it tells how that came, and what the database says."""
    page = await pages.hello(daemon, site.token("omar"))
    key = site.key("omar")
    daemon.command("disconnect", "--user", key)
    await page.closed()
    comment = str(site.content_type("comment"))

    def asked() -> dict[str, Any]:
        [user] = explain(daemon, "--content-type", comment, "--user", key)["asked"]
        return dict(user)

    user = await until(lambda: (found := asked())["verdict"] == "not_connected" and found)
    assert user["why"][0] == "not connected to this daemon"
    assert "s ago with 4403 (disconnected by the site)" in user["why"][1]
    assert user["database"] == "the user may see it"
    article = str(site.content_type("article"))
    [user] = explain(daemon, "--content-type", article, "--user", key)["asked"]
    assert user["database"].startswith("the user lacks the permission to view or change")


def test_nobody(daemon: Daemon) -> None:
    """Of users who do not exist it says so."""
    users = explain(daemon, "--everyone", "--user", "12345678", "--user", "alice")["asked"]
    words = "there is no such user, or not an active one"
    assert [user["database"] for user in users] == [words, words]


async def test_connected_user(daemon: Daemon, site: Site, pages: Pages) -> None:
    """Of a user who is connected it tells about each connection, in words on a page."""
    await pages.hello(daemon, site.token("nadia"))
    key = site.key("nadia")
    done = daemon.command("explain", "--user", key)
    first, _, *about, connection = done.stdout.splitlines()
    assert first == f"an event, if it came now, demands being user {key}"
    assert about == [f"user {key} gets it", "  the database says: the user may see it"]
    assert connection.endswith(" from 127.0.0.1 gets it (0 bytes owed, 0.0 s behind)")


async def test_unsignalled_change(daemon: Daemon, site: Site, pages: Pages) -> None:
    """A change in the database that no signal told of is seen, and when it takes effect."""
    await pages.hello(daemon, site.token("omar"))
    key, article = site.key("omar"), str(site.content_type("article"))
    through = "User.user_permissions.through.objects"
    permission = "Permission.objects.get(codename='view_article')"
    site.run(f"{through}.bulk_create([{through[:-8]}(user_id={key}, permission={permission})])")
    try:
        [user] = explain(daemon, "--content-type", article, "--user", key)["asked"]
    finally:
        site.run(f"{through}.filter(user_id={key})._raw_delete({through}.db)")
    assert user["verdict"] == "may_not"
    assert user["database"] == ("the user may see it: no signal told of it, but [auth] sweep will")


@pytest.mark.long
async def test_slow_client(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """A client that does not take its events gets the next one later, and that is the reason."""
    page = await pages.hello(daemon, site.token("nadia"))
    await fall_behind(page, daemon, bus)
    found = explain(daemon, "--everyone")["users"]["gets_later"]
    [user] = explain(daemon, "--everyone", "--user", site.key("nadia"))["asked"]
    page.connection.transport.resume_reading()
    await page.count(200)
    assert found["users"] == 1
    assert "s behind, since the client has not taken" in found["named"][0]["why"][0]
    assert (user["verdict"], user["connections"][0]["verdict"]) == ("gets_later", "gets_later")
    assert user["connections"][0]["owed"] > 0


async def test_suspended(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """Whose permissions are just being read has to wait, and without a database for long."""
    await pages.hello(daemon, site.token("nadia"))
    key = site.key("nadia")
    with contextlib.closing(sqlite3.connect(site.database, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        bus.xadd(STREAM, {"control": json.dumps({"recheck": {"users": [key]}})})
        await until(lambda: daemon.metric("rechecks_waiting") == 1)
        found = explain(daemon, "--everyone")["users"]["suspended"]
    await until(lambda: daemon.metric("rechecks_waiting") == 0, 20)
    why = "what the user may see is being read anew, and decides"
    assert found == {"users": 1, "connections": 1, "named": [{"user": key, "why": [why]}]}


@pytest.mark.long
async def test_limits(folder: Path, template: Path, redis: RedisServer, pages: Pages) -> None:
    """Where a limit keeps a user from connecting, or the database does not answer, it says so."""
    shutil.copy(template, folder / "newsroom.sqlite3")
    limits = {"server_max_connections_per_user": "1", "server_max_connections": "1"}
    limits |= {"auth_timeout": "1", "auth_statement_timeout": "1"}
    with Site(folder, redis.url) as site, Daemon(folder, site, **limits) as full:
        await pages.hello(full, site.token("nadia"))
        key = site.key("nadia")
        with contextlib.closing(sqlite3.connect(site.database, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            [user] = await asyncio.to_thread(
                lambda: explain(full, "--everyone", "--user", key)["asked"]
            )
    assert user["why"] == [
        "further connections are closed with 4429, by [server] max_connections_per_user = 1",
        "further connections are refused with 503: there are as many as there may be",
    ]
    assert user["database"].startswith("it can't be asked: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1-1"], "has no entry 1-1"),
        (["0-0"], "has no entry 0-0"),
        (["7"], "an id of the stream is like 1763797912345-0"),
        (['{"n": 1}'], "neither an audience rule nor a content_type_id"),
        (['{"n": '], "nobody gets it, since every daemon rejects it: not valid JSON"),
        (["[1]"], "not an object"),
        (["--permission", "view"], '"app.codename"'),
        (["{}", "--everyone", *["--user=1"] * 21], "ask about 20 users at a time"),
    ],
)
def test_no_event(daemon: Daemon, arguments: list[str], words: str) -> None:
    """What no daemon would relay, or the stream does not have, is nobody's, in one sentence."""
    done = daemon.command("explain", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("notifyd: ")
    assert words in done.stderr


def test_order(daemon: Daemon, bus: Any) -> None:
    """An order to the daemons is no event, and nobody gets it."""
    id_ = bus.xadd(STREAM, {"control": '{"recheck": {"users": ["0"]}}'})
    done = daemon.command("explain", id_)
    assert done.returncode == 1
    assert "it is an order to the daemons" in done.stderr


def test_no_question(daemon: Daemon) -> None:
    """Without an event there is nothing to explain."""
    done = daemon.command("explain")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "notifyd: say which event: its id, its JSON, or an audience\n"


@pytest.mark.long
def test_without_redis(daemon: Daemon, redis: RedisServer) -> None:
    """Without Redis no stored event can be read, but one that is given is explained."""
    with redis.stopped():
        done = daemon.command("explain", "1763797912345-0")
        found = explain(daemon, "--everyone")
    assert done.returncode == 1
    assert "the stream can't be read" in done.stderr
    assert named(found, "not_connected") == []
    daemon.wait_for_bus()
