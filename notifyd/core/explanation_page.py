"""The page that `notifyd explain` shows to people, made of what it prints for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from notifyd.core.explanations import Verdict
from notifyd.core.screen import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WORDS: Final[Mapping[str, str]] = {
    Verdict.GETS: "get it",
    Verdict.GETS_LATER: "get it later",
    Verdict.SUSPENDED: "have to wait",
    Verdict.MAY_NOT: "may not see it",
    Verdict.NOT_CONNECTED: "are named, but not connected",
}
"""What is said of several users."""

_ONE: Final[Mapping[str, str]] = {
    Verdict.GETS: "gets it",
    Verdict.GETS_LATER: "gets it later",
    Verdict.SUSPENDED: "has to wait",
    Verdict.MAY_NOT: "may not see it",
    Verdict.NOT_CONNECTED: "does not get it",
}
"""What is said of one user, or of a connection."""


def page(answer: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page: what the event demands, and then what becomes of whom."""
    which = "an event" if answer["id"] is None else f"the event {answer['id']}"
    lines = [f"{which}, if it came now, demands {' or '.join(answer['demands'])}"]
    lines += [f"not ready: {check}: {words}" for check, words in answer["failing"].items()]
    if "asked" in answer:
        for user in answer["asked"]:
            lines += ["", *_asked(user)]
    else:
        for verdict, found in answer["users"].items():
            if found["users"]:
                lines += ["", *_found(verdict, found)]
        if not any(found["users"] for found in answer["users"].values()):
            lines += ["", "nobody is connected"]
    return [printable(line) for line in lines]


def _asked(user: Mapping[str, Any]) -> Iterator[str]:
    yield f"user {user['user']} {_ONE[user['verdict']]}"
    yield from (f"  {reason}" for reason in user["why"])
    yield f"  the database says: {user['database']}"
    for each in user["connections"]:
        yield (
            f"  connection {each['connection']} from {each['address']} {_ONE[each['verdict']]}"
            f" ({each['owed']} bytes owed, {each['behind_seconds']:.1f} s behind)"
        )


def _found(verdict: str, found: Mapping[str, Any]) -> Iterator[str]:
    users, named = found["users"], found["named"]
    counts = [_count(users, "user")]
    if found["connections"]:
        counts.append(_count(found["connections"], "connection"))
    yield f"{_WORDS[verdict]}: {', '.join(counts)}"
    rows = table([(each["user"], "; ".join(each["why"])) for each in named])
    yield from (f"  {row}" for row in rows)
    if users > len(named):
        yield f"  and {users - len(named)} more: ask about one with --user"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
