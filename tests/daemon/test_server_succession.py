from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

from neighbours import AUDIENCE, batch, entries
from raws import Raw, text
from serving import Serving, serving
from waiting import until

from notifyd.core.batch import Positioned
from notifyd.core.handover import Admitted, ClientState, Kind
from notifyd.core.login import Login
from notifyd.daemon.server_succession import Succession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notifyd.core.positions import Position
    from notifyd.daemon.client import Client

WAIT = 5.0


def succession(house: Serving, unknown: list[str] | None = None) -> Succession:
    """Return the succession of a server; it notes the users who have to be read."""

    def place_of(client: Client) -> tuple[Position, bool] | None:
        position = house.feeder.position(client)
        return None if position is None else (position, house.feeder.audience(client) is not None)

    def settle(client: Client, login: Login, position: Position | None, *, known: bool) -> None:
        assert position is not None
        house.feeder.put(client, login.user, login.audience if known else None, position)
        if not known and unknown is not None:
            unknown.append(login.user)

    return Succession(house.server, house.relay, place_of=place_of, settle=settle)


def soon() -> float:
    """Return a time of the loop that is far enough."""
    return asyncio.get_running_loop().time() + WAIT


class Parcel:
    """What was given away: the sockets, by another descriptor each as in another process."""

    def __init__(self, most: int = 1000) -> None:
        self.sockets: list[socket.socket] = []
        self._most = most

    def enqueue(self, sockets: Sequence[socket.socket]) -> int:
        """Take sockets."""
        for each in sockets[: self._most]:
            copy = each.dup()
            copy.setblocking(False)
            self.sockets.append(copy)
        return len(self.sockets)

    def close(self) -> None:
        """Close what was taken: nobody goes on with it."""
        for each in self.sockets:
            each.close()


async def test_from_one_server_to_the_next() -> None:
    """A client goes on at another server, from its position, and is live there."""
    async with serving() as first:
        await first.bring(Positioned("e", "1-0", None))
        client = await first.raw()
        await client.handshake('{"token": "alice"}')
        assert (await client.message())["notifyd"] == "welcome"
        await first.bring(batch(*entries(2, 3)))
        assert await client.ids(2) == ["2-0", "3-0"]
        parcel, giving = Parcel(), succession(first)
        async with first.relay.one_at_a_time:
            await giving.finish_logins(soon())
            await giving.finish_writes(soon())
            [state] = giving.give(parcel.enqueue)
        assert state.kind is Kind.GREETED
        assert state.admitted is not None
        assert state.admitted.position == (3, 0)
        assert state.events == 2
        async with serving() as second:
            second.relay.resume("e", (3, 0))
            taking = succession(second)
            await taking.take(parcel.sockets, [state])
            await second.bring(batch(*entries(4, 4)))
            assert await client.ids(1) == ["4-0"]
            assert second.server.phases()["live"] == 1
            assert taking.results["taken"] == 1
            [there] = second.server.clients
            assert there.opened == state.opened


async def test_a_login_under_way() -> None:
    """Who is being authenticated is waited for, and who has not spoken is not."""
    released = asyncio.Event()

    async def authenticate(*_: object) -> Login:
        await released.wait()
        return Login("alice", AUDIENCE)

    async with serving(authenticate) as house:
        speaking, silent = await house.raw(), await house.raw()
        await speaking.handshake('{"token": "alice"}')
        await silent.handshake()
        await until(lambda: house.server.phases()["authenticating"] == 1)
        giving = succession(house)
        finishing = asyncio.create_task(giving.finish_logins(soon()))
        await until(lambda: house.server.phases()["hello"] == 1)
        assert not finishing.done()
        # It is not heard any more.
        await silent.send(text("bob"))
        released.set()
        await finishing
        assert house.server.phases()["live"] == 1
        assert house.server.phases()["hello"] == 1
        parcel = Parcel()
        states = giving.give(parcel.enqueue)
        assert {state.kind for state in states} == {Kind.GREETED, Kind.UPGRADED}
        parcel.close()


async def test_a_login_that_takes_too_long() -> None:
    """Who can't be authenticated in time is closed with 1012."""

    async def authenticate(*_: object) -> Login:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(authenticate) as house:
        client = await house.raw()
        await client.handshake('{"token": "alice"}')
        await until(lambda: house.server.phases()["authenticating"] == 1)
        giving = succession(house)
        now = asyncio.get_running_loop().time()
        await giving.finish_logins(now)
        closing = asyncio.create_task(client.close_code())
        await giving.finish_writes(now)
        assert await closing == 1012
        assert giving.give(Parcel().enqueue) == []
        assert giving.results["closed"] == 1


async def test_the_kernel_takes_no_more() -> None:
    """Those for whose sockets there is no room are closed with 1012, and told when to return."""
    async with serving() as house:
        clients = []
        for _ in range(3):
            client = await house.raw()
            await client.handshake('{"token": "alice"}')
            assert (await client.message())["notifyd"] == "welcome"
            clients.append(client)
        giving = succession(house)
        parcel = Parcel(most=2)
        states = giving.give(parcel.enqueue)
        assert len(states) == 2
        assert (giving.results["given"], giving.results["closed"]) == (2, 1)
        [left] = [each for each in house.server.clients if not each.writable]
        assert left.session.close_code == 1012
        parcel.close()


async def test_whose_user_is_being_read() -> None:
    """A client that waits for its user to be read gets nothing at the successor until then."""
    unknown: list[str] = []
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    client = Raw(theirs)
    async with serving() as house:
        house.relay.resume("e", (3, 0))
        admitted = Admitted(Login("alice", AUDIENCE), (3, 0), suspended=True)
        state = ClientState(Kind.GREETED, "unix", None, 1.0, admitted=admitted)
        await succession(house, unknown).take([ours], [state])
        assert unknown == ["alice"]
        await house.bring(batch(*entries(4, 4)))
        [there] = house.server.clients
        assert house.feeder.position(there) == (3, 0)
        house.feeder.put(there, "alice", AUDIENCE, (3, 0))
        assert await client.ids(1) == ["4-0"]
    theirs.close()


async def test_lost_on_the_way() -> None:
    """A socket that is none any more is counted, and the others are taken all the same."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    broken = socket.socket(fileno=ours.dup().detach())
    broken.close()
    async with serving() as house:
        taking = succession(house)
        state = ClientState(Kind.UPGRADED, "unix", None, 1.0)
        await taking.take([broken, ours], [state, state])
        assert (taking.results["lost"], taking.results["taken"]) == (1, 1)
    theirs.close()


async def test_refused() -> None:
    """Clients of whom nothing is known are closed with 1012."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    async with serving() as house:
        taking = succession(house)
        await taking.refuse([ours])
        assert await Raw(theirs).close_code() == 1012
        assert taking.results["refused"] == 1
    theirs.close()


async def test_what_a_client_said_meanwhile() -> None:
    """What arrives between the two is read by the successor."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    client = Raw(theirs)
    await client.send(text(json.dumps({"token": "alice"})))
    async with serving() as house:
        await succession(house).take([ours], [ClientState(Kind.UPGRADED, "unix", None, 1.0)])
        assert (await client.message())["notifyd"] == "welcome"
    theirs.close()
