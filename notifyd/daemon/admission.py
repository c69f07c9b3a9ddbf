"""The way in: from the handshake request, through authentication, into the hub."""

from __future__ import annotations

import asyncio
import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from notifyd.core.happenings import NotUpgraded, NotUpgradedReason, Requested
from notifyd.core.limits import Counts
from notifyd.core.login import Refused, Result
from notifyd.core.protocol import CloseCode, resync_frame, welcome_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from notifyd.core.audience import Audience
    from notifyd.core.hub import Hub
    from notifyd.core.login import Login
    from notifyd.core.positions import Position
    from notifyd.core.protocol import Hello
    from notifyd.daemon.client import Client

log = structlog.stdlib.get_logger()

_RETRY_AFTER: Final = 10
"""Seconds after which a client that found the daemon full or draining is invited back."""

_RENEWALS: Final = 3
"""How often a login is read again that one order after the other concerns meanwhile."""


class _Found(NamedTuple):
    """Where a client resumes, and in which history that is."""

    epoch: str | None
    position: Position


class Stream(Protocol):
    """What is asked of the relay: where it is, and when it is between two batches."""

    @property
    def epoch(self) -> str | None:
        """The name of the history that positions belong to; None until Redis was reached."""

    @property
    def position(self) -> Position | None:
        """The position up to which everything was relayed; None until Redis was reached."""

    @property
    def last_id(self) -> str | None:
        """The same as an id."""

    def at_boundary(self, action: Callable[[], None]) -> None:
        """Call the action between two batches."""


class Logins(Protocol):
    """What is asked about who somebody is."""

    async def log_in(self, hello: Hello, address: str | None) -> Login:
        """Return the user whom the hello's token or ticket names. Raises Refused."""

    async def renew(self, login: Login) -> Login:
        """Return the login as the database has it now. Raises Refused."""

    def overtaken(self, login: Login) -> bool:
        """Tell whether an order that was relayed since the login was read concerns its user."""

    def entered(self, client: Client) -> tuple[str | None, float | None]:
        """Hear that a client was let in; return its ticket, and for how many seconds it is good."""


class Backlog(Protocol):
    """What is asked of the history."""

    async def locate(self, since: str, epoch: str | None) -> Position | None:
        """Return the position to resume from, None if not all since then can be had."""

    def put(self, client: Client, user: str, audience: Audience | None, at: Position) -> None:
        """Have a client behind, at that position."""


class Admission:
    """Decides who comes in.

    `address_of` names the client by its peer and the X-Forwarded-For headers; None: unknown.
    `path` is the only one served (empty: any), the two limits are counts of connections (0: no
    limit), `ping` is the interval in seconds that clients are told, and `acknowledge` the part of
    the events that they are asked to acknowledge.
    """

    def __init__(
        self,
        hub: Hub[Client],
        stream: Stream,
        logins: Logins,
        backlog: Backlog,
        address_of: Callable[[str, Iterable[str]], str | None],
        *,
        path: str,
        most_per_address: int,
        most_per_user: int,
        acknowledge: float,
        ping: float,
    ) -> None:
        self._hub = hub
        self._stream = stream
        self._logins = logins
        self._backlog = backlog
        self._address_of = address_of
        self.configure(
            path=path,
            most_per_address=most_per_address,
            most_per_user=most_per_user,
            acknowledge=acknowledge,
        )
        self._ping = ping
        self._addresses = Counts()
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(
        self, *, path: str, most_per_address: int, most_per_user: int, acknowledge: float
    ) -> None:
        """Go by these from now on; whoever is in stays."""
        self._path = path
        self._most_per_address = most_per_address
        self._most_per_user = most_per_user
        self._acknowledge = acknowledge

    def refuse(
        self, client: Client, request: Requested, unavailable: NotUpgradedReason | None
    ) -> NotUpgraded | None:
        """Refuse a request that shall not even be upgraded; None if there is nothing against it.

        `unavailable` is the server's own reason to take nobody at the moment.
        """
        forwarded_for = request.headers.get_all("X-Forwarded-For")
        client.address = self._address_of(client.peer, forwarded_for)
        if unavailable is not None:
            client.session.refuse(
                HTTPStatus.SERVICE_UNAVAILABLE, "Try again later.", retry_after=_RETRY_AFTER
            )
            return NotUpgraded(unavailable, unavailable.value)
        path = request.path.partition("?")[0]
        if self._path and path != self._path:
            client.session.refuse(HTTPStatus.NOT_FOUND, "There is no WebSocket at this path.")
            return NotUpgraded(NotUpgradedReason.PATH, f"not the path {self._path}")
        return None

    def enter(self, client: Client) -> bool:
        """Count an upgraded client by its address; False, having closed it, if it is too many."""
        if client.address is None:
            return True
        if self._addresses.add(client.address, self._most_per_address):
            return True
        # Counted all the same: every connection is uncounted alike when it is lost.
        self._addresses.add(client.address, 0)
        client.close(CloseCode.TOO_MANY, "too many connections from this address")
        return False

    def readmit(self, client: Client) -> None:
        """Count a client that had entered at another process; it is never too many."""
        if client.address is not None:
            self._addresses.add(client.address, 0)

    def exit(self, client: Client) -> None:
        """Uncount a client that had entered."""
        if client.address is not None:
            self._addresses.remove(client.address)

    def greeted(self, client: Client, hello: Hello) -> None:
        """Authenticate the client in the background, and let it in or close it."""
        task = asyncio.create_task(self._log_in(client, hello))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up the authentications under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _log_in(self, client: Client, hello: Hello) -> None:
        try:
            login = await self._logins.log_in(hello, client.address)
            found = await self._locate(hello)
            for renewal in range(1 + _RENEWALS):
                if renewal:
                    login = await self._logins.renew(login)
                admit = functools.partial(self._admit, client, hello, login, found)
                if await self._between_batches(admit):
                    return
            raise Refused(Result.TIMEOUT, "what the user may see keeps changing")  # noqa: TRY301 - a refusal like those above
        except Refused as refused:
            log.warning(
                "auth.failed",
                result=refused.result.value,
                detail=str(refused),
                address=client.address or client.peer,
                connection=client.number,
            )
            client.close(refused.code)
        except Exception as error:  # noqa: BLE001 - nothing else would ever end this client
            log.error("auth.error", error=type(error).__name__)  # noqa: TRY400 - its text may hold the token
            client.close(CloseCode.INTERNAL_ERROR)

    async def _locate(self, hello: Hello) -> _Found | None:
        """Return where the client resumes, None if it can't or doesn't ask to."""
        if hello.since is None:
            return None
        position = await self._backlog.locate(hello.since, hello.epoch)
        return None if position is None else _Found(self._stream.epoch, position)

    async def _between_batches(self, action: Callable[[], bool]) -> bool:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def act() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(action())
            except Exception as error:  # noqa: BLE001 - it is this client's fate, not the relay's
                done.set_exception(error)

        self._stream.at_boundary(act)
        return await done

    def _admit(self, client: Client, hello: Hello, login: Login, found: _Found | None) -> bool:
        """Let the client in, or close it; False if the login was overtaken and must be renewed."""
        if not client.writable:
            # It left meanwhile; in the hub it would stay for ever, being lost only once.
            return True
        if self._logins.overtaken(login):
            return False
        if self._most_per_user and self._hub.connections(login.user) >= self._most_per_user:
            client.close(CloseCode.TOO_MANY, "too many connections of this user")
            return True
        client.enter(login)
        ticket, ttl = self._logins.entered(client)
        if hello.bare:
            self._hub.join(client, login.user, login.audience)
            return True
        present = self._stream.position
        # What was found in a history that is gone since can't be had any more.
        resumes = found is not None and found.epoch == self._stream.epoch
        at = found.position if found is not None and resumes else present
        if at == present:
            self._hub.join(client, login.user, login.audience)
        client.greeted = True
        epoch, last_id = self._stream.epoch, self._stream.last_id
        frames = welcome_frame(
            ticket=ticket,
            ticket_ttl=ttl,
            epoch=epoch,
            last_id=hello.since if resumes else last_id,
            recovered=None if hello.since is None else resumes,
            ping=self._ping,
            ack=self._acknowledge,
        )
        if hello.since is not None and not resumes:
            frames += resync_frame(
                "the history does not reach back to that position", epoch=epoch, last_id=last_id
            )
        client.write(frames)
        if at is not None and at != present and client.writable:
            self._backlog.put(client, login.user, login.audience, at)
        return True
