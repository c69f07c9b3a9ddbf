"""Permissions change while events flow: what stands behind the recheck obeys it, for everybody."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
from e2e.flow import STREAM, flowing, number
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemons import Daemon, Site
    from e2e.clients import Page, Pages
    from e2e.flow import Entry
    from servers import RedisServer

RATE = 2000
"""Events a second."""

# Somebody who may see articles, in one way each; `u` is the user, `g` a group of the test's own.
NAMES = """
from django.contrib.auth.signals import user_logged_out
from notifyd.django import notify_disconnect
p = Permission.objects.get(codename="view_article")
"""
WAYS = {
    "permission": "u.user_permissions.add(p)",
    "group": "g.permissions.add(p); u.groups.add(g)",
    "superuser": "u.is_superuser = True; u.save()",
}
REVOCATIONS = {
    "permission removed": ("permission", "u.user_permissions.remove(p)"),
    "permission removed from its side": ("permission", "p.user_set.remove(u)"),
    "permissions cleared": ("permission", "u.user_permissions.clear()"),
    "permission cleared from its side": ("permission", "p.user_set.clear()"),
    "left the group": ("group", "u.groups.remove(g)"),
    "removed from the group": ("group", "g.user_set.remove(u)"),
    "group emptied": ("group", "g.user_set.clear()"),
    "groups cleared": ("group", "u.groups.clear()"),
    "group lost the permission": ("group", "g.permissions.remove(p)"),
    "group lost all permissions": ("group", "g.permissions.clear()"),
    "group deleted": ("group", "g.delete()"),
    "no longer superuser": ("superuser", "u.is_superuser = False; u.save()"),
}
ENDS = {
    "deactivated": ("u.is_active = False; u.save()", (4403, "access revoked")),
    "deleted": ("u.delete()", (4403, "access revoked")),
    "disconnected": ("notify_disconnect(u)", (4403, "access revoked")),
    "new password": ('u.set_password("another"); u.save()', (4401, "authentication failed")),
    "logged out": (
        "user_logged_out.send(sender=User, request=None, user=u)",
        (4401, "authentication failed"),
    ),
}


@pytest.fixture(scope="module")
def bus(redis: RedisServer) -> Any:
    """Give a client of the bus."""
    return redis.client(decode_responses=True)


@pytest.fixture
def person(request: pytest.FixtureRequest, site: Site) -> Iterator[str]:
    """Give a new user, known to the site's shell as `u`; and a group, as `g`."""
    name = f"p{abs(hash(request.node.name))}"
    site.run(
        f"{NAMES}u = User.objects.create(username={name!r}, password='!')\n"
        f"g = Group.objects.create(name={name!r})"
    )
    yield name
    site.run(f"User.objects.filter(username={name!r}).delete()")
    site.run(f"Group.objects.filter(name={name!r}).delete()")


def about_articles(site: Site) -> Callable[[int], Entry]:
    """Return what makes events that those may see who may see articles."""
    article = site.content_type("article")
    return lambda number: ({"number": number, "content_type_id": article}, None)


def order(bus: Any, since: str) -> str:
    """Return the id of the last control entry behind a position."""
    entries = bus.xrange(STREAM, min=f"({since}")
    return str([id_ for id_, fields in entries if "control" in fields][-1])


def split(ids: list[str], at: str) -> tuple[list[str], list[str]]:
    """Return the ids before a position, and those behind it."""
    before = [id_ for id_ in ids if number(id_) < number(at)]
    return before, ids[len(before) :]


def got(page: Page) -> list[str]:
    """Return the ids of the events that a client has got."""
    return [event["id"] for event in page.events]


async def meet(bus: Any, *pages: Page) -> None:
    """Return when these clients have got everything that was published before."""
    marker = bus.xadd(STREAM, {"event": '{"marker": true}', "to": '{"everyone": true}'})
    for page in pages:
        await until(
            functools.partial(lambda p: p.events and p.events[-1]["id"] == marker, page), 20
        )
        del page.events[-1]


@pytest.mark.parametrize("deed", REVOCATIONS)
async def test_revoked(
    deed: str, daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str
) -> None:
    """Nobody gets an event that stands behind the recheck by which the right to it was taken."""
    way, change = REVOCATIONS[deed]
    site.run(WAYS[way])
    # Somebody who may see them all the time, so that it is known what there was to see.
    witness = await pages.hello(daemon, site.token("admin"))
    page = await pages.hello(daemon, site.token(person))
    async with flowing(bus, RATE, about_articles(site)) as ids:
        await page.count(100)
        asked = ids[-1]
        await asyncio.to_thread(site.run, change)
        at = order(bus, asked)
        await until(lambda: number(ids[-1]) > number(at) and len(split(ids, at)[1]) > 200)
    await meet(bus, page, witness)
    before, behind = split(ids, at)
    assert got(page)[-1] == before[-1]
    assert got(witness)[-len(behind) :] == behind
    assert page.open


@pytest.mark.parametrize("way", WAYS)
async def test_granted(
    way: str, daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str
) -> None:
    """Who is granted a right gets every event that stands behind the recheck, once and in order."""
    page = await pages.hello(daemon, site.token(person))
    async with flowing(bus, RATE, about_articles(site)) as ids:
        asked = ids[-1]
        await asyncio.to_thread(site.run, WAYS[way])
        at = order(bus, asked)
        await until(lambda: len(split(ids, at)[1]) > 200)
    await meet(bus, page)
    _, behind = split(ids, at)
    assert got(page)[-len(behind) :] == behind
    assert got(page) == sorted({*got(page)}, key=number)


@pytest.mark.parametrize("deed", ENDS)
async def test_ended(
    deed: str, daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str
) -> None:
    """Who is out is closed, told whether to come back, and has got nothing from behind that."""
    change, ending = ENDS[deed]
    site.run(WAYS["permission"])
    page = await pages.hello(daemon, site.token(person))
    ticket = page.controls("welcome")[0]["ticket"]
    async with flowing(bus, RATE, about_articles(site)) as ids:
        await page.count(100)
        asked = ids[-1]
        await asyncio.to_thread(site.run, change)
        assert await page.closed() == ending
        at = order(bus, asked)
    assert all(number(id_) < number(at) for id_ in got(page))
    # The ticket of before has died with that.
    back = await pages.connect(daemon.addresses[0])
    await back.connection.send(json.dumps({"ticket": ticket}))
    assert await back.closed() == (4401, "authentication failed")


async def test_staff_flag(daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str) -> None:
    """Whatever is saved of a user has what the user may see read anew, and costs no event."""
    site.run(WAYS["permission"])
    page = await pages.hello(daemon, site.token(person))
    async with flowing(bus, RATE, about_articles(site)) as ids:
        before = daemon.metric("rechecks_total", result="kept")
        await asyncio.to_thread(site.run, "u.is_staff = True; u.save()")
        await until(lambda: daemon.metric("rechecks_total", result="kept") > before)
    await meet(bus, page)
    expected = ids[ids.index(got(page)[0]) :]
    assert got(page) == expected


async def test_log_in_is_no_change(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str
) -> None:
    """That somebody logs in to the site has nobody read anew."""
    page = await pages.hello(daemon, site.token(person))
    length = bus.xlen(STREAM)
    site.run("from django.contrib.auth.models import update_last_login; update_last_login(None, u)")
    assert bus.xlen(STREAM) == length
    assert page.open


@pytest.mark.long
async def test_a_thousand_users(
    daemon: Daemon, site: Site, bus: Any, pages: Pages, person: str
) -> None:
    """A group of a thousand connected users is read anew within a second."""
    site.run(
        "from sesame.utils import get_token\n"
        f"crowd = User.objects.bulk_create([User(username={person!r} + str(n), password='!')"
        " for n in range(1000)])\n"
        "g.permissions.add(p)\n"
        "User.groups.through.objects.bulk_create("
        "[User.groups.through(user=u, group=g) for u in crowd])"
    )
    crowd = []
    for start in range(0, 1000, 50):
        tokens = site.value(f"[get_token(u, scope='notifyd') for u in crowd[{start}:][:50]]")
        crowd += await asyncio.gather(*[pages.hello(daemon, token) for token in tokens])
    slow = {"le": "1.0"}
    before = [
        daemon.metric("recheck_seconds_bucket", **slow),
        daemon.metric("recheck_seconds_count"),
    ]
    site.run("g.permissions.remove(p)")
    event = {"number": 1, "content_type_id": site.content_type("article")}
    bus.xadd(STREAM, {"event": json.dumps(event)})
    await meet(bus, *crowd)
    after = [
        daemon.metric("recheck_seconds_bucket", **slow),
        daemon.metric("recheck_seconds_count"),
    ]
    assert [a - b for a, b in zip(after, before, strict=True)] == [1000, 1000]
    assert all(page.open and not page.events for page in crowd)
    site.run("User.objects.filter(pk__in=[u.pk for u in crowd]).delete()")
