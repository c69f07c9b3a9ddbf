"""How the latest connections of users ended: for those who are not connected any more."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

_MOST: Final = 1000
"""Users who are remembered."""


class Farewell(NamedTuple):
    """How a connection ended: its close code and reason, and when, by a monotonic clock."""

    code: int
    reason: str
    at: float


class Farewells:
    """The latest end of each user's connections; of more users than `most`, the latest."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._latest: OrderedDict[str, Farewell] = OrderedDict()

    def note(self, user: str, farewell: Farewell) -> None:
        """Remember how a connection of the user ended."""
        self._latest[user] = farewell
        self._latest.move_to_end(user)
        if len(self._latest) > self._most:
            self._latest.popitem(last=False)

    def latest(self, user: str) -> Farewell | None:
        """Return how the user's latest connection to end did, None if nobody knows."""
        return self._latest.get(user)
