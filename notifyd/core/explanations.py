"""Who gets an event, who does not, and why: the judgement behind `notifyd explain`."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from notifyd.core.audience import Audience
    from notifyd.core.events import Rule

MOST_NAMES: Final = 10
"""How many names of a kind are told of a rule."""


class Verdict(enum.StrEnum):
    """What becomes of an event for a connection, or for a user: the best of the connections'."""

    GETS = "gets"
    GETS_LATER = "gets_later"
    """It is behind: what it missed before comes first."""
    SUSPENDED = "suspended"
    """What its user may see is being read anew, and decides."""
    MAY_NOT = "may_not"
    NOT_CONNECTED = "not_connected"


_BEST_FIRST: Final = (
    Verdict.GETS,
    Verdict.GETS_LATER,
    Verdict.SUSPENDED,
    Verdict.MAY_NOT,
    Verdict.NOT_CONNECTED,
)


def judge(rule: Rule, user: str, audience: Audience | None, *, behind: bool) -> Verdict:
    """Return what becomes of an event for one connection of the user.

    `audience` is what the connection may see, None while that is being read.
    """
    if audience is None:
        return Verdict.SUSPENDED
    if not audience.sees(rule, user):
        return Verdict.MAY_NOT
    return Verdict.GETS_LATER if behind else Verdict.GETS


def best(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict about a user who has connections with these."""
    return min(verdicts, key=_BEST_FIRST.index, default=Verdict.NOT_CONNECTED)


def demands(rule: Rule) -> list[str]:
    """Return in words what a rule demands: any of these is enough."""
    return list(_demands(rule, None, ""))


def missing(rule: Rule, user: str, audience: Audience) -> list[str]:
    """Return what the user lacks, who may not see the event: any of these would be enough."""
    return list(_demands(rule, audience, user))


def _demands(rule: Rule, audience: Audience | None, user: str) -> Iterator[str]:
    """Yield the alternatives of a rule, but for those of its parts that the audience satisfies."""
    if rule.everyone:
        yield "nothing"
    yield from _each("the permission {}", rule.permissions)
    yield from _each("the permission to view or change content type {}", rule.content_types)
    yield from _each("membership in group {}", rule.groups)
    if rule.users:
        yield f"being user {' or '.join(_some(rule.users))}"
    parts = [part for part in rule.all if audience is None or not audience.sees(part, user)]
    if parts:
        yield " and ".join(either(list(_demands(part, audience, user))) for part in parts)


def either(alternatives: list[str]) -> str:
    """Return alternatives as one demand."""
    return alternatives[0] if len(alternatives) == 1 else f"({' or '.join(alternatives)})"


def _each(words: str, names: AbstractSet[str]) -> Iterator[str]:
    if names:
        yield words.format(" or ".join(_some(names)))


def _some(names: AbstractSet[str]) -> list[str]:
    told = sorted(names)[:MOST_NAMES]
    more = len(names) - len(told)
    return [*told, f"{more} more"] if more else told
