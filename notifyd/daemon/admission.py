"""The way in: from the handshake request, through authentication, into the hub."""

from __future__ import annotations

import asyncio
import functools
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from notifyd.core.happenings import NotUpgraded, NotUpgradedReason, Requested
from notifyd.core.limits import Counts
from notifyd.core.login import Refused
from notifyd.core.protocol import CloseCode, resync_frame, welcome_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from notifyd.core.hub import Hub
    from notifyd.core.login import Login
    from notifyd.core.protocol import Hello
    from notifyd.daemon.client import Client

log = structlog.stdlib.get_logger()

_RETRY_AFTER: Final = 10
"""Seconds after which a client that found the daemon full or draining is invited back."""


class Stream(Protocol):
    """What admission asks of the relay: where it is, and when it is between two batches."""

    @property
    def epoch(self) -> str | None:
        """The name of the history that positions belong to; None until Redis was reached."""

    @property
    def last_id(self) -> str | None:
        """The position up to which everything was relayed; None until Redis was reached."""

    def at_boundary(self, action: Callable[[], None]) -> None:
        """Call the action between two batches."""


class Admission:
    """Decides who comes in. `authenticate` turns a hello into a Login or raises Refused.

    `address_of` names the client by its peer and the X-Forwarded-For headers; None: unknown.
    `path` is the only one served (empty: any), the two limits are counts of connections (0: no
    limit), `ping` is the interval in seconds that clients are told.
    """

    def __init__(
        self,
        hub: Hub[Client],
        stream: Stream,
        authenticate: Callable[[Hello, str | None], Awaitable[Login]],
        address_of: Callable[[str, Iterable[str]], str | None],
        *,
        path: str,
        most_per_address: int,
        most_per_user: int,
        ping: float,
    ) -> None:
        self._hub = hub
        self._stream = stream
        self._authenticate = authenticate
        self._address_of = address_of
        self._path = path
        self._most_per_address = most_per_address
        self._most_per_user = most_per_user
        self._ping = ping
        self._addresses = Counts()
        self._tasks: set[asyncio.Task[None]] = set()

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
            login = await self._authenticate(hello, client.address)
        except Refused as refused:
            log.warning(
                "auth.failed",
                result=refused.result.value,
                detail=str(refused),
                address=client.address or client.peer,
            )
            client.close(refused.code)
        except Exception as error:  # noqa: BLE001 - nothing else would ever end this client
            log.error("auth.error", error=type(error).__name__)  # noqa: TRY400 - its text may hold the token
            client.close(CloseCode.INTERNAL_ERROR)
        else:
            self._stream.at_boundary(functools.partial(self._admit, client, hello, login))

    def _admit(self, client: Client, hello: Hello, login: Login) -> None:
        if not client.writable:
            # It left meanwhile; in the hub it would stay for ever, being lost only once.
            return
        client.user = login.user
        if self._most_per_user and self._hub.connections(login.user) >= self._most_per_user:
            client.close(CloseCode.TOO_MANY, "too many connections of this user")
            return
        self._hub.join(client, login.user, login.audience)
        client.enter()
        if not hello.bare:
            self._welcome(client, hello)

    def _welcome(self, client: Client, hello: Hello) -> None:
        epoch, last_id = self._stream.epoch, self._stream.last_id
        recovered = None
        if hello.since is not None:
            recovered = hello.since == last_id and hello.epoch in (None, epoch)
        client.greeted = True
        frames = welcome_frame(epoch=epoch, last_id=last_id, recovered=recovered, ping=self._ping)
        if recovered is False:
            frames += resync_frame("events after that position can't be replayed")
        client.write(frames)
