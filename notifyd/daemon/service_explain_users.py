"""What becomes of an event for a user, and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from notifyd.core.audience import named_users
from notifyd.core.explanations import Verdict, best, judge, missing
from notifyd.core.login import Refused
from notifyd.daemon.service_limits import most_connections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from notifyd.core.audience import Audience
    from notifyd.core.events import Rule
    from notifyd.core.login import Standing
    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.client import Client

_PER_USER: Final = "[server] max_connections_per_user"


class Connection(NamedTuple):
    """A client, what it may see (None: that is being read anew), and whether it is behind."""

    client: Client
    audience: Audience | None
    behind: bool

    def verdict(self, rule: Rule, user: str) -> Verdict:
        """Return what becomes of an event for it."""
        return judge(rule, user, self.audience, behind=self.behind)


class Users:
    """Looks at users and their connections."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts

    def concerned(self, rule: Rule) -> list[str]:
        """Return the users who are connected, and those whom a rule names and who are not."""
        hub = self._parts.hub
        return [*hub.all_users(), *sorted(user for user in named_users(rule) if user not in hub)]

    def connections(self, user: str) -> list[Connection]:
        """Return the user's connections."""
        feeder = self._parts.feeder
        found = []
        for client, live in self._parts.hub.audiences_of(user):
            behind = feeder.position(client) is not None
            found.append(Connection(client, feeder.audience(client) if behind else live, behind))
        return found

    def reasons(self, rule: Rule, user: str, verdict: Verdict) -> list[str]:
        """Return why a user has that verdict, in words; nothing: there is nothing to explain."""
        connections = self.connections(user)
        match verdict:
            case Verdict.GETS:
                return []
            case Verdict.GETS_LATER:
                late = [each.client for each in connections if each.behind]
                return [_late(self._parts.feeder.lag(each), each.owed) for each in late]
            case Verdict.SUSPENDED:
                return ["what the user may see is being read anew, and decides"]
            case Verdict.MAY_NOT:
                known = [each.audience for each in connections if each.audience is not None]
                return [_lacks(rule, user, audience) for audience in known[:1]]
            case Verdict.NOT_CONNECTED:
                return [*self._absence(user)]

    async def explain(self, rule: Rule, users: Sequence[str]) -> list[dict[str, Any]]:
        """Return what becomes of an event for each of the users, and what the database says."""
        try:
            _, standings = await self._parts.authenticator.read(users)
        except Refused as refused:
            unknown = f"it can't be asked: {refused}"
            return [self._explained(rule, user) | {"database": unknown} for user in users]
        answers = []
        for user in users:
            answer = self._explained(rule, user)
            words = _recorded(rule, user, standings.get(user), Verdict(answer["verdict"]))
            answers.append(answer | {"database": words})
        return answers

    def _explained(self, rule: Rule, user: str) -> dict[str, Any]:
        connections = self.connections(user)
        verdict = best(each.verdict(rule, user) for each in connections)
        return {
            "user": user,
            "verdict": verdict.value,
            "why": [*self.reasons(rule, user, verdict), *self._limits(len(connections))],
            "connections": [
                {
                    "connection": each.client.number,
                    "address": each.client.address or each.client.peer,
                    "verdict": each.verdict(rule, user).value,
                    "owed": each.client.owed,
                    "behind_seconds": self._parts.feeder.lag(each.client),
                }
                for each in connections
            ],
        }

    def _absence(self, user: str) -> Iterator[str]:
        yield "not connected to this daemon"
        farewell = self._parts.server.farewells.latest(user)
        if farewell is not None:
            ago = asyncio.get_running_loop().time() - farewell.at
            why = f" ({farewell.reason})" if farewell.reason else ""
            yield f"the latest connection ended {ago:.0f} s ago with {farewell.code}{why}"

    def _limits(self, connections: int) -> Iterator[str]:
        """Yield which limits keep the user from connecting once more."""
        options = self._parts.config.server
        most = options.max_connections_per_user
        if most and connections >= most:
            yield f"further connections are closed with 4429, by {_PER_USER} = {most}"
        if len(self._parts.server.clients) >= most_connections(options):
            yield "further connections are refused with 503: there are as many as there may be"


def _late(lag: float, owed: int) -> str:
    """Say why a connection gets an event later."""
    slow = f", since the client has not taken {owed} bytes" if owed else ""
    return f"a connection is {lag:.1f} s behind{slow}"


def _lacks(rule: Rule, user: str, audience: Audience) -> str:
    return f"lacks {' or '.join(missing(rule, user, audience))}"


def _recorded(rule: Rule, user: str, standing: Standing | None, verdict: Verdict) -> str:
    """Say what the database says, and when that counts if the connections don't go by it."""
    if standing is None:
        return "there is no such user, or not an active one"
    sees = standing.audience.sees(rule, user)
    words = "the user may see it" if sees else f"the user {_lacks(rule, user, standing.audience)}"
    here = {Verdict.GETS: True, Verdict.GETS_LATER: True, Verdict.MAY_NOT: False}.get(verdict, sees)
    return words if here is sees else f"{words}: no signal told of it, but [auth] sweep will"
