"""Events from the bus to the clients: who gets which, and what arrives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from daemons import Daemon, Site
from e2e.flow import STREAM
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e.clients import Page, Pages
    from postgres import PostgresServer
    from servers import RedisServer

PEOPLE = ("admin", "nadia", "omar")

# An event as a publisher may well write it: every byte of it is part of what is relayed.
ODD = '{ "b":1.0,\t"text": "\\u00e9 é 😀", "n": 12345678901234567890, "a": {"id": [null, {}]} }'


@pytest.fixture(scope="module")
def bus(redis: RedisServer) -> Any:
    """Give a client of the bus."""
    return redis.client(decode_responses=True)


def write(bus: Any, event: str | dict[str, Any], to: dict[str, Any] | None = None) -> str:
    """Add an event to the stream as a publisher does, and return its id."""
    text = event if isinstance(event, str) else json.dumps(event)
    fields: dict[Any, Any] = {"event": text}
    if to is not None:
        fields["to"] = json.dumps(to)
    return str(bus.xadd(STREAM, fields))


async def meet(bus: Any, *pages: Page) -> None:
    """Return when every client has got everything that was relayed before."""
    id_ = write(bus, {"marker": True}, {"everyone": True})
    for page in pages:
        await page.event(id=id_)


@pytest.fixture(params=[0, 1], ids=["tcp", "unix"])
def at(request: pytest.FixtureRequest) -> int:
    """Give the number of the daemon's address that a client uses."""
    return int(request.param)


async def test_hello_gets_the_text_with_its_id(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, at: int
) -> None:
    """An event arrives byte for byte as published, its id put after the first brace."""
    page = await pages.hello(daemon, site.token("nadia"), at)
    id_ = write(bus, ODD, {"everyone": True})
    await page.event(id=id_)
    assert page.texts[1:] == [f'{{"id": "{id_}", {ODD[1:]}']


async def test_welcome_tells_the_position(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, at: int
) -> None:
    """A hello is answered with the history's name and the position that events follow."""
    last = write(bus, {}, {"everyone": True})
    await until(
        lambda: json.loads(daemon.command("status", "--json").stdout)["bus"]["last_id"] == last
    )
    page = await pages.hello(daemon, site.token("nadia"), at)
    [welcome] = page.controls("welcome")
    assert welcome["epoch"] == bus.get("{notifyd}:epoch")
    assert (welcome["last_id"], welcome["recovered"], welcome["ping"]) == (last, None, 25)


async def test_bare_gets_nothing_but_events(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, at: int
) -> None:
    """A client that only sent the guide's token gets the same event and no control frame."""
    page = await pages.bare(daemon, site.token("nadia", scope=""), at)
    id_ = write(bus, ODD, {"everyone": True})
    await page.event(id=id_)
    assert page.texts == [f'{{"id": "{id_}", {ODD[1:]}']


# In the rules of these cases, what is in angle brackets stands for a primary key.
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('{"users": ["<omar>"]}', "omar"),
        ('{"users": [<omar>, 999]}', "omar"),
        ('{"groups": [<editors>]}', "nadia"),
        ('{"permissions": ["articles.view_article"]}', "admin nadia"),
        ('{"permissions": ["articles.delete_article"]}', "admin"),
        ('{"content_types": [<comment>]}', "admin nadia omar"),
        ('{"content_types": [<article>, <session>]}', "admin nadia"),
        ('{"everyone": true}', "admin nadia omar"),
        ('{"users": [<omar>], "groups": [<editors>]}', "nadia omar"),
        ('{"all": [{"groups": [<reporters>]}, {"content_types": [<comment>]}]}', "omar"),
        ('{"all": [{"groups": [<reporters>]}, {"content_types": [<article>]}]}', ""),
        ('{"everyone": true, "staff": true}', ""),
        ("{}", ""),
    ],
)
async def test_audience(
    rule: str, expected: str, daemon: Daemon, site: Site, bus: Any, pages: Pages
) -> None:
    """A rule is matched by whoever matches any of its keys, an unknown one by nobody."""
    names = {
        **{name: site.key(name) for name in PEOPLE},
        **{name: site.content_type(name) for name in ("article", "comment", "session")},
        **site.value("dict(Group.objects.values_list('name', 'pk'))"),
    }
    for name, key in names.items():
        rule = rule.replace(f"<{name}>", str(key))
    present = {name: await pages.hello(daemon, site.token(name)) for name in PEOPLE}
    id_ = bus.xadd(STREAM, {"event": "{}", "to": rule})
    await meet(bus, *present.values())
    got = [name for name, page in present.items() if id_ in {e["id"] for e in page.events}]
    assert got == expected.split()


@pytest.mark.parametrize("way", ["stream", "pubsub"])
async def test_the_content_type_decides(
    way: str, daemon: Daemon, site: Site, bus: Any, pages: Pages
) -> None:
    """Without a rule an event is for those who may view or change its model."""
    present = {name: await pages.hello(daemon, site.token(name)) for name in PEOPLE}
    events = [{"content_type_id": site.content_type(model)} for model in ("article", "comment")]
    for event in events:
        if way == "stream":
            write(bus, event)
        else:
            bus.publish("events", json.dumps(event))
    # The stream is not ordered with the channel: whoever gets everything says when it was there.
    await until(lambda: len(present["admin"].events) == 2)
    await meet(bus, *present.values())
    assert {name: len(page.events) - 1 for name, page in present.items()} == {
        "admin": 2,
        "nadia": 2,
        "omar": 1,
    }


async def test_pubsub_is_relayed_verbatim(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, at: int
) -> None:
    """A message of the channel arrives byte for byte, without an id."""
    page = await pages.bare(daemon, site.token("nadia", scope=""), at)
    key = site.content_type("article")
    text = f'{{"content_type_id":{key}, "object": "Caf\\u00e9 é", "x": 1.0}}'
    bus.publish("events", text)
    await until(lambda: page.texts)
    assert page.texts == [text]


async def test_bad_entries_reach_nobody(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """What is no valid event is counted and logged, and the next event arrives all the same."""
    page = await pages.hello(daemon, site.token("admin"))
    before = daemon.metric("events_rejected_total", reason="not_json")
    bus.publish("events", "not JSON")
    bad = bus.xadd(STREAM, {"event": '{"x": NaN}', "to": '{"everyone": true}'})
    await meet(bus, page)
    await until(lambda: daemon.metric("events_rejected_total", reason="not_json") == before + 2)
    assert len(page.events) == 1
    assert daemon.events("event.rejected", id=bad, reason="not_json", source="stream")


async def test_two_connections_of_one_user(
    daemon: Daemon, site: Site, bus: Any, pages: Pages
) -> None:
    """Each connection of a user gets each event once, however many of its keys match."""
    both = [
        await pages.hello(daemon, site.token("nadia")),
        await pages.bare(daemon, site.token("nadia", scope=""), at=1),
    ]
    keys = {"users": [site.key("nadia")], "permissions": ["articles.view_article"]}
    ids = [write(bus, {"n": n}, {**keys, "everyone": True}) for n in range(20)]
    await meet(bus, *both)
    assert [[event["id"] for event in page.events][:-1] for page in both] == [ids, ids]


async def test_publish_reaches_clients(daemon: Daemon, site: Site, pages: Pages) -> None:
    """`notifyd publish` writes to the stream, and whom it names gets the event."""
    nadia, omar = [await pages.hello(daemon, site.token(name)) for name in ("nadia", "omar")]
    done = daemon.command("publish", "--user", site.key("omar"), '{"hello": "omar"}')
    everyone = daemon.command("publish", "--everyone", '{"hello": "all"}')
    for page in (nadia, omar):
        await page.event(id=everyone.stdout.strip(), hello="all")
    assert [event["hello"] for event in nadia.events] == ["all"]
    assert omar.events[0] == {"id": done.stdout.strip(), "hello": "omar"}


@pytest.fixture
def second(home: Path, site: Site) -> Iterator[Daemon]:
    """Give another daemon of the same site."""
    with Daemon(home, site, "second") as running:
        running.wait_for_bus()
        yield running


async def test_two_daemons(
    daemon: Daemon, second: Daemon, site: Site, bus: Any, pages: Pages
) -> None:
    """Every daemon of a site delivers every event, with the same id and the same history."""
    both = [await pages.hello(each, site.token("omar")) for each in (daemon, second)]
    bus.publish("events", json.dumps({"content_type_id": site.content_type("comment")}))
    await until(lambda: all(page.events for page in both))
    id_ = write(bus, {"n": 1}, {"users": [site.key("omar")]})
    assert [(await page.event(n=1))["id"] for page in both] == [id_, id_]
    assert len({page.controls("welcome")[0]["epoch"] for page in both}) == 1


async def test_deliveries_are_counted(daemon: Daemon, site: Site, bus: Any, pages: Pages) -> None:
    """An event that two clients get is one event and two deliveries."""
    both = [await pages.hello(daemon, site.token("nadia")) for _ in range(2)]
    events, deliveries = (
        daemon.metric("events_total", source="stream"),
        daemon.metric("deliveries_total"),
    )
    write(bus, {}, {"users": [site.key("nadia")]})
    await meet(bus, *both)
    assert daemon.metric("events_total", source="stream") == events + 2
    assert daemon.metric("deliveries_total") == deliveries + 4


@pytest.mark.long
async def test_postgresql(
    home: Path, redis: RedisServer, bus: Any, postgres: PostgresServer, pages: Pages
) -> None:
    """A site on PostgreSQL is served alike."""
    postgres.create("e2e")
    url = f"postgresql://{postgres.user}@{postgres.host}:{postgres.port}/e2e"
    with Site(home, redis.url, url) as site:
        site.fill()
        async with Daemon(home, site, "postgres") as daemon:
            daemon.wait_for_bus()
            page = await pages.hello(daemon, site.token("nadia"))
            refused = await pages.connect(daemon.addresses[0])
            await refused.connection.send(site.token("ines", scope=""))
            assert await refused.closed() == (4401, "authentication failed")
            write(bus, {"n": 1, "content_type_id": site.content_type("article")})
            await page.event(n=1)
            assert daemon.get("/readyz") == (200, "ok")
