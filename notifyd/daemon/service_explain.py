"""Who gets an event, for `notifyd explain`: asked of the parts that would decide it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from notifyd.core.batch import Unavailable
from notifyd.core.events import Control, Rejected, parse_entry
from notifyd.core.explanations import Verdict, best, demands
from notifyd.core.positions import format_position, parse_position
from notifyd.daemon.control import ControlError
from notifyd.daemon.service_explain_users import Users

if TYPE_CHECKING:
    from collections.abc import Mapping

    from notifyd.core.batch import RawEntry
    from notifyd.core.events import Event, Rule
    from notifyd.core.positions import Position
    from notifyd.daemon.assembly import Assembly
    from notifyd.daemon.overview import Overview

MOST_NAMED: Final = 20
"""How many users are named of each verdict."""

MOST_ASKED: Final = 20
"""How many users one question may be about."""

_SLICE: Final = 500
"""Users looked at before others have their turn of the event loop."""

_LAST: Final = (1 << 64) - 1


class Explain:
    """Answers `notifyd explain`."""

    def __init__(self, parts: Assembly, overview: Overview) -> None:
        self._parts = parts
        self._overview = overview
        self._users = Users(parts)

    async def command(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer `explain`: about the entry `id` of the stream, or an event with those fields.

        `event` and `to` are as in the stream. `users` are those whom the question is about, a list
        of primary keys; without it, it is about everybody. Raises ControlError.
        """
        asked = arguments.get("users", [])
        if not isinstance(asked, list) or not all(type(user) is str for user in asked):
            raise ControlError("users must be a list of primary keys, as texts")
        if len(asked) > MOST_ASKED:
            raise ControlError(f"ask about {MOST_ASKED} users at a time, at most")
        event = _judged(await self._entry(arguments))
        answer = {
            "id": event.id,
            "demands": demands(event.rule),
            "failing": dict(self._overview.failing()),
            "position": self._parts.relay.last_id,
        }
        if asked:
            return answer | {"asked": await self._users.explain(event.rule, asked)}
        return answer | {"users": await self._survey(event.rule)}

    async def _entry(self, arguments: Mapping[str, Any]) -> RawEntry:
        match arguments:
            case {"id": str(id_)}:
                return await self._stored(id_)
            case {"event": str(event), "to": str(rule)}:
                return None, {b"event": _bytes(event), b"to": _bytes(rule)}
            case {"event": str(event)}:
                return None, {b"event": _bytes(event)}
            case _:
                raise ControlError("say which event: its id in the stream, or itself")

    async def _stored(self, id_: str) -> RawEntry:
        """Return an entry of the stream."""
        try:
            position = parse_position(id_)
        except ValueError as error:
            raise ControlError(f"an id of the stream is like 1763797912345-0: {error}") from error
        try:
            page = await self._parts.bus.archive.backward(position, _before(position))
        except Unavailable as error:
            raise ControlError(f"the stream can't be read: {error}") from error
        if not page.entries:
            first, last = map(format_position, (page.extent.first, page.extent.last))
            raise ControlError(f"the stream, from {first} to {last}, has no entry {id_}")
        return page.entries[0]

    async def _survey(self, rule: Rule) -> dict[str, Any]:
        """Return, by verdict, how many users and connections there are, and some of the users."""
        found: dict[str, Any] = {
            verdict.value: {"users": 0, "connections": 0, "named": []} for verdict in Verdict
        }
        for number, user in enumerate(self._users.concerned(rule)):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            verdicts = [each.verdict(rule, user) for each in self._users.connections(user)]
            verdict = best(verdicts)
            row = found[verdict.value]
            row["users"] += 1
            row["connections"] += len(verdicts)
            if len(row["named"]) < MOST_NAMED:
                row["named"].append({"user": user, "why": self._users.reasons(rule, user, verdict)})
        return found


def _judged(entry: RawEntry) -> Event:
    id_, fields = entry
    try:
        event = parse_entry(fields, id_)
    except Rejected as error:
        raise ControlError(f"nobody gets it, since every daemon rejects it: {error}") from error
    if isinstance(event, Control):
        raise ControlError(f"nobody gets {id_}: it is an order to the daemons, and no event")
    return event


def _bytes(text: str) -> bytes:
    """Return a text as the bus has it; what is no Unicode is judged with the rest."""
    return text.encode(errors="surrogatepass")


def _before(position: Position) -> Position:
    """Return the position before another."""
    milliseconds, number = position
    return (milliseconds, number - 1) if number else (max(0, milliseconds - 1), _LAST)
