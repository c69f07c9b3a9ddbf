"""Who somebody is: by a token and the database, or by a ticket and what the stream tells since.

A ticket admits without the database as long as every order behind the position that it is true as
of is known, and none concerns its user. If one does, the user is read anew. If not all of them are
known, a log-out may be among those that are not, and a token is asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from typing import TYPE_CHECKING, Final

from notifyd.core.login import Refused, Result
from notifyd.core.positions import parse_position
from notifyd.core.protocol import ticket_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from notifyd.core.ledger import Ledger
    from notifyd.core.login import Login
    from notifyd.core.protocol import Hello
    from notifyd.daemon.auth import Authenticator
    from notifyd.daemon.client import Client
    from notifyd.daemon.rechecks_past import Past
    from notifyd.daemon.relay import Relay
    from notifyd.daemon.tickets import Tickets

_JITTER: Final = 0.2
"""The part of a connection's lifetime over which those who came together are spread."""

_RENEWED: Final = 3
"""A ticket is replaced when a third of its time is over: two attempts may fail before it has run
out, and a client that was cut off can be away for the rest."""


class Logins:
    """Logs clients in, and gives them tickets. Times are in seconds.

    A connection lasts `lifetime` from its user's token on, less up to a fifth. `entered` hears of
    each user who was let in, and when what the user may see was read.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        tickets: Tickets,
        ledger: Ledger,
        past: Past,
        relay: Relay[Client],
        *,
        ttl: float,
        lifetime: float,
        entered: Callable[[str, float], None],
    ) -> None:
        self._authenticator = authenticator
        self._tickets = tickets
        self._ledger = ledger
        self._past = past
        self._relay = relay
        self._entered = entered
        self._ttl = ttl
        self._lifetime = lifetime

    def configure(self, *, ttl: float, lifetime: float) -> None:
        """Go by these times from now on; a connection that is open ends when it was to end."""
        self._ttl = ttl
        self._lifetime = lifetime
        self._tickets.configure(ttl=ttl, lifetime=lifetime)

    async def log_in(self, hello: Hello, address: str | None) -> Login:
        """Return the user whom the hello's token or ticket names. Raises Refused."""
        if hello.ticket is None:
            assert hello.token is not None, "a hello has one of the two"
            return await self._authenticator.authenticate(
                hello.token, bare=hello.bare, address=address
            )
        try:
            self._authenticator.check(address)
            login = await self._resume(hello.ticket)
        except Refused as refused:
            self._authenticator.count(refused.result, address)
            raise
        self._authenticator.count(Result.OK, address)
        return login

    async def renew(self, login: Login) -> Login:
        """Return the login as the database has it now. Raises Refused."""
        as_of, standings = await self._authenticator.read([login.user])
        standing = standings[login.user]
        if standing is None:
            raise Refused(Result.INACTIVE, f"user {login.user} is gone or not active")
        if login.digest and login.digest not in standing.digests:
            raise Refused(Result.INVALID, f"user {login.user} has a new password")
        return dataclasses.replace(
            login,
            audience=standing.audience,
            digest=standing.digests[0] if standing.digests else "",
            as_of=as_of,
            read_at=time.time(),
        )

    def overtaken(self, login: Login) -> bool:
        """Tell whether an order that was relayed since the login was read concerns its user."""
        if login.as_of is None:
            # Nothing was known then; if something is now, there may have been any order between.
            return self._relay.position is not None
        return self._ledger.concerned(
            login.user, login.audience.groups, parse_position(login.as_of)
        )

    def entered(self, client: Client) -> tuple[str | None, float | None]:
        """Hear that a client was let in; return its ticket, and for how many seconds it is good."""
        login = client.login
        assert login is not None, "it was let in"
        now = asyncio.get_running_loop().time()
        lasts = self._lifetime * (1 - _JITTER * random.random())  # noqa: S311 - no secret
        client.expires = now + max(0.0, lasts - (time.time() - login.auth_time))
        self._entered(login.user, login.read_at)
        ticket = self._ticket(client, now)
        return ticket, None if ticket is None else self._ttl

    def ticket_frame(self, client: Client, now: float) -> bytes:
        """Return the frame with a new ticket for the client; none if there can't be one."""
        ticket = self._ticket(client, now)
        return b"" if ticket is None else ticket_frame(ticket, self._ttl)

    def _ticket(self, client: Client, now: float) -> str | None:
        login, epoch = client.login, self._relay.epoch
        client.renews = now + self._ttl / _RENEWED
        # It would be true as of no position, and so never be good for anything.
        if login is None or login.as_of is None or epoch is None or not self._ttl:
            return None
        return self._tickets.issue(login, epoch, time.time())

    async def _resume(self, text: str) -> Login:
        ticket = self._tickets.open(text, time.time())
        login = ticket.login
        if login.as_of is None:
            raise Refused(Result.INVALID, "a ticket that is true as of no position")
        as_of = parse_position(login.as_of)
        try:
            covered = await self._past.covers(ticket.epoch, as_of)
        except TimeoutError:
            raise Refused(Result.TIMEOUT, "Redis can't tell what was revoked") from None
        if not covered:
            raise Refused(
                Result.EXPIRED, f"history does not reach back to user {login.user}'s ticket"
            )
        if self._ledger.ended(login.user, as_of):
            raise Refused(Result.INVALID, f"the ticket of user {login.user} was revoked")
        if self.overtaken(login) or not ticket.complete:
            return await self.renew(login)
        return login
