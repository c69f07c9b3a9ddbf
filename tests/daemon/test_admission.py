from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from neighbours import AUDIENCE, WORDS, batch, entries, entry, let_in, source
from raws import REQUEST, Raw, text
from serving import serving
from sinks import Sink
from structlog.testing import capture_logs
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode

from notifyd.core.audience import Audience
from notifyd.core.batch import Positioned
from notifyd.core.login import Login, Refused, Result
from notifyd.daemon import relay_backlog

if TYPE_CHECKING:
    from serving import Serving
    from websockets.asyncio.client import ClientConnection

    from notifyd.core.protocol import Hello

SECRET = "AAAB-Xyzzy-Plugh"


async def answer(client: ClientConnection) -> Any:
    """Return the next message as what it says."""
    async with asyncio.timeout(5):
        return json.loads(await client.recv())


async def close_code(client: ClientConnection) -> tuple[int, str]:
    """Wait for the Close; return its code and its reason."""
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(5):
            await client.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_bare_token() -> None:
    """Who sends a bare token, as in the guide, gets the events and nothing else."""
    async with serving() as house:
        client = await house.enter("alice")
        await house.bring(Positioned("e", "1-0", "a gap"), batch(entry(2), entry(3)))
        assert await answer(client) == {"id": "2-0", "content_type_id": 7}
        assert await answer(client) == {"id": "3-0", "content_type_id": 7}


async def test_welcome() -> None:
    """Who says hello is told its position, and how often to expect a ping."""
    async with serving() as house:
        await house.bring(Positioned("e", "1-0", None), batch(entry(2)))
        client = await house.enter('{"token": "alice"}')
        assert await answer(client) == {
            "notifyd": "welcome",
            "ticket": None,
            "ticket_ttl": None,
            "epoch": "e",
            "last_id": "2-0",
            "recovered": None,
            "ping": 25,
        }
        await house.bring(batch(entry(3)))
        assert await answer(client) == {"id": "3-0", "content_type_id": 7}


async def test_welcome_before_the_position_is_known() -> None:
    """Who comes before Redis was reached has no position, and a resync as soon as there is one."""
    async with serving() as house:
        client = await house.enter('{"token": "alice"}')
        welcome = await answer(client)
        assert (welcome["epoch"], welcome["last_id"]) == (None, None)
        await house.bring(Positioned("e", "1-0", None))
        assert (await answer(client))["notifyd"] == "resync"


async def resume(house: Serving, user: str = "alice", **asked: str) -> Raw:
    """Return a client that has asked to resume."""
    raw = await house.raw()
    await raw.handshake(json.dumps({"token": user, **asked}))
    return raw


def ids(first: int, last: int) -> list[str]:
    """Return the ids from one number to the other."""
    return [f"{n}-0" for n in range(first, last + 1)]


async def begin(house: Serving) -> None:
    """Have a stream of 20 entries, the last 10 of which are in memory."""
    house.shelf.add(*entries(1, 10))
    await house.bring(Positioned("e", "10-0", None), batch(*entries(11, 20)))


@pytest.mark.parametrize("epoch", [{}, {"epoch": "e"}])
@pytest.mark.parametrize("since", [20, 15, 10, 9, 1])
async def test_recovered(since: int, epoch: dict[str, str]) -> None:
    """Who resumes gets everything since then, the missed events first, and then the live ones."""
    async with serving() as house:
        await begin(house)
        raw = await resume(house, since=f"{since}-0", **epoch)
        welcome = await raw.message()
        assert (welcome["notifyd"], welcome["recovered"]) == ("welcome", True)
        assert (welcome["last_id"], welcome["epoch"]) == (f"{since}-0", "e")
        await house.bring(batch(*entries(21, 22)))
        assert await raw.ids(22 - since) == ids(since + 1, 22)
        await until(lambda: house.server.phases()["live"])
        await house.bring(batch(entry(23)))
        assert (await raw.message())["id"] == "23-0"


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "0-0"},
        {"since": "2-0"},
        {"since": "21-0"},
        {"since": "99999999999999999999-0"},
        {"since": ""},
        {"since": "Xyzzy"},
        {"since": "015-0"},
        {"since": "15-0", "epoch": "d"},
        {"since": "20-0", "epoch": ""},
    ],
)
async def test_not_recovered(asked: dict[str, str]) -> None:
    """Who can't get everything since then is told to load its state, and nothing is replayed."""
    async with serving() as house:
        await begin(house)
        house.shelf.trim(3)
        raw = await resume(house, **asked)
        welcome = await raw.message()
        assert (welcome["recovered"], welcome["last_id"], welcome["epoch"]) == (False, "20-0", "e")
        assert await raw.message() == {
            "notifyd": "resync",
            "reason": "the history does not reach back to that position",
            "epoch": "e",
            "last_id": "20-0",
        }
        await house.bring(batch(entry(21)))
        assert (await raw.message())["id"] == "21-0"


async def test_recovered_by_what_the_user_may_see() -> None:
    """Of the missed events a client gets those that its user may see now."""

    async def authenticate(hello: Hello, _address: str | None) -> Login:
        assert hello.token is not None
        kinds = {"alice": [7], "bob": [8]}[hello.token]
        return Login(hello.token, Audience.build(WORDS, content_types=kinds))

    async with serving(authenticate) as house:
        await house.bring(Positioned("e", "1-0", None))
        eight = '{"content_type_id": 8}'
        await house.bring(batch(entry(2), entry(3, eight), entry(4, "{}", to='{"users": ["bob"]}')))
        alice, bob = (
            await resume(house, "alice", since="1-0"),
            await resume(house, "bob", since="1-0"),
        )
        await house.bring(batch(entry(5), entry(6, eight)))
        assert (await alice.ids(2), await bob.ids(3)) == (["2-0", "5-0"], ["3-0", "4-0", "6-0"])


async def test_client_that_is_ahead() -> None:
    """Who has seen more than this daemon waits until it has come there, and gets what is newer."""
    async with serving() as house:
        await begin(house)
        house.shelf.add(*entries(21, 23))
        raw = await resume(house, since="23-0")
        assert ((welcome := await raw.message())["recovered"], welcome["last_id"]) == (True, "23-0")
        await house.relay.run(source(batch(*entries(21, 22)), batch(*entries(23, 24))))
        await house.bring(batch(entry(25)))
        assert await raw.ids(2) == ids(24, 25)


async def test_resuming_before_the_position_is_known() -> None:
    """Who resumes before Redis was reached waits for that, and gets everything."""
    async with serving() as house:
        raw = await resume(house, since="5-0", epoch="e")
        await until(lambda: house.server.phases()["authenticating"])
        await begin(house)
        assert (await raw.message())["recovered"] is True
        assert await raw.ids(15) == ids(6, 20)


async def test_resuming_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who resumes from beyond memory while Redis is away waits, but not for ever."""
    monkeypatch.setattr(relay_backlog, "PATIENCE", 0.1)
    async with serving() as house:
        await begin(house)
        house.shelf.away = True
        raw = await resume(house, since="5-0")
        assert ((welcome := await raw.message())["recovered"], welcome["last_id"]) == (
            False,
            "20-0",
        )
        assert (await raw.message())["notifyd"] == "resync"
        raw = await resume(house, since="15-0")
        assert (await raw.message())["recovered"] is True


async def test_new_history_while_one_asks_for_the_old() -> None:
    """Who resumes in a history that is gone before there is an answer is told so."""
    async with serving() as house:
        await begin(house)
        house.shelf.away = True
        raw = await resume(house, since="5-0", epoch="e")
        await until(lambda: house.shelf.asked)
        await house.bring(Positioned("f", "8-0", "another history"))
        welcome, resync = await raw.message(), await raw.message()
        assert (welcome["recovered"], welcome["epoch"], welcome["last_id"]) == (False, "f", "8-0")
        assert (resync["notifyd"], resync["epoch"], resync["last_id"]) == ("resync", "f", "8-0")
        await house.bring(batch(entry(9)))
        assert (await raw.message())["id"] == "9-0"


async def test_new_history_when_the_old_was_found() -> None:
    """Who found its position in a history that is gone when it is let in is told so."""
    renewing, renewed = asyncio.Event(), asyncio.Event()

    async def renew() -> None:
        renewing.set()
        await renewed.wait()

    async with serving() as house:
        await begin(house)
        house.doorkeeper.stale = 1
        house.doorkeeper.renewing = renew
        raw = await resume(house, since="15-0")
        await renewing.wait()
        await house.bring(Positioned("f", "30-0", "another history"))
        renewed.set()
        assert ((welcome := await raw.message())["recovered"], welcome["last_id"]) == (
            False,
            "30-0",
        )
        assert (await raw.message())["notifyd"] == "resync"


async def test_new_history_while_it_is_behind() -> None:
    """Who is being fed when the history changes is told, and goes on from the new position."""
    async with serving() as house:
        await begin(house)
        house.shelf.add(entry(99))
        raw = await resume(house, since="99-0")
        assert (await raw.message())["recovered"] is True
        await house.bring(Positioned("f", "30-0", "another history"), batch(entry(31)))
        resync = {"notifyd": "resync", "reason": "another history", "epoch": "f"}
        assert await raw.message() == resync | {"last_id": "30-0"}
        assert (await raw.message())["id"] == "31-0"


@pytest.mark.parametrize("history", [2_000, 10_000_000])
async def test_many_resume_at_once(history: int) -> None:
    """However many resume at once, Redis is asked for what they have missed once."""
    all_there = asyncio.Event()

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await all_there.wait()
        return await let_in(hello, address)

    async with serving(authenticate, history=history) as house:
        await begin(house)
        raws = [await resume(house, since="3-0") for n in range(50)]
        await until(lambda: house.server.phases()["authenticating"] == 50)
        all_there.set()
        for raw in raws:
            assert await raw.ids(17) == ids(4, 20)
        assert house.shelf.asked.count("extent") == 1
        assert len(house.shelf.asked) < 10
        assert house.history._bytes < history + 400


@pytest.mark.parametrize("history", [5_000, 10_000_000])
async def test_resuming_while_batches_flow(history: int) -> None:
    """Whoever resumes while batches are being written gets every event once and in order."""
    async with serving(history=history) as house:
        await begin(house)
        others: list[Any] = [Sink(delay=0.0001) for _ in range(200)]
        for each in others:
            house.hub.join(each, "slow", AUDIENCE)

        async def read(since: int) -> list[str]:
            raw = await resume(house, since=f"{since}-0")
            found: list[str] = []
            while "999-0" not in found:
                found += await raw.ids(1)
            return found

        reading = [asyncio.create_task(read(n)) for n in range(2, 21)]
        last = 20
        while house.hub.connections("alice") < 19 or last < 60:
            last += 2
            await house.bring(batch(*entries(last - 1, last)))
        await house.bring(batch(entry(999)))
        assert await asyncio.gather(*reading) == [
            [*ids(n + 1, last), "999-0"] for n in range(2, 21)
        ]
        for each in others:
            house.hub.leave(each, "slow")


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_overtaken(times: int) -> None:
    """A login that an order has overtaken is read again before the client is let in."""
    async with serving() as house:
        house.doorkeeper.stale = times
        await house.enter("alice")
        assert house.doorkeeper.renewed == times


async def test_overtaken_again_and_again() -> None:
    """After three times more there is no end in sight, and the client shall come back later."""
    async with serving() as house:
        house.doorkeeper.stale = 4
        client = await house.connect()
        with capture_logs() as logs:
            await client.send("alice")
            assert await close_code(client) == (1013, "try again later")
        assert (house.doorkeeper.renewed, len(house.hub)) == (3, 0)
        assert (logs[0]["event"], logs[0]["result"]) == ("auth.failed", "timeout")


async def test_overtaken_by_a_revocation() -> None:
    """Whom the database doesn't let in any more when it is asked again is refused."""

    async def renew() -> Login:
        raise Refused(Result.INACTIVE)

    async with serving() as house:
        house.doorkeeper.stale = 1
        house.doorkeeper.renewing = renew
        client = await house.connect()
        await client.send("alice")
        assert await close_code(client) == (4401, "authentication failed")


async def test_renewed_audience() -> None:
    """What counts is what the user may see by the last reading."""

    async def renew() -> Login:
        return Login("alice", Audience.build(WORDS, content_types=[8]))

    async with serving() as house:
        await begin(house)
        house.doorkeeper.stale = 1
        house.doorkeeper.renewing = renew
        raw = await resume(house, since="15-0")
        assert (await raw.message())["recovered"] is True
        await house.bring(batch(entry(21), entry(22, '{"content_type_id": 8}')))
        assert (await raw.message())["id"] == "22-0"


async def test_ticket() -> None:
    """Who says hello gets a ticket and how long it is good, who sends a bare token doesn't."""
    async with serving() as house:
        house.doorkeeper.ticket = ("abcd", 900.0)
        hello, bare = await house.enter('{"token": "alice"}'), await house.enter("bob")
        welcome = await answer(hello)
        assert (welcome["ticket"], welcome["ticket_ttl"]) == ("abcd", 900)
        await house.bring(batch(entry(1)))
        assert (await answer(bare))["id"] == "1-0"


async def test_coming_with_a_ticket() -> None:
    """A hello may have a ticket in place of a token."""

    async def authenticate(hello: Hello, _address: str | None) -> Login:
        assert (hello.token, hello.ticket) == (None, "abcd")
        return Login("alice", AUDIENCE)

    async with serving(authenticate) as house:
        await house.enter('{"ticket": "abcd"}')
        assert house.hub.connections("alice") == 1


async def test_failure_between_two_batches() -> None:
    """What goes wrong when a client is let in between two batches harms no other."""
    begun = asyncio.Event()

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await begun.wait()
        return await let_in(hello, address)

    def entered() -> None:
        raise RuntimeError(SECRET)

    async with serving(authenticate) as house:
        house.doorkeeper.entering = entered
        slow: list[Any] = [Sink(lambda _: begun.set(), delay=0.0002) for _ in range(500)]
        for each in slow:
            house.hub.join(each, "slow", AUDIENCE)
        client = await house.connect()
        await client.send("alice")
        await until(lambda: house.server.phases()["authenticating"])
        with capture_logs() as logs:
            await house.bring(batch(entry(1)), batch(entry(2)))
            assert await close_code(client) == (1011, "")
        assert (logs[0]["event"], SECRET in str(logs)) == ("auth.error", False)
        assert {len(each.writes) for each in slow} == {2}
        for each in slow:
            house.hub.leave(each, "slow")


async def test_what_is_authenticated() -> None:
    """The first message is authenticated, with the address that a trusted proxy names."""
    asked = []

    async def authenticate(hello: Hello, address: str | None) -> Login:
        asked.append((hello.token, hello.bare, address))
        return await let_in(hello, address)

    async with serving(authenticate, trusted=["127.0.0.1"]) as house:
        headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}
        await house.enter("alice", additional_headers=headers)
        await house.enter('{"token": "bob"}')
    assert asked == [("alice", True, "203.0.113.5"), ("bob", False, None)]


@pytest.mark.parametrize(
    ("result", "code", "reason"),
    [
        (Result.EXPIRED, 4401, "authentication failed"),
        (Result.INVALID, 4401, "authentication failed"),
        (Result.INACTIVE, 4401, "authentication failed"),
        (Result.TIMEOUT, 1013, "try again later"),
        (Result.ERROR, 1013, "try again later"),
        (Result.RATE_LIMITED, 4429, "too many"),
    ],
)
async def test_refused(result: Result, code: int, reason: str) -> None:
    """A refused client learns whether to come back, the log why, and nobody the token."""

    async def authenticate(_hello: Hello, _address: str | None) -> Login:
        raise Refused(result, "as the test says")

    async with serving(authenticate) as house:
        client = await house.connect()
        with capture_logs() as logs:
            await client.send(SECRET)
            assert await close_code(client) == (code, reason)
            await until(lambda: not house.server.clients)
        assert logs[0] == {
            "event": "auth.failed",
            "log_level": "warning",
            "result": str(result),
            "detail": "as the test says",
            "address": "127.0.0.1",
            "connection": 1,
        }
        assert [line["event"] for line in logs] == ["auth.failed", "connection.closed"]
        assert SECRET not in str(logs)
        assert (len(house.hub), house.server._admission._tasks) == (0, set())


async def test_unforeseen_exception() -> None:
    """Whatever else goes wrong closes the client with 1011, and is logged without the token."""

    async def authenticate(hello: Hello, _address: str | None) -> Login:
        raise RuntimeError(hello.token)

    async with serving(authenticate) as house:
        client = await house.connect()
        with capture_logs() as logs:
            await client.send(SECRET)
            assert await close_code(client) == (1011, "")
        assert logs[0] == {"event": "auth.error", "log_level": "error", "error": "RuntimeError"}
        assert SECRET not in str(logs)


async def test_path() -> None:
    """Where a path is configured, it is the only one served, whatever its query."""
    async with serving(path="/events") as house:
        await house.enter("alice", url=f"{house.url}events?a=b")
        with capture_logs() as logs, pytest.raises(InvalidStatus) as caught:
            await house.connect(url=f"{house.url}events/")
        assert caught.value.response.status_code == 404
        assert logs[0]["event"] == "connection.refused"
        assert (logs[0]["reason"], logs[0]["detail"]) == ("path", "not the path /events")
        assert house.server.stats.refused == {"path": 1}


async def test_any_path() -> None:
    """Where none is configured, any path is served."""
    async with serving() as house:
        await house.enter("alice", url=f"{house.url}any/path?at=all")


async def test_most_per_address() -> None:
    """Of the connections from one address too many are closed, until others have gone."""
    async with serving(most_per_address=2) as house:
        first = await house.enter("alice")
        await house.enter("bob")
        with capture_logs() as logs:
            assert await close_code(await house.connect()) == (4429, "too many")
            await until(lambda: len(house.server.clients) == 2)
        assert logs[-1]["reason"] == "too many connections from this address"
        await first.close()
        await until(lambda: len(house.server.clients) == 1)
        await house.enter("carol")


async def test_too_many_are_not_heard() -> None:
    """Of a connection too many nothing is read, not even what came with its handshake."""
    asked = []

    async def authenticate(hello: Hello, address: str | None) -> Login:
        asked.append(hello.token)
        return await let_in(hello, address)

    async with serving(authenticate, most_per_address=1) as house:
        await house.enter("alice")
        raw = await house.raw()
        await raw.send(REQUEST + b"\r\n" + text("bob"))
        await raw.head()
        assert await raw.close_code() == 4429
        assert asked == ["alice"]


async def test_most_per_address_behind_a_proxy() -> None:
    """Behind a proxy its clients are counted, each by itself, but not those it doesn't name."""
    async with serving(most_per_address=1, trusted=["127.0.0.1"]) as house:
        for n in range(3):
            await house.enter("named", additional_headers={"X-Forwarded-For": f"203.0.113.{n}"})
            await house.enter("unnamed")
        client = await house.connect(additional_headers={"X-Forwarded-For": "203.0.113.0"})
        assert await close_code(client) == (4429, "too many")


async def test_most_per_user() -> None:
    """Of the connections of one user too many are closed, until others have gone."""
    async with serving(most_per_user=1) as house:
        first = await house.enter("alice")
        await house.enter("bob")
        second = await house.connect()
        with capture_logs() as logs:
            await second.send("alice")
            assert await close_code(second) == (4429, "too many")
            await until(lambda: len(house.server.clients) == 2)
        assert logs[-1]["reason"] == "too many connections of this user"
        await first.close()
        await until(lambda: len(house.server.clients) == 1)
        await house.enter("alice")


async def test_most_per_user_who_are_behind() -> None:
    """Connections that are behind count alike."""
    async with serving(most_per_user=1) as house:
        await begin(house)
        house.shelf.add(entry(99))
        raw = await resume(house, since="99-0")
        assert (await raw.message())["recovered"] is True
        await until(lambda: house.server.phases()["behind"])
        second = await house.connect()
        await second.send("alice")
        assert await close_code(second) == (4429, "too many")


async def leaves_with_reset(raw: Raw) -> None:
    """Cut the connection."""
    raw.reset()


async def leaves_with_eof(raw: Raw) -> None:
    """End the stream."""
    raw.socket.close()


async def leaves_with_close(raw: Raw) -> None:
    """Begin the closing handshake, and no more."""
    close = Frame(Opcode.CLOSE, Close(1001, "").serialize())
    await raw.send(close.serialize(mask=True))
    assert await raw.close_code() == 1001


@pytest.mark.parametrize("leave", [leaves_with_reset, leaves_with_eof, leaves_with_close])
@pytest.mark.parametrize("refused", [False, True])
async def test_leaving_while_authenticating(leave: Any, refused: bool) -> None:  # noqa: FBT001 - pytest gives it by name
    """Who left while being authenticated is not let in, whatever the outcome."""
    go_on = asyncio.Event()

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await go_on.wait()
        if refused:
            raise Refused(Result.INVALID)
        return await let_in(hello, address)

    async with serving(authenticate, farewell=0.1) as house:
        raw = await house.raw()
        await raw.handshake('{"token": "alice"}')
        await until(lambda: house.server.phases()["authenticating"])
        await leave(raw)
        await until(lambda: not house.server.phases()["authenticating"])
        go_on.set()
        await until(lambda: not house.server.clients)
        assert (len(house.hub), sum(house.server.stats.closed.values())) == (0, 1)


async def test_let_in_at_a_boundary() -> None:
    """Who comes during a fan-out gets none of its batch, and the position behind it."""
    begun = asyncio.Event()

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await begun.wait()
        return await let_in(hello, address)

    async with serving(authenticate) as house:
        slow: list[Any] = [Sink(lambda _: begun.set(), delay=0.0002) for _ in range(500)]
        for each in slow:
            house.hub.join(each, "slow", AUDIENCE)
        client = await house.connect()
        await client.send('{"token": "alice"}')
        await until(lambda: house.server.phases()["authenticating"])
        await house.bring(batch(entry(1), entry(2)), batch(entry(3)))
        assert (await answer(client))["last_id"] == "2-0"
        assert (await answer(client))["id"] == "3-0"
        for each in slow:
            house.hub.leave(each, "slow")


async def test_giving_up() -> None:
    """Authentications under way are given up when the server is drained."""
    given_up = []

    async def authenticate(hello: Hello, address: str | None) -> Login:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(True)
        return await let_in(hello, address)

    async with serving(authenticate) as house:
        client = await house.connect()
        await client.send("alice")
        await until(lambda: house.server.phases()["authenticating"])
        await house.server.drain(0, 5)
        assert await close_code(client) == (1012, "service restart")
        assert given_up == [True]


async def refused_with(house: Serving, extra: bytes) -> str:
    """Ask for a WebSocket with that header line besides; return the head of the answer."""
    raw = await house.raw()
    await raw.send(REQUEST + extra + b"\r\n")
    return await raw.head()


async def test_address_of_the_refused() -> None:
    """A refusal is logged with the address that a trusted proxy names."""
    async with serving(trusted=["127.0.0.1"], path="/x") as house:
        with capture_logs() as logs:
            answer = await refused_with(house, b"X-Forwarded-For: 203.0.113.5\r\n")
        assert answer.startswith("HTTP/1.1 404 ")
        assert logs[0]["address"] == "203.0.113.5"
