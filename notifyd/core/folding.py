"""Folding of lines that repeat: the first at once, and of those that follow how many they were.

Times are seconds of a monotonic clock, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")

_MOST: Final = 100
"""Kinds told apart at a time; the others count as one. Strangers choose some of what makes a kind,
a close code for example, and get no more lines, and no more memory, by choosing them all."""


class Folded(NamedTuple, Generic[T]):
    """The latest of some lines, and how many there were, itself included."""

    latest: T
    repeated: int


@dataclass(slots=True)
class _Kind(Generic[T]):
    """Lines of one kind: until when they are held back, and those that are."""

    until: float
    latest: T | None = None
    repeated: int = 0


class Folds(Generic[T]):
    """Lines held back, by kind.

    After a line that goes through, those of its kind are held back for `seconds`. So a storm that
    lasts is one line in that time, and what comes once is never late.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kinds: dict[Hashable, _Kind[T]] = {}

    def holds(self, kind: Hashable, line: T, now: float) -> bool:
        """Hold the line back if one of its kind has just gone through; else False: it goes."""
        if kind not in self._kinds and len(self._kinds) >= _MOST:
            kind = None
        held = self._kinds.get(kind)
        if held is None:
            self._kinds[kind] = _Kind(now + self._seconds)
            return False
        held.latest = line
        held.repeated += 1
        return True

    def due(self, now: float) -> list[Folded[T]]:
        """Return what stands for the lines whose time is over; call it before `holds`."""
        over = [(kind, held) for kind, held in self._kinds.items() if held.until <= now]
        folded = []
        for kind, held in over:
            del self._kinds[kind]
            if held.latest is not None:
                folded.append(Folded(held.latest, held.repeated))
                # This is a line, too, and the storm may go on.
                self._kinds[kind] = _Kind(now + self._seconds)
        return folded

    def rest(self) -> list[Folded[T]]:
        """Return what stands for all lines that are held back, and hold none any more."""
        folded = [
            Folded(held.latest, held.repeated)
            for held in self._kinds.values()
            if held.latest is not None
        ]
        self._kinds.clear()
        return folded
