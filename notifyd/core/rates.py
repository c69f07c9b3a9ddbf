"""How often things happen: counters looked at from time to time, and their growth per second."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rates:
    """The growth of some counters within the last `window` seconds, by any monotonic clock.

    They are looked at `every` so many seconds at most: whoever offers a sample may do so as often
    as is convenient, after asking whether one is `due`.
    """

    def __init__(self, window: float, every: float) -> None:
        self._window = window
        self._every = every
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()

    def due(self, now: float) -> bool:
        """Tell whether a sample is worth taking."""
        return not self._samples or now >= self._samples[-1][0] + self._every

    def add(self, now: float, counters: Mapping[str, int]) -> None:
        """Take a sample: what each counter has come to."""
        self._samples.append((now, counters))
        # The oldest that is kept reaches back over the whole window.
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """Return how much each counter grew per second; nothing before there are two samples."""
        if not self._samples:
            return {}
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        if ended <= began:
            return {}
        return {name: (after[name] - before.get(name, 0)) / (ended - began) for name in after}
