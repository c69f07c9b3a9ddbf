"""Delays between attempts, spread at random so that many daemons don't return in step."""

from __future__ import annotations

import random as random_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Exponential backoff with full jitter. Times are seconds.

    Each delay is drawn evenly between 0 and a ceiling that starts at ``first`` and doubles up to
    ``most``. ``random`` returns numbers in [0, 1). Source: "Exponential Backoff And Jitter", AWS
    Architecture Blog.
    """

    __slots__ = ("_ceiling", "_first", "_most", "_random")

    def __init__(
        self, first: float, most: float, random: Callable[[], float] = random_module.random
    ) -> None:
        self._first = first
        self._most = most
        self._random = random
        self._ceiling = min(most, first)

    def next(self) -> float:
        """Return the delay before the next attempt."""
        delay = self._random() * self._ceiling
        # Doubled and cut each time: 2**n would overflow in a night without the other side.
        self._ceiling = min(self._most, self._ceiling * 2)
        return delay

    def reset(self) -> None:
        """Start over, after an attempt that succeeded."""
        self._ceiling = min(self._most, self._first)
