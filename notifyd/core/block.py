"""Records of the stream that follow each other, indexed by who may see them.

Thousands of clients are fed from one block, from different positions in it. So what an audience
sees of it is decided once, whoever has that audience and wherever they are; and what is for users
by name, which may be nearly all, is found by the name. The cost follows what is delivered.
"""

from __future__ import annotations

import bisect
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from notifyd.core.audience import for_named_users_only, named_users

if TYPE_CHECKING:
    from collections.abc import Iterable

    from notifyd.core.audience import Audience
    from notifyd.core.events import Rule
    from notifyd.core.positions import Position

_OVERHEAD: Final = 256
"""Bytes that a record takes beside its frame."""

_AUDIENCES: Final = 4
"""Audiences whose outcome is remembered: those who have the same are served one after another, and
to remember all would multiply the history."""


class Record(NamedTuple):
    """An entry of the stream: its event's frame and rule, or neither where no client gets it.

    `extra` is about how many bytes the rule takes, unless it is shared with other records.
    """

    position: Position
    frame: bytes = b""
    rule: Rule | None = None
    extra: int = 0


def weight(record: Record) -> int:
    """Return the bytes that a record takes in memory, about."""
    return len(record.frame) + record.extra + _OVERHEAD


class Block:
    """Some records, in stream order. More may be added at the end."""

    __slots__ = ("_indexed", "_joined", "_named", "_shared", "_visible", "records", "weight")

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records: list[Record] = []
        self.weight = 0
        # The first records are in the index, so many of them.
        self._indexed = 0
        self._shared: list[int] = []
        self._named: dict[str, list[int]] = {}
        # For each audience: how many of the shared were looked at, and which of them it sees.
        self._visible: dict[Audience, tuple[int, list[int]]] = {}
        self._joined: tuple[Audience, int, bytes] | None = None
        for record in records:
            self.add(record)

    @property
    def last(self) -> Position:
        """The position of its last record; there must be one."""
        return self.records[-1].position

    def add(self, record: Record) -> None:
        """Add a record that follows the others."""
        self.records.append(record)
        self.weight += weight(record)

    def after(self, position: Position) -> int:
        """Return the index of the first record behind a position."""
        return bisect.bisect_right(self.records, position, key=attrgetter("position"))

    def visible(self, start: int, audience: Audience, user: str) -> tuple[bytes, int]:
        """Return the frames from an index on that the user may see, joined, and how many."""
        self._index()
        shared = self._seen(audience)
        named = self._named.get(user, ())
        mine = [i for i in named if i >= start and self._is_for(i, audience, user)]
        if not mine and start <= (shared[0] if shared else 0):
            return self._join_all(audience, shared), len(shared)
        found = shared[bisect.bisect_left(shared, start) :]
        if mine:
            found = sorted({*found, *mine})
        return self._join(found), len(found)

    def _index(self) -> None:
        for index in range(self._indexed, len(self.records)):
            rule = self.records[index].rule
            if rule is None:
                continue
            for user in named_users(rule):
                self._named.setdefault(user, []).append(index)
            if not for_named_users_only(rule):
                self._shared.append(index)
        self._indexed = len(self.records)

    def _seen(self, audience: Audience) -> list[int]:
        """Return which records the audience sees, whoever the user is."""
        looked, seen = self._visible.get(audience, (0, []))
        if looked < len(self._shared):
            # Of a thousand events most have one of a few rules.
            outcomes: dict[Rule | None, bool] = {}
            for index in self._shared[looked:]:
                rule = self.records[index].rule
                sees = outcomes.get(rule)
                if sees is None:
                    sees = outcomes[rule] = rule is not None and audience.sees(rule)
                if sees:
                    seen.append(index)
            if len(self._visible) >= _AUDIENCES:
                self._visible.clear()
            self._visible[audience] = len(self._shared), seen
        return seen

    def _is_for(self, index: int, audience: Audience, user: str) -> bool:
        rule = self.records[index].rule
        return rule is not None and audience.sees(rule, user)

    def _join_all(self, audience: Audience, seen: list[int]) -> bytes:
        if self._joined is None or self._joined[:2] != (audience, len(seen)):
            self._joined = audience, len(seen), self._join(seen)
        return self._joined[2]

    def _join(self, indexes: Iterable[int]) -> bytes:
        return b"".join([self.records[index].frame for index in indexes])
