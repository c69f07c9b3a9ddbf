from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from serving import AUDIENCE, REQUEST, batch, entry, let_in, serving, text
from structlog.testing import capture_logs
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode

from notifyd.core.batch import Positioned
from notifyd.core.login import Login, Refused, Result

if TYPE_CHECKING:
    from serving import Raw, Serving
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


@pytest.mark.parametrize("asked", ['"since": "2-0"', '"since": "2-0", "epoch": "e"'])
async def test_recovered(asked: str) -> None:
    """Who has seen the last event has missed nothing."""
    async with serving() as house:
        await house.bring(Positioned("e", "2-0", None))
        client = await house.enter('{"token": "alice", %s}' % asked)  # noqa: UP031 - full of braces
        assert (await answer(client))["recovered"] is True
        await house.bring(batch(entry(3)))
        assert (await answer(client))["id"] == "3-0"


@pytest.mark.parametrize(
    "asked",
    [
        '"since": "1-0"',
        '"since": "3-0"',
        '"since": ""',
        '"since": "Xyzzy"',
        '"since": "2-0", "epoch": "d"',
    ],
)
async def test_not_recovered(asked: str) -> None:
    """Who may have missed something is told so, and to load its state."""
    async with serving() as house:
        await house.bring(Positioned("e", "2-0", None))
        client = await house.enter('{"token": "alice", %s}' % asked)  # noqa: UP031 - full of braces
        welcome, resync = await answer(client), await answer(client)
        assert (welcome["recovered"], welcome["last_id"]) == (False, "2-0")
        assert resync == {
            "notifyd": "resync",
            "reason": "events after that position can't be replayed",
        }


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
        failed = {"result": str(result), "detail": "as the test says", "address": "127.0.0.1"}
        assert logs[0] == {"event": "auth.failed", "log_level": "warning"} | failed
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

    class Slow:
        def write(self, _data: bytes, _events: int) -> None:
            begun.set()
            end = time.perf_counter() + 0.0002
            while time.perf_counter() < end:
                pass

    async def authenticate(hello: Hello, address: str | None) -> Login:
        await begun.wait()
        return await let_in(hello, address)

    async with serving(authenticate) as house:
        slow: list[Any] = [Slow() for _ in range(500)]
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
